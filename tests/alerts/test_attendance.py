"""Counts of each class against a plain loop, and both sides of each threshold of ClassVanished."""

from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import Stream
from windows import with_measure

from le_callback import SeparationMonitor
from le_callback.alerts import ClassVanished
from le_callback.alerts.attendance import Attendance, windows_still


def test_counts_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    windows = rng.poisson(0.7, (60, 3)).astype(float)
    state = Attendance.empty(3)
    for counts in windows:
        state = state.add(counts, state.still)
    for k in range(3):
        gap, longest, own = 0.0, 0.0, windows[:, k]
        for counts in windows:
            longest = max(longest, gap) if counts[k] else longest
            gap = 0.0 if counts[k] else gap + counts.sum()
        assert (state.total[k], state.seen[k]) == (own.sum(), (own > 0).sum())
        assert (state.gap[k], state.longest[k]) == (gap, longest)
        assert state.missed()[k] == pytest.approx(gap * own.sum() / (windows.sum() - gap))
    assert state.windows == 60


def asked(windows, rule=None):
    """The last alert of windows of given class counts."""
    rule, state, alert = rule or ClassVanished(), None, None
    record = SeparationMonitor(num_classes=2).close(50)
    for counts in windows:
        state, alert = rule(replace(record, class_samples=tuple(counts)), state)
    return alert


@pytest.mark.parametrize(("gap", "told"), [(45, False), (46, True)])
def test_half_of_the_expected_samples_must_exceed_the_level(gap, told):
    """Share ½, two classes, six windows with the class: gap/4 against log(2·6·7/10⁻³) = 11.34."""
    alert = asked([(10, 10)] * 6 + [(gap, 0)])
    assert (alert is not None) is told
    if told:
        assert alert.classes == (1,)
        assert alert.cause == "No sample of class {classes} for 46 samples; 23 were expected."
        assert alert.threshold == 23


@pytest.mark.parametrize(("gap", "told"), [(79, False), (80, True)])
def test_gap_must_be_four_times_the_longest_before(gap, told):
    alert = asked([(10, 10)] * 6 + [(20, 0), (10, 30), (gap, 0)])
    assert (alert is not None) is told


def test_several_classes_are_named_and_the_worst_is_counted():
    alert = asked([(20, 10, 10)] * 6 + [(300, 0, 0)])
    assert alert.classes == (1, 2)
    assert alert.cause == "No sample of classes {classes} for 300 samples; 75 were expected."


def test_a_class_never_seen_has_not_vanished_and_the_warm_up_is_kept():
    assert asked([(100, 0)] * 20) is None
    assert asked([(10, 10)] * 4 + [(500, 0)]) is None
    assert asked([(10, 10)] * 5 + [(500, 0)]) is not None
    assert asked([(10, 10)] * 4 + [(500, 0)], ClassVanished(warm_up=4)) is not None


def test_empty_windows_leave_the_state_alone():
    assert asked([(0, 0)]) is None
    assert asked([(10, 10)] * 6 + [(46, 0), (0, 0)]) is None
    assert asked([(10, 10)] * 6 + [(0, 0), (46, 0)]) is not None


def moved(record, by, tried=(20, 20), radius=1.0):
    record = with_measure(record, "nearest_mean", classes=(1, 3), tried=np.array(tried, dtype=float))
    return with_measure(record, "scatter", classes=(1, 3), moved=np.array(by), radius=radius)


@pytest.fixture(scope="module")
def record():
    stream = Stream()
    stream.window()
    return stream.window()


@pytest.mark.parametrize(
    ("by", "tried", "radius", "still"),
    [
        ((0.9e-6, 0.1), (20, 20), 1.0, 3),
        ((1.1e-6, 0.1), (20, 20), 1.0, 0),
        ((1.1e-6, 0.1), (20, 20), 2.0, 3),  # a length: compared with the radius
        ((0.0, 1.1e-3), (20, 20), 1.0, 3),
        ((0.0, 0.9e-3), (20, 20), 1.0, 0),  # nothing moves
        ((0.0, 0.1), (2, 20), 1.0, 3),
        ((0.0, 0.1), (1, 20), 1.0, 0),
        ((0.0, np.nan), (20, 20), 1.0, 0),
        ((np.nan, np.nan), (20, 20), 1.0, 0),
        ((0.0, 0.1), (20, 20), 0.0, 0),
    ],
)
def test_a_mean_is_still_while_another_moves(record, by, tried, radius, still):
    after = windows_still(moved(record, by, tried, radius), np.array([5.0, 2, 5, 5, 5]))
    np.testing.assert_array_equal(after, [0, still, 0, 0, 0])


def test_three_still_windows_are_told_unless_all_are_still(record):
    rule, state, told = ClassVanished(warm_up=0), None, []
    for _ in range(4):
        state, alert = rule(moved(record, (0.0, 0.1)), state)
        told.append(alert and alert.classes)
    assert told == [None, None, (1,), (1,)]
    assert alert.cause == "The mean of class {classes} has not moved for 3 windows while others did."
    only = replace(moved(record, (0.0, 0.1)), class_samples=(0.0, 9.0, 0.0, 0.0, 0.0))
    assert rule(only, state)[1] is None


def test_level_is_a_share():
    with pytest.raises(ValueError, match="Expected argument `level` to be between 0 and 1, but got 1.0"):
        ClassVanished(level=1.0)
