"""Change points: planted ones are found, and none where there is none, at the stated rate."""

import numpy as np
import pytest
from scipy.signal import lfilter

from le_callback.elasticity import detect_stages


def run(seed, jump, phi=0.0, n=150, change=60, uneven=False):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.5, 1.5, n + 1)) if uneven else np.arange(n + 1.0)
    dt = np.diff(times)
    noise = lfilter([1.0], [1.0, -phi], rng.standard_normal(n + 50))[50:] * np.sqrt(1 - phi**2)
    steps = np.where(np.arange(n) < change, 0.02, 0.02 + jump) * dt + 0.05 * noise * np.sqrt(dt)
    return np.concatenate([[0.0], np.cumsum(steps)]), times


@pytest.mark.parametrize(("phi", "uneven"), [(0.0, False), (0.0, True), (0.5, False)])
def test_false_alarms_come_at_the_level(phi, uneven):
    """Of 200 runs without a change at level 5 %: at most 20 alarms. P(more | 5 %) = 1e-3."""
    alarms = sum(detect_stages(*run(s, 0.0, phi, uneven=uneven), draws=199).status == "two stages" for s in range(200))
    assert alarms <= 20


@pytest.mark.parametrize(("phi", "jump"), [(0.0, 0.06), (0.5, 0.15)])
def test_planted_changes_are_found_and_placed(phi, jump):
    found = [detect_stages(*run(s, jump, phi), draws=199) for s in range(50)]
    assert sum(f.status == "two stages" for f in found) >= 48
    places = np.array([f.change for f in found if f.status == "two stages"])
    assert np.median(np.abs(places - 60)) <= 2
    assert np.median([f.after - f.before for f in found]) == pytest.approx(jump, rel=0.15)


def test_sup_f_is_the_largest_f_of_all_least_squares_fits():
    from le_callback.elasticity.stages import _sup_f

    rng = np.random.default_rng(0)
    rate, w = rng.standard_normal(30), rng.uniform(0.5, 2, 30)
    best = []
    for k in range(4, 27):
        parts = [(rate[:k], w[:k]), (rate[k:], w[k:])]
        rest = sum((q * (r - np.average(r, weights=q)) ** 2).sum() for r, q in parts)
        whole = (w * (rate - np.average(rate, weights=w)) ** 2).sum()
        best.append(((whole - rest) / (rest / 28), k))
    F, place = _sup_f(rate[None], w, 4)
    assert F[0] == pytest.approx(max(best)[0])
    assert place[0] == max(best)[1]


def test_noise_free_and_short_series():
    t = np.arange(40.0)
    assert detect_stages(0.1 * t, t).status == "one stage"
    bent = detect_stages(np.maximum(0.0, t - 20), t)
    assert (bent.status, bent.change) == ("two stages", 20.0)
    assert "at least" in detect_stages(t[:5], t[:5]).status


def test_wrong_arguments_are_named():
    t = np.arange(40.0)
    for change, message in (({"level": 0}, "`level`"), ({"trim": 0.5}, "`trim`"), ({"draws": 5}, "`draws`")):
        with pytest.raises(ValueError, match=message):
            detect_stages(t, t, **change)
    with pytest.raises(ValueError, match="`log_amplitude`"):
        detect_stages(t[:-1], t)
