"""How a curve goes on: the law against its equation, slopes against numpy's, errors against their parts."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.stats import t as student

from le_callback.forecast import growth_laws
from le_callback.forecast.growth_laws import DEGREES, KAPPA, continued, elasticity, outlook, stray, tremble

UNKNOWN = (float("nan"), float("nan"))


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
    found = outlook(tau, np.stack([2 * tau, bent], axis=1), UNKNOWN, np.array([False, True]))
    short, long = (np.polyfit(tau[tau >= 2 - w - 1e-9], bent[tau >= 2 - w - 1e-9], 1)[0] for w in (0.2, 0.8))
    at_rest, by_slope = growth_laws.COURSE
    assert found.x == pytest.approx([at_rest + 2 * by_slope, at_rest + by_slope * short], rel=1e-6)
    rest, share, change = growth_laws.RISE
    rise = [np.hypot(rest, share * 2), np.linalg.norm([rest, share * short, change * (short - long)])]
    fall = [np.hypot(growth_laws.FALL[0], growth_laws.FALL[1] * slope) for slope in (2, short)]
    assert found.rise == pytest.approx(rise * np.array([1, growth_laws.WORST[0]]), rel=1e-6)
    assert found.fall == pytest.approx(fall * np.array([1, growth_laws.WORST[1]]), rel=1e-6)
    assert found.strays(0.5) == (pytest.approx(0.5 * found.rise, rel=1e-5), pytest.approx(0.5 * found.fall, rel=1e-5))
    assert found.shift == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.parametrize(("worst", "middle"), [(False, growth_laws.ROOM[0]), (True, growth_laws.WORST_ROOM[0])])
def test_separated_classes_have_less_to_gain(worst, middle):
    tau, ratios = np.linspace(0, 1, 101), middle + np.linspace(-4, 4, 33)
    gained = [float(outlook(tau, 2 * tau[:, None], (r, r), worst).rise[0]) for r in ratios]
    assert (np.diff(gained) <= 0).all()
    floor = growth_laws.FLOOR
    assert gained[-1] / gained[0] == pytest.approx(floor, rel=1e-4)
    assert gained[16] / gained[0] == pytest.approx((1 + floor) / 2, rel=1e-4)
    unknown = float(outlook(tau, 2 * tau[:, None], UNKNOWN, worst).rise[0])
    assert unknown == pytest.approx(gained[0], rel=1e-4)


def test_a_worst_pair_that_lags_behind_leaves_more_to_gain():
    tau = np.linspace(0, 1, 101)
    alike, behind = (float(outlook(tau, tau[:, None], (r, -0.6), False).rise[0]) for r in (-0.6, 1.5))
    assert behind > 1.5 * alike
    median, least = 0.4, -0.3
    middle, lag = growth_laws.ROOM
    z = (middle - (1 - lag) * median - lag * least) / growth_laws.WIDTH
    expected = growth_laws.FLOOR + (1 - growth_laws.FLOOR) / (1 + np.exp(-z))
    assert growth_laws.room(median, least, middle, lag) == pytest.approx(expected)


@pytest.mark.parametrize(("up", "down"), [(1.0, 1.0), (2.0, 0.1), (0.3, 3.0)])
def test_quantiles_of_strays_hold_their_share_of_the_density(up, down):
    """The density 2/(up + down) t(z/scale), added up below each quantile."""

    def density(z):
        return 2 / (up + down) * student.pdf(z / (up if z > 0 else down), DEGREES)

    for probability in (0.05, 0.3, 0.5, 0.95):
        found = float(stray(np.array([[probability]]), np.array([up]), np.array([down]))[0, 0])
        ends = [-np.inf, min(found, 0.0), max(found, 0.0)]
        below = quad(density, ends[0], ends[1])[0] + quad(density, 0.0, ends[2])[0]
        assert below == pytest.approx(probability, abs=1e-4)


def test_nothing_strays_where_there_is_no_error():
    assert (stray(np.array([[0.05], [0.95]]), np.zeros(1), np.zeros(1)) == 0).all()
    upwards = stray(np.array([[1e-9], [0.5]]), np.ones(1), np.zeros(1))
    assert upwards.ravel() == pytest.approx([0.0, student.ppf(0.75, DEGREES)], abs=1e-4)
