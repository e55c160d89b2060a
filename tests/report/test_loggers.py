"""Loggers other than TensorBoard's, as they are: scalars, pictures and texts arrive, and none harms another."""

import contextlib
import csv
import json
import math
import struct
import time
import warnings

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import DiagnosticWarning, LECallback

ACCURACY = "separation/logits/nearest_mean_accuracy"
TEXT, FIGURE, FORECAST = "separation/regime", "etf/cosines", "le/forecast"
WINDOWS = 16


def fit(*loggers):
    """The callback after 16 windows of two steps, and what was told of loggers."""
    callback = LECallback(every_n_steps=2, summary=False, alerts=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = trainer(callback, logger=list(loggers), max_steps=2 * WINDOWS, max_epochs=-1)
        run.fit(Classifier(), loader())
    return run, [
        str(w.message) for w in caught if issubclass(w.category, DiagnosticWarning) and "logger" in str(w.message)
    ]


class Refusing(MemoryLogger):
    """Takes no value that is not a finite number."""

    def log_metrics(self, metrics, step=None):
        if wrong := [tag for tag, value in metrics.items() if not math.isfinite(value)]:
            raise ValueError(f"{wrong[0]} is no number")
        super().log_metrics(metrics, step)


class Raising(MemoryLogger):
    def log_metrics(self, metrics, step=None):
        raise OSError("no space left")


def csv_logger(folder):
    return CSVLogger(folder / "csv")


def read_csv(logger, folder):
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(ACCURACY)]
    return [(int(row["step"]), float(row[ACCURACY])) for row in rows], None, None


def mlflow_logger(folder):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    return MLFlowLogger("separability", tracking_uri=(folder / "mlruns").as_uri())


def read_mlflow(logger, folder):
    client, run = logger.experiment, logger.run_id
    points = sorted((p.step, p.value) for p in client.get_metric_history(run, ACCURACY))
    kept = {p.relative_to(folder).as_posix().partition("artifacts/")[2]: p for p in folder.rglob("artifacts/**/*.*")}
    pictures = {name.rpartition("/")[0] for name, p in kept.items() if p.read_bytes().startswith(b"\x89PNG")}
    return (
        points,
        pictures,
        {name.rpartition("/")[0]: p.read_text() for name, p in kept.items() if name.endswith("txt")},
    )


def wandb_logger(folder):
    pytest.importorskip("wandb", reason="wandb is not installed")
    return WandbLogger(save_dir=folder, offline=True, name="separability")


def wandb_records(path):
    """Records of an offline run: a log in blocks of 32 kB as LevelDB writes it, after a head of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    whole, place, parts, found = path.read_bytes(), 7, [], []
    assert whole.startswith(b":W&B")
    while place + 7 <= len(whole):
        if 32768 - place % 32768 < 7:  # too little is left in the block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", whole[place + 4 : place + 7])
        parts.append(whole[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(b"".join(parts))
            parts = []
    return [Record.FromString(data) for data in found]


def finished_records(path):
    """All records: W&B writes the last of them a little after it says that it has finished."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(Exception):  # half written
            records = wandb_records(path)
            if records[-1].WhichOneof("record_type") == "exit":
                return records
        time.sleep(0.05)
    raise AssertionError("the run never ended")


def read_wandb(logger, folder):
    """From the record of the run, which W&B would send when it is online again."""
    import wandb

    wandb.finish()
    points, pictures, texts = [], set(), {}
    (path,) = folder.rglob("*.wandb")
    for record in finished_records(path):
        items = [([item.key] if item.key else list(item.nested_key), item.value_json) for item in record.history.item]
        row = {tuple(key): json.loads(value) for key, value in items}
        if (ACCURACY,) in row:
            points.append((row[("trainer/global_step",)], float(row[(ACCURACY,)])))
        kinds = {key[0]: value for key, value in row.items() if key[1:] == ("_type",)}
        pictures |= {tag for tag, kind in kinds.items() if kind == "images/separated"}
        for tag in (tag for tag, kind in kinds.items() if kind == "table-file"):
            texts[tag] = (path.parent / "files" / row[(tag, "path")]).read_text()
    kept = [p for p in folder.rglob("media/images/**/*.png") if p.read_bytes().startswith(b"\x89PNG")]
    return points, pictures & {f"{p.parent.name}/{p.name.split('_')[0]}" for p in kept}, texts


LOGGERS = {
    "csv": (csv_logger, read_csv),
    "mlflow": (mlflow_logger, read_mlflow),
    "wandb": (wandb_logger, read_wandb),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("kind", LOGGERS)
def test_scalars_pictures_and_texts_arrive(kind, tmp_path):
    make, read = LOGGERS[kind]
    logger, memory = make(tmp_path), MemoryLogger()
    _, told = fit(logger, memory)
    assert told == []
    points, pictures, texts = read(logger, tmp_path)
    expected = [
        (step, row[ACCURACY]) for step, row in memory.rows.items() if not math.isnan(row.get(ACCURACY, math.nan))
    ]
    assert len(expected) == WINDOWS - 1  # the first window has no means before it
    points = [(step, value) for step, value in points if not math.isnan(value)]
    assert [step for step, _ in points] == [step for step, _ in expected]
    assert [value for _, value in points] == pytest.approx([value for _, value in expected])
    if pictures is not None:
        assert {FIGURE, FORECAST} <= pictures
        assert "Theorem" in texts[TEXT]


@pytest.mark.parametrize("bad", [Refusing, Raising])
@pytest.mark.parametrize("kind", ["csv", "mlflow", "tensorboard"])
def test_one_that_fails_harms_no_other(kind, bad, tmp_path):
    other = bad()
    logger = TensorBoardLogger(tmp_path) if kind == "tensorboard" else LOGGERS[kind][0](tmp_path)
    _, told = fit(other, logger)
    assert len(told) == 1
    assert bad.__name__ in told[0]
    if kind == "tensorboard":
        events = EventAccumulator(logger.log_dir)
        events.Reload()
        steps = [event.step for event in events.Scalars(ACCURACY) if not math.isnan(event.value)]
    else:
        steps = [step for step, value in LOGGERS[kind][1](logger, tmp_path)[0] if not math.isnan(value)]
    assert len(steps) == WINDOWS - 1


def test_one_that_refuses_nan_gets_what_is_known():
    whole, refusing = MemoryLogger(), Refusing()
    _, told = fit(whole, refusing)
    assert len(told) == 1
    assert "gets no values that are not known" in told[0]
    assert refusing.rows.keys() == whole.rows.keys()
    for step, row in whole.rows.items():
        assert refusing.rows[step] == {tag: value for tag, value in row.items() if math.isfinite(value)}
    assert any(not math.isfinite(value) for row in whole.rows.values() for value in row.values())
