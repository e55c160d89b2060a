"""The Savitzky–Golay derivative and its error against scipy's filter and the dense covariance of a random walk."""

import numpy as np
import pytest
from scipy import stats
from scipy.signal import savgol_coeffs

from le_callback.elasticity.method_closed_form import savitzky_golay
from le_callback.elasticity.sliding import WindowSettings

rng = np.random.default_rng(3)


@pytest.mark.parametrize(("m", "order"), [(7, 2), (21, 2), (21, 3), (11, 1)])
@pytest.mark.parametrize("position", ["centre", "end"])
def test_derivative_is_that_of_scipy(m, order, position):
    t, y = 2.0 * np.arange(m), rng.standard_normal(m)
    where = m // 2 if position == "centre" else m - 1
    found = savitzky_golay(y[None], t, [where], WindowSettings(length=m, order=order))
    slope = savgol_coeffs(m, order, deriv=1, delta=2.0, pos=where, use="dot") @ y
    assert found.estimate[where, 0] == pytest.approx(slope, abs=1e-9)
    assert np.isnan(np.delete(found.estimate, where, axis=0)).all()


@pytest.mark.parametrize("where", [7, 14])
def test_error_is_that_of_a_random_walk(where):
    """wᵀCw with w the weights of scipy's filter, C_ij = q min(t_i, t_j), and q the variance of the increments."""
    m, t = 15, 2.0 * np.arange(15)
    y = rng.standard_normal(m).cumsum()
    found = savitzky_golay(y[None], t, [where], WindowSettings(length=m, order=1))
    w = savgol_coeffs(m, 1, deriv=1, delta=2.0, pos=where, use="dot")
    q = np.diff(y).var(ddof=1) / 2
    error = np.sqrt(w @ (q * np.minimum(t[:, None], t)) @ w)
    assert found.half[where, 0] == pytest.approx(error * stats.t.ppf(0.975, m - 2), rel=1e-9)
    assert found.covariance[where, 0, 0] == pytest.approx(error**2, rel=1e-9)


def test_windows_with_unknown_values_are_left_out():
    y = np.arange(30.0)
    y[4] = np.nan
    found = savitzky_golay(y[None], np.arange(30.0), list(range(30)), WindowSettings(length=9))
    assert np.isnan(found.estimate[:9]).all()
    np.testing.assert_allclose(found.estimate[9:], 1.0)
