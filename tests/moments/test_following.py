"""Of too many classes some are followed: what is said of them is what is said where there are no others."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset
from trainings import trainer

from le_callback import LECallback, SeparationMonitor
from le_callback.measures import etf_angles
from le_callback.moments import following
from le_callback.moments.following import Following, followed_classes, limits
from le_callback.moments.statistics import class_statistics
from le_callback.moments.sums import empty_moments, update_moments
from le_callback.monitor import MonitorSettings
from le_callback.saving import to_plain

K, P, N = 11, 4, 400
EVERY = 3
FOLLOWED = [0, 3, 6, 9]


@pytest.fixture
def few(monkeypatch):
    """Four of eleven classes are followed."""
    monkeypatch.setattr(following, "MAX_FULL", 10)
    monkeypatch.setattr(following, "MAX_FOLLOWED", 4)


def stream(windows, soft=False, seed=0):
    """Features, logits and labels or weights, window by window."""
    g = torch.Generator().manual_seed(seed)
    centres, weight = torch.randn(K, P, generator=g), torch.randn(K, P, generator=g)
    for t in range(windows):
        y = torch.randint(K, (N,), generator=g)
        x = (1 + 0.2 * t) * centres[y] + 0.3 * torch.randn(N, P, generator=g)
        z = x @ weight.T + 0.1 * torch.randn(N, K, generator=g)
        if soft:
            mixed = torch.nn.functional.one_hot(y, K).float()
            mixed[: N // 2] = 0.7 * mixed[: N // 2] + 0.3 * mixed[N // 2 :]
            y = mixed
        yield x, z, y


def test_no_more_than_the_budget():
    for classes in (3, 1000, 1024, 1025, 3000, 5000, 33_278, 10**6):
        for p in (2, 200, 2048, 25_088, 10**6):
            found = followed_classes(classes, p)
            if found is None:
                assert classes <= 1024
                assert classes * (p + classes) <= 2**24
            else:
                S = len(found)
                assert S * (p + S) <= 2**23 or S == 2
                assert 2 <= S <= 512
                assert len({b - a for a, b in pairwise(found)}) == 1
                assert 0 <= found[0] <= found[-1] < classes


@pytest.mark.parametrize(("classes", "p"), [(10, 512), (1000, 2048), (1024, 512), (2, 10**6)])
def test_ordinary_heads_are_followed_as_a_whole(classes, p):
    assert followed_classes(classes, p) is None
    assert not limits(classes, p)


def test_what_is_left_out_is_said():
    assert "512 of 33,278 classes are followed" in limits(33_278, 200)


def test_measures_are_those_of_the_followed_classes_alone(few):
    """Against a monitor that is given their samples and logits, as if there were no others; angles are of all."""
    part, alone = SeparationMonitor(K), SeparationMonitor(len(FOLLOWED))
    position = torch.full((K,), -1)
    position[FOLLOWED] = torch.arange(len(FOLLOWED))
    for step, (x, z, y) in enumerate(stream(12), start=1):
        part.update(features=x, logits=z, target=y)
        mine = position[y] >= 0
        alone.update(features=x[mine], logits=z[mine][:, FOLLOWED], target=position[y][mine])
        found, expected = part.close(10 * step), alone.close(10 * step)
        assert found.class_samples == tuple(torch.bincount(y, minlength=K).tolist())
        assert found.samples == N
        for layer in ("features", "logits"):
            if layer == "logits":
                assert found.etf[layer].deviation == pytest.approx(expected.etf[layer].deviation, rel=1e-5)
                assert found.etf[layer].classes == tuple(FOLLOWED)
            assert found.spread[layer].dimensions == pytest.approx(expected.spread[layer].dimensions, rel=1e-4)
            assert found.nearest_mean[layer].hits.tolist() == expected.nearest_mean[layer].hits.tolist()
            pairs = found.discriminability[layer], expected.discriminability[layer]
            np.testing.assert_allclose(pairs[0].pairs, pairs[1].pairs, rtol=1e-4)
            assert pairs[0].pair == tuple(FOLLOWED[k] for k in pairs[1].pair)
        everything = etf_angles(torch.stack([x[y == k].mean(0) for k in range(K)]))
        assert found.etf["features"].deviation == pytest.approx(everything.deviation, rel=1e-4)
        assert found.etf["features"].pair == everything.pair
        assert found.collapse.num_classes == K
        np.testing.assert_allclose(found.head.pairs, expected.head.pairs, rtol=1e-4)
        assert found.head.classes == found.discriminability["features"].classes
        margin = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -math.inf).amax(1)
        assert found.head.margin == pytest.approx(margin[mine].double().mean().item(), rel=1e-5)
        assert found.head.hits.tolist() == torch.bincount(y[mine & (margin > 0)], minlength=K).tolist()
        assert found.effective_training is None
        now, then = found.coefficients["I_logits"], expected.coefficients["I_logits"]
        scale = math.sqrt((K - 1) / (len(FOLLOWED) - 1))  # the mode of all classes, from those that are seen
        assert now.amplitude_difference == pytest.approx(scale * then.amplitude_difference, rel=1e-4)
        assert found.coefficients["L_logits"].status == f"needs at least {K} dimensions"
    # γ is the growth over the class frequencies: those of the followed classes are not quite their share of K
    assert now.gamma.value / K == pytest.approx(then.gamma.value / len(FOLLOWED), rel=5e-3)
    assert part.classes == tuple(FOLLOWED)


def test_samples_that_are_left_out_are_not_taken(few):
    x, z, y = next(stream(1))
    y[:5] = torch.tensor([-100, K, -1, -100, 7])
    follow = Following(K, FOLLOWED, ignore_index=-100)
    batch, labels = follow.select(x, z, y)
    mine = torch.tensor([int(k) in (*FOLLOWED, K, -1) for k in y])
    assert (labels == -1).sum() == 2
    assert torch.equal(batch["features"], x[mine])
    assert follow.count(y).tolist() == [int((y == k).sum()) for k in range(K)]


def on_a_device(monkeypatch):
    """Take all rows, as on a device, where counting those that are followed would wait for it."""
    monkeypatch.setattr(Following, "_kept", staticmethod(lambda rows: torch.arange(len(rows), device=rows.device)))


@pytest.mark.parametrize("soft", [False, True])
def test_a_device_finds_the_same_as_the_host(few, monkeypatch, soft):
    batches = list(stream(5, soft=soft))
    batches[1][2][:3] = torch.tensor([-100, K, -1]).unsqueeze(1) if soft else torch.tensor([-100, K, -1])
    found = []
    for _ in range(2):
        monitor = SeparationMonitor(K)
        for step, (x, z, y) in enumerate(batches, start=1):
            monitor.update(features=x, logits=z, target=y)
            record = monitor.close(step)
        found.append(record)
        on_a_device(monkeypatch)
    host, device = found
    assert host.skipped == device.skipped
    assert host.class_samples == device.class_samples
    assert host.head.tried.tolist() == device.head.tried.tolist()
    assert host.head.hits.tolist() == device.head.hits.tolist()
    assert host.nearest_mean["features"].hits.tolist() == device.nearest_mean["features"].hits.tolist()
    assert host.etf["logits"].deviation == pytest.approx(device.etf["logits"].deviation, rel=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_a_device_is_not_waited_for(few, monkeypatch, soft):
    """Shapes that depend on values, and values on the host, are refused by fake tensors."""
    on_a_device(monkeypatch)
    with FakeTensorMode():
        x, z = torch.zeros(N, P), torch.zeros(N, K)
        y = torch.rand(N, K) if soft else torch.zeros(N, dtype=torch.long)
        follow = Following(K, FOLLOWED, ignore_index=-100)
        assert follow.count(y).shape == (K,)
        batch, labels = follow.select(x, z, y)
    assert len(labels) == len(batch["head"]) == N


def test_mixed_samples_belong_to_their_heaviest_class(few):
    monitor = SeparationMonitor(K)
    (x, z, y), *_ = stream(1, soft=True)
    monitor.update(features=x, logits=z, target=y)
    record = monitor.close(1)
    own = y.argmax(1)
    assert record.head.tried.tolist() == [float((own == k).sum()) if k in FOLLOWED else 0.0 for k in range(K)]
    mine = torch.isin(own, torch.tensor(FOLLOWED))
    weights = y[mine][:, FOLLOWED]
    means = (weights.T @ x[mine]) / weights.sum(0)[:, None]
    torch.testing.assert_close(monitor.window.moments["features"].reference, means, rtol=1e-4, atol=1e-5)
    assert record.class_samples == pytest.approx(y.sum(0).tolist(), rel=1e-5)


def test_bad_samples_are_counted(few):
    monitor = SeparationMonitor(K)
    x, z, y = next(stream(1))
    y[:] = torch.arange(N) % K
    x[0] = math.nan  # of class 0, which is followed
    y[1:4] = torch.tensor([K + 5, -7, -100])
    monitor.update(features=x, logits=z, target=y)
    assert dict(monitor.close(1).skipped) == {"nonfinite_features": 1, "unknown_labels": 2}


def test_batches_without_a_followed_class_pass(few):
    monitor = SeparationMonitor(K)
    x, z, y = next(stream(1))
    none = ~torch.isin(y, torch.tensor(FOLLOWED))
    monitor.update(features=x[none], logits=z[none], target=y[none])
    assert monitor.close(1).samples == none.sum()
    monitor.update(features=x, logits=z, target=y)
    etf = monitor.close(2).etf
    assert (etf["features"].classes, etf["logits"].classes) == (tuple(range(K)), tuple(FOLLOWED))
    monitor.update(features=x[:, :2], logits=z, target=y)
    monitor.update(features=x, logits=z[:, :4], target=y)
    assert monitor.skipped["changed_width"] == 2


def test_a_saved_monitor_goes_on(few):
    whole, first = SeparationMonitor(K), SeparationMonitor(K)
    batches = list(stream(6))
    second = SeparationMonitor(K)
    for step, (x, z, y) in enumerate(batches, start=1):
        whole.update(features=x, logits=z, target=y)
        now = second if step > 3 else first
        now.update(features=x, logits=z, target=y)
        if step == 3:
            second.load_state_dict(first.state_dict())
            assert second.fits(features=x, logits=z, num_classes=K)
            assert not second.fits(features=x, logits=z[:, :5], num_classes=K)
        if step % 2 == 0:
            expected, found = whole.close(step), now.close(step)
            np.testing.assert_equal(to_plain(found.class_samples), to_plain(expected.class_samples))
            assert repr(found.coefficients) == repr(expected.coefficients)
            np.testing.assert_array_equal(found.head.pairs, expected.head.pairs)


def checkpoint_bytes(state, folder):
    path = folder / "state.pt"
    torch.save(state, path)
    return path.stat().st_size


def test_a_checkpoint_of_5000_classes_stays_below_30_mib(tmp_path):
    """In the middle of a window, when the ring of its samples is full, after 200 windows."""
    classes, p = 5000, 64
    monitor = SeparationMonitor(classes)
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, p, generator=g)
    largest = 0
    for step in range(1, 130):
        y = torch.randint(classes, (512,), generator=g)
        x = centres[y] + torch.randn(512, p, generator=g)
        monitor.update(features=x, logits=torch.randn(512, classes, generator=g), target=y)
        monitor.close(step)
        if step > 120:
            largest = max(largest, checkpoint_bytes(monitor.state_dict(), tmp_path))
    for _ in range(40):
        y = torch.randint(500, (512,), generator=g) * 10
        monitor.update(features=centres[y], logits=torch.randn(512, classes, generator=g), target=y)
    largest = max(largest, checkpoint_bytes(monitor.state_dict(), tmp_path))
    assert largest <= 26 * 2**20  # and 3.5 MiB of the rule of pairs


def test_a_probe_follows_the_same_classes(few):
    monitor = SeparationMonitor(K, MonitorSettings(probe=True, matrix_classes=(0, 1)))
    x, z, y = next(stream(1))
    follow = Following(K, FOLLOWED)

    def reading(scale):
        batch, labels = follow.select(scale * x, scale * z, y)
        found = {}
        for layer in ("features", "logits"):
            state = empty_moments(torch.zeros(len(FOLLOWED), batch[layer].shape[1]))
            update_moments(state, batch[layer], labels, follow.ignore_index)
            found[layer] = class_statistics(state)
        return found

    for t in range(12):
        before, after = reading(1.1**t), reading(1.1 ** (t + 1))
        monitor.add_probe(float(t), before)
        composition = torch.bincount(torch.arange(t, 40 + 2 * t) % K, minlength=K).float()
        monitor.add_step(composition, {k: s.mean for k, s in before.items()}, {k: s.mean for k, s in after.items()})
    monitor.update(features=x, logits=z, target=y)
    record = monitor.close(1)
    response = record.step_response["features"]
    assert response.steps == 12
    # every class grows by a tenth whatever the batch holds: a = b, and γ = a + (K − 1)·b counts all classes
    assert response.intra.value == pytest.approx(0.1, abs=1e-6)
    assert response.gamma.value == pytest.approx(0.1 * K, abs=1e-5)
    assert np.isnan(record.response_matrix["features"].E).all()


def test_a_training_says_once_what_is_followed_and_names_the_classes(few):
    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.head = torch.nn.Linear(P, K)

        def forward(self, x):
            return self.head(x)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x, _, y = next(stream(1))
    callback = LECallback(every_n_steps=5, probe=3, summary=False, class_names=[f"c{k}" for k in range(K)])
    with pytest.warns(UserWarning, match=f"4 of {K} classes are followed") as caught:
        trainer(callback, max_epochs=2).fit(Module(), DataLoader(TensorDataset(x, y), batch_size=10))
    assert sum("classes are followed" in str(w.message) for w in caught) == 1
    assert callback.trajectory.class_names == ("c0", "c3", "c6", "c9")
    assert callback.trajectory.sources["probe_logits"].means.shape[1:] == (4, 4)
    assert callback.last_record.missing_classes == ()
    assert "c3" in callback.summary_table()


def test_two_processes_count_all_classes_together(few):
    """Their windows, pooled as one all-reduce does, against a monitor of all samples."""
    both, parts = SeparationMonitor(K), [SeparationMonitor(K), SeparationMonitor(K)]
    x, z, y = next(stream(1))
    both.update(features=x, logits=z, target=y)
    for part, rows in zip(parts, (slice(0, 150), slice(150, None)), strict=True):
        part.update(features=x[rows], logits=z[rows], target=y[rows])
    for first, second in zip(*(part.open_windows for part in parts), strict=True):
        second.rebase({name: m.reference for name, m in first.moments.items()})
        labels, deviations = zip(*(window.ring.last(window.ring.capacity) for window in (first, second)), strict=True)
        one, other = first.sums(), second.sums()
        first.replace(
            {name: x + other[name] for name, x in one.items()},
            torch.cat(labels),
            {name: torch.cat([d[name] for d in deviations]) for name in deviations[0]},
        )
    found, expected = parts[0].close(1), both.close(1)
    assert found.class_samples == expected.class_samples
    assert found.head.hits.tolist() == expected.head.hits.tolist()
    assert found.etf["features"].deviation == pytest.approx(expected.etf["features"].deviation, rel=1e-4)
