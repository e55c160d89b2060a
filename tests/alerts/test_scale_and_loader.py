"""Scales that jump, grow or shrink, and loaders that are stuck; and what looks like it and is none."""

from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import Stream

from le_callback import SeparationMonitor
from le_callback.alerts import AlertBook, LoaderStuck, ScaleChanged


def told(scales, rule=None, **kwargs):
    book, stream = AlertBook([rule or ScaleChanged()]), Stream(spread=0.1)
    return [a for scale in scales for a in book.add(stream.window(scale=scale, **kwargs))]


def test_a_jump_is_told_in_its_second_window():
    (alert,) = told([1.0] * 10 + [255.0] * 5)
    assert alert.step == 50 * 12
    assert alert.cause.startswith("The scale of the features jumped from")
    assert alert.value / alert.threshold * 10 == pytest.approx(255, rel=0.1)


def test_a_single_window_and_growth_from_little_are_none():
    assert told([1.0] * 10 + [255.0] + [1.0] * 5) == []
    assert told([*np.geomspace(0.01, 1, 20), *[1.0] * 20]) == []


def test_a_scale_that_comes_back_is_no_jump():
    alerts = told([1.0] * 10 + [1e-3] * 15 + [1.0] * 5)
    assert not any("jumped" in a.cause for a in alerts)


def test_logits_that_grow_without_need_are_told_and_slow_growth_is_not():
    alerts = told([*[1.0] * 8, *np.exp(0.5 * np.arange(1, 16))], ScaleChanged(jump=1e9))
    assert [a.cause[:28] for a in alerts] == ["The logits keep growing expon"[:28]]
    assert told([*[1.0] * 8, *np.exp(0.05 * np.arange(1, 16))]) == []


def test_features_that_shrink_with_the_margin_are_told_after_three_windows():
    (alert,) = told([1.0] * 10 + [0.3] * 8)
    assert alert.step == 50 * 13
    assert alert.cause.startswith("The features shrank")
    assert told([1.0] * 10 + [0.3] * 2 + [1.0] * 8) == []


@pytest.mark.parametrize("argument", ["jump", "steady"])
def test_factors_are_above_one(argument):
    with pytest.raises(ValueError, match=f"`{argument}` to be a factor above 1, but got 1"):
        ScaleChanged(**{argument: 1})


def counted(windows, rule=None):
    rule, state, found = rule or LoaderStuck(), None, []
    record = SeparationMonitor(num_classes=2).close(50)
    for counts in windows:
        state, alert = rule(replace(record, class_samples=tuple(map(float, counts))), state)
        found.append(alert is not None)
    return found


def test_counts_that_repeat_after_they_varied_are_told():
    rng = np.random.default_rng(0)
    varied = rng.multinomial(800, [0.1] * 10, 12)
    found = counted([*varied, *[[100, 0, 200, 50, 50, 100, 100, 0, 100, 100]] * 4])
    assert found == [False] * 14 + [True] * 2


@pytest.mark.parametrize("K", [2, 10])
def test_counts_of_mixed_samples_do_not_repeat(K):
    """20 streams of 500 windows at level 1e-3: none with probability 0.98."""
    rng = np.random.default_rng(K)
    assert sum(any(counted(rng.multinomial(50, np.full(K, 1 / K), 500))) for _ in range(20)) <= 1


def test_balanced_samples_always_repeat_and_are_no_fault():
    assert not any(counted([[10] * 10] * 50))
