"""The rules on streams of windows, healthy and with faults."""

from dataclasses import replace

import numpy as np
import pytest
from alerts.streams import Stream, run

from le_callback import SeparationMonitor
from le_callback.alerts import (
    AlertBook,
    ClassVanished,
    ElasticityLost,
    FeatureCollapse,
    LabelsChanged,
    LoaderStuck,
    NonFinite,
    PairMerging,
    ScaleChanged,
    SeparabilityLost,
    default_rules,
)

FAULTS = [
    ({"corrupt": 0.6}, "SeparabilityLost", ()),
    ({"mix": (1, 3)}, "PairMerging", (1, 3)),
    ({"scale": 0.0}, "FeatureCollapse", ()),
    ({"scale": 1e-4}, "FeatureCollapse", ()),
    ({"absent": 2}, "ClassVanished", (2,)),
    ({"still": 4}, "ClassVanished", (4,)),
    ({"nan": True}, "NonFinite", ()),
]


@pytest.mark.parametrize(("fault", "rule", "classes"), FAULTS)
def test_fault_raises_its_rule_once_and_soon(fault, rule, classes):
    book, stream = AlertBook(), Stream()
    assert run(book, stream, 20) == []
    alerts = run(book, stream, 20, **fault)
    assert [(a.rule, a.classes) for a in alerts] == [(rule, classes)]
    assert alerts[0].step <= 50 * 28
    assert alerts[0].cause.endswith(".")
    assert alerts[0].advice[-1] in ".?"


def test_rules_do_not_change_the_state_they_are_given():
    stream = Stream()
    for rule in default_rules():
        state = None
        for _ in range(8):
            state, _ = rule(stream.window(), state)
        record = stream.window(corrupt=0.5)
        before = repr(state)
        once, twice = rule(record, state), rule(record, state)
        assert repr(state) == before
        assert repr(once) == repr(twice)


def test_false_alarms_in_healthy_streams():
    """6 streams of 80 windows with few samples, each rule at level 1e-3: two alarms or more have probability < 1e-3."""
    raised = []
    for seed in range(3):
        for samples, spread in ((30, 0.5), (50, 0.3)):
            raised += run(AlertBook(), Stream(seed, samples, spread), 80)
    assert len(raised) <= 1


def test_shrinking_or_growing_gap_in_good_health_is_no_alarm():
    book, stream = AlertBook(), Stream(spread=0.1)
    for gap in np.concatenate([np.geomspace(0.01, 2, 60), np.linspace(2, 1, 60)]):
        assert book.add(stream.window(gap=float(gap))) == []


def test_negative_gamma_alone_is_no_alarm_and_with_accuracy_it_is():
    rule, stream = ElasticityLost(), Stream(samples=400)
    state = None

    def with_gamma(record, high):
        c = record.coefficients["I_features"]
        gamma = replace(c.gamma, value=high - 0.01, low=high - 0.02, high=high)
        return replace(record, coefficients={"I_features": replace(c, gamma=gamma)})

    for _ in range(30):
        state, alert = rule(with_gamma(stream.window(), -0.1), state)
        assert alert is None
    found = []
    for _ in range(10):
        state, alert = rule(with_gamma(stream.window(corrupt=0.3), -0.1), state)
        found.append(alert)
    assert found[-1] is not None
    assert found[-1].rule == "ElasticityLost"
    state = None
    for i in range(40):
        state, alert = rule(with_gamma(stream.window(corrupt=0.3 * (i > 25)), 0.1), state)
        assert alert is None


def test_sorted_classes_are_no_vanished_classes():
    rule, state = ClassVanished(), None
    record = SeparationMonitor(num_classes=4).close(1)
    for window in range(80):
        counts = np.zeros(4)
        counts[window // 5 % 4] = 100
        state, alert = rule(replace(record, class_samples=tuple(counts), step=window), state)
        assert alert is None, window  # in the first turn neither


def test_never_leaving_chance_is_told():
    """By optimizer steps, once there were enough samples of each class."""
    early = SeparabilityLost(leave_chance_by=1000, leave_chance_samples=100)
    (alert,) = run(AlertBook([early]), Stream(samples=200), 70, corrupt=0.8)
    assert (alert.rule, alert.step, alert.threshold) == ("SeparabilityLost", 1000, 0.2)
    late = SeparabilityLost(leave_chance_by=1000, leave_chance_samples=2000)
    (alert,) = run(AlertBook([late]), Stream(samples=200), 70, corrupt=0.8)
    assert alert.step == 50 * 51  # 50 windows of 200 samples of five classes; the first has no means to compare with
    assert run(AlertBook([early]), Stream(samples=200), 70) == []
    # 24 % of five classes is little, but no chance
    assert run(AlertBook([early]), Stream(samples=800), 70, corrupt=0.74) == []


def test_defaults_have_all_rules():
    assert [type(r) for r in default_rules()] == [
        NonFinite, LoaderStuck, ClassVanished, LabelsChanged, FeatureCollapse, PairMerging, SeparabilityLost,
        ElasticityLost, ScaleChanged,
    ]  # fmt: skip
