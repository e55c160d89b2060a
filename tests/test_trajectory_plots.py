"""Plots of a trajectory: what is drawn is what was estimated."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist

from le_callback import Trajectory
from le_callback.recorder import SourceTrajectory


@pytest.fixture
def trajectory():
    generator = np.random.default_rng(0)
    times = np.arange(60.0)
    means = (np.exp(0.03 * times)[:, None, None] * generator.normal(size=(3, 5))).astype(np.float32)
    means[4, 1] = np.nan
    noise, counts = np.full((60, 3), 1e-4, np.float32), np.full((60, 3), 50, np.float32)
    return Trajectory({"logits": SourceTrajectory(times, means, noise, counts)}, "step", ("ant", "bee", "cow"))


def band(ax):
    (path,) = ax.collections[0].get_paths()
    times = sorted(set(path.vertices[:, 0]))
    return np.array([(path.vertices[path.vertices[:, 0] == t, 1]).take([0, -1]) for t in times])


def test_the_gap_is_that_of_all_pairs(trajectory):
    ax = trajectory.plot("gap")
    line = ax.lines[0].get_ydata()
    for t in (0, 30, 59):
        distances = pdist(trajectory.sources["logits"].means[t].astype(float))
        assert line[t] == pytest.approx(np.sqrt((distances**2).mean()), rel=1e-4)
    distances = pdist(trajectory.sources["logits"].means[4][[0, 2]].astype(float))
    assert line[4] == pytest.approx(distances[0], rel=1e-4)
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize("what", ["alpha", "beta", "gamma"])
def test_coefficients_are_drawn_with_their_intervals(trajectory, what):
    own = Figure().subplots()
    ax = trajectory.plot(what, ax=own)
    found = trajectory.estimate("logits", "I")
    assert ax is own
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), getattr(found, what))
    interval = getattr(found, f"{what}_interval")
    known = ~np.isnan(interval).any(1)
    assert known.sum() > 20
    low, high = band(ax).min(), band(ax).max()
    assert low == pytest.approx(np.nanmin(interval[:, 0]))
    assert high == pytest.approx(np.nanmax(interval[:, 1]))


def test_what_is_not_known_is_named(trajectory):
    with pytest.raises(ValueError, match="`what` to be one of gap, alpha, beta, gamma, but got 'delta'"):
        trajectory.plot("delta")
    with pytest.raises(ValueError, match="`source` to be one of logits"):
        trajectory.plot("gap", source="features")
