"""Forecasts beside what came, as the data file holds them."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from problems import grown, shape

from le_callback import IModel
from le_callback.page.outlook import outlook
from le_callback.recorder import SourceTrajectory
from le_callback.trajectory import Trajectory


def recorded(windows=300, kept=100):
    """A run, and the forecast at its window ``kept``."""
    t = np.arange(1.0, windows + 1)
    x = grown(shape(3, 4), np.log(t) / 2).astype(np.float32)
    noise, counts = np.full((windows, 3), 0.5, np.float32), np.full((windows, 3), 8.0, np.float32)
    source = SourceTrajectory(t, x, noise, counts)
    part = SourceTrajectory(*(getattr(source, name)[:kept] for name in ("times", "means", "mean_noise", "counts")))
    run = Trajectory({"logits": part}, "step", ("a", "b", "c"))
    return source, run.forecast("logits", IModel(), until=400.0)


def worst(source, at):
    """Smallest gap of two classes, less the noise of both means, over their deviation, one pair after the other."""
    means, noise, spread = source.means[at].astype(float), source.mean_noise[at], source.mean_noise[at] * 8

    def gap(k, m):
        square = np.sum((means[k] - means[m]) ** 2)
        return np.sqrt(max(square - noise[k] - noise[m], 0.05 * square))

    return min(gap(k, m) / np.sqrt((spread[k] + spread[m]) / 2) for k, m in combinations(range(3), 2))


def test_what_was_measured_before_and_since_is_one_curve():
    source, forecast = recorded()
    found = outlook(forecast, source, True)
    times, values = found["measured"]
    assert (times[0], times[-1], len(times)) == (forecast.past_times[0], 300.0, 60)
    assert times == sorted(set(times))
    assert values == pytest.approx([worst(source, int(t) - 1) for t in times], rel=1e-5)
    assert (found["made_at"], found["unit"], found["ratio"], found["level"]) == (100.0, "step", True, 1.0)


def test_bands_are_those_of_the_forecast():
    source, forecast = recorded()
    found = outlook(forecast, source, True)
    times, low, median, high = (np.array(curve) for curve in found["bands"])
    place = np.searchsorted(forecast.times, times)
    assert (times[0], times[-1]) == (forecast.times[0], 400.0)
    for name, curve in (("low", low), ("median", median), ("high", high)):
        assert curve == pytest.approx(getattr(forecast.ratio, name)[place])
    assert found["confidence"] == 0.9


def test_without_a_deviation_the_gap_itself_is_drawn():
    source, forecast = recorded()
    bare = replace(forecast, ratio=None, past_ratio=None)
    found = outlook(bare, source, False)
    assert not found["ratio"]
    assert found["bands"][2][0] == pytest.approx(forecast.worst_gap.median[0])
    assert found["measured"][1][-1] == pytest.approx(
        min(np.linalg.norm(a - b) for a, b in combinations(source.means[-1].astype(float), 2)), rel=1e-5
    )


def test_a_forecast_that_could_not_be_made_says_why():
    source, forecast = recorded(windows=5, kept=5)
    found = outlook(forecast, source, True)
    assert found["bands"] == []
    assert found["why"] == forecast.status != ""
