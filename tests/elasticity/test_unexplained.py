"""Walk and wobble told apart, on simulated class means that do not grow."""

import numpy as np
import pytest

from le_callback.elasticity.class_growth import Join, growths
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.cumulative import Cumulative
from le_callback.elasticity.frequencies import Frequencies
from le_callback.elasticity.growth_path import GrowthPath
from le_callback.elasticity.rate_filters import RateFilters
from le_callback.elasticity.unexplained import Unexplained

K, Q, NOISE = 3, 10, 0.05
BALANCED = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K))


def follow(kind, changes, rng, learn=True):
    """The path of windows whose means are those of z + changes ``(T, K, Q)``, with sampling noise."""
    z, path = rng.normal(size=(K, Q)) + 1, GrowthPath(3)
    for n, change in enumerate(changes):
        noise = np.sqrt(NOISE / Q) * rng.normal(size=(K, Q))
        now = ClassReading(z + change + noise, np.full(K, NOISE), np.ones(K, dtype=bool), Q)
        growth = None
        if path.last is not None:
            past = path.past if learn else Unexplained()
            growth = growths([Join(kind, path.last, now, kind == "common", past)], BALANCED)[0]
        path.add(float(n), now, True, growth)
    return path


@pytest.mark.parametrize("kind", ["difference", "common"])
def test_a_wobble_is_no_decay(kind):
    """60 windows that wobble, each anew, about means that stay, in 40 runs: at most a fifth of the bias is left."""
    rng, T = np.random.default_rng(0), 60
    paths = {learn: [] for learn in (True, False)}
    for _ in range(40):
        wobble = 0.25 * rng.normal(size=(T, K, Q))
        for learn, found in paths.items():
            found.append(follow(kind, wobble, rng, learn))
    level, blind = (np.mean([path.level for path in paths[learn]]) for learn in (True, False))
    assert blind < -1.0
    assert abs(level) < 0.2 * abs(blind)
    assert np.mean([path.past.walk_share(True) for path in paths[True]]) == pytest.approx(-0.45, abs=0.06)


@pytest.mark.parametrize("kind", ["difference", "common"])
def test_a_walk_stays_a_walk(kind):
    """Averages over windows of 10 parts of a walk, in 60 runs: no bias within 4 standard errors, and a share of ¼."""
    rng, T = np.random.default_rng(1), 40
    found = []
    for _ in range(60):
        parts = np.cumsum(0.1 / np.sqrt(10) * rng.normal(size=(10 * T, K, Q)), 0)
        found.append(follow(kind, parts.reshape(T, 10, K, Q).mean(1), rng))
    levels = [path.level for path in found]
    assert abs(np.mean(levels)) < 4 * np.std(levels) / np.sqrt(len(levels))
    assert np.mean([path.past.walk_share(True) for path in found]) == pytest.approx(0.21, abs=0.06)


@pytest.mark.parametrize("kind", ["difference", "common"])
def test_echo_and_scatter_written_out(kind):
    """Three windows: changes off the drift, from all coordinates, class by class."""
    rng = np.random.default_rng(2)
    start = rng.normal(size=(K, Q)) + 1
    z = [start + 0.2 * rng.normal(size=(K, Q)) for _ in range(3)]
    windows = [ClassReading(x, np.full(K, NOISE), np.ones(K, dtype=bool), Q) for x in z]
    past, offs = Unexplained(), []
    for n in (1, 2):
        found = growths([Join(kind, windows[n - 1], windows[n], True, past)], BALANCED)[0]
        a, b = (x - x.mean(0) if kind == "difference" else x.mean(0) for x in z[n - 1 : n + 1])
        noise = NOISE * (K - 1) / K if kind == "difference" else NOISE / K  # of ‖a‖² a class, or in all
        total = K * noise if kind == "difference" else noise
        slope = np.log((a * b).sum() / ((a * a).sum() - total))
        offs.append(b - a - slope * (a + b) / 2)
        free = 1 - 1 / (Q * (K - 1) if kind == "difference" else Q)
        assert found.scatter == pytest.approx((offs[-1] ** 2).sum() / (2 * total * free), rel=1e-6)
        if n == 2:
            echo = (offs[0] * offs[1]).sum() + past.noise_share * total * free
            assert found.echo == pytest.approx(echo / (2 * total * free), rel=1e-6)
        else:
            assert np.isnan(found.echo)
        past.off = found.off


def test_state_goes_on():
    past = Unexplained()
    for n in range(5):
        past.add(2.0 + n, -0.5, np.arange(3.0))
    other = Unexplained()
    other.load_state_dict(past.state_dict())
    for each in (past, other):
        each.add(1.0, 0.1, None)
    assert other.walk_share(True) == past.walk_share(True)
    assert other.noise_share == past.noise_share


def test_a_doubt_that_lasts_is_taken_back_by_growth_that_reverses():
    """The class frequencies are off by 10 %: growth up and down again is off by nothing, growth on by the sum."""
    for back, expected in ((-1.0, 0.0), (1.0, 0.2)):
        growth, path, filters = Cumulative(), GrowthPath(3), RateFilters(1, 0.05)
        path.reference = 0.0
        for time, level in ((0.0, 0.0), (1.0, 1.0), (2.0, 1.0 + back)):
            path.time, path.level, path.lasting, path.windows = time, level, 0.1 * level, 1
            growth.add(time, [path], [1.0], filters, 0)
        assert growth.variance == pytest.approx(expected**2)
