"""Which classes and which layer are not finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from alerts.streams import K, Stream

from le_callback import SeparationMonitor
from le_callback.alerts import NonFinite, describe


def last_alert(samples, features=0, logits=0, before=(100.0,) * K):
    rule, state = NonFinite(), None
    record = SeparationMonitor(num_classes=K).close(50)
    for _ in range(5):
        state, _ = rule(replace(record, class_samples=before), state)
    skipped = {"nonfinite_features": features, "nonfinite_logits": logits}
    return rule(replace(record, class_samples=samples, skipped=skipped), state)[1]


@pytest.mark.parametrize(
    ("samples", "features", "classes"),
    [
        ((100, 100, 0, 100, 100), 100, (2,)),
        ((100, 0, 0, 100, 100), 200, (1, 2)),
        ((100, 100, 60, 100, 100), 40, (2,)),  # from within the window on
        ((80, 80, 80, 80, 80), 100, ()),  # of all
        ((0, 0, 0, 0, 0), 500, ()),
        ((100, 100, 0, 100, 100), 3, ()),  # missing, but not for that
    ],
)
def test_classes_whose_samples_they_are_are_named(samples, features, classes):
    alert = last_alert(tuple(map(float, samples)), features)
    assert alert.classes == classes
    assert ("all of them of class" in alert.cause) is bool(classes)


def test_logits_alone_are_told_apart_from_features():
    assert "have features that are not finite" in last_alert((100.0,) * K, features=3).cause
    alert = last_alert((100.0,) * K, logits=7)
    assert (
        alert.cause
        == "7 samples since step 0 have logits that are not finite, although their features are: it is the head."
    )
    assert last_alert((100.0,) * K) is None


def test_a_monitor_counts_both_layers():
    stream, rule, state = Stream(), NonFinite(), None
    for _ in range(3):
        state, _ = rule(stream.window(), state)
    x = torch.zeros(4, K + 3)
    logits = torch.zeros(4, K)
    logits[0] = torch.nan
    stream.monitor.update(features=x, logits=logits, target=torch.arange(4))
    record = stream.monitor.close(stream.step + 50)
    assert (record.skipped["nonfinite_logits"], record.skipped.get("nonfinite_features", 0)) == (1, 0)
    assert "it is the head" in describe(rule(record, state)[1])
    assert np.sum(record.class_samples) == 4
