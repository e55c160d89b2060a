import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import class_moments
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from le_callback.moments.metric import ClassMoments
from le_callback.moments.statistics import along_direction, class_statistics
from le_callback.moments.sums import (
    empty_moments,
    initial_reference,
    merge_moments,
    move_references,
    pieces,
    update_moments,
)

properties = settings(deadline=None, max_examples=40)
K, P = 4, 3


def stream(seed, n=30, num_classes=K, p=P, soft=False):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=g, dtype=torch.float64)
    if not soft:
        return x, torch.randint(num_classes, (n,), generator=g)
    # mixup: two labels with a mixing share, some rows unmixed
    first, second = torch.randint(num_classes, (2, n), generator=g)
    share = torch.rand(n, 1, generator=g, dtype=torch.float64).round(decimals=1)
    one_hot = torch.eye(num_classes, dtype=torch.float64)
    return x, share * one_hot[first] + (1 - share) * one_hot[second]


def moments_of(x, target, reference=None, ignore_index=None):
    state = empty_moments(torch.zeros(K, x.shape[1], dtype=torch.float64) if reference is None else reference)
    update_moments(state, x, target, ignore_index)
    return state


def assert_matches(statistics, expected, rtol=1e-10, atol=1e-10):
    assert statistics.seen.tolist() == expected["seen"].tolist()
    for name in ("weight", "mean", "variance", "mean_noise"):
        np.testing.assert_allclose(
            getattr(statistics, name).double().numpy(), expected[name], rtol=rtol, atol=atol, err_msg=name
        )


def assert_same(first, second, rtol=1e-10, atol=1e-10):
    for name, a, b in zip(first._fields, first, second, strict=True):
        torch.testing.assert_close(
            a, b, rtol=rtol, atol=atol, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("soft", [False, True])
def test_every_prefix_of_a_stream(soft):
    x, target = stream(0, n=25, soft=soft)
    state = empty_moments(torch.randn(K, P, generator=torch.Generator().manual_seed(9), dtype=torch.float64))
    for n in range(1, len(x) + 1):
        update_moments(state, x[n - 1 : n], target[n - 1 : n])
        assert_matches(class_statistics(state), class_moments(x[:n], target[:n].numpy(), K))


def test_oracle_agrees_with_numpy():
    x, labels = stream(1)
    expected = class_moments(x, labels.numpy(), K)
    for k in range(K):
        rows = x[labels == k].numpy()
        np.testing.assert_allclose(expected["mean"][k], rows.mean(0), rtol=1e-12)
        assert expected["variance"][k] == pytest.approx(np.trace(np.cov(rows.T)), rel=1e-12)
        assert expected["mean_noise"][k] == pytest.approx(np.trace(np.cov(rows.T)) / len(rows), rel=1e-12)


@properties
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    soft=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_split_and_merge_about_different_references_equals_the_batch(seed, n, cuts, soft, order):
    x, target = stream(seed, n=n, soft=soft)
    g = torch.Generator().manual_seed(seed + 1)
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    parts = [
        moments_of(x[a:b], target[a:b], 2 * torch.randn(K, P, generator=g, dtype=torch.float64))
        for a, b in pairwise(edges)
    ]
    order.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merge_moments(merged, part)
    assert torch.equal(merged.reference, parts[0].reference)
    assert_matches(class_statistics(merged), class_moments(x, target.numpy(), K), rtol=1e-9, atol=1e-9)


def test_merge_adds_what_was_left_out_and_leaves_both_alone():
    bad = torch.full((2, P), torch.inf, dtype=torch.float64)
    first = moments_of(bad, torch.tensor([0, 1]))
    second = moments_of(torch.zeros(3, P, dtype=torch.float64), torch.tensor([0, -1, K]))
    merged = merge_moments(first, second)
    assert (merged.nonfinite.item(), merged.mislabelled.item()) == (2, 2)
    assert merged.weight.tolist() == [1, 0, 0, 0]
    assert first.weight.sum() == 0
    assert second.nonfinite == 0


@properties
@given(seed=st.integers(0, 2**20), n=st.integers(1, 40))
def test_integer_labels_equal_one_hot_weights(seed, n):
    x, labels = stream(seed, n=n)
    reference = torch.randn(K, P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    integer = moments_of(x, labels, reference)
    for dtype in (torch.float64, torch.float32, torch.long):
        one_hot = moments_of(x, torch.eye(K, dtype=dtype)[labels], reference)
        assert torch.equal(one_hot.weight, integer.weight)
        assert torch.equal(one_hot.weight_sq, integer.weight_sq)
        assert_same(class_statistics(one_hot), class_statistics(integer))


@properties
@given(seed=st.integers(0, 2**20), n=st.integers(1, 40))
def test_soft_labels_weigh_the_samples(seed, n):
    x, weights = stream(seed, n=n, soft=True)
    assert_matches(class_statistics(moments_of(x, weights)), class_moments(x, weights.numpy(), K))


def test_smoothed_labels_of_a_collapsed_class_far_from_the_origin():
    """Every class then has many tiny weights on far samples; the heaviest class keeps its exact distance."""
    g = torch.Generator().manual_seed(2)
    labels = torch.arange(200) % 2
    centres = 100 * torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x = centres[labels] + 1e-2 * torch.randn(200, 2, generator=g)
    state = empty_moments(centres)
    update_moments(state, x, torch.eye(2)[labels])
    expected = class_moments(x, labels.numpy(), 2)
    np.testing.assert_allclose(class_statistics(state).variance.numpy(), expected["variance"], rtol=1e-3)


@pytest.mark.parametrize("ignore_index", [-100, 255, 2])
def test_ignored_samples_are_left_out_silently(ignore_index):
    x, labels = stream(3)
    labels[::3] = ignore_index
    x[0] = torch.nan  # neither is what it holds looked at
    state = moments_of(x, labels, ignore_index=ignore_index)
    kept = labels != ignore_index
    assert_matches(class_statistics(state), class_moments(x[kept], labels[kept].numpy(), K))
    assert_matches(class_statistics(state), class_moments(x, labels.numpy(), K, ignore_index))
    assert (state.nonfinite.item(), state.mislabelled.item()) == (0, 0)


def test_labels_outside_the_classes_are_counted():
    x, labels = stream(4)
    labels[[1, 5, 8, 9]] = torch.tensor([-1, K, 2**40, -(2**63)])
    x[1] = torch.inf  # mislabelled comes first, so that no sample is counted twice
    state = moments_of(x, labels, ignore_index=-100)
    assert (state.mislabelled.item(), state.nonfinite.item()) == (4, 0)
    kept = (labels >= 0) & (labels < K)
    assert_matches(class_statistics(state), class_moments(x[kept], labels[kept].numpy(), K))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e200])
@pytest.mark.parametrize("soft", [False, True])
def test_rows_that_are_not_finite_are_counted_and_spare_the_others(value, soft):
    x, target = stream(5, soft=soft)
    x[3, 1] = x[7, 0] = value
    state = moments_of(x, target)
    kept = torch.arange(len(x))[[i not in (3, 7) for i in range(len(x))]]
    assert (state.nonfinite.item(), state.mislabelled.item()) == (2, 0)
    assert_matches(class_statistics(state), class_moments(x[kept], target[kept].numpy(), K))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.5])
def test_unusable_weights_are_counted(value):
    x, weights = stream(6, soft=True)
    weights[4, 2] = value
    x[4] = torch.nan
    state = moments_of(x, weights)
    assert (state.mislabelled.item(), state.nonfinite.item()) == (1, 0)
    kept = torch.arange(len(x)) != 4
    assert_matches(class_statistics(state), class_moments(x[kept], weights[kept].numpy(), K))


def test_unseen_classes_are_nan_and_not_zero():
    statistics = class_statistics(moments_of(torch.ones(3, P, dtype=torch.float64), torch.tensor([1, 1, 3])))
    assert statistics.seen.tolist() == [False, True, False, True]
    assert statistics.weight.tolist() == [0, 2, 0, 1]
    for values in (statistics.mean[:, 0], statistics.variance, statistics.mean_noise):
        assert values.isnan().tolist() == [True, False, True, False]


def test_a_single_sample_takes_the_pooled_variance():
    x = torch.tensor([[0.0], [2.0], [10.0], [14.0], [5.0]], dtype=torch.float64)
    statistics = class_statistics(moments_of(x, torch.tensor([0, 0, 1, 1, 2])))
    # squares 2 and 8 over one degree of freedom each
    assert statistics.variance[:3].tolist() == [2, 8, 5]
    assert statistics.mean_noise[:3].tolist() == [1, 4, 5]


def test_without_any_spread_the_variance_is_unknown():
    statistics = class_statistics(moments_of(torch.ones(2, P, dtype=torch.float64), torch.tensor([0, 1])))
    assert statistics.variance.isnan().all()
    assert statistics.mean[:2].tolist() == [[1] * P] * 2


def test_empty_update_changes_nothing():
    state = moments_of(torch.zeros(0, P, dtype=torch.float64), torch.zeros(0, dtype=torch.long))
    assert not class_statistics(state).seen.any()
    assert class_statistics(state).mean.isnan().all()


def test_single_precision_about_a_reference_is_accurate_where_naive_sums_fail():
    g = torch.Generator().manual_seed(7)
    labels = torch.arange(400) % K
    x = (1e4 + 1e-2 * torch.randn(400, P, generator=g, dtype=torch.float64)).float()
    expected = class_moments(x, labels.numpy(), K)

    state = empty_moments(initial_reference(x[:40], K))
    update_moments(state, x, labels)
    measured = class_statistics(state)
    np.testing.assert_allclose(measured.variance.numpy(), expected["variance"], rtol=1e-2)
    # the mean itself is stored to half a unit in the last place of 1e4
    np.testing.assert_allclose(measured.mean.numpy(), expected["mean"], rtol=0, atol=5e-4)

    for k in range(K):
        rows = x[labels == k]
        naive = (rows.square().mean(0) - rows.mean(0).square()).sum()
        assert abs(naive - expected["variance"][k]) > 0.9 * expected["variance"][k]


def test_many_samples_of_a_class_in_single_precision():
    """Ones added one by one stand still at 2²⁴; so would the scatter."""
    x, labels = torch.ones(64, 1), torch.zeros(64, dtype=torch.long)
    state = empty_moments(torch.zeros(1, 1))
    for tensor in (state.weight, state.weight_sq, state.scatter):
        tensor.fill_(2.0**24)
    update_moments(state, x, labels)
    assert state.weight.item() == state.weight_sq.item() == state.scatter.item() == 2.0**24 + 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("soft", [False, True])
def test_half_precision_input_is_summed_in_single_precision(dtype, soft):
    x, target = stream(8, n=600, soft=soft)
    x = (x + 1).to(dtype)
    state = empty_moments(initial_reference(x, K))
    assert state.total.dtype == torch.float32
    update_moments(state, x, target)
    assert_matches(class_statistics(state), class_moments(x.double(), target.numpy(), K), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type(dtype):
    x, labels = stream(9)
    assert_same(class_statistics(moments_of(x, labels.to(dtype))), class_statistics(moments_of(x, labels)), 0, 0)


def test_initial_reference_is_the_mean_of_the_finite_rows():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [torch.nan, 1.0], [1.0, torch.inf]])
    assert initial_reference(x, 3).tolist() == [[2.0, 4.0]] * 3
    assert initial_reference(x[2:], 2).tolist() == [[0.0, 0.0]] * 2


def test_references_of_unseen_classes_stay_and_statistics_in_use_do_not_change():
    state = empty_moments(torch.full((2, 1), 7.0))
    update_moments(state, torch.tensor([[1.0], [4.0]]), torch.tensor([1, 1]))
    read = class_statistics(state)
    moved = move_references(state)
    assert moved.reference.tolist() == [[7.0], [2.5]]
    assert not any(getattr(moved, name).any() for name in ("sums", "weight", "weight_sq", "scatter"))
    assert read.weight.tolist() == [0.0, 2.0]
    assert read.mean[1].tolist() == [2.5]


def test_pieces_change_nothing(monkeypatch):
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(60, P, generator=g), torch.randint(0, K, (60,), generator=g)

    def found():
        first, second = empty_moments(torch.zeros(K, P)), empty_moments(torch.randn(K, P, generator=g.manual_seed(4)))
        update_moments(first, x[:20], y[:20])
        update_moments(second, x[20:], y[20:])
        merged = merge_moments(first, second)
        return *class_statistics(merged), move_references(merged).reference

    whole = found()
    monkeypatch.setattr("le_callback.moments.sums._PIECE", 2 * P)
    assert len(pieces(K, P)) > 1
    for a, b in zip(whole, found(), strict=True):
        assert torch.equal(a, b)


def run_fake(update, soft):
    """Run an update on tensors without data: whatever reads a value on the host raises."""
    with FakeTensorMode():
        x, state = torch.zeros(6, P, dtype=torch.bfloat16), empty_moments(torch.zeros(K, P))
        target = torch.zeros(6, K) if soft else torch.zeros(6, dtype=torch.long)
        update(state, x, target)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("ignore_index", [None, -100])
def test_update_does_not_synchronise(soft, ignore_index):
    run_fake(lambda state, x, target: update_moments(state, x, target, ignore_index), soft)


@pytest.mark.parametrize("soft", [False, True])
def test_the_next_window_opens_without_synchronising(soft):
    run_fake(lambda state, x, target: (update_moments(state, x, target), move_references(state)), soft)


@pytest.mark.parametrize(
    "read",
    [
        lambda state, x, labels: state.weight.add_(labels.max().item()),
        lambda state, x, labels: state.weight.add_(torch.bincount(labels, minlength=K)),
        lambda state, x, labels: state.weight[labels.unique()].add_(1),
        lambda state, x, labels: x[labels >= 0],
        lambda state, x, labels: bool((labels >= 0).all()),
    ],
    ids=["item", "bincount", "unique", "mask", "bool"],
)
def test_an_update_that_synchronises_is_caught(read):
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        run_fake(read, soft=False)


class TestMetric:
    def test_batches_equal_the_whole(self):
        x, labels = stream(10, n=60)
        metric = ClassMoments(K, P, reference=torch.zeros(K, P, dtype=torch.float64))
        for a in range(0, 60, 7):
            metric.update(x[a : a + 7], labels[a : a + 7])
        assert_matches(metric.compute(), class_moments(x, labels.numpy(), K))

    def test_forward_gives_the_batch_and_keeps_the_total(self):
        x, labels = stream(11, n=40)
        metric = ClassMoments(K, P, reference=torch.ones(K, P, dtype=torch.float64))
        for a in range(0, 40, 10):
            batch = slice(a, a + 10)
            assert_matches(metric(x[batch], labels[batch]), class_moments(x[batch], labels[batch].numpy(), K))
        assert_matches(metric.compute(), class_moments(x, labels.numpy(), K))

    def test_reset_forgets_the_samples_and_keeps_the_reference(self):
        x, labels = stream(12)
        reference = torch.full((K, P), 3.0, dtype=torch.float64)
        metric = ClassMoments(K, P, reference=reference)
        metric.update(x + 100, labels)
        metric.reset()
        assert metric.weight.sum() == 0
        assert torch.equal(metric.reference, reference)
        metric.update(x, labels)
        assert_matches(metric.compute(), class_moments(x, labels.numpy(), K))

    def test_pickled_continues(self):
        x, labels = stream(13)
        metric = ClassMoments(K, P, ignore_index=2)
        metric.update(x[:10], labels[:10])
        restored = pickle.loads(pickle.dumps(metric))
        for each in (metric, restored):
            each.update(x[10:], labels[10:])
        assert_same(restored.compute(), metric.compute(), 0, 0)
        assert_matches(restored.compute(), class_moments(x.float(), labels.numpy(), K, 2), rtol=1e-5, atol=1e-5)

    def test_merge_state_equals_one_process(self):
        x, labels = stream(14)
        reference = torch.randn(K, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        first, second = (ClassMoments(K, P, reference=reference) for _ in range(2))
        first.update(x[:11], labels[:11])
        second.update(x[11:], labels[11:])
        first.merge_state(second)
        assert_matches(first.compute(), class_moments(x, labels.numpy(), K))

    def test_two_processes_equal_one(self):
        x, weights = stream(15, soft=True)
        x[[2, 20]] = torch.nan
        reference = torch.ones(K, P, dtype=torch.float64)
        workers = [ClassMoments(K, P, reference=reference) for _ in range(2)]
        for rank, worker in enumerate(workers):
            worker.update(x[rank::2], weights[rank::2])

        def gather(tensor, group=None):
            name = next(n for n in workers[0]._defaults if getattr(workers[0], n) is tensor)
            return [getattr(worker, name) for worker in workers]

        workers[0].sync(dist_sync_fn=gather, distributed_available=lambda: True)
        assert workers[0].nonfinite == 2
        assert_matches(class_statistics(workers[0]._moments()), class_moments(x, weights.numpy(), K))
        workers[0].unsync()
        alone = class_moments(x[::2], weights[::2].numpy(), K)
        assert_matches(workers[0].compute(), alone)

    def test_half_precision_reference_is_no_half_precision_sum(self):
        metric = ClassMoments(2, 1, reference=torch.zeros(2, 1, dtype=torch.bfloat16))
        metric.update(torch.ones(300, 1), torch.zeros(300, dtype=torch.long))
        assert metric.compute().weight.tolist() == [300, 0]

    @pytest.mark.parametrize("argument", ["num_classes", "num_features"])
    @pytest.mark.parametrize("value", [0, -2])
    def test_sizes_are_positive(self, argument, value):
        sizes = {"num_classes": K, "num_features": P, argument: value}
        with pytest.raises(ValueError, match=f"`{argument}` to be a positive integer, but got {value}"):
            ClassMoments(**sizes)

    def test_reference_has_the_shape_of_the_means(self):
        with pytest.raises(ValueError, match=r"`reference` to be of shape \(4, 3\), but got \(3, 4\)"):
            ClassMoments(K, P, reference=torch.zeros(P, K))


def test_noise_is_the_squared_error_of_the_mean():
    """Against many repetitions: E‖X̄ − μ‖² is what ``mean_noise`` estimates without bias."""
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2 + [3] * 4)
    errors, estimates = [], []
    for _ in range(3000):
        x = torch.randn(len(labels), P, generator=g, dtype=torch.float64)
        statistics = class_statistics(moments_of(x, labels))
        errors.append(statistics.mean.square().sum(1))
        estimates.append(statistics.mean_noise)
    exact = P / np.array([5, 3, 2, 4])
    # five standard errors of the noisiest class
    spread = 5 / math.sqrt(3000)
    np.testing.assert_allclose(torch.stack(estimates).mean(0), exact, rtol=spread)
    np.testing.assert_allclose(torch.stack(errors).mean(0), exact, rtol=spread)


@properties
@given(seed=st.integers(0, 2**20), n=st.integers(0, 30))
def test_variance_along_a_direction_is_that_of_each_class(seed, n):
    rng = np.random.default_rng(seed)
    z, labels = rng.normal(size=n) + 1e3, rng.integers(4, size=n)
    counts = np.bincount(labels, minlength=4)
    squares = np.array([((z[labels == k] - z[labels == k].mean()) ** 2).sum() if counts[k] else 0.0 for k in range(4)])
    found = along_direction(torch.from_numpy(z), torch.from_numpy(labels), 4).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = squares.sum() / np.maximum(counts - 1, 0).sum()
        expected = np.where(counts > 1, squares / (counts - 1), np.where(counts > 0, pooled, np.nan))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
