"""The forecast in a running training: when it is made, from what, and where it is told."""

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import Classifier, loader, trainer

from le_callback import IModel, LECallback, forecast
from le_callback.outlook import Outlook
from le_callback.trajectory import SourceTrajectory, Trajectory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """140 steps in windows of 2: figures after 1, 4, 16 and 64 windows, and at the end."""
    logger = TensorBoardLogger(tmp_path_factory.mktemp("logs"))
    callback = LECallback(every_n_steps=2, probe=8)
    trainer(callback, logger=logger, max_steps=140, max_epochs=-1).fit(Classifier(lr=0.01), loader())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "tensors": 0}).Reload()
    return callback, events


def test_made_at_quarters_of_the_run_from_the_probe_so_far(run):
    callback, _ = run
    whole = callback.trajectory.sources["probe_logits"]
    for made, step in ((callback._outlook.previous, 32), (callback._outlook.latest, 128)):
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
    callback, events = run
    assert [e.step for e in events.Images("le/forecast")] == [32, 128, 140]
    assert [e.step for e in events.Images("le/forecast_checked")] == [128, 140]
    texts = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("separation/forecast/text_summary")]
    assert texts[-1] == callback._outlook.sentence()
    assert texts[-1].startswith("made at step 128: worst pair's gap")
    assert f"Forecast {texts[-1]}" in callback.summary_table()


def trajectory(times, classes=2):
    means = np.ones((len(times), classes, 3), dtype=np.float32) * np.arange(1, classes + 1)[:, None]
    noise = np.full((len(times), classes), 1e-6, dtype=np.float32)
    source = SourceTrajectory(np.asarray(times, dtype=float), means, noise, np.ones_like(noise))
    return Trajectory({"logits": source}, "step", tuple(map(str, range(classes))))


def test_nothing_where_it_is_too_early_or_too_wide():
    outlook = Outlook()
    assert not outlook.renew(trajectory(range(1, 5)), 4)
    assert not outlook.renew(trajectory(range(1, 17), classes=65), 16)
    assert not outlook.renew(Trajectory({}, "step", ("a", "b")), 16)
    assert not outlook.renew(trajectory(range(-15, 1)), 16)
    assert outlook.latest is None
    assert outlook.sentence() == ""


def test_why_there_is_none_is_said():
    outlook = Outlook()
    means = trajectory(range(1, 17))
    means.sources["logits"].means[:, 1] = np.nan  # a class that never came
    assert outlook.renew(means, 16)
    assert outlook.sentence() == f"made at step 16: none, {outlook.latest.status}" or "nan" in outlook.sentence()
    assert outlook.latest.status
