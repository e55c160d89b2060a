"""Time in steps, learning rate and epochs, and the trajectory of a run."""

import math

import numpy as np
import pytest
import torch
from trainings import CLASSES, Classifier, MemoryLogger, Records, blobs, loader, trainer

from le_callback import IModel, LECallback
from le_callback.moments.statistics import ClassStatistics
from le_callback.recorder import TrajectoryRecorder
from le_callback.trainer.timeline import Timeline
from le_callback.trajectory import Trajectory
from le_callback.values import BoundedSeries, Source


class Decaying(Classifier):
    """A learning rate that halves every step of 4."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step // 4))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Windows(Records):
    def __init__(self, **kwargs):
        super().__init__(every_n_steps=4, **kwargs)

    @property
    def times(self):
        return [record.primary.time for record in self.records]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_learning_rate_axis(accumulate):
    """The time of a window is the mean, over its batches, of the learning rates spent before each."""
    callback = Windows(time_axis="lr")
    trainer(callback, max_epochs=accumulate, accumulate_grad_batches=accumulate).fit(Decaying(lr=0.1), loader())
    rates = 0.1 * 0.5 ** (np.arange(12) // 4)
    before = np.concatenate([[0.0], np.cumsum(rates)[:-1]])
    assert callback.times == pytest.approx([before[i : i + 4].mean() for i in (0, 4, 8)])


def test_epoch_axis():
    callback = Windows(time_axis="epochs")
    trainer(callback, max_epochs=2).fit(Classifier(), loader())  # 12 steps an epoch
    assert callback.times == pytest.approx([(4 * i + 1.5) / 12 for i in range(6)])


def test_unit_is_said_with_coefficients_and_reference_time():
    logger, callback = MemoryLogger(), LECallback(time_axis="epochs", summary=False)
    trainer(callback, logger=logger, max_epochs=8).fit(Classifier(dropout=0), loader())
    row = next(iter(logger.rows.values()))
    assert "le/I_logits/gamma_per_epoch" in row
    assert "le/I_logits/gamma_per_epoch_low" in row
    assert "le/I_logits/gamma" not in row
    table = callback.summary_table()
    assert "γ = α − β  per epoch" in table
    assert " epoch" in next(line for line in table.splitlines() if line.startswith("reference time of γ"))


def test_coefficients_scale_with_the_unit():
    """The same training in epochs of 12 steps: α is 12 times that per step."""
    values = {}
    for axis in ("steps", "epochs"):
        callback = LECallback(time_axis=axis, summary=False)
        trainer(callback, max_epochs=8).fit(Classifier(dropout=0), loader())
        values[axis] = callback.last_record.coefficients["I_features"].alpha
    assert values["epochs"].value == pytest.approx(12 * values["steps"].value)
    assert values["epochs"].high == pytest.approx(12 * values["steps"].high)


def test_unknown_axis():
    with pytest.raises(ValueError, match="`time_axis`.*steps, lr, epochs.*seconds"):
        LECallback(time_axis="seconds")


def test_epochs_need_data_of_known_length():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from zip(*blobs(), strict=True)

    stream = torch.utils.data.DataLoader(Stream(), batch_size=8)
    with pytest.raises(ValueError, match="known length.*`time_axis='epochs'`"):
        trainer(LECallback(time_axis="epochs")).fit(Classifier(), stream)
    trainer(LECallback(summary=False)).fit(Classifier(), stream)


def test_a_step_is_booked_once():
    timeline = Timeline("epochs")
    for step in (1, 1, 2, 2, 2, 5):
        timeline.advance(step, 0.0, 10)
    assert timeline.now == pytest.approx(0.5)
    other = Timeline("lr")
    other.load_state_dict(timeline.state_dict())
    assert other.now == 0


X = Source("x")


class TestTrajectory:
    def test_holds_the_means_of_every_window(self, tmp_path):
        model, callback = Classifier(), LECallback(summary=False, every_n_steps=6, probe=5, class_names=["a", "b", "c"])
        trainer(callback).fit(model, loader())
        callback.trajectory.save(tmp_path / "run.npz")
        trajectory = Trajectory.load(tmp_path / "run.npz")
        assert trajectory.time_unit == "step"
        assert trajectory.class_names == ("a", "b", "c")
        assert set(trajectory.sources) == {"features", "logits", "probe_features", "probe_logits"}
        logits = trajectory.sources["logits"]
        assert logits.times.tolist() == [2.5, 8.5, 14.5, 20.5]
        for window in range(4):
            seen = model.seen[6 * window : 6 * window + 6]
            x, y = torch.cat([s[1] for s in seen]).double(), torch.cat([s[2] for s in seen])
            for k in range(CLASSES):
                rows = x[y == k]
                assert logits.counts[window, k] == len(rows)
                assert logits.means[window, k] == pytest.approx(rows.mean(0).numpy(), rel=1e-5, abs=1e-6)
                noise = rows.var(0).sum() / len(rows)
                assert logits.mean_noise[window, k] == pytest.approx(noise.item(), rel=1e-4)
        assert trajectory.sources["probe_logits"].times.tolist() == [0, 6, 12, 18, 24]

    def test_stays_within_its_budget(self):
        recorder = TrajectoryRecorder(budget=64 * 4 * (3 * 2 + 2 * 3))
        for t in range(5000):
            recorder.add(X, float(t), _moments(t))
        times = recorder.sources()["x"].times
        assert 32 <= len(times) < 64
        assert len(set(np.diff(times))) == 1
        assert times[0] == 0

    def test_sources_share_the_budget(self):
        y = Source("y")
        size = 4 * (3 * 2 + 2 * 3)
        recorder = TrajectoryRecorder(budget=128 * size)
        for t in range(5000):
            recorder.add(X, float(t), _moments(t))
            if t >= 1000:
                recorder.add(y, float(t), _moments(t))
            kept = [series.times for series in recorder.sources().values()]
            assert sum(map(len, kept)) * size <= recorder.budget
        assert all(32 <= len(times) < 64 for times in kept)

    def test_the_widest_source_is_left_out_where_not_all_fit(self):
        wide = _moments(0)._replace(mean=torch.ones(3, 200))
        recorder = TrajectoryRecorder(budget=100 * 4 * (3 * 2 + 2 * 3))
        for t in range(200):
            recorder.add(Source("y"), float(t), wide)
            recorder.add(X, float(t), _moments(t))
        assert set(recorder.sources()) == {"x"}
        assert len(recorder.sources()["x"].times) >= 50

    def test_wide_features_of_many_classes_are_left_out(self):
        recorder = TrajectoryRecorder(budget=31 * 4 * (3 * 2 + 2 * 3))
        recorder.add(X, 0.0, _moments(0))
        assert recorder.sources() == {}

    def test_a_state_of_a_larger_budget_is_thinned(self):
        size = 4 * (3 * 2 + 2 * 3)
        large, small = TrajectoryRecorder(budget=512 * size), TrajectoryRecorder(budget=64 * size)
        for t in range(400):
            large.add(X, float(t), _moments(t))
        small.load_state_dict(large.state_dict())
        for t in range(400, 3000):
            small.add(X, float(t), _moments(t))
            assert len(small.sources()["x"].times) < 64

    def test_state_round_trip(self):
        recorder = TrajectoryRecorder()
        for t in range(7):
            recorder.add(X, float(t), _moments(t))
            recorder.add(Source("y"), float(t), _moments(t))
        again = TrajectoryRecorder()
        again.load_state_dict(recorder.state_dict())
        for r in (recorder, again):
            r.add(X, 7.0, _moments(7))
            r.add(Source("y"), 7.0, _moments(7))
        for name in ("x", "y"):
            a, b = (r.sources()[name] for r in (recorder, again))
            assert np.array_equal(a.means, b.means)
            assert np.array_equal(a.times, b.times)

    def test_other_files_are_refused(self, tmp_path):
        np.savez(tmp_path / "other.npz", x=np.zeros(2))
        with pytest.raises(ValueError, match=r"Trajectory.save"):
            Trajectory.load(tmp_path / "other.npz")
        np.savez(tmp_path / "object.npz", about=np.array([{"a": 1}], dtype=object))
        with pytest.raises(ValueError, match="allow_pickle"):
            Trajectory.load(tmp_path / "object.npz")


def _moments(t):
    seen = torch.ones(3, dtype=torch.bool)
    return ClassStatistics(seen, torch.ones(3), torch.full((3, 2), float(t)), torch.ones(3), torch.zeros(3))


def test_trajectory_is_none_before_the_first_batch():
    assert LECallback().trajectory is None
    assert math.isclose(Timeline("steps").now, 0)


MODEL_SOURCES = (("I_", "features"), ("I_", "logits"), ("L_", "logits"))


def test_analysis_of_a_saved_run(tmp_path):
    """The run's own last causal figures agree with those that come out of its file."""
    callback = LECallback(summary=False, every_n_steps=4, smoothing=15, probe=10)
    trainer(callback, max_epochs=10).fit(Classifier(dropout=0), loader())
    callback.trajectory.save(tmp_path / "run.npz")
    trajectory = Trajectory.load(tmp_path / "run.npz")
    found = trajectory.estimate("probe_features", IModel(), window=15, causal=True)
    live = callback.last_record.coefficients["I_probe_features"]
    # live takes the classes as they were drawn and the noise of the probe off; the analysis takes them as balanced
    assert found.G[-1] == pytest.approx(live.G.value, rel=0.2)
    assert live.gamma.low <= found.gamma[-1] <= live.gamma.high
    centred = trajectory.estimate("probe_features", IModel(), window=15)
    assert np.isfinite(centred.gamma).all()
    with pytest.raises(ValueError, match="`source`.*probe_logits"):
        trajectory.estimate("pixels", IModel())
    with np.load(tmp_path / "run.npz") as archive:
        stored = {key.split("/")[1] for key in archive.files if key.startswith("centred/")}
        assert stored == {f"{model}{probe}{source}" for probe in ("", "probe_") for model, source in MODEL_SOURCES}
        assert np.array_equal(
            archive["centred/I_logits/gamma"], trajectory.estimate("logits", IModel()).gamma, equal_nan=True
        )


def test_a_series_of_one_point_keeps_the_first():
    series = BoundedSeries(capacity=1)
    for t in range(9):
        series.add(float(t), t)
    assert (series.times, series.values) == ([0.0], [0])
