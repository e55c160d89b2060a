"""The forecast in a running training: when it is made, from what, and where it is told."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import Classifier, MemoryLogger, blobs, loader, trainer

from le_callback import DiagnosticWarning, IModel, LECallback
from le_callback.forecast import forecast
from le_callback.forecast.bands import SeparationTime
from le_callback.recorder import SourceTrajectory
from le_callback.report.running_forecast import RunningForecast
from le_callback.trajectory import Trajectory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """140 steps in windows of 2: figures after 1, 4, 16 and 64 windows, and at the end."""
    logger = TensorBoardLogger(tmp_path_factory.mktemp("logs"))
    module = Classifier(lr=0.01)
    callback = LECallback(every_n_steps=2, probe=blobs(48, seed=5))
    trainer(callback, logger=logger, max_steps=140, max_epochs=-1).fit(module, loader())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "tensors": 0}).Reload()
    return callback, events, module


def test_the_spread_is_that_of_the_probe(run):
    """The class means of a fixed probe have no sampling noise, but its classes have a width."""
    callback, _, module = run
    data = callback.trajectory.sources["probe_features"]
    x, y = blobs(48, seed=5)
    with torch.no_grad():
        features = module.eval().body(x)
    expected = [float(features[y == k].var(0).sum()) for k in range(3)]
    assert data.times[-1] == 140
    np.testing.assert_allclose(data.mean_noise[-1] * data.counts[-1], expected, rtol=1e-4)


def test_made_at_quarters_of_the_run_from_the_probe_so_far(run):
    callback, _, _ = run
    whole = callback.trajectory.sources["probe_logits"]
    for made, step in (
        (callback._session.measurement.forecast.previous, 32),
        (callback._session.measurement.forecast.latest, 128),
    ):
        past = whole.times <= step
        expected = forecast(
            whole.means[past],
            whole.times[past],
            model=IModel(),
            generator=torch.Generator().manual_seed(0),
            spread=whole.mean_noise[past].astype(np.float64) * whole.counts[past],
            until=4 * step,
        )
        assert made.status == expected.status
        assert made.made_at == step
        np.testing.assert_array_equal(made.worst_gap.median, expected.worst_gap.median)
        np.testing.assert_array_equal(made.past_worst_gap, expected.past_worst_gap)


def test_told_in_tensorboard_and_in_the_table(run):
    callback, events, _ = run
    assert [e.step for e in events.Images("le/forecast")] == [32, 128, 140]
    assert [e.step for e in events.Images("le/forecast_checked")] == [128, 140]
    texts = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("separation/forecast")]
    assert texts[-1] == callback._session.measurement.forecast.sentence()
    assert texts[-1].startswith("made at step 128: the worst pair ")
    assert f"Forecast {texts[-1]}" in callback.summary_table()


def trajectory(times, classes=2):
    means = np.ones((len(times), classes, 3), dtype=np.float32) * np.arange(1, classes + 1)[:, None]
    noise = np.full((len(times), classes), 1e-6, dtype=np.float32)
    source = SourceTrajectory(np.asarray(times, dtype=float), means, noise, np.ones_like(noise))
    return Trajectory({"logits": source}, "step", tuple(map(str, range(classes))))


def test_nothing_where_it_is_too_early_or_too_wide():
    outlook = RunningForecast()
    assert not outlook.renew(trajectory(range(1, 5)), 4)
    assert not outlook.renew(trajectory(range(1, 17), classes=65), 16)
    assert not outlook.renew(Trajectory({}, "step", ("a", "b")), 16)
    assert not outlook.renew(trajectory(range(-15, 1)), 16)
    assert outlook.latest is None
    assert outlook.sentence() == ""


def test_why_there_is_none_is_said():
    outlook = RunningForecast()
    means = trajectory(range(1, 17))
    means.sources["logits"].means[:, 1] = np.nan  # a class that never came
    assert outlook.renew(means, 16)
    assert outlook.sentence() == f"made at step 16: none, {outlook.latest.status}"
    assert outlook.latest.status.startswith("only 0 readings")


def separated(median, low, high, chance, status=""):
    """A forecast made at step 100 up to step 400, with this separation time."""
    means = np.ones((5, 2, 1)) * np.arange(1.0, 3.0)[:, None]
    blank = forecast(means, np.arange(1.0, 6.0), model="I", generator=torch.Generator())
    separation = SeparationTime(1.0, low, median, high, chance, status)
    return replace(blank, made_at=100.0, times=np.linspace(100.0, 400.0, 4), separation=separation, status="")


@pytest.mark.parametrize(
    ("separation", "expected"),
    [
        ((80.0, 80.0, 80.0, 1.0), "the worst pair reached a gap of one deviation at step 80"),
        (
            (250.0, 200.0, 310.0, 0.99),
            "the worst pair is expected to reach a gap of one deviation at step 250 (90% of the simulated futures:"
            " 200 to 310)",
        ),
        (
            (250.0, 200.0, math.inf, 0.8),
            "the worst pair is expected to reach a gap of one deviation at step 250 (90% of the simulated futures:"
            " 200 to beyond 400)",
        ),
        (
            (math.inf, math.inf, math.inf, 0.03),
            "the worst pair is not expected to reach a gap of one deviation: 3% of the simulated futures do before"
            " step 400",
        ),
        (
            (math.nan, math.nan, math.nan, math.nan, "not known: no variance"),
            "whether the worst pair reaches a gap of one deviation is not known: no variance",
        ),
    ],
)
def test_the_sentence_is_in_plain_words(separation, expected):
    outlook = RunningForecast()
    outlook.latest, outlook._made_at = separated(*separation), 100.0
    assert outlook.sentence() == f"made at step 100: {expected}"


def test_a_new_head_starts_a_new_outlook(tmp_path):
    callback = LECallback(every_n_steps=2)
    logger = TensorBoardLogger(tmp_path)
    trainer(callback, logger=logger, max_steps=40, max_epochs=-1).fit(Classifier(), loader())
    assert callback._session.measurement.forecast.latest is not None
    trainer(callback, logger=logger, max_steps=4, max_epochs=-1).fit(Classifier(classes=4), loader(classes=4))
    assert callback._session.measurement.forecast.latest is None
    assert "Forecast" not in callback.summary_table()


@pytest.mark.parametrize("logger", [False, MemoryLogger()])
def test_nothing_is_forecast_or_drawn_where_no_logger_could_show_it(monkeypatch, logger):
    def unwanted(*args, **kwargs):
        raise AssertionError("nobody asked")

    for name in ("forecast.bands.forecast", "trajectory.forecast", "report.publisher.cosine_figure"):
        monkeypatch.setattr(f"le_callback.{name}", unwanted)
    callback = LECallback(every_n_steps=2, summary=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DiagnosticWarning)
        trainer(callback, logger=logger, max_steps=40, max_epochs=-1).fit(Classifier(), loader())
    assert callback.monitor.windows == 20
    assert "Forecast" not in callback.summary_table()
