"""Both sides of each threshold of FeatureCollapse, and the sources of its floors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import Stream
from windows import with_measure

from le_callback.alerts import FeatureCollapse
from le_callback.alerts.rules.feature_collapse import CollapseState, Margins, Trace


@pytest.fixture(scope="module")
def record():
    stream = Stream()
    stream.window()
    return stream.window()


def test_distance_to_the_floor_is_in_units_of_the_jitter():
    assert Trace((1.0, 3.0, 2.0), 0.0).above_floor(1.5, 2.0) == pytest.approx(0.5 / 0.15)
    assert Trace((3.0,), 0.07).above_floor(1.5, 2.0) == pytest.approx(0.5 / 0.15)
    assert Trace((3.0,), 0.5).above_floor(0.5, 2.0) == pytest.approx(-0.5)
    assert math.isnan(Trace().above_floor(1.0, 2.0))


def test_jitter_is_the_faded_mean_of_steps_of_at_most_one():
    trace = Trace().add(5.0, 3)
    assert trace == Trace((5.0,), 0.0)
    trace = trace.add(4.5, 3)
    assert trace.jitter == pytest.approx(0.05)
    trace = trace.add(9.0, 3).add(9.0, 3)
    assert trace.jitter == pytest.approx(0.9 * (0.045 + 0.1))
    assert trace.past == (4.5, 9.0, 9.0)


@pytest.mark.parametrize(
    ("low", "recent", "agreeing"),
    [
        (-0.9, ((5.0, 0.2),), 8),  # not below −0.2 · 5
        (-1.1, ((5.0, 0.2),), 0),
        (-1.1, ((5.0, -0.2),), 8),  # not 0.2 · 5 below the lowest before
        (-1.3, ((5.0, -0.2),), 0),
        (-1.3, ((5.0, -0.2), (5.0, 3.0)), 0),
        (-1.3, ((4.0, 1.0), (6.0, -0.2)), 0),  # usual: the mean
        (-9.0, ((-5.0, 8.0),), 8),  # no confidence yet
        (-9.0, (), 8),
    ],
)
def test_labels_contradict_the_head_where_margins_fall_far_below_zero(record, low, recent, agreeing):
    after = Margins(recent, 7).add(replace(record.head, margin=5.0, margin_low=low))
    assert after.agreeing == agreeing
    assert after.recent == (*recent, (5.0, low))


def test_margins_are_those_of_ten_windows(record):
    margins = Margins(((5.0, 1.0),) * 10)
    assert len(margins.add(record.head).recent) == 10
    assert margins.add(None) == Margins(margins.recent, 1001)


def collapsed(record, accuracy=1.0, best=1.0, windows=30, agreeing=1000, rank=5.0, **now):
    """Evidence and alert of a window after a steady past, with scatter 1, effective rank 5 and all units live."""
    past = tuple(Trace((math.log(x),) * 20) for x in (1.0, rank, 1.0))
    values = {"scatter": 1.0, "effective_rank": rank, "dead_units": 0.0} | now
    record = with_measure(record, "nearest_mean", hits=accuracy * record.nearest_mean["features"].tried)
    record = with_measure(record, "scatter", total=values["scatter"], dead_units=values["dead_units"])
    record = with_measure(record, "spread", rank=values["effective_rank"])
    state = CollapseState(windows, np.full(3, 7.0), best, past, Margins((), agreeing))
    return FeatureCollapse()(record, state)


@pytest.mark.parametrize(
    ("facts", "which"),
    [
        ({"scatter": 1.1e-5}, None),
        ({"scatter": 0.4e-5}, 0),
        ({"effective_rank": 1.3, "accuracy": 0.5}, None),
        ({"effective_rank": 0.9, "accuracy": 0.5}, 1),
        ({"effective_rank": 0.9, "accuracy": 0.74}, 1),
        ({"effective_rank": 0.9, "accuracy": 0.76}, None),  # in good health
        ({"effective_rank": 0.5, "accuracy": 0.5, "rank": 2.9}, None),  # nowhere to fall
        ({"effective_rank": 0.5, "accuracy": 0.5, "rank": 3.1}, 1),
        ({"dead_units": 0.87, "accuracy": 0.5}, None),
        ({"dead_units": 0.91, "accuracy": 0.5}, 2),
        ({"dead_units": 0.91, "accuracy": 1.0}, None),
        ({"scatter": 0.0, "agreeing": 19}, None),  # labels contradicted lately
        ({"scatter": 0.0, "agreeing": 20}, 0),
        ({"scatter": 0.0, "windows": 4}, None),  # warm-up
        ({"scatter": 0.0, "windows": 5}, 0),
    ],
)
def test_each_quantity_falls_by_its_factor(record, facts, which):
    """Evidence so far is 7 nats, log(3/level) = 8.006."""
    state, alert = collapsed(record, **facts)
    assert (alert is None) is (which is None)
    if which is not None:
        assert state.log_sum.argmax() == which
        assert ("scatter of the features", "effective rank of the features", "live units")[which] in alert.cause
        assert alert.threshold == pytest.approx((1e-5, facts.get("rank", 5) / 4, 1 / 8)[which])


def test_best_accuracy_fades_slowly(record):
    assert collapsed(record, accuracy=0.5)[0].accuracy == pytest.approx(0.98)
    assert collapsed(record, accuracy=0.99)[0].accuracy == pytest.approx(0.99)


@pytest.mark.parametrize("argument", ["scatter_drop", "rank_drop", "live_drop"])
def test_factors_are_above_one(argument):
    with pytest.raises(ValueError, match=f"Expected argument `{argument}` to be a factor above 1, but got 1.0"):
        FeatureCollapse(**{argument: 1.0})
    with pytest.raises(ValueError, match="Expected argument `level` to be between 0 and 1, but got 0"):
        FeatureCollapse(level=0)
