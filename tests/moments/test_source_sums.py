"""Sums about zero and about references: where the first are taken, and that nothing is lost by them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import class_moments

from le_callback.moments import source_sums as source_sums_module
from le_callback.moments.source_sums import SPREAD_ABOUT_ZERO, SourceSums
from le_callback.moments.sums import class_rows
from le_callback.moments.window import ClassWindow

K, P = 4, 6
ROUNDED = 1e-12  # of squared means of about 1000 in single precision: a mean is stored to 6e-8 of its size
properties = settings(deadline=None, max_examples=30)


def blobs(seed, n, spread=1.0, centre=3.0, dtype=torch.float32):
    """Classes whose means are about ``centre`` apart, with deviations ``spread`` in every direction."""
    g = torch.Generator().manual_seed(seed)
    means = centre * torch.randn(K, P, generator=g, dtype=torch.float64)
    labels = torch.cat([torch.arange(K), torch.randint(K, (n - K,), generator=g)])
    x = means[labels] + spread * torch.randn(n, P, generator=g, dtype=torch.float64)
    return x.to(dtype), labels


def second_window(x, labels, ignore_index=None):
    """A window whose first one held ``x``, open."""
    window = ClassWindow.for_batch({"x": x}, K, ignore_index)
    window.update({"x": x}, labels)
    window.statistics("x")
    window.advance()
    return window


def about_zero(window):
    return window._sums["x"].about_zero


def assert_matches(window, x, labels, rtol, fields=("weight", "mean", "variance", "mean_noise")):
    expected = class_moments(x.double(), labels.numpy(), K)
    found = window.statistics("x")
    for field in fields:
        atol = rtol * np.nanmax(np.abs(expected[field])) + ROUNDED
        np.testing.assert_allclose(getattr(found, field).double().numpy(), expected[field], rtol, atol, err_msg=field)


@properties
@given(seed=st.integers(0, 2**20), n=st.integers(2 * K, 300), parts=st.integers(1, 7))
def test_windows_about_zero_have_the_moments_of_all_their_samples(seed, n, parts):
    window = second_window(*blobs(seed, 40))
    assert about_zero(window)
    x, labels = blobs(seed + 1, n)
    for rows in torch.arange(n).tensor_split(parts):
        window.update({"x": x[rows]}, labels[rows])
    assert_matches(window, x, labels, rtol=2e-5)


def test_double_precision_is_exact_about_zero():
    window = second_window(*blobs(0, 40, dtype=torch.float64))
    assert about_zero(window)
    x, labels = blobs(1, 90, dtype=torch.float64)
    window.update({"x": x}, labels)
    assert_matches(window, x, labels, rtol=1e-12)


def test_moved_to_the_references_in_between(monkeypatch):
    monkeypatch.setattr(source_sums_module, "FEWEST_ABOUT_ZERO", 1)
    monkeypatch.setattr(source_sums_module, "SAMPLES_ABOUT_ZERO", 1)
    sums = SourceSums(torch.zeros(K, P))
    sums.about_zero = True
    x, labels = blobs(2, 60)
    for rows in torch.arange(60).split(7):
        sums.add(x[rows], class_rows(labels[rows], K))
        assert sums._added == 0
    expected = class_moments(x.double(), labels.numpy(), K)
    np.testing.assert_allclose(sums.statistics().variance.numpy(), expected["variance"], rtol=1e-5)


@pytest.mark.parametrize(("spread", "centre"), [(1e-2, 3.0), (1e-4, 3.0), (0.0, 3.0), (1.0, 1e3)])
def test_collapsed_or_distant_classes_are_summed_about_their_means(spread, centre):
    x, labels = blobs(3, 200, spread, centre)
    window = second_window(x, labels)
    assert not about_zero(window)
    window.update({"x": x}, labels)
    # the deviations themselves are rounded to 6e-8 of the distance when x is stored
    expected = class_moments(x.double(), labels.numpy(), K)["variance"]
    np.testing.assert_allclose(window.statistics("x").variance.numpy(), expected, rtol=1e-5, atol=ROUNDED)


def test_one_collapsed_class_suffices():
    x, labels = blobs(4, 100)
    x[labels == 2] = 5.0
    assert not about_zero(second_window(x, labels))


def test_classes_that_are_zero_or_unseen_do_not_matter():
    x, labels = blobs(5, 100)
    x[labels == 2] = 0.0
    keep = labels != 1
    assert about_zero(second_window(x[keep], labels[keep]))


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_keeps_the_spread_to_a_part_in_a_thousand(seed):
    """At the threshold itself, with as many samples of a class as are summed about zero in one go."""
    centre = 1.0
    spread = (1.05 * SPREAD_ABOUT_ZERO * P * centre**2 / P) ** 0.5
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(K).repeat(4096)
    x = (centre + spread * torch.randn(len(labels), P, generator=g, dtype=torch.float64)).float()
    window = second_window(x[: 64 * K], labels[: 64 * K])
    window._sums["x"].about_zero = True
    for rows in torch.arange(len(x)).split(256):
        window.update({"x": x[rows]}, labels[rows])
    assert_matches(window, x, labels, rtol=1e-3)


@pytest.mark.parametrize("spread", [0.0, 1e-4])
def test_a_collapse_within_one_window_is_read_from_the_samples_that_are_kept(spread):
    window = second_window(*blobs(6, 100))
    assert about_zero(window)
    x, labels = blobs(7, 400, spread, centre=30.0)
    window.update({"x": x}, labels)
    assert_matches(window, x, labels, rtol=1e-5)
    window.advance()
    assert not about_zero(window)


def test_without_statistics_the_next_window_is_about_the_means():
    x, labels = blobs(8, 100)
    window = ClassWindow.for_batch({"x": x}, K)
    window.update({"x": x}, labels)
    window.advance()
    assert not about_zero(window)


def test_what_is_left_out_is_left_out_about_zero_too():
    window = second_window(*blobs(9, 100), ignore_index=-100)
    assert about_zero(window)
    x, labels = blobs(10, 40)
    x[30, 0], x[31, 1], x[32, 2] = torch.nan, torch.inf, 1e30
    labels[33], labels[34] = -100, 99
    window.update({"x": x}, labels)
    keep = torch.tensor([i not in range(30, 35) for i in range(40)])
    assert_matches(window, x[keep], labels[keep], rtol=2e-5)
    assert window.moments["x"].nonfinite == 3
    assert window.moments["x"].mislabelled == 1


@pytest.mark.parametrize("at", [5, 90])
def test_a_stop_in_a_window_about_zero_changes_no_bit(at):
    x, labels = blobs(11, 120)
    whole, first = (second_window(*blobs(12, 100)) for _ in range(2))
    whole.update({"x": x[:at]}, labels[:at])
    first.update({"x": x[:at]}, labels[:at])
    if at > 50:
        whole.statistics("x")
        first.statistics("x")
    other = ClassWindow.from_state(first.state_dict())
    for window in (whole, other):
        window.update({"x": x[at:]}, labels[at:])
    for one, two in zip(whole.statistics("x"), other.statistics("x"), strict=True):
        assert torch.equal(one, two)
    whole.advance()
    other.advance()
    assert about_zero(whole) == about_zero(other)


def test_mixed_samples_in_a_window_about_zero():
    window = second_window(*blobs(13, 100, dtype=torch.float64))
    x, labels = blobs(14, 60, dtype=torch.float64)
    weights = torch.rand(60, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    window.update({"x": x[:20]}, labels[:20])
    window.update({"x": x[20:50]}, weights[20:50])
    window.update({"x": x[50:]}, labels[50:])
    target = torch.eye(K, dtype=torch.float64)[labels]
    target[20:50] = weights[20:50]
    expected = class_moments(x, target.numpy(), K)
    found = window.statistics("x")
    for field in ("weight", "mean", "variance", "mean_noise"):
        np.testing.assert_allclose(getattr(found, field).numpy(), expected[field], rtol=1e-9)
