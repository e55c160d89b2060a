"""Where the numbers go: loggers, monitors, event files."""

import csv
import math
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import DiagnosticWarning, LECallback
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


def test_tensorboard_describes_tags_and_draws_bands(tmp_path):
    logger = TensorBoardLogger(tmp_path, prefix="mine")
    trainer(LECallback(summary=False, name="a"), logger=logger, max_epochs=3).fit(Classifier(dropout=0), loader())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    metadata = events.SummaryMetadata("mine-a/etf/features/angle_deviation_deg")
    assert metadata.summary_description.endswith("Look for: 0° is a simplex ETF (neural collapse).")
    assert len(events.Scalars("mine-a/etf/features/angle_deviation_deg")) == 7
    (tensor,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(tensor.tensor_proto.string_val[0])
    (category,) = layout.category
    assert category.title == "a"
    series = {chart.title: chart.margin.series[0] for chart in category.chart}
    gamma = series["le/I_logits/gamma"]
    names = ["mine-a/le/I_logits/gamma", "mine-a/le/I_logits/gamma_low", "mine-a/le/I_logits/gamma_high"]
    assert [gamma.value, gamma.lower, gamma.upper] == names
    assert set(names) <= set(events.Tags()["scalars"])


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


class Failing(MemoryLogger):
    """Raises from a call on."""

    def __init__(self, after=0):
        super().__init__()
        self.after, self.calls = after, 0

    def log_metrics(self, metrics, step=None):
        if any(tag.startswith("le/") for tag in metrics):
            self.calls += 1
            if self.calls > self.after:
                raise OSError("no space left")
        super().log_metrics(metrics, step)


class Viewing(MemoryLogger):
    """Its experiment takes figures and texts, or raises."""

    def __init__(self, broken=()):
        super().__init__()
        self.broken, self.seen = broken, []

    @property
    def experiment(self):
        return self

    def add_figure(self, tag, figure, step):
        self._see("figure", tag)

    def add_text(self, tag, text, step):
        self._see("text", tag)

    def _see(self, kind, tag):
        self.seen.append((kind, tag))
        if kind in self.broken:
            raise TypeError(f"no {kind}s here")


def told(caught):
    return [str(w.message) for w in caught if issubclass(w.category, DiagnosticWarning)]


class TestLoggersThatFail:
    def fit(self, *loggers, **kwargs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = trainer(LECallback(summary=False), logger=list(loggers), **kwargs)
            run.fit(Classifier(), loader())
        return run, told(caught)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_the_others_get_everything(self, place):
        whole = MemoryLogger()
        plain, _ = self.fit(whole)
        loggers = [MemoryLogger(), MemoryLogger()]
        loggers.insert(place, Failing(after=1))
        run, messages = self.fit(*loggers)
        assert messages == [
            "LECallback: the logger Failing failed and is left out from now on (OSError: no space left)."
        ]
        assert loggers[place].calls == 3  # the third gives it once more what is known alone
        for logger in loggers:
            if logger is not loggers[place]:
                assert repr(logger.rows) == repr(whole.rows)
        assert repr(run.callback_metrics) == repr(plain.callback_metrics)

    def test_metrics_are_there_when_the_first_logger_fails(self):
        seen = []

        class Looking(Failing):
            def log_metrics(self, metrics, step=None):
                seen.append(float(run.callback_metrics["etf/features/angle_mean_deg"]))
                super().log_metrics(metrics, step)

        run = trainer(LECallback(summary=False), logger=[Looking()])
        with pytest.warns(DiagnosticWarning, match="Looking failed"):
            run.fit(Classifier(), loader())
        assert math.isfinite(seen[0])

    @pytest.mark.parametrize("kind", ["figure", "text"])
    def test_one_that_cannot_show_figures_or_texts_gets_the_rest(self, kind):
        good, bad = Viewing(), Viewing(broken=(kind,))
        _, messages = self.fit(bad, good, max_epochs=12)
        (message,) = messages
        assert message.endswith(f"Viewing failed and is left out of {kind}s from now on (TypeError: no {kind}s here).")
        assert repr(bad.rows) == repr(good.rows)
        assert [k for k, _ in good.seen].count(kind) > 1
        assert [k for k, _ in bad.seen].count(kind) == 1
        assert [s for s in bad.seen if s[0] != kind] == [s for s in good.seen if s[0] != kind]

    def test_an_experiment_that_is_out_of_reach(self):
        class Offline(MemoryLogger):
            @property
            def experiment(self):
                if self.rows:
                    raise ConnectionError("offline")

        offline, good = Offline(), Viewing()
        _, messages = self.fit(offline, good)
        assert messages
        assert all("Offline failed" in text and "ConnectionError: offline" in text for text in messages)
        assert len(offline.rows) == 4
        assert {"figure", "text"} == {kind for kind, _ in good.seen}


class TestTagsBeforeTheFirstWindow:
    def watched(self, callback, model=None, data=None, before=()):
        """The tags of ``callback_metrics`` after the start and after every batch."""
        seen = []

        class Watching(Callback):
            def on_train_start(self, trainer, module):
                seen.append(dict(trainer.callback_metrics))

            def on_train_batch_end(self, trainer, *args):
                seen.append(dict(trainer.callback_metrics))

        run = trainer(callbacks=[*before, callback, Watching()])
        run.fit(model or Classifier(), data or loader())
        return seen

    @pytest.mark.parametrize(
        ("arguments", "classes"),
        [
            ({}, 2),
            ({"probe": 4}, 3),
            ({"alerts": False}, 12),
            ({"alerts": [lambda record: None], "name": "fine"}, 3),
            ({"time_axis": "lr", "matrix_classes": [0, 4]}, 5),
        ],
    )
    def test_every_tag_is_nan_from_the_start_and_none_is_added(self, arguments, classes):
        settings = {"summary": False, "every_n_steps": 6} | arguments
        seen = self.watched(LECallback(**settings), Classifier(classes), loader(classes=classes))
        assert len(seen[0]) > 40
        assert all(math.isnan(value) for metrics in seen[:6] for value in metrics.values())
        assert math.isfinite(seen[6][f"{'fine/' if 'name' in arguments else ''}etf/features/angle_mean_deg"])
        assert all(metrics.keys() == seen[0].keys() for metrics in seen)

    def test_what_is_there_stays(self):
        class Before(Callback):
            def on_train_start(self, trainer, module):
                trainer.callback_metrics["etf/features/angle_mean_deg"] = torch.tensor(90.0)
                trainer.callback_metrics["mine"] = torch.tensor(1.0)

        seen = self.watched(LECallback(summary=False), before=[Before()])
        assert (seen[0]["etf/features/angle_mean_deg"], seen[0]["mine"]) == (90, 1)

    def test_after_a_resume(self, tmp_path):
        run = trainer(LECallback(summary=False), enable_checkpointing=True, default_root_dir=tmp_path)
        run.fit(Classifier(), loader())
        run.save_checkpoint(tmp_path / "run.ckpt")
        seen = []

        class Watching(Callback):
            def on_train_start(self, trainer, module):
                seen.append(dict(trainer.callback_metrics))

        again = trainer(callbacks=[LECallback(summary=False), Watching()], max_epochs=3)
        again.fit(Classifier(), loader(), ckpt_path=tmp_path / "run.ckpt")
        assert seen[0].keys() == again.callback_metrics.keys() == run.callback_metrics.keys()

    def test_a_schedule_and_a_checkpoint_that_watch_a_tag(self, tmp_path):
        tag = "separation/features/nearest_mean_accuracy"

        class Scheduled(Classifier):
            def configure_optimizers(self):
                optimizer = super().configure_optimizers()
                schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=50)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": tag}}

        best = ModelCheckpoint(tmp_path, monitor=tag, mode="max")
        stop = EarlyStopping(tag, mode="max", patience=50, check_finite=False)
        callbacks = [LECallback(summary=False, every_n_steps=20), stop, best]
        run = trainer(callbacks=callbacks, max_epochs=4, enable_checkpointing=True)
        run.fit(Scheduled(), loader(), loader(16))  # the first epoch ends before the first window
        assert run.global_step == 48
        assert math.isfinite(best.best_model_score)


def test_no_tag_is_nan_for_ever():
    """The L-model needs a logit for each class; where a head has fewer, it has no tags."""

    class OneLogit(Classifier):
        def __init__(self):
            super().__init__(lr=0.02)
            self.head = torch.nn.Linear(8, 1)

        def training_step(self, batch, batch_idx):
            logits = self(batch[0]).squeeze(1)
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, batch[1].float())

    logger = MemoryLogger()
    callback = LECallback(summary=False, tags="all", num_classes=2, head="head")
    run = trainer(callback, logger=logger, max_epochs=40)
    run.fit(OneLogit(), loader(classes=2))
    rows = list(logger.rows.values())
    assert rows[0].keys() == rows[-1].keys() == run.callback_metrics.keys()
    assert [tag for tag in rows[0] if all(math.isnan(row[tag]) for row in rows)] == []
    assert not any("L_" in tag for tag in rows[0])


def test_gamma_is_shown_once_it_is_known():
    shown = []

    class Watching(Callback):
        def on_train_batch_end(self, trainer, *args):
            known = trainer.callback_metrics["le/I_logits/gamma"]
            shown.append((trainer.progress_bar_metrics.get("γ"), None if known.isnan() else float(known)))

    run = trainer(callbacks=[LECallback(summary=False), Watching()], max_epochs=8)
    run.fit(Classifier(dropout=0), loader())
    assert shown[0] == (None, None)
    assert shown[-1][0] is not None
    assert all(bar == pytest.approx(known) for bar, known in shown)


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
