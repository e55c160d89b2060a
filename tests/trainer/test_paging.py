"""Data files of trainings: beside each logger's own files, as the records say, and never in the way."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import DiagnosticWarning, LECallback
from le_callback.alerts import Alert
from le_callback.page.reading import read_run
from le_callback.page.writer import folder_of

NAME = "le_callback.separability.jsonl"


def late(record):
    if record.step >= 20:
        return Alert("Late", record.step, (1,), "Class {classes} is late.", "Wait for {class 0}.", 1.0, 1.0, 0.0)
    return None


def callback(**kwargs):
    return LECallback(summary=False, figures=False, progress_bar=False, class_names=["ant", "bee", "cow"], **kwargs)


def test_rows_are_what_the_records_say(tmp_path):
    logger, own = TensorBoardLogger(tmp_path), callback()
    run = trainer(own, logger=logger, max_epochs=3)
    run.fit(Classifier(), loader())
    data = read_run(tmp_path / "lightning_logs" / "version_0" / NAME)
    assert [row["step"] for row in data.rows] == [5, 10, 15, 20, 25, 30, 35]
    assert data.head["classes"] == ["ant", "bee", "cow"]
    assert data.head["settings"]["figures"] == "False"
    tags = [tag for tag in data.head["columns"] if not math.isnan(float(run.callback_metrics[tag]))]
    assert len(tags) > 20
    for tag in tags:
        assert float(data.column(tag)[-1]) == pytest.approx(float(run.callback_metrics[tag]), rel=2e-4, abs=1e-30)
    worst = own.last_record.discriminability["logits"].worst[0]
    assert data.rows[-1]["worst"]["logits"] == pytest.approx(list(worst), rel=1e-4)
    assert data.rows[-1]["verdict"] == own.last_record.regime.name
    assert data.rows[0]["rate_now"] == 0.1


@pytest.mark.filterwarnings("ignore::le_callback.SeparabilityWarning")
def test_alerts_are_told_with_names_and_when_they_are_over(tmp_path):
    def passing(record):
        return late(record) if record.step == 20 else None

    own = callback(alerts=[passing])
    trainer(own, logger=TensorBoardLogger(tmp_path), max_epochs=10).fit(Classifier(), loader())
    data = read_run(tmp_path / "lightning_logs" / "version_0" / NAME)
    alert, over = (next(e for e in data.events if e["kind"] == kind) for kind in ("alert", "over"))
    assert alert["cause"] == "Class bee is late."
    assert alert["advice"] == "Wait for bee."
    assert alert["step"] == 20
    standing = [row["step"] for row in data.rows if row["alerts"]]
    assert over["step"] == standing[-1] + 5


def test_every_logger_with_a_folder_gets_it_once(tmp_path):
    loggers = [
        TensorBoardLogger(tmp_path, version=0),
        CSVLogger(tmp_path, version=0),
        CSVLogger(tmp_path / "other"),
        MemoryLogger(),
    ]
    trainer(callback(), logger=loggers).fit(Classifier(), loader())
    found = sorted(path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob(NAME))
    assert found == ["lightning_logs", "other"]
    for path in tmp_path.rglob(NAME):
        assert len(read_run(path).rows) == len({row["step"] for row in read_run(path).rows}) == 4


def test_callbacks_of_one_trainer_have_files_of_their_own(tmp_path):
    callbacks = [callback(name=name) for name in ("first", "a/b")]
    trainer(callbacks=callbacks, logger=TensorBoardLogger(tmp_path)).fit(Classifier(), loader())
    names = {path.name for path in tmp_path.rglob("*.jsonl")}
    assert names == {"le_callback-first.separability.jsonl", "le_callback-a_b.separability.jsonl"}


@pytest.mark.filterwarnings("ignore:LECallback. the folder of the logger Broken is not known")
def test_a_logger_that_fails_harms_no_other(tmp_path):
    class Broken(MemoryLogger):
        @property
        def log_dir(self):
            raise RuntimeError("not connected")

    trainer(callback(), logger=[Broken(), TensorBoardLogger(tmp_path)]).fit(Classifier(), loader())
    assert len(read_run(next(tmp_path.rglob(NAME))).rows) == 4


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"log_dir": "a/b"}, "a/b"),
        ({"log_dir": None, "save_dir": "mlruns", "name": "0", "version": "ab12"}, "mlruns/0/ab12"),
        ({"save_dir": "file:mlruns", "name": "my run/../x", "version": 3}, "mlruns/my_run_.._x/3"),
        ({"save_dir": ".", "name": "project", "version": None}, None),
        ({"save_dir": "s3://bucket", "name": "project", "version": "1"}, None),
        ({"log_dir": "gs://bucket/run"}, None),
        ({}, None),
    ],
)
def test_folders_of_loggers(attributes, expected):
    found = folder_of(SimpleNamespace(**attributes))
    assert found == (None if expected is None else Path(expected))


def test_forecasts_stand_beside_what_came(tmp_path):
    own = LECallback(summary=False, progress_bar=False, every_n_steps=2, alerts=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trainer(own, logger=TensorBoardLogger(tmp_path), max_steps=140, max_epochs=-1)
        run.fit(Classifier(), loader())
    data = read_run(tmp_path / "lightning_logs" / "version_0" / NAME)
    told = [event for event in data.events if event["kind"] == "forecast"]
    assert [event["step"] for event in told] == [32, 128, 140]
    assert [[chart["made_at"] for chart in event["charts"]] for event in told] == [[30.5], [126.5, 30.5], [126.5, 30.5]]
    latest, checked = told[-1]["charts"]
    assert latest["measured"][0][-1] == checked["measured"][0][-1] == 138.5  # the middle of the last window
    assert told[-1]["text"] == own._session.measurement.forecast.sentence()


def test_a_jump_of_the_learning_rate_is_told(tmp_path):
    class Jumping(Classifier):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == 12:
                self.optimizers().param_groups[0]["lr"] *= 10

    trainer(callback(), logger=TensorBoardLogger(tmp_path), max_epochs=4).fit(Jumping(lr=0.001), loader())
    data = read_run(next(tmp_path.rglob(NAME)))
    (jump,) = (event for event in data.events if event["kind"] == "rate")
    assert (jump["step"], jump["factor"]) == (15, pytest.approx(10))
    assert [row["step"] for row in data.rows if "jump" in row] == list(range(15, 50, 5))
    assert data.rows[-1]["todo"][0] == "jump"


def test_a_long_run_ends_with_its_last_row_and_frame(tmp_path, monkeypatch):
    monkeypatch.setattr("le_callback.page.datafile.MOST_ROWS", 16)
    monkeypatch.setattr("le_callback.page.datafile.MOST_FRAMES", 16)
    trainer(callback(), logger=TensorBoardLogger(tmp_path), max_epochs=16, log_every_n_steps=2).fit(
        Classifier(), loader()
    )
    data = read_run(next(tmp_path.rglob(NAME)))
    for lines in (data.rows, data.frames):
        assert lines[-1]["step"] == 192
        assert len(lines) <= 17


@pytest.mark.parametrize("arguments", [{"page": False}, {}])
def test_nothing_is_written_where_nobody_keeps_it(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    logger = MemoryLogger() if not arguments else TensorBoardLogger(tmp_path)
    trainer(callback(**arguments), logger=logger).fit(Classifier(), loader())
    assert not list(tmp_path.rglob("*.jsonl"))


def test_fast_dev_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(callback(report=True), logger=TensorBoardLogger(tmp_path), fast_dev_run=3).fit(Classifier(), loader())
    assert not list(tmp_path.rglob("*separability*"))


def test_a_folder_that_cannot_be_written_is_told_once_and_the_training_goes_on(tmp_path):
    (tmp_path / "lightning_logs").write_text("a file where the folder should be")

    class Elsewhere(MemoryLogger):
        log_dir = str(tmp_path / "lightning_logs" / "version_0")

    own, logger = callback(), Elsewhere()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(own, logger=logger, max_epochs=2).fit(Classifier(), loader())
    told = [w for w in caught if issubclass(w.category, DiagnosticWarning) and "data of the page" in str(w.message)]
    assert len(told) == 1
    assert len(logger.rows) == 4
    assert own.last_record.step == 20


def test_a_resumed_training_goes_on_in_its_file(tmp_path):
    def logger():
        return TensorBoardLogger(tmp_path, version=0)

    first = trainer(callback(), logger=logger(), max_epochs=2)
    first.fit(Classifier(), loader())
    first.save_checkpoint(tmp_path / "saved.ckpt")
    path = tmp_path / "lightning_logs" / "version_0" / NAME
    before = read_run(path)
    trainer(callback(), logger=logger(), max_epochs=4).fit(
        Classifier(), loader(), ckpt_path=tmp_path / "saved.ckpt", weights_only=False
    )
    after = read_run(path)
    assert [row["step"] for row in after.rows] == list(range(5, 50, 5))
    assert after.rows[: len(before.rows)] == before.rows
    verdicts = [e["step"] for e in after.events if e["kind"] == "verdict"]
    assert verdicts == sorted(set(verdicts))


def test_the_report_is_written_where_it_is_asked_for(tmp_path):
    own = callback(report=True)
    trainer(own, logger=TensorBoardLogger(tmp_path)).fit(Classifier(), loader())
    (report,) = tmp_path.rglob("*.html")
    assert report.name == "le_callback-report.html"
    with pytest.raises(ValueError, match="`report` to be False where `page` is False"):
        LECallback(page=False, report=True)


def test_without_a_logger_the_report_lies_in_the_trainers_folder(tmp_path):
    trainer(callback(report=True), default_root_dir=tmp_path).fit(Classifier(), loader())
    assert (tmp_path / "le_callback-report.html").exists()


def test_settings_hold_no_secrets(tmp_path):
    pytest.importorskip("apprise")
    own = callback(notify=["json://user:secret@localhost"])
    trainer(own, logger=TensorBoardLogger(tmp_path)).fit(Classifier(), loader())
    assert "secret" not in next(tmp_path.rglob(NAME)).read_text()


def test_the_training_is_the_same_with_and_without(tmp_path):
    weights = []
    for page in (True, False):
        model = Classifier()
        trainer(callback(page=page), logger=TensorBoardLogger(tmp_path)).fit(model, loader())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_lines_are_strict_json(tmp_path):
    trainer(callback(), logger=TensorBoardLogger(tmp_path)).fit(Classifier(), loader())

    def refuse(constant):
        raise AssertionError(constant)

    for line in next(tmp_path.rglob(NAME)).read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=refuse)
