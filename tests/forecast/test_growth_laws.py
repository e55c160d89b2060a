"""How a curve goes on: the laws against their differential equation, slopes against numpy's."""

import numpy as np
import pytest

from le_callback.forecast.growth_laws import continued, elasticity, origins


@pytest.mark.parametrize("kappa", [0.0, 1.0, 2.0])
def test_continuations_solve_their_differential_equation(kappa):
    h = np.linspace(0, 1.5, 3001)
    y = continued(1.7, kappa, h)
    # dy/dh = x exp(−κ y)
    assert np.allclose(np.gradient(y, h)[1:-1], 1.7 * np.exp(-kappa * y[1:-1]), rtol=1e-5)


def test_elasticity_is_a_least_squares_slope():
    rng = np.random.default_rng(3)
    tau, y = np.sort(rng.uniform(0, 1, 80)), rng.standard_normal((80, 2))
    part = tau >= tau[60] - 0.2
    part[61:] = False
    expected = [np.polyfit(tau[part], y[part, j], 1)[0] for j in range(2)]
    assert np.allclose(elasticity(tau, y, 60, 0.2), expected)


def test_origins_lie_within_the_run():
    tau = np.log(np.arange(50.0, 500.0))
    found = origins(tau)
    assert tau[found[0]] >= tau[-1] - 1.11
    assert tau[-1] - tau[found[-1]] >= 0.14
    assert len(origins(tau[-10:])) == 0
