"""Whole data sets at the end of epochs: values by definition, beside the last window; a training left untouched."""

import math

import pytest
import torch
from collapse_oracles import collapse
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainings import DIMENSIONS, Classifier, MemoryLogger, blobs, loader, trainer

from le_callback import LECallback
from le_callback.notices import DiagnosticWarning
from le_callback.probe import data
from le_callback.report.epoch_tags import STREAMED

OTHER = torch.randn(40, DIMENSIONS, generator=torch.Generator().manual_seed(8)) + 3


def callback(**kwargs):
    return LECallback(**({"summary": False, "every_n_steps": 4, "page": False} | kwargs))


def by_definition(model, data, out=None):
    """Of a model in evaluation mode."""
    model.eval()
    with torch.no_grad():
        features = model.body(data[0])
        said = model.head(features).argmax(1)
        other = None if out is None else model.body(out)
    return collapse(features, data[1], model.head.weight.detach(), said.tolist(), other)


class TestValues:
    @pytest.mark.parametrize("data", ["train", "tensors", "dataset", "loader"])
    def test_all_samples_by_definition(self, data):
        samples = blobs() if data == "train" else blobs(70, seed=3)
        given = {
            "train": "train",
            "tensors": samples,
            "dataset": TensorDataset(*samples),
            "loader": DataLoader(TensorDataset(*samples), batch_size=9, shuffle=True),
        }[data]
        watching, model = callback(exact=given, out_of_distribution=OTHER), Classifier()
        trainer(watching, max_epochs=2).fit(model, loader())
        found = watching.last_epoch
        assert (found.step, found.samples, found.out_samples) == (24, len(samples[0]), 40)
        expected = by_definition(model, samples, OTHER)
        assert found.values.keys() == expected.keys()
        assert {k: found.values[k] for k in expected} == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize(
        "other", [OTHER, [OTHER], TensorDataset(OTHER), DataLoader(TensorDataset(OTHER, torch.zeros(40)), batch_size=7)]
    )
    def test_other_data_alone_are_compared_with_the_means_of_the_windows(self, other):
        watching, model = callback(out_of_distribution=other), Classifier()
        run = trainer(watching, max_epochs=1)
        run.fit(model, loader())
        means = torch.from_numpy(watching.trajectory.sources["features"].means[-1])
        model.eval()
        with torch.no_grad():
            mu = model.body(OTHER).mean(0).double()
        expected = torch.cosine_similarity(means.double(), mu.unsqueeze(0)).abs().mean()
        assert watching.last_epoch.values == {"nc5": pytest.approx(float(expected), rel=1e-5)}
        assert run.callback_metrics["collapse/epoch/nc5"] == pytest.approx(float(expected), rel=1e-5)
        assert not [tag for tag in run.callback_metrics if tag.startswith("collapse/epoch/nc1")]

    def test_samples_that_are_not_finite_are_left_out(self):
        broken = torch.cat([OTHER, torch.full((3, DIMENSIONS), torch.nan)])
        readings = []
        for other in (OTHER, broken):
            watching = callback(exact="train", out_of_distribution=other)
            trainer(watching, max_epochs=1).fit(Classifier(), loader())
            readings.append(watching.last_epoch)
        assert readings[0].values["nc5"] == pytest.approx(readings[1].values["nc5"], rel=1e-6)
        assert readings[1].out_samples == 40


class TestTelling:
    def test_differences_to_the_last_window(self):
        logger, watching = MemoryLogger(), callback(exact="train", tags="all")
        run = trainer(watching, max_epochs=2, logger=logger)
        run.fit(Classifier(), loader())
        values, record = watching.last_epoch.values, watching.last_record
        for name, read in STREAMED.items():
            expected = read(record) - values[name]
            assert float(run.callback_metrics[f"collapse/epoch/{name}_difference"]) == pytest.approx(expected, abs=1e-5)
            assert logger.rows[24][f"collapse/epoch/{name}"] == values[name]
        assert math.isfinite(float(run.callback_metrics["collapse/epoch/nc1_difference"]))

    def test_monitors_may_look_before_the_first_epoch_ends(self, tmp_path):
        checkpoint = ModelCheckpoint(tmp_path, monitor="collapse/epoch/nc1", every_n_train_steps=3, save_top_k=2)
        run = trainer(callback(exact="train"), max_epochs=2, callbacks=[checkpoint], enable_checkpointing=True)
        run.fit(Classifier(), loader())
        assert math.isfinite(float(checkpoint.best_model_score))

    def test_loggers_get_the_essential_ones(self):
        logger = MemoryLogger()
        trainer(callback(exact="train"), max_epochs=1, logger=logger).fit(Classifier(), loader())
        told = {tag.removeprefix("collapse/epoch/") for tag in logger.rows[12] if tag.startswith("collapse/epoch/")}
        essential = {"nc1", "nc2_angle_deviation", "nc3_duality", "nc4"}
        assert told == essential | {f"{name}_difference" for name in essential} | {"nc5"}

    def test_every_so_many_epochs(self):
        steps = []

        class Keeping(LECallback):
            def on_train_epoch_end(self, *args):
                super().on_train_epoch_end(*args)
                steps.append(self.last_epoch and self.last_epoch.step)

        keeping = Keeping(summary=False, exact=blobs(), exact_every_n_epochs=2)
        trainer(keeping, max_epochs=5).fit(Classifier(), loader())
        assert steps == [None, 24, 24, 48, 48]


class TestTraining:
    def test_the_training_is_not_touched(self):
        """Dropout draws from the random state, the loader shuffles with it: all ends as without a reading."""
        ends = []
        for arguments in ({}, {"exact": "train", "out_of_distribution": OTHER}):
            torch.manual_seed(1)
            model = Classifier()
            trainer(callback(**arguments), max_epochs=3).fit(model, loader(shuffle=True))
            ends.append(([p.detach().clone() for p in model.parameters()], torch.get_rng_state(), model.training))
            assert not any(m._forward_hooks for m in model.modules())
        assert all(torch.equal(a, b) for a, b in zip(ends[0][0], ends[1][0], strict=True))
        assert torch.equal(ends[0][1], ends[1][1])
        assert ends[0][2] == ends[1][2]

    def test_a_reading_that_fails_is_told_and_the_training_goes_on(self):
        run = trainer(callback(exact=(torch.zeros(4, DIMENSIONS + 1), torch.zeros(4))), max_epochs=2)
        with pytest.warns(UserWarning, match="could not be read at the end of the epoch"):
            run.fit(Classifier(), loader())
        assert run.global_step == 24

    @pytest.mark.parametrize("data", ["test", 5, (blobs()[0],), [1, 2]])
    def test_data_of_other_types(self, data):
        with pytest.raises(TypeError, match='`exact` to be "train", a DataLoader'):
            LECallback(exact=data)

    @pytest.mark.parametrize("data", ["train", 5, []])
    def test_other_data_of_other_types(self, data):
        with pytest.raises(TypeError, match="`out_of_distribution` to be a DataLoader"):
            LECallback(out_of_distribution=data)

    def test_a_loader_that_never_ends_is_cut_and_told(self, monkeypatch):
        monkeypatch.setattr(data, "MAX_BATCHES", 7)

        class Endless(IterableDataset):
            def __iter__(self):
                x, y = blobs(30)
                while True:
                    yield x[0], y[0]

        watching = callback(exact=DataLoader(Endless(), batch_size=5))
        with pytest.warns(DiagnosticWarning, match="given as `exact` hold more than 7 batches, or never end"):
            trainer(watching, max_epochs=1).fit(Classifier(), loader())
        assert watching.last_epoch.samples == 35

    def test_epochs_out_of_range(self):
        with pytest.raises(ValueError, match="`exact_every_n_epochs` to be at least 1"):
            LECallback(exact_every_n_epochs=0)

    def test_training_data_without_an_index(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield from zip(*blobs(), strict=True)

        stream = DataLoader(Stream(), batch_size=8)
        with pytest.raises(ValueError, match="`exact` to be a loader.*cannot be read by index"):
            trainer(callback(exact="train")).fit(Classifier(), stream)
        watching = callback(exact=stream)
        trainer(watching, max_epochs=1).fit(Classifier(), loader())
        assert watching.last_epoch.samples == 96
