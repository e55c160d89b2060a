import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import class_moments
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from le_callback.moments import window as window_module
from le_callback.moments.window import ClassWindow

properties = settings(deadline=None, max_examples=40)
K, P, RING = 3, 2, 16


@pytest.fixture(autouse=True)
def _small_ring(monkeypatch):
    """A ring of 16 rows, so that short streams wrap around."""
    monkeypatch.setattr(window_module, "MIN_ROWS", RING)
    monkeypatch.setattr(window_module, "RING_ROWS", RING)


def stream(seed, n, soft=False, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, P, generator=g, dtype=torch.float64).to(dtype)
    labels = torch.randint(K, (n,), generator=g)
    if not soft:
        return x, labels
    return x, torch.rand(n, K, generator=g, dtype=torch.float64)


def sources(x):
    return {"features": x, "logits": -3 * x[:, :1]}


def open_window(x, ignore_index=None):
    return ClassWindow.for_batch(sources(x), K, ignore_index)


def feed(window, x, target, sizes):
    start = 0
    for size in sizes:
        window.update(sources(x[start : start + size]), target[start : start + size])
        start += size
    window.update(sources(x[start:]), target[start:])


def assert_matches(window, x, target, ignore_index=None):
    for name, rows in sources(x).items():
        statistics = window.statistics(name)
        expected = class_moments(rows, target.numpy(), K, ignore_index)
        for field in ("weight", "mean", "variance", "mean_noise"):
            np.testing.assert_allclose(
                getattr(statistics, field).numpy(), expected[field], rtol=1e-9, atol=1e-9, err_msg=f"{name} {field}"
            )


def test_the_small_ring_is_in_force():
    window = open_window(torch.zeros(1, P, dtype=torch.float64))
    assert window._capacity == RING


@properties
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(0, 70),
    sizes=st.lists(st.integers(0, 40), max_size=8),
    soft=st.booleans(),
)
def test_statistics_are_those_of_all_samples_for_any_split(seed, n, sizes, soft):
    x, target = stream(seed, n + 1, soft)
    window = open_window(x[:1])
    feed(window, x, target, sizes)
    assert_matches(window, x, target)


@properties
@given(seed=st.integers(0, 2**20), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_every_prefix_although_statistics_are_read_in_between(seed, sizes):
    x, target = stream(seed, sum(sizes))
    window, start = open_window(x[:1]), 0
    for size in sizes:
        window.update(sources(x[start : start + size]), target[start : start + size])
        start += size
        assert_matches(window, x[:start], target[:start])


@properties
@given(
    seed=st.integers(0, 2**20), pattern=st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=8)
)
def test_integer_and_soft_batches_mix(seed, pattern):
    x, labels = stream(seed, sum(n for n, _ in pattern))
    soft = torch.rand(len(x), K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    window, start, weights = open_window(x[:1]), 0, torch.eye(K, dtype=torch.float64)[labels]
    for n, is_soft in pattern:
        rows = slice(start, start + n)
        if is_soft:
            weights[rows] = soft[rows]
        window.update(sources(x[rows]), soft[rows] if is_soft else labels[rows])
        start += n
    assert_matches(window, x, weights)


@properties
@given(seed=st.integers(0, 2**20), n=st.integers(1, 70), sizes=st.lists(st.integers(0, 40), max_size=8))
def test_samples_are_the_last_rows(seed, n, sizes):
    x, labels = stream(seed, n)
    window = open_window(x[:1])
    feed(window, x, labels, sizes)
    for name, rows in sources(x).items():
        kept, kept_labels = window.samples(name)
        order, expected = kept[:, 0].argsort(), rows[-RING:]
        expected_order = expected[:, 0].argsort()
        # rows are kept about the reference of their class: one rounding there and one back
        torch.testing.assert_close(kept[order], expected[expected_order], rtol=0, atol=1e-14)
        assert torch.equal(kept_labels[order], labels[-RING:][expected_order])


def test_samples_of_a_collapsed_class_far_from_the_origin_are_exact():
    """Within a factor of two of the reference the difference is exact, so nothing is lost where it matters."""
    x, labels = stream(8, 12, dtype=torch.float32)
    x = 1e4 + 1e-2 * x
    window = open_window(x[:1])
    window.update(sources(x), labels)
    assert torch.equal(window.samples("features")[0], x)


def test_samples_leave_out_what_the_moments_leave_out():
    x, labels = stream(0, 8)
    x[1, 0], x[2, 1], x[3, 0] = torch.nan, torch.inf, 1e200
    labels[4], labels[5], labels[6] = -100, 2**40, -1
    window = open_window(x[:1], ignore_index=-100)
    window.update(sources(x), labels)
    kept, kept_labels = window.samples("features")
    torch.testing.assert_close(kept, x[[0, 7]], rtol=0, atol=1e-14)
    assert torch.equal(kept_labels, labels[[0, 7]])
    assert window.statistics("features").weight.sum() == 2
    assert window.moments["features"].nonfinite == 3
    assert window.moments["features"].mislabelled == 2


@pytest.mark.parametrize("ignore_index", [-100, 255, 1])
def test_ignored_labels(ignore_index):
    x, labels = stream(1, 40)
    labels[::3] = ignore_index
    window = open_window(x[:1], ignore_index)
    feed(window, x, labels, [7, 21])
    assert_matches(window, x, labels, ignore_index)
    assert window.moments["features"].mislabelled == 0
    assert ignore_index not in window.samples("features")[1]
    assert len(window.samples("features")[1]) == int((labels[-RING:] != ignore_index).sum())


def test_samples_of_soft_labels_belong_to_the_heaviest_class():
    x, weights = stream(2, 6, soft=True)
    weights[1] = 0.0  # weighs nothing
    weights[3, 0] = torch.nan
    weights[4, 2] = -1.0
    window = open_window(x[:1])
    window.update(sources(x), weights)
    kept, labels = window.samples("features")
    torch.testing.assert_close(kept, x[[0, 2, 5]], rtol=0, atol=1e-14)
    assert labels.tolist() == weights[[0, 2, 5]].argmax(1).tolist()
    assert window.moments["features"].mislabelled == 2


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def everything(window):
    """All that a window can say, after the statistics were taken."""
    found = []
    for name in window.moments:
        found += [*window.statistics(name), *window.samples(name), *vars(window.moments[name]).values()]
        found.append(torch.tensor(0.0) if window.previous_means(name) is None else window.previous_means(name))
    return [tensor.clone() for tensor in found]  # samples are views of the ring


def run(x, target, sizes, cut):
    """Two windows in batches of ``sizes``; stopped and restored before batch ``cut``."""
    window, said, start = ClassWindow.for_batch(sources(x[:1]), K, -100), [], 0
    for i, size in enumerate(sizes):
        if i == cut:
            window = ClassWindow.from_state(through_a_file(window.state_dict()), -100)
        window.update(sources(x[start : start + size]), target[start : start + size])
        start += size
        if i in (5, len(sizes) - 1):
            said += everything(window)
            window.advance()
    return said


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restored_continues_bit_for_bit_at_every_cut(soft, dtype):
    sizes = [3, 1, 4, 20, 2, 3, 3, 2, 1, 9, 17]
    x, target = stream(3, sum(sizes), soft, dtype)
    if not soft:
        target[::7] = -100
    x[11] = torch.nan
    uninterrupted = run(x, target, sizes, None)
    for cut in range(len(sizes)):
        for a, b in zip(uninterrupted, run(x, target, sizes, cut), strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_state_is_a_copy():
    x, labels = stream(4, 12)
    window = open_window(x[:1])
    window.update(sources(x), labels)
    state = window.state_dict()
    restored = ClassWindow.from_state(state)
    window.update(sources(100 + x), labels)
    window.statistics("features")
    assert_matches(restored, x, labels)
    restored.update(sources(100 - x), labels)
    assert_matches(ClassWindow.from_state(state), x, labels)


def test_rounding_would_show_if_pending_rows_were_added_early():
    """The bit-for-bit test has teeth: adding in other pieces rounds otherwise."""
    x, labels = stream(5, 64, dtype=torch.float32)
    late, early = open_window(x[:1]), open_window(x[:1])
    for a in range(0, 64, 2):
        for window in (late, early):
            window.update(sources(x[a : a + 2]), labels[a : a + 2])
        early.statistics("features")
    assert not torch.equal(late.statistics("features").variance, early.statistics("features").variance)


def test_windows_follow_each_other():
    x, labels = stream(6, 50)
    window = open_window(x[:1])
    assert window.empty
    assert window.previous_means("features") is None
    window.update(sources(x[:30]), labels[:30])
    assert not window.empty
    window.advance()
    assert window.empty
    assert len(window.samples("features")[1]) == 0
    before = window.previous_means("features").clone()
    np.testing.assert_allclose(before.numpy(), class_moments(x[:30], labels[:30].numpy(), K)["mean"], rtol=1e-10)
    window.update(sources(x[30:]), labels[30:])
    assert_matches(window, x[30:], labels[30:])
    assert torch.equal(window.previous_means("features"), before)


def test_an_empty_window_leaves_no_previous_means():
    window = open_window(torch.ones(1, P, dtype=torch.float64))
    window.advance()
    assert window.previous_means("logits") is None
    assert not window.statistics("logits").seen.any()


def test_a_class_missing_from_a_window_keeps_its_last_mean():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    window = open_window(x[:1])
    window.update(sources(x), torch.tensor([0, 1, 2]))
    window.advance()
    window.update(sources(10 * x[:2]), torch.tensor([0, 2]))
    assert window.statistics("features").seen.tolist() == [True, False, True]
    window.advance()
    assert window.previous_means("features")[:, 0].tolist() == [10, 2, 20]


def test_half_precision_rows_are_kept_in_single_precision():
    x, labels = stream(7, 40, dtype=torch.bfloat16)
    window = open_window(x[:1])
    feed(window, x, labels, [3, 20])
    expected = class_moments(x.double(), labels.numpy(), K)
    assert window.samples("features")[0].dtype == torch.float32
    np.testing.assert_allclose(window.statistics("features").mean.numpy(), expected["mean"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(window.statistics("features").variance.numpy(), expected["variance"], rtol=1e-5)


def test_accepts_only_the_widths_of_the_first_batch():
    window = open_window(torch.zeros(1, P))
    assert window.accepts({"features": torch.zeros(9, P), "logits": torch.zeros(9, 1)})
    assert not window.accepts({"features": torch.zeros(9, P + 1), "logits": torch.zeros(9, 1)})


@pytest.mark.parametrize(
    ("num_classes", "width", "rows"),
    [(2, 4, 1024), (500, 4, 2000), (5000, 4, 4096), (2, 2**15, 64), (2, 2**22, 1)],
    ids=["least", "per class", "most", "bytes", "one row"],
)
def test_samples_are_bounded_in_rows_and_bytes(num_classes, width, rows, monkeypatch):
    monkeypatch.undo()
    # the reference is a view without memory, so that wide ones cost nothing
    window = ClassWindow({"features": torch.zeros(1, 1).expand(num_classes, width)})
    assert window.capacity == rows
    assert window._rows["features"].shape == (max(rows, min(2048, 2**21 // width)), width)


@pytest.mark.parametrize("soft", [False, True])
def test_update_and_advance_do_not_synchronise(soft):
    with FakeTensorMode():
        window = open_window(torch.zeros(4, P), ignore_index=-100)
        for _ in range(9):
            window.update(sources(torch.zeros(7, P)), torch.zeros(7, K) if soft else torch.zeros(7, dtype=torch.long))
        window.advance()
        window.update(sources(torch.zeros(7, P)), torch.zeros(7, dtype=torch.long))
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            window.samples("features")


def test_what_is_read_goes_to_the_host_where_the_device_has_no_double_precision(monkeypatch):
    """Such a device is not at hand: the tensors that are brought to the host are marked by another dtype instead."""
    monkeypatch.setattr(window_module, "_readable", lambda x: x.double())
    x, y = stream(0, 8, dtype=torch.float32)
    window = open_window(x)
    for _ in range(2):
        window.update(sources(x), y)
        read = [*window.statistics("features"), *window.samples("logits")]
        assert all(part.dtype == torch.float64 for part in read)
        window.advance()
    assert window.previous_means("logits").dtype == torch.float64
    assert window.moments["features"].sums.dtype == torch.float32


def test_nothing_seen_is_nan():
    window = open_window(torch.ones(1, P))
    assert math.isnan(window.statistics("features").mean[0, 0])


def test_state_does_not_grow():
    """Tensors stay where they are, over many turns of the ring and several windows."""
    x, labels = stream(9, 7)
    window = open_window(x[:1])

    def held():
        tensors = [window._labels, window._ever_seen, *window._rows.values()]
        tensors += [tensor for moments in window.moments.values() for tensor in vars(moments).values()]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    window.update(sources(x), labels)
    early = held()
    for step in range(300):
        window.update(sources(x), labels)
        if step % 100 == 99:
            window.advance()
    assert held() == early


def test_samples_are_read_anew_after_the_window_changed():
    x, labels = stream(9, 12)
    window = open_window(x[:1])
    window.update(sources(x[:4]), labels[:4])
    assert window.samples("features")[0] is window.samples("features")[0]
    window.update(sources(x[4:]), labels[4:])
    torch.testing.assert_close(window.samples("features")[0], x, rtol=0, atol=1e-14)
    window.rebase({name: m.reference + 1 for name, m in window.moments.items()})
    torch.testing.assert_close(window.samples("features")[0], x, rtol=0, atol=1e-14)
    kept, deviations = window.latest(5)
    window.replace(window.sums(), kept, deviations)
    assert len(window.samples("features")[0]) == 5
    window.advance()
    assert len(window.samples("features")[0]) == 0
    window.update(sources(x[:4]), labels[:4])
    window.samples("features")
    window.clear()
    assert len(window.samples("features")[0]) == 0
