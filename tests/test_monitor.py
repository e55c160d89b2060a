"""The engine on recorded trainings, and without Lightning."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import held_out_discriminability
from sklearn.neighbors import NearestCentroid

from le_callback import SeparationMonitor
from le_callback.report.tags import scalars

RECORDED = Path(__file__).parent / "data" / "geomnist_excerpt.npz"
WINDOW = 50


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as data:
        return dict(data)


def replay(data, run):
    """The records of the monitor that is fed what the training saw, step by step."""
    logits, labels = (
        torch.from_numpy(data[f"{run}/batch_logits"]).float(),
        torch.from_numpy(data[f"{run}/batch_labels"]).long(),
    )
    monitor = SeparationMonitor(num_classes=3)
    for step, (x, y) in enumerate(zip(logits, labels, strict=True), start=1):
        monitor.update(features=x, logits=x, target=y)
        if step % WINDOW == 0:
            yield monitor.close(step)


@pytest.mark.parametrize(
    ("run", "tolerance", "identifiable_from"), [("p00_batch16", 0.03, 50), ("p00_batch1", 0.12, 650)]
)
def test_between_class_amplitude_follows_the_probe(recorded, run, tolerance, identifiable_from):
    """Log amplitude against that of the means over the whole training set (geometric mean in the window)."""
    probe, steps = recorded[f"{run}/probe_means"], recorded[f"{run}/probe_steps"]
    log_gap = 0.5 * np.log(((probe - probe.mean(1, keepdims=True)) ** 2).sum((1, 2)))
    errors, first = [], None
    for record in replay(recorded, run):
        amplitude = scalars(record)["le/I_logits/amplitude_difference"]
        if math.isnan(amplitude):
            continue
        first = first or record.step
        start, end = record.window
        inside = (steps >= start) & (steps < end)
        errors.append(abs(math.log(amplitude) - log_gap[inside].mean()))
    assert first <= identifiable_from
    assert len(errors) >= 0.95 * (steps[-1] + 10 - first) / WINDOW
    assert np.mean(errors) <= tolerance


def test_recorded_training_is_collapsed_as_measured(recorded):
    """Step 2,500 of the batch-16 run: figures computed directly from the last 50 batches."""
    *_, last = replay(recorded, "p00_batch16")
    x = recorded["p00_batch16/batch_logits"].astype(float)
    y = recorded["p00_batch16/batch_labels"]
    x_before, y_before = x[-2 * WINDOW : -WINDOW].reshape(-1, 3), y[-2 * WINDOW : -WINDOW].ravel()
    x, y = x[-WINDOW:].reshape(-1, 3), y[-WINDOW:].ravel()
    means = np.stack([x[y == k].mean(0) for k in range(3)])
    centred = means - means.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    angles = np.degrees(np.arccos([unit[0] @ unit[1], unit[0] @ unit[2], unit[1] @ unit[2]]))
    etf, nearest = last.etf["logits"], last.nearest_mean["logits"]
    assert etf.deviation == pytest.approx(np.sqrt(np.mean((angles - 120) ** 2)), abs=1e-4)
    assert etf.smallest == pytest.approx(angles.min(), abs=1e-4)
    assert 13 < etf.deviation < 19
    centroid = NearestCentroid().fit(x_before, y_before)
    assert nearest.accuracy == pytest.approx(centroid.score(x, y), abs=1e-12)
    assert nearest.accuracy >= 0.99
    before = np.stack([x_before[y_before == k].mean(0) for k in range(3)])
    smallest = np.nanmin(held_out_discriminability(x, y, before))
    assert last.discriminability["logits"].smallest == pytest.approx(smallest, rel=1e-4)
    assert last.coefficients["I_logits"].tail_gamma.value < 1


def test_pure_noise_labels_are_not_called_separable(recorded):
    """Labels corrupted at 2/3 carry no information: the windows never fix a growth of the between-class gap early."""
    *_, last = replay(recorded, "p67_batch1")
    assert last.nearest_mean["logits"].accuracy < 0.6
    assert not last.coefficients["I_logits"].tail_gamma.value < 1


def unmeasured(record):
    """All values of a window but the one verdict that is a fact without any sample: it is not separated."""
    values = scalars(record)
    assert values.pop("separation/separated") == 0
    return values.values()


class TestSmallCases:
    def test_empty_window(self):
        record = SeparationMonitor(num_classes=3).close(step=10)
        assert record.samples == 0
        assert record.missing_classes == (0, 1, 2)
        assert all(math.isnan(value) for value in unmeasured(record))

    def test_only_features_that_are_not_finite(self):
        monitor = SeparationMonitor(num_classes=2)
        x = torch.full((4, 3), torch.nan)
        monitor.update(features=x, logits=x[:, :2], target=torch.tensor([0, 1, 0, 1]))
        record = monitor.close(step=1)
        assert record.skipped == {"nonfinite_features": 4}
        assert all(math.isnan(value) for value in unmeasured(record))

    def test_constant_features(self):
        """No variance and no distance: nothing raises, nothing is claimed."""
        monitor = SeparationMonitor(num_classes=2)
        for step in range(1, 9):
            x = torch.ones(6, 3)
            monitor.update(features=x, logits=x[:, :2], target=torch.tensor([0, 1] * 3))
            record = monitor.close(step)
        assert math.isnan(record.coefficients["I_features"].gamma.value)
        assert not record.discriminability["features"].smallest > 0

    def test_one_logit_for_two_classes(self):
        monitor = SeparationMonitor(num_classes=2)
        torch.manual_seed(0)
        for step in range(1, 12):
            y = torch.arange(40) % 2
            x = torch.randn(40, 5) + y.unsqueeze(1)
            monitor.update(features=x, logits=x[:, :1], target=y)
            record = monitor.close(step)
        assert "at least 2 dimensions" in record.coefficients["L_logits"].status
        assert math.isfinite(record.coefficients["I_features"].gamma.value)
        assert math.isfinite(record.coefficients["I_logits"].amplitude_difference)

    def test_more_classes_than_are_paired(self, monkeypatch):
        monkeypatch.setattr("le_callback.measures.base.MAX_PAIRED", 4)
        monitor = SeparationMonitor(num_classes=10)
        y = torch.arange(100) % 10
        x = torch.nn.functional.one_hot(y, 10).float() + 0.01 * torch.randn(100, 10)
        for step in (1, 2):
            monitor.update(features=x, logits=x, target=y)
            record = monitor.close(step)
        assert record.etf["features"].classes == tuple(range(10))
        assert record.nearest_mean["features"].accuracy == 1.0
        assert record.nearest_mean["features"].classes == tuple(range(10))
        assert record.discriminability["features"].classes == record.head.classes == (0, 3, 6, 9)
        assert record.discriminability["features"].pairs.shape == record.head.pairs.shape == (4, 4)

    def test_another_width_is_skipped(self):
        monitor = SeparationMonitor(num_classes=2)
        y = torch.tensor([0, 1])
        monitor.update(features=torch.zeros(2, 3), logits=torch.zeros(2, 2), target=y)
        monitor.update(features=torch.zeros(2, 4), logits=torch.zeros(2, 2), target=y)
        assert monitor.close(1).skipped == {"changed_width": 1}

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match="num_classes"):
            SeparationMonitor(num_classes=1)


def test_record_of_two_windows():
    """Each measure stands under its own name, taken of the samples of its window."""
    monitor, g = SeparationMonitor(num_classes=3), torch.Generator().manual_seed(0)
    samples = []
    for step in (1, 2):
        y = torch.arange(60) % 3
        x = torch.randn(60, 4, generator=g) + 3 * torch.nn.functional.one_hot(y, 4)
        samples.append((x, y))
        monitor.update(features=x, logits=x[:, :3], target=y)
        record = monitor.close(step)
    assert record.class_samples == (20.0, 20.0, 20.0)
    x, y = samples[1]
    before = np.stack([samples[0][0][y == k].mean(0) for k in range(3)])
    centroid = NearestCentroid().fit(samples[0][0], y)
    assert record.nearest_mean["features"].accuracy == pytest.approx(centroid.score(x, y))
    pairs = held_out_discriminability(x, y, before)
    np.testing.assert_allclose(record.discriminability["features"].pairs, pairs, rtol=1e-4)
    assert record.discriminability["features"].smallest == pytest.approx(np.nanmin(pairs), rel=1e-4)
    assert record.head.hits.sum() == (x[:, :3].argmax(1) == y).sum()
    means = torch.stack([x[y == k].mean(0) for k in range(3)])
    assert record.scatter["features"].between == pytest.approx(
        (means - means.mean(0)).square().sum().item() / 3, rel=1e-5
    )
    psi = [torch.nn.functional.one_hot(torch.tensor(k), 3) - means[k, :3].softmax(0) for k in range(3)]
    assert record.effective_training.psi == pytest.approx(np.sqrt(np.mean([float(v @ v) for v in psi])), rel=1e-6)
    assert 1 <= record.spread["features"].rank <= 4
