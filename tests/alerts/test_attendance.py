"""Counts of each class against a plain loop, and both sides of each threshold of ClassVanished."""

from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import Stream
from windows import with_measure

from le_callback import SeparationMonitor
from le_callback.alerts import ClassVanished
from le_callback.alerts.attendance import Attendance, Bursts


def test_counts_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    windows = rng.poisson(0.7, (60, 3)).astype(float)
    state = Attendance.empty(3)
    for counts in windows:
        state = state.add(counts)
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
        assert alert.cause == "No sample of class {classes} among the last 46; 23 were expected."
        assert alert.threshold == 23


@pytest.mark.parametrize(("gap", "told"), [(79, False), (80, True)])
def test_gap_must_be_four_times_the_longest_before(gap, told):
    alert = asked([(10, 10)] * 6 + [(20, 0), (10, 30), (gap, 0)])
    assert (alert is not None) is told


def test_several_classes_are_named_and_the_worst_is_counted():
    alert = asked([(20, 10, 10)] * 6 + [(300, 0, 0)])
    assert alert.classes == (1, 2)
    assert alert.cause == "No sample of classes {classes} among the last 300; 75 were expected."


def test_a_class_never_seen_has_not_vanished_and_the_warm_up_is_kept():
    assert asked([(100, 0)] * 20) is None
    assert asked([(10, 10)] * 4 + [(500, 0)]) is None
    assert asked([(10, 10)] * 5 + [(500, 0)]) is not None
    assert asked([(10, 10)] * 4 + [(500, 0)], ClassVanished(warm_up=4)) is not None


def test_empty_windows_leave_the_state_alone():
    assert asked([(0, 0)]) is None
    assert asked([(10, 10)] * 6 + [(46, 0), (0, 0)]) is None
    assert asked([(10, 10)] * 6 + [(0, 0), (46, 0)]) is not None


def test_a_gap_that_was_told_is_no_usual_gap():
    """After a long loss that was told, the next one of that length is told, too."""
    rule, state, told = ClassVanished(), None, []
    record = SeparationMonitor(num_classes=2).close(50)
    for counts in [(10, 10)] * 6 + [(10, 0)] * 20 + [(10, 10)] * 6 + [(10, 0)] * 20:
        state, alert = rule(replace(record, class_samples=tuple(map(float, counts))), state)
        told.append(alert is not None)
    assert any(told[6:26])
    assert not any(told[26:32])
    assert any(told[32:])


def turns(order, rounds, size=100.0, windows=3):
    """Windows in which only some classes come, in turns."""
    for _ in range(rounds):
        for classes in order:
            for _ in range(windows):
                counts = np.zeros(6)
                counts[list(classes)] = size / len(classes)
                yield tuple(counts)


@pytest.mark.parametrize("order", [[(k,) for k in range(6)], [(0, 1), (2, 3), (4, 5)], [(0, 1, 2), (3, 4, 5)]])
def test_data_in_turns_are_no_loss_in_the_first_epoch_neither(order):
    rule, state = ClassVanished(), None
    record = SeparationMonitor(num_classes=6).close(50)
    for counts in turns(order, 6):
        state, alert = rule(replace(record, class_samples=counts), state)
        assert alert is None


def test_the_factor_of_bursts_is_that_of_a_plain_chi_square():
    rng, K = np.random.default_rng(0), 4
    even, uneven = Bursts.empty(K), Bursts.empty(K)
    for _ in range(300):
        even = even.add(rng.multinomial(100, np.full(K, 1 / K)).astype(float))
        uneven = uneven.add(rng.multinomial(10, np.full(K, 1 / K)).astype(float) * 10)
    assert even.factor < 1.3
    assert 8 < uneven.factor < 12  # ten samples come as one


def flat_windows(flat, windows=8, **kwargs):
    """Alerts while the samples of class 4 are one point, or nearly, from window 10 on."""
    stream, rule, state, told = Stream(), ClassVanished(), None, []
    for i in range(10 + windows):
        state, alert = rule(stream.window(**(kwargs if i >= 10 else {}), still=4 if flat and i >= 10 else None), state)
        told.append(alert)
    return told


def test_inputs_that_no_longer_vary_are_told_after_three_windows():
    told = flat_windows(True)
    assert told[:12] == [None] * 12
    assert told[12].classes == (4,)
    assert "have seemed all the same" in told[12].cause


@pytest.mark.parametrize(("left", "told"), [(0.15, True), (0.5, False)])
def test_inputs_that_hardly_vary_in_a_network_that_wanders_are_told_too(left, told):
    """Features of one image still vary, as the network moves: the variance of class 4 falls to a share of what it was.

    ln 0.15 = −1.9 is far below what it varied; ln 0.5 = −0.7 is not.
    """
    stream, rule, state, alerts = Stream(samples=400), ClassVanished(), None, []
    for i in range(22):
        record = stream.window()
        if i >= 10:
            variance = record.scatter["features"].variance.copy()
            variance[4] *= left
            record = with_measure(record, "scatter", variance=variance)
        state, alert = rule(record, state)
        alerts.append(alert)
    assert [a is not None for a in alerts] == [i >= 12 and told for i in range(22)]


def test_all_classes_that_shrink_together_are_no_loss_of_one():
    assert flat_windows(False) == [None] * 18
    assert flat_windows(False, scale=1e-3) == [None] * 18


def test_a_class_that_is_mapped_to_zero_varies_as_it_may():
    """As by a ReLU layer, in a network that is right."""
    stream, rule, state = Stream(), ClassVanished(), None
    for i in range(20):
        record = stream.window()
        if i >= 10:
            found = record.scatter["features"]
            size, variance = found.size.copy(), found.variance.copy()
            size[2] = variance[2] = 0.0
            record = with_measure(record, "scatter", size=size, variance=variance)
        state, alert = rule(record, state)
        assert alert is None


def test_level_is_a_share():
    with pytest.raises(ValueError, match="Expected argument `level` to be between 0 and 1, but got 1.0"):
        ClassVanished(level=1.0)
