import math

import numpy as np
import pytest
import torch
from windows import blobs, means_of, source_window

from le_callback.measures.scatter import MEASURE, dead_units


@pytest.mark.parametrize("soft", [False, True])
def test_scatter_and_radius_are_those_of_all_samples(soft):
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (200,), generator=g)
    x = torch.randn(200, 5, generator=g, dtype=torch.float64) + 4 * torch.eye(3, 5, dtype=torch.float64)[y]
    target = torch.rand(200, 3, generator=g, dtype=torch.float64) if soft else None
    window = source_window(x, y, 3, target=target)
    measured = MEASURE.compute(window)
    share = target.sum(1, keepdim=True) / target.sum() if soft else torch.full((200, 1), 1 / 200, dtype=torch.float64)
    centre = (share * x).sum(0)
    means = window.statistics.mean
    assert measured.total == pytest.approx(float((share * (x - centre) ** 2).sum()), rel=1e-9)
    assert measured.radius == pytest.approx(float((means - centre).norm(dim=1).mean()), rel=1e-9)
    assert measured.between == pytest.approx(float(((means - means.mean(0)) ** 2).sum()) / 3, rel=1e-9)


def test_how_far_the_means_have_moved():
    x, y = blobs(3, K=3)
    before = means_of(x, y, 3) + torch.tensor([[3.0], [0.0], [torch.nan]]) * torch.eye(5)[0]
    moved = MEASURE.compute(source_window(x, y, 3, before)).moved
    assert moved[:2] == pytest.approx([3.0, 0.0], abs=1e-12)
    assert math.isnan(moved[2])
    assert np.isnan(MEASURE.compute(source_window(x, y, 3)).moved).all()


def test_units_that_are_the_same_for_all_samples():
    x = torch.tensor([[1.0, 0.0, 2.0, 7.0], [1.0, 0.0, 3.0, 7.0], [1.0, 1e-9, 3.0, 7.0]])
    assert dead_units(x) == 0.5
    assert math.isnan(dead_units(x[:1]))


@pytest.mark.parametrize("dead", [0, 1, 20, 60, 64])
def test_dead_units_are_those_without_any_range(dead):
    """Some others differ only in a late sample: what the first samples say is not enough."""
    g = torch.Generator().manual_seed(dead)
    x = torch.randn(200, 64, generator=g)
    x[:, torch.randperm(64, generator=g)[:dead]] = 2.5
    for late in (0, 1, 2):
        x[:, late] = 1.0
        x[150, late] += late  # the first stays the same for all
    expected = float((x.amax(0) == x.amin(0)).double().mean())
    assert dead_units(x) == pytest.approx(expected)
    assert expected > 0


def test_degenerate_windows_claim_nothing():
    x, y = torch.zeros(6, 3), torch.tensor([0, 1] * 3)
    measured = MEASURE.compute(source_window(x, y, 2, torch.zeros(2, 3)))
    assert (measured.between, measured.radius, measured.total, measured.dead_units) == (0.0, 0.0, 0.0, 1.0)
