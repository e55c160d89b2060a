"""Where the numbers go: loggers, monitors, event files."""

import csv
import math

import numpy as np
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import LECallback
from le_callback.report.writers import log_scalars

TAGS = {  # of both levels
    "le/I_features/alpha",
    "le/I_logits/gamma",
    "le/I_logits/gamma_low",
    "le/L_logits/B",
    "le/I_logits/tail_gamma",
    "etf/features/angle_deviation_deg",
    "etf/logits/norm_variation",
    "separation/features/nearest_mean_accuracy",
    "separation/logits/discriminability_min",
}


def test_tensorboard_reads_scalars_and_heatmap(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    callback = LECallback(summary=False, class_names=["ant", "bee", "cow"], tags="all")
    trainer(callback, logger=logger, max_epochs=3).fit(Classifier(dropout=0), loader())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert set(events.Tags()["scalars"]) >= TAGS
    deviation = events.Scalars("etf/features/angle_deviation_deg")
    assert [event.step for event in deviation] == [4, 9, 14, 19, 24, 29, 34]
    assert deviation[-1].value == pytest.approx(callback.last_record.etf["features"].deviation)
    assert [image.step for image in events.Images("etf/cosines")] == [5, 20, 35]
    assert events.Images("etf/cosines")[0].width > 300


@pytest.mark.parametrize("prefix", ["", "mine"])
def test_one_event_for_all_scalars_reads_like_one_event_each(tmp_path, prefix):
    metrics = {"le/a": 1.5, "le/b": math.nan, "etf/c": -2e-7}
    for name, log in (("ours", log_scalars), ("theirs", lambda logger, m, step: logger.log_metrics(m, step))):
        logger = TensorBoardLogger(tmp_path, name=name, version=0, prefix=prefix)
        for step in (3, 7):
            log(logger, {tag: step * value for tag, value in metrics.items()}, step)
        logger.finalize("success")
    read = {}
    for name in ("ours", "theirs"):
        events = EventAccumulator(str(tmp_path / name / "version_0"))
        events.Reload()
        read[name] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert read["ours"].keys() == read["theirs"].keys()
    for tag, points in read["theirs"].items():
        np.testing.assert_array_equal(read["ours"][tag], points)


def test_a_logger_that_does_more_with_metrics_gets_them(tmp_path):
    class Counting(TensorBoardLogger):
        seen = 0

        def log_metrics(self, metrics, step=None):
            self.seen += len(metrics)
            super().log_metrics(metrics, step)

    logger = Counting(tmp_path)
    log_scalars(logger, {"a": 1.0, "b": 2.0}, 1)
    assert logger.seen == 2


def test_x_axis_is_that_of_the_trainers_own_metrics():
    class Logging(Classifier):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss)
            return loss

    logger = MemoryLogger()
    trainer(LECallback(summary=False), logger=logger).fit(Logging(), loader())
    assert all("loss" in row and "le/I_logits/A" in row for row in logger.rows.values())


def test_csv_and_several_loggers(tmp_path):
    csv_logger, memory = CSVLogger(tmp_path), MemoryLogger()
    trainer(LECallback(summary=False, tags="all"), logger=[csv_logger, memory]).fit(Classifier(), loader())
    with open(f"{csv_logger.log_dir}/metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["etf/features/angle_mean_deg"]]
    assert len(rows) == len(memory.rows) == 4
    assert rows[0].keys() >= TAGS


def test_without_logger_values_are_there_for_monitors():
    run = trainer(LECallback(summary=False))
    run.fit(Classifier(), loader())
    assert run.callback_metrics.keys() >= TAGS


def test_early_stopping_and_checkpoints_monitor_them(tmp_path):
    class EarlyStoppingOnTrainBatch(EarlyStopping):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step % 5 == 0:
                self._run_early_stopping_check(trainer)

    tag = "separation/features/nearest_mean_accuracy"
    stop = EarlyStoppingOnTrainBatch(
        tag, mode="max", stopping_threshold=0.5, patience=99, check_finite=False, check_on_train_epoch_end=False
    )
    best = ModelCheckpoint(tmp_path, monitor=tag, mode="max", every_n_train_steps=5, filename="best")
    run = trainer(callbacks=[LECallback(summary=False), stop, best], max_epochs=20, enable_checkpointing=True)
    run.fit(Classifier(), loader())
    assert run.global_step < 240
    assert float(best.best_model_score) == pytest.approx(float(run.callback_metrics[tag]))
    assert math.isfinite(best.best_model_score)
