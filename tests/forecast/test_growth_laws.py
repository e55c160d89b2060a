"""How a curve goes on: the law against its equation, slopes against numpy's, errors against their parts."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import t as student

from le_callback.forecast import growth_laws
from le_callback.forecast.growth_laws import KAPPA, continued, elasticity, factor, outlook, tremble


@pytest.mark.parametrize("x", [1.7, -0.6, 0.0])
def test_the_continuation_solves_its_differential_equation(x):
    """dy/dh = x exp(−κ |y|): between a power law and a log law."""
    h = np.linspace(0, 1.5, 31)
    solved = solve_ivp(lambda _, y: x * np.exp(-KAPPA * np.abs(y)), (0, 1.5), [0.0], t_eval=h, rtol=1e-10, atol=1e-12)
    assert np.allclose(continued(x, h), solved.y[0], atol=1e-8)


@pytest.mark.parametrize("window", [0.2, 0.8])
def test_elasticity_is_a_least_squares_slope(window):
    rng = np.random.default_rng(3)
    tau, y = np.sort(rng.uniform(0, 1, 80)), rng.standard_normal((80, 2))
    part = tau >= tau[-1] - window
    expected = [np.polyfit(tau[part], y[part, j], 1)[0] for j in range(2)]
    assert np.allclose(elasticity(tau, y, window), expected)


def test_tremble_is_the_noise_of_single_readings():
    """Mean of 40 estimates, each with an error of 10 %, within 5 % of the truth; a smooth curve has none."""
    rng, tau = np.random.default_rng(0), np.linspace(0, 0.3, 120)
    smooth = np.sin(3 * tau)[:, None]
    found = tremble(tau, smooth + 0.3 * rng.standard_normal((120, 40)))
    assert found.mean() == pytest.approx(0.3, rel=0.05)
    assert tremble(tau, smooth)[0] < 1e-4


def test_the_outlook_of_a_straight_and_of_a_bent_curve():
    tau = np.linspace(0, 2, 201)
    bent = np.where(tau > 1.8, 3 * (tau - 1.8), 0.0)  # 0 before the short window, 3 in it
    found = outlook(tau, np.stack([2 * tau, bent], axis=1), float("nan"))
    short, long = (np.polyfit(tau[tau >= 2 - w - 1e-9], bent[tau >= 2 - w - 1e-9], 1)[0] for w in (0.2, 0.8))
    a, b = growth_laws.WEIGHTS
    assert found.x == pytest.approx([2 * (a + b), a * short + b * long], rel=1e-6)
    rest, share, change = growth_laws.REST, growth_laws.SHARE, growth_laws.CHANGE
    expected = [np.hypot(rest, share * found.x[0]), np.linalg.norm([rest, share * found.x[1], change * (short - long)])]
    assert found.slope_error == pytest.approx(expected, rel=1e-6)
    assert found.error(0.5) == pytest.approx(0.5 * found.slope_error, rel=1e-6)
    assert found.shift == pytest.approx([0, 0], abs=1e-9)


def test_separated_classes_grow_slower():
    tau = np.linspace(0, 1, 101)
    x = [float(outlook(tau, 2 * tau[:, None], r).x[0]) for r in np.linspace(-3, 4, 29)]
    assert (np.diff(x) <= 0).all()
    low, high, *_ = growth_laws.GATE
    assert x[0] / x[-1] == pytest.approx(high / low)


def test_the_factor_is_students():
    probability = np.array([0.05, 0.5, 0.95])
    assert np.allclose(student.cdf(factor(probability), growth_laws.DEGREES), probability)
