"""Collapse as a window tells it, and the pairs of many classes, against the definitions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from collapse_oracles import collapse
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from windows import blobs, means_of, source_window

from le_callback import SeparationMonitor
from le_callback.measures import collapse as module
from le_callback.measures import etf_angles, predict, self_duality
from le_callback.measures.collapse import MEASURE
from le_callback.measures.head_weights import read_head
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.near_pairs import near_pairs
from le_callback.measures.pair_cosines import pair_cosines
from le_callback.measures.span import Span

FIELDS = {
    "within": "nc1",
    "trace_ratio": "nc1_trace",
    "distance": "nc1_cdnv",
    "duality": "nc3_duality",
    "duality_cosine": "nc3_cosine",
    "rank": "effective_rank",
    "stable_rank": "stable_rank",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("K", "p"), [(2, 5), (4, 3), (5, 12), (9, 4)])
def test_a_window_that_keeps_all_its_samples_says_what_the_definitions_say(K, p, dtype):
    """Classes 0, 2, 4, … of 2 K; the last has a single sample."""
    x, y = blobs(K, K=K, p=p, n=60, dtype=dtype)
    keep = torch.cat([torch.where(y != K - 1)[0], torch.where(y == K - 1)[0][:1]])
    x, y = x[keep], y[keep]
    head = nn.Linear(p, 2 * K).to(dtype)
    window = replace(source_window(x, 2 * y, 2 * K), head=read_head(head, 2 * K, p))
    found, expected = MEASURE.compute(window), collapse(x, 2 * y, head.weight.detach())
    for field, name in FIELDS.items():
        assert getattr(found, field) == pytest.approx(expected[name], rel=1e-5), name
    assert (found.samples, found.num_classes) == (len(y) - 1, K)
    assert math.isnan(found.agreement)


def test_a_stream_of_windows_that_collapses():
    """Single precision, within over between from 1 to 1e-8: sums about the means of the window before."""
    K, p, monitor = 4, 6, SeparationMonitor(4)
    g = torch.Generator().manual_seed(0)
    centres, head = torch.randn(K, p, generator=g), nn.Linear(p, K)
    for step, width in enumerate([1.0, 1e-1, 1e-2, 1e-3, 3e-5, 3e-5], start=1):
        y = torch.randint(K, (300,), generator=g)
        x = centres[y] + width * torch.randn(300, p, generator=g)
        monitor.update(features=x, logits=head(x).detach(), target=y)
        found, expected = monitor.close(step, head).collapse, collapse(x, y, head.weight.detach())
        # sums about means of another width lose digits: the last window is about its own
        rel = 1e-5 if width == 1.0 or step == 6 else 1e-3
        for field, name in FIELDS.items():
            assert getattr(found, field) == pytest.approx(expected[name], rel=rel), (width, name)
    assert expected["nc1"] < 1e-8


def test_the_head_agrees_with_the_means_of_the_window_before():
    x, y = blobs(3, K=4, p=5, n=80)
    z = torch.randn(80, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = means_of(x, y, 4) + 0.3
    nearest = torch.cdist(x, before).argmin(1)
    said = replace(source_window(x, y, 4, before), outputs=z)
    assert MEASURE.compute(said).agreement == pytest.approx((nearest == z.argmax(1)).double().mean().item())
    head = read_head(nn.Linear(5, 4).double(), 4, 5)
    by_weights = replace(source_window(x, y, 4, before), head=head)
    expected = (nearest == (x @ head.weight.T + head.bias).argmax(1)).double().mean()
    assert MEASURE.compute(by_weights).agreement == pytest.approx(expected.item())


def test_fewer_samples_are_projected_where_there_are_many_classes(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_PROJECTED", 30)
    monkeypatch.setattr(module, "_PROJECTED_WORK", 0)
    x, y = blobs(5, K=3, p=4, n=90, spread=0.1)
    found, expected = MEASURE.compute(source_window(x, y, 3)), collapse(x, y)
    assert found.samples == 30
    assert found.within == pytest.approx(expected["nc1"], rel=0.6)  # 3 standard errors
    assert found.trace_ratio == pytest.approx(expected["nc1_trace"], rel=1e-9)


def test_means_that_span_fewer_directions_than_they_are():
    """Two classes at one place, and all classes on a line: the pseudo-inverse leaves out what is not there."""
    g = torch.Generator().manual_seed(2)
    for means in (torch.randn(4, 6, generator=g)[[0, 1, 2, 2]], torch.arange(5.0)[:, None] * torch.ones(1, 6)):
        means = means.double()
        d = torch.randn(7, 6, generator=g, dtype=torch.float64)
        centred = (means - means.mean(0)).numpy()
        inverse = np.linalg.pinv(centred.T @ centred, rcond=1e-11, hermitian=True)
        found = Span(MeanGeometry(means)).apply(d).square().sum(1)
        np.testing.assert_allclose(found, np.einsum("np,pq,nq->n", d, inverse, d), rtol=1e-8)


@pytest.mark.parametrize(("K", "p"), [(700, 9), (300, 40), (40, 200)])
def test_both_sides_of_the_products_agree(K, p, monkeypatch):
    """More than 2,048 classes: moments from products of dimensions, the rest from drawn pairs."""
    means = torch.randn(K, p, generator=torch.Generator().manual_seed(K), dtype=torch.float64)
    spreads = torch.rand(K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = pair_cosines(MeanGeometry(means), spreads)
    assert exact.looked_at == exact.drawn == K * (K - 1) // 2
    if p >= K - 1:
        return
    monkeypatch.setattr("le_callback.measures.mean_geometry.EXACT_CLASSES", 10)
    drawn = pair_cosines(MeanGeometry(means), spreads)
    assert drawn.cosine == pytest.approx(exact.cosine, rel=1e-9)
    assert drawn.square == pytest.approx(exact.square, rel=1e-9)
    assert drawn.angle == pytest.approx(exact.angle, rel=1e-4)
    assert drawn.deviation == pytest.approx(exact.deviation, rel=1e-3)
    assert drawn.uniformity == pytest.approx(exact.uniformity, rel=5e-3)
    assert drawn.distance == pytest.approx(exact.distance, rel=0.02)


def test_near_pairs_are_found_without_looking_at_all():
    """20 pairs of cosine about 0.9 among 5,000 classes in 64 dimensions; the seeds of the lists are not the default."""
    found, looked_at = 0, 0
    for seed in range(1, 6):
        rows = torch.randn(5000, 64, generator=torch.Generator().manual_seed(seed))
        rows[1:40:2] = rows[0:40:2] + 0.48 * torch.randn(20, 64, generator=torch.Generator().manual_seed(90 + seed))
        pairs, cosines, looked_at = near_pairs(rows, torch.linalg.vector_norm(rows, dim=1), top=20, seed=seed)
        planted = {(k, k + 1) for k in range(0, 40, 2)}
        found += len(planted & {tuple(pair) for pair in pairs.tolist()})
        assert (cosines.diff() <= 0).all()
    assert found >= 95
    assert looked_at < 5000 * 4999 / 2 / 5


def test_lists_are_chosen_by_a_sketch_where_they_are_many(monkeypatch):
    """Near pairs stay near in 64 random directions: as many planted ones are found as by all dimensions."""
    found = []
    for most in (10, 1000):
        monkeypatch.setattr("le_callback.measures.near_pairs._SKETCHED_LISTS", most)
        rows = torch.randn(4000, 200, generator=torch.Generator().manual_seed(1))
        rows[1:120:2] = rows[0:120:2] + 0.48 * torch.randn(60, 200, generator=torch.Generator().manual_seed(91))
        pairs, cosines, looked_at = near_pairs(rows, torch.linalg.vector_norm(rows, dim=1), top=60, seed=5)
        found.append(len({(k, k + 1) for k in range(0, 120, 2)} & {tuple(pair) for pair in pairs.tolist()}))
        assert (cosines.diff() <= 0).all()
        assert looked_at < 4000 * 3999 / 2 / 3
    assert min(found) >= 50


def test_the_nearest_of_all_pairs_are_those_of_the_whole_table():
    """Several tiles, of which most hold none of the nearest; a class at the centre, exactly, has no angle."""
    half = torch.randint(-9, 10, (199, 30), generator=torch.Generator().manual_seed(0)).double()
    half[150] = half[5]
    half[150, 0] += 1
    means = torch.cat([half, -half, torch.zeros(1, 30)])[
        torch.randperm(399, generator=torch.Generator().manual_seed(1))
    ]
    centre = int((means == 0).all(1).nonzero())
    unit = (means / means.norm(dim=1, keepdim=True)).numpy()
    cosines = unit @ unit.T
    values = cosines[np.triu_indices(399, 1)]
    found = pair_cosines(MeanGeometry(means)).near.numpy()
    assert centre not in found
    np.testing.assert_allclose(
        cosines[found[:, 0], found[:, 1]], np.sort(values[~np.isnan(values)])[::-1][:32], rtol=1e-12
    )
    assert len({tuple(pair) for pair in found.tolist()}) == 32


def test_more_classes_than_dimensions_are_measured_against_the_welch_bound():
    """Seven directions in the plane, evenly spaced: a tight frame that sums to zero, the best there is."""
    angle = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    found = etf_angles(torch.stack([angle.cos(), angle.sin()], dim=1))
    assert not found.attainable
    assert found.excess == pytest.approx(1)
    assert found.least_deviation > 20
    clumped = etf_angles(torch.stack([(angle**2).cos(), (angle**2).sin()], dim=1))
    assert clumped.excess > 1.001


def test_nothing_of_all_pairs_is_kept_of_many_classes():
    x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    found = etf_angles(x)
    assert found.cosines.shape[0] == len(found.classes) <= 40
    assert (found.pairs, found.looked_at, len(found.near)) == (300 * 299 / 2, 300 * 299 / 2, 32)
    assert found.pair == found.near[0][:2]
    assert set(found.pair) <= set(found.classes)
    few = etf_angles(x[:200])
    assert few.cosines.shape == (200, 200)


def test_heads():
    linear, p, K = nn.Linear(5, 3), 5, 3
    assert torch.equal(read_head(linear, K, p).weight, linear.weight)
    assert torch.equal(read_head(linear, K, p).bias, linear.bias)
    assert read_head(nn.Linear(p, K, bias=False), K, p).bias is None
    convolution = nn.Conv2d(p, K, 1)
    assert torch.equal(read_head(convolution, K, p).weight, convolution.weight[:, :, 0, 0])
    assert read_head(nn.Conv2d(p, K, 3), K, p) is None
    embedding = nn.Embedding(K, p)
    tied = nn.Linear(p, K)
    tied.weight = embedding.weight
    assert torch.equal(read_head(tied, K, p).weight, embedding.weight)
    normalised = weight_norm(nn.Linear(p, K))
    x = torch.randn(4, p)
    head = read_head(normalised, K, p)
    torch.testing.assert_close(x @ head.weight.T + head.bias, normalised(x))
    single = nn.Linear(p, 1)
    head = read_head(single, 2, p)
    assert torch.equal(head.decisions(x), (single(x).squeeze(1) > 0).long())
    for module_ in (None, nn.ReLU(), nn.Linear(p, K + 1), nn.Linear(p + 1, K)):
        assert read_head(module_, K, p) is None
    assert not read_head(linear, K, p).weight.requires_grad


def test_duality_near_zero_keeps_its_digits():
    g = torch.Generator().manual_seed(0)
    means = torch.randn(6, 20, generator=g)
    weights = 3 * means + 1e-4 * torch.randn(6, 20, generator=g) + 7
    w, m = weights.double().numpy(), means.double().numpy()
    w, m = w - w.mean(0), m - m.mean(0)
    expected = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m))
    assert self_duality(means.double(), weights.double())[0] == pytest.approx(expected, rel=1e-6)
    assert self_duality(means, weights)[0] == pytest.approx(expected, rel=0.02)
    assert math.isnan(self_duality(torch.ones(3, 2), weights[:3, :2])[0])


def test_prediction():
    assert (predict(0.1, -9.0, math.e, 1.0).tends, predict(0.1, -9.0, math.e, 1.0).growth) == (1, 1)
    assert [predict(g, B, 1.0, 1.0).tends for g, B in ((-0.1, -1.0), (0.1, 1.0), (0.0, -1.0))] == [0, 0, 0]
    assert math.isnan(predict(math.nan, -1.0, 1.0, 1.0).tends)
    assert math.isnan(predict(0.1, -1.0, math.nan, 1.0).growth)
