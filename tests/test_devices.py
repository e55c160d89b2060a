"""Samples on a device, without a device: tensors of host and device do not meet, and the numbers are the same."""

import math

import pytest
import torch
from pretended_device import DEVICE, Pretended, pretend
from torch import nn

from le_callback.measures import base
from le_callback.moments import following
from le_callback.moments.statistics import class_statistics
from le_callback.moments.sums import empty_moments, update_moments
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.report.tags import scalars


def test_the_pretended_device_refuses_what_a_device_refuses():
    with Pretended():
        x = pretend(torch.ones(3, 2))
        assert x.device == (x + 1).device == x.new_zeros(1).device == torch.zeros(1, device=x.device).device == DEVICE
        assert x.cpu().device.type == x.to("cpu").device.type == "cpu"
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(3, 2)
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(3)[x[:, 0] > 0]
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()


def rows(K, p, to, windows=5, probe=False):
    """All scalars of each window of a stream whose samples ``to`` has moved."""
    g = torch.Generator().manual_seed(0)
    centres, weight = torch.randn(K, p, generator=g), torch.randn(p, K, generator=g)
    monitor, found = SeparationMonitor(K, MonitorSettings(probe=probe)), []
    head = nn.Linear(p, K)
    with torch.no_grad():
        head.weight.copy_(weight.T)
    for window in range(1, windows + 1):
        for _ in range(4):
            y = torch.cat([torch.arange(K), torch.randint(K, (max(0, 64 - K),), generator=g)])
            x = (1 + 0.2 * window) * centres[y] + torch.randn(len(y), p, generator=g)
            monitor.update(features=to(x), logits=to(x @ weight), target=to(y))
        if probe:
            readings = {}
            for name, values in (("features", x), ("logits", x @ weight)):
                moments = empty_moments(to(torch.zeros(K, values.shape[1])))
                update_moments(moments, to(values), to(y))
                readings[name] = class_statistics(moments)
            monitor.add_probe(8.0 * window, readings)
        found.append(scalars(monitor.close(8 * window, head)))
    return found


@pytest.mark.parametrize("wide", [True, False], ids=["means on the host", "means on the device"])
@pytest.mark.parametrize(("classes", "width"), [(3, 8), (10, 6), (300, 12)])
def test_windows_on_a_device_say_the_same(classes, width, wide, monkeypatch):
    if not wide:
        monkeypatch.setattr(base, "_WIDE_NUMBERS", 0)
    expected = rows(classes, width, lambda x: x)
    with Pretended():
        found = rows(classes, width, pretend)
    assert_same(found, expected)


def test_some_of_very_many_classes_on_a_device(monkeypatch):
    monkeypatch.setattr(following, "MAX_FULL", 32)
    monkeypatch.setattr(following, "MAX_FOLLOWED", 16)
    expected = rows(80, 8, lambda x: x)
    with Pretended():
        # on a device the samples of all classes are kept, so the means are of the same samples, other numbers not
        found = rows(80, 8, pretend)
    assert all(math.isfinite(row["etf/features/angle_deviation_deg"]) for row in found)
    assert [row.keys() for row in found] == [row.keys() for row in expected]


def test_a_probe_on_a_device():
    expected = rows(4, 8, lambda x: x, probe=True)
    with Pretended():
        found = rows(4, 8, pretend, probe=True)
    assert_same(found, expected)


def assert_same(found, expected):
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for tag, value in other.items():
            assert float(row[tag]) == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), tag
