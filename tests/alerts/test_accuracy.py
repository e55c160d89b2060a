"""Tracks of the accuracy against the formulas, worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import K, Stream
from windows import without_measure

from le_callback.alerts import AlertBook
from le_callback.alerts.accuracy import AccuracyState, AccuracyTrack, Counts, counts, fall_evidence
from le_callback.alerts.evidence import rate_evidence, start_weight
from le_callback.alerts.rules.elasticity_lost import ElasticityLost, ElasticityState
from le_callback.alerts.rules.separability_lost import LossState, SeparabilityLost


def track(rates, best, tried=(10.0, 10.0, 10.0, 10.0), hits=(0.0, 0.0, 0.0, 0.0)):
    return AccuracyTrack(np.array(tried), np.array(hits), best, np.array(rates))


def test_counts_are_by_class_and_measure():
    stream = Stream(samples=60)
    assert counts(stream.window(absent=2)) == {}  # no means before
    record = stream.window(absent=3)
    found = counts(record)
    measured = record.nearest_mean["features"]
    assert list(found) == ["nearest_mean", "head"]
    # class 2 has no mean from the window before, class 3 no samples
    assert found["nearest_mean"].tried[2] == found["nearest_mean"].tried[3] == found["head"].tried[3] == 0
    assert found["nearest_mean"].tried.sum() == measured.tried.sum() > 0
    assert found["head"].tried.sum() == record.samples
    assert counts(without_measure(record, "head")) == {}


def test_track_fades_and_keeps_its_best_lower_bound():
    first = AccuracyTrack.empty(2).add(Counts(np.array([40.0, 60.0]), np.array([36.0, 57.0])))
    rate = 93.5 / 101
    assert first.best == pytest.approx(rate - 2 * math.sqrt(rate * (1 - rate) / 100))
    np.testing.assert_allclose(first.rates, [(36 + 2 * rate) / 42, (57 + 2 * rate) / 62])
    second = first.add(Counts(np.array([40.0, 60.0]), np.array([10.0, 57.0])))
    np.testing.assert_allclose(second.tried, [68, 102])
    np.testing.assert_allclose(second.hits, [35.2, 96.9])
    assert second.best == first.best
    assert second.rates is first.rates


def test_expected_accuracy_follows_the_proportions_and_what_is_uncertain():
    mixed = track([1.0, 0.6], 0.75, tried=(50.0, 50.0))
    assert mixed.expected(np.array([30.0, 0.0])) == pytest.approx(1.0 - 0.05)
    assert mixed.expected(np.array([10.0, 30.0])) == pytest.approx(0.7 - 0.05)
    assert track([0.7, 0.7], 0.75, tried=(50.0, 50.0)).expected(np.array([1.0, 1.0])) == pytest.approx(0.7)


@pytest.mark.parametrize(("best", "floor"), [(0.39, 0.0), (0.41, 0.25 + 0.75 * 0.16), (0.85, 0.25 + 0.75 * 0.6)])
def test_nothing_is_lost_below_a_fifth_of_the_way_from_chance(best, floor):
    assert track([0.9] * 4, best).floor(np.ones(4), keep=0.75) == pytest.approx(floor)


def test_fallen_accuracy_speaks_for_at_most_four_nats_and_a_hundred_samples():
    assert fall_evidence(Counts(np.full(2, 500.0), np.full(2, 250.0)), 0.9) == 4.0
    few, many = Counts(np.full(2, 50.0), np.full(2, 42.0)), Counts(np.full(2, 200.0), np.full(2, 160.0))
    assert fall_evidence(few, 0.9) == pytest.approx(rate_evidence(84, 100, 0.9, 1000, 1000))
    assert fall_evidence(many, 0.9) == pytest.approx(min(rate_evidence(320, 400, 0.9, 1000, 1000) / 4, 4))
    assert fall_evidence(many, 0.9) < 4
    assert fall_evidence(Counts(np.full(2, 50.0), np.full(2, 0.0)), 0.5) == 0  # no more than chance
    assert fall_evidence(Counts(np.full(2, 50.0), np.full(2, 0.0)), 0.51) == 4.0


def test_evidence_is_the_smaller_of_both_measures_after_the_warm_up():
    full, half = Counts(np.full(4, 50.0), np.full(4, 48.0)), Counts(np.full(4, 50.0), np.full(4, 20.0))
    healthy = {"nearest_mean": full, "head": full}
    state = AccuracyState()
    for _ in range(5):
        state, floor = state.add(healthy, keep=0.75, warm_up=5)
        assert state.log_sum == -math.inf
    assert 0.75 < floor < 0.8
    both, shown = state.add({"nearest_mean": half, "head": half}, keep=0.75, warm_up=5)
    assert both.log_sum == pytest.approx(math.log(start_weight(6)) + 4)
    assert shown == pytest.approx(0.25 + 0.75 * (state.tracks["nearest_mean"].expected(half.tried) - 0.25))
    for one in ({"nearest_mean": half, "head": full}, {"nearest_mean": full, "head": half}):
        assert state.add(one, keep=0.75, warm_up=5)[0].log_sum < math.log(start_weight(6))
    assert both.falling


@pytest.mark.parametrize(
    ("hits", "fallen"),
    [
        ((89, 89, 89, 89), ()),
        ((89, 68, 89, 89), (1,)),
        ((89, 70, 89, 89), ()),
        ((10, 89, 89, 10), (0, 3)),
        ((10, 10, 89, 10), ()),  # most of them: no matter of single classes
    ],
)
def test_classes_that_lost_a_fifth_are_named_if_they_are_few(hits, fallen):
    """Of 98 samples each, (hits + 1)/100 against 0.9."""
    head = track([0.9] * 4, 0.9, tried=[98.0] * 4, hits=[float(h) for h in hits])
    assert AccuracyState(tracks={"head": head}).fallen_classes() == fallen


def second_window(**kwargs):
    stream = Stream()
    stream.window()
    return stream.window(**kwargs)


def lost(log_sum, best=0.99):
    """A state in which two in three samples rightly classified is a loss, with this evidence."""
    well = track([0.99] * 5, best, [1e3] * 5, [0.99e3] * 5)
    return AccuracyState(50, log_sum, dict.fromkeys(("nearest_mean", "head"), well))


@pytest.mark.parametrize(("above", "told"), [(-4.5, False), (0.01, True)])
def test_evidence_must_reach_the_level(above, told):
    """A window in which both accuracies are far below adds four nats, less a little."""
    record = second_window(corrupt=0.8)
    for level in (1e-3, 1e-2):
        accuracy = lost(-math.log(level) + above)
        assert (SeparabilityLost(level=level)(record, LossState(accuracy))[1] is not None) is told
        negative = with_gamma(record, -0.1)
        assert (ElasticityLost(level=level, keep=0.75)(negative, ElasticityState(accuracy, 5))[1] is not None) is told


def test_evidence_alone_is_no_alert_in_a_window_that_is_well():
    record = second_window()
    state, alert = SeparabilityLost()(record, LossState(lost(20.0)))
    assert alert is None
    assert state.accuracy.log_sum <= math.log(1000) + 2


def with_gamma(record, high):
    c = record.coefficients["I_features"]
    return replace(record, coefficients={"I_features": replace(c, gamma=replace(c.gamma, high=high))})


@pytest.mark.parametrize(
    ("high", "before", "after", "told"),
    [(-0.1, 1, 2, False), (-0.1, 2, 3, True), (0.0, 7, 0, False), (math.nan, 7, 0, False), (-1e-9, 2, 3, True)],
)
def test_gamma_must_be_negative_for_three_windows(high, before, after, told):
    state, alert = ElasticityLost()(with_gamma(second_window(corrupt=0.8), high), ElasticityState(lost(20.0), before))
    assert state.negative == after
    assert (alert is not None) is told
    assert alert is None or alert.value == high


@pytest.mark.parametrize("rule", [SeparabilityLost, ElasticityLost])
@pytest.mark.parametrize("argument", ["level", "keep"])
@pytest.mark.parametrize("value", [0, 1, -0.5, 2])
def test_settings_are_shares(rule, argument, value):
    with pytest.raises(ValueError, match=f"Expected argument `{argument}` to be between 0 and 1, but got {value}"):
        rule(**{argument: value})


@pytest.mark.parametrize("still", [True, False])
def test_a_loss_with_features_that_are_nearly_the_same_says_so(still):
    """As from inputs that are all one image: of which the features hardly vary about their mean."""
    stream, book, told = Stream(), AlertBook([SeparabilityLost()]), []
    for i in range(14):
        record = stream.window(**({"corrupt": 0.8} if i >= 8 else {}))
        if still and i >= 8:
            scatter = record.scatter["features"]
            alike = replace(scatter, total=0.04, size=np.full(K, 2.0))  # root mean square 0.2, a tenth of the length
            record = replace(record, measures={**record.measures, "scatter": {"features": alike}})
        told += book.add(record)
    assert [a.rule for a in told] == ["SeparabilityLost"]
    assert ("nearly the same: they vary by 10% of their length" in told[0].cause) == still
    assert told[0].advice.startswith("Check whether the inputs still differ" if still else "Check labels")
