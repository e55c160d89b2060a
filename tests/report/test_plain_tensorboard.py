"""TensorBoard without the tab: an overview that comes first, texts, and a row in HPARAMS."""

import math
import warnings

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import LECallback

CARDS = {
    "Separability/1_gap": "le/I_logits/amplitude_difference",
    "Separability/2_growth": "le/I_logits/gamma",
    "Separability/3_worst_pair": "separation/logits/discriminability_min",
    "Separability/4_accuracy": "separation/logits/nearest_mean_accuracy",
    "Separability/5_ETF_angle": "etf/logits/angle_deviation_deg",
    "Separability/6_alerts": "alerts/active",
}


class Chosen(Classifier):
    """A module with hyperparameters of its own."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()


def fit(*loggers, model=None, **kwargs):
    callback = LECallback(every_n_steps=5, summary=False, figures=False, class_names=["ant", "bee", "cow"], **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callback, logger=list(loggers), max_epochs=6).fit(model or Classifier(), loader())
    return callback


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def session(folder):
    """Hyperparameters of a run as TensorBoard takes them: those of the first entry."""
    metadata = events(folder).SummaryMetadata("_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in content.hparams.items()}


def test_the_overview_comes_first_and_says_the_same(tmp_path):
    logger, memory = TensorBoardLogger(tmp_path), MemoryLogger()
    fit(logger, memory)
    found = events(logger.log_dir)
    tags = found.Tags()["scalars"]
    assert sorted(tags)[: len(CARDS)] == list(CARDS)
    for card, tag in CARDS.items():
        shown, known = found.Scalars(card), found.Scalars(tag)
        assert [e.step for e in shown] == [e.step for e in known]
        assert [e.value for e in shown] == pytest.approx([e.value for e in known], nan_ok=True)
        assert found.SummaryMetadata(card).summary_description == found.SummaryMetadata(tag).summary_description != ""
    assert not any("Separability" in tag for row in memory.rows.values() for tag in row)


def test_each_callback_has_an_overview_of_its_own(tmp_path):
    logger = TensorBoardLogger(tmp_path, prefix="mine")
    fit(logger, name="coarse", time_axis="epochs")
    tags = events(logger.log_dir).Tags()["scalars"]
    assert "mine-Separability coarse/2_growth" in tags
    assert sum("Separability coarse/" in tag for tag in tags) == len(CARDS)


def test_texts_stand_under_their_own_tag(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    callback = fit(logger)
    found = events(logger.log_dir)
    assert found.SummaryMetadata("separation/regime").plugin_data.plugin_name == "text"
    last = found.Tensors("separation/regime")[-1].tensor_proto
    assert [d.size for d in last.tensor_shape.dim] == [1]
    assert last.string_val[0].decode().startswith("**")
    assert "Theorem" in last.string_val[0].decode()
    assert callback.last_record.regime is not None


def test_the_end_is_a_row_of_hparams(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    record = fit(logger).last_record
    row = session(f"{logger.log_dir}/separability")
    k, m, D = record.discriminability["logits"].worst[0]
    assert row["Separability/0_verdict"] == record.regime.name
    assert row["Separability/3_worst_pair_classes"] == " / ".join(("ant", "bee", "cow")[c] for c in (k, m))
    assert row["Separability/3_worst_pair"] == pytest.approx(D, rel=1e-6)
    assert row["Separability/6_alerts"] == 0
    assert all(isinstance(value, str) or math.isfinite(value) for value in row.values())
    assert "_hparams_/session_start_info" not in events(logger.log_dir).summary_metadata
    assert events(f"{logger.log_dir}/separability").Tags()["scalars"] == []


def test_a_second_fit_leaves_one_row(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(logger)
    record = fit(logger).last_record
    assert session(f"{logger.log_dir}/separability")["Separability/0_verdict"] == record.regime.name


def test_hyperparameters_of_the_run_are_its_own(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(logger, model=Chosen())
    assert session(logger.log_dir) == {"width": 8}
    assert sorted(p.name for p in tmp_path.rglob("*separability*")) == ["le_callback.separability.jsonl"]


def test_hyperparameters_that_come_after_the_training_are_shown(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(logger)
    logger.log_hyperparams({"rate": 0.5}, {"accuracy": 0.9})
    logger.save()
    assert session(logger.log_dir) == {"rate": 0.5}
    assert [e.value for e in events(logger.log_dir).Scalars("accuracy")] == pytest.approx([0.9])
