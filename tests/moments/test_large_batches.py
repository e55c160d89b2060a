"""Batches that are added at once: the moments of those that go through the ring, and a thinner choice of samples."""

import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import class_moments
from torch._subclasses.fake_tensor import FakeTensorMode

from le_callback.moments import large as large_module
from le_callback.moments import ring as ring_module
from le_callback.moments.sums import add_norms, add_placed, empty_moments, places, update_moments
from le_callback.moments.window import ClassWindow

K, P, RING, LARGE = 4, 5, 16, 6
properties = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = ("weight", "mean", "variance", "mean_noise")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Batches of six rows are large, and a ring has 16."""
    monkeypatch.setattr(ring_module, "MIN_ROWS", RING)
    monkeypatch.setattr(ring_module, "RING_ROWS", RING)
    monkeypatch.setattr(large_module, "LARGE_BATCH", LARGE * (P + 1))


def stream(seed, n, spread=1.0, dtype=torch.float64):
    """Classes about three apart, labels some of which are no class."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (n,), generator=g)
    means = 3 * torch.randn(K, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = means[labels] + spread * torch.randn(n, P, generator=g, dtype=torch.float64)
    return x.to(dtype), labels


def spoilt(x, labels):
    """Some samples that count nowhere: (x, labels)."""
    x, labels = x.clone(), labels.clone()
    x[3::17, 1], x[5::19, 0], x[7::23, 2] = torch.nan, -torch.inf, 1e200 if x.dtype == torch.float64 else 1e30
    labels[1::13], labels[2::29], labels[4::31], labels[6::37] = -100, K, -1, -(2**62)
    return x, labels


def sources(x):
    return {"features": x, "logits": -3 * x[:, :1]}


def opened(x, labels, ignore_index=None):
    """A window after one that shows that its sums may be about zero."""
    window = ClassWindow.for_batch(sources(x), K, ignore_index)
    window.update(sources(x), labels)
    for name in ("features", "logits"):
        window.statistics(name)
    window.advance()
    return window


def feed(window, x, labels, sizes):
    start = 0
    for size in sizes:
        window.update(sources(x[start : start + size]), labels[start : start + size])
        start += size
    window.update(sources(x[start:]), labels[start:])


def assert_matches(window, x, labels, ignore_index=None, rtol=1e-9):
    for name, rows in sources(x).items():
        rows = rows.double()
        rows = torch.where(rows.abs() < 1e20, rows, torch.nan)
        expected, found = class_moments(rows, labels.numpy(), K, ignore_index), window.statistics(name)
        for field in FIELDS:
            got = getattr(found, field).double().numpy()
            np.testing.assert_allclose(got, expected[field], rtol, rtol, err_msg=f"{name} {field}")


@pytest.mark.parametrize("second", [False, True], ids=["about references", "about zero"])
@pytest.mark.parametrize("ignore_index", [None, -100, 2])
@properties
@given(seed=st.integers(0, 2**20), n=st.integers(1, 120), sizes=st.lists(st.integers(0, 40), max_size=8))
def test_moments_of_small_and_large_batches_in_any_order(second, ignore_index, seed, n, sizes):
    x, labels = spoilt(*stream(seed, n))
    clean = stream(seed + 1, 60)
    window = opened(*clean, ignore_index) if second else ClassWindow.for_batch(sources(clean[0]), K, ignore_index)
    assert window._sums["features"].about_zero == second
    feed(window, x, labels, sizes)
    assert_matches(window, x, labels, ignore_index)
    left_out = ~((x.abs() < 1e20).all(1))
    kept_label = (labels >= 0) & (labels < K)
    ignored = torch.zeros_like(kept_label) if ignore_index is None else labels == ignore_index
    # a label that is no class is told of first where the features are fine, features that are not finite always
    assert window.moments["features"].nonfinite == int((left_out & (kept_label & ~ignored)).sum())
    assert window.moments["features"].mislabelled == int((~kept_label & ~ignored).sum())


def test_collapsed_classes_are_exact():
    """Single precision, classes of width 1e-4 at a distance of three: sums about zero would lose all of it."""
    x, labels = stream(3, 200, spread=1e-4, dtype=torch.float32)
    window = opened(x, labels)
    assert not window._sums["features"].about_zero
    feed(window, x, labels, [40, 40, 3, 60])
    assert_matches(window, x, labels, rtol=1e-5)


def test_half_precision():
    x, labels = stream(5, 90, dtype=torch.bfloat16)
    window = opened(x, labels)
    feed(window, x, labels, [40, 2])
    expected = class_moments(x.double(), labels.numpy(), K)
    assert window.samples("features")[0].dtype == torch.float32
    np.testing.assert_allclose(window.statistics("features").mean.numpy(), expected["mean"], rtol=1e-5, atol=1e-5)


@properties
@given(seed=st.integers(0, 2**20), sizes=st.lists(st.integers(LARGE, 40), min_size=1, max_size=12))
def test_samples_are_all_until_the_ring_is_full_then_one_of_eight(seed, sizes):
    x, labels = stream(seed, sum(sizes))
    window, start, written = ClassWindow.for_batch(sources(x), K), 0, 0
    for size in sizes:
        rows = slice(start, start + size)
        window.update(sources(x[rows]), labels[rows])
        written += size if written < RING else len(range(size)[:: large_module.THINNING])
        start += size
    kept, kept_labels = window.samples("features")
    assert 0 < len(kept) <= RING
    assert len(kept) == RING or written < 2 * RING
    for row, label in zip(kept, kept_labels, strict=True):
        (at,) = (x == row).all(1).nonzero(as_tuple=True)
        assert labels[at].tolist() == [label]
    if sum(sizes) <= RING:
        torch.testing.assert_close(kept, x, rtol=0, atol=0)
    logits, logit_labels = window.samples("logits")
    torch.testing.assert_close(logits, -3 * kept[:, :1], rtol=0, atol=0)
    assert torch.equal(logit_labels, kept_labels)


def test_thinned_rows_are_others_each_time():
    """A sampler that puts classes into the same rows of every batch does not hide some of them."""
    n = 8 * large_module.THINNING
    x, labels = torch.arange(n * 1.0).repeat(12).unsqueeze(1).repeat(1, P).double(), torch.arange(n * 12) % K
    window = ClassWindow.for_batch(sources(x), K)
    seen = set()
    for start in range(0, len(x), n):
        window.update(sources(x[start : start + n]), labels[start : start + n])
        seen |= set(window.samples("features")[0][:, 0].tolist()) if start else set()
    assert len(seen) > 3 * n // 4


def test_restored_continues_bit_for_bit_at_every_cut():
    sizes = [7, 30, 3, 40, 9, 1, 16, 25]
    x, labels = spoilt(*stream(4, sum(sizes), dtype=torch.float32))

    def run(cut):
        window, start = opened(*stream(9, 60, dtype=torch.float32), -100), 0
        for i, size in enumerate(sizes):
            if i == cut:
                file = io.BytesIO()
                torch.save(window.state_dict(), file)
                file.seek(0)
                window = ClassWindow.from_state(torch.load(file, weights_only=True), -100)
            window.update(sources(x[start : start + size]), labels[start : start + size])
            start += size
        return [t for name in ("features", "logits") for t in (*window.statistics(name), *window.samples(name))]

    uninterrupted = run(None)
    for cut in range(len(sizes)):
        for a, b in zip(uninterrupted, run(cut), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("forget", ["advance", "clear", "replace"])
def test_what_is_forgotten_is_not_counted_later(forget):
    x, labels = stream(6, 40)
    window = opened(x, labels)
    window.update(sources(100 + x), labels)
    if forget == "advance":
        window.advance()
    elif forget == "clear":
        window.clear()
    else:
        empty = {name: torch.zeros_like(value) for name, value in window.sums().items()}
        window.update(sources(100 + x), labels)
        window.replace(empty, labels[:0], {name: rows[:0] for name, rows in sources(x).items()})
    window.update(sources(x), labels)
    assert_matches(window, x, labels)


def test_sums_are_those_of_small_batches_that_a_pool_takes():
    x, labels = stream(8, 80)
    large, small = opened(x, labels), opened(x, labels)
    large.update(sources(x), labels)
    for i in range(0, 80, 4):
        small.update(sources(x[i : i + 4]), labels[i : i + 4])
    for name, value in large.sums().items():
        torch.testing.assert_close(value, small.sums()[name], rtol=1e-10, atol=1e-8, msg=name)


def test_places_and_norms_are_the_update_in_two_parts():
    x, labels = spoilt(*stream(11, 200, dtype=torch.float32))
    labels[9] = 1
    once, parts = empty_moments(torch.zeros(K, P)), empty_moments(torch.zeros(K, P))
    update_moments(once, x, labels, 1)
    add_norms(parts, add_placed(parts, x, places(labels, K)), labels, 1)
    for name in ("total", "weight", "weight_sq", "scatter", "nonfinite", "mislabelled"):
        torch.testing.assert_close(getattr(parts, name), getattr(once, name), rtol=1e-6, atol=1e-6, msg=name)


def test_nothing_synchronises():
    with FakeTensorMode():
        window = ClassWindow.for_batch(sources(torch.zeros(9, P)), K, -100)
        for sums in window._sums.values():
            sums.about_zero = True
        for _ in range(9):
            window.update(sources(torch.zeros(9, P)), torch.zeros(9, dtype=torch.long))
        window.advance()


def test_state_does_not_grow():
    x, labels = stream(7, 33)
    window = opened(x, labels)

    def held():
        tensors = [
            *window.ring.rows.values(),
            window.ring.labels,
            *window._large._norms.rows.values(),
            window._large._norms.labels,
        ]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    window.update(sources(x), labels)
    early = held()
    for _ in range(300):
        window.update(sources(x), labels)
    assert held() == early
