"""What the callback sees and leaves behind in Lightning's training loop."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import CLASSES, Classifier, MemoryLogger, Records, blobs, loader, trainer

from le_callback import DiagnosticWarning, LECallback


def class_means(seen, source):
    x = torch.cat([batch[source].reshape(-1, batch[source].shape[-1]) for batch in seen]).double().numpy()
    y = torch.cat([batch[2].reshape(-1) for batch in seen]).numpy()
    return np.stack([x[y == k].mean(0) for k in range(CLASSES)]), np.bincount(y, minlength=CLASSES)


def centred_cosine_angles(means):
    centred = means - means.mean(0)
    return [
        np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        for i, a in enumerate(centred)
        for b in centred[i + 1 :]
    ]


class TestWhatIsSeen:
    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_windows_hold_exactly_the_batches_of_training(self, accumulate):
        model, callback = Classifier(), Records(every_n_steps=4)
        trainer(callback, accumulate_grad_batches=accumulate, val_check_interval=5).fit(
            model, loader(), loader(n=16)
        )  # 12 batches an epoch, with validation in the middle
        batches = 4 * accumulate
        assert [r.window for r in callback.records] == [(4 * i, 4 * i + 4) for i in range(24 // batches)]
        for i, record in enumerate(callback.records):
            seen = model.seen[i * batches : (i + 1) * batches]
            for source, name in enumerate(("features", "logits")):
                means, counts = class_means(seen, source)
                assert record.samples == counts.sum()
                angles = centred_cosine_angles(means)
                assert record.etf[name].smallest == pytest.approx(min(angles), abs=1e-3)
                assert record.etf[name].deviation == pytest.approx(
                    np.sqrt(np.mean((np.array(angles) - 120) ** 2)), abs=1e-3
                )

    def test_open_window_equals_oracle(self):
        model, callback = Classifier(), Records(every_n_steps=1000)
        trainer(callback, max_steps=7, max_epochs=-1).fit(model, loader())
        assert len(callback.records) == 1  # the end of a short run closes its only window
        means, _ = class_means(model.seen, 1)
        amplitude = np.sqrt(((means - means.mean(0)) ** 2).sum())
        assert callback.records[0].coefficients["I_logits"].amplitude_difference < amplitude
        assert callback.records[0].window == (0, 7)

    def test_time_counts_optimizer_steps(self):
        callback = Records(every_n_steps=2)
        trainer(callback, accumulate_grad_batches=4).fit(Classifier(), loader())
        assert [r.step for r in callback.records] == [2, 4, 6]

    def test_several_fits_continue_and_a_new_trainer_starts_again(self):
        model, callback = Classifier(), Records(every_n_steps=6)
        first = trainer(callback, max_epochs=1)
        first.fit(model, loader())
        first.fit_loop.max_epochs = 2
        first.fit(model, loader())
        assert [r.window for r in callback.records] == [(0, 6), (6, 12), (12, 18), (18, 24)]
        trainer(callback, max_epochs=1).fit(model, loader())
        assert [r.window for r in callback.records[4:]] == [(0, 6), (6, 12)]
        assert [r.samples for r in callback.records] == [48] * 6

    def test_a_head_of_another_width_starts_anew(self):
        callback = Records(every_n_steps=6)
        run = trainer(callback, max_epochs=1)
        run.fit(Classifier(), loader())
        run.fit_loop.max_epochs = 2
        run.fit(Classifier(classes=5), loader(classes=5))
        assert [r.window for r in callback.records] == [(0, 6), (6, 12), (12, 18), (18, 24)]
        assert [len(r.etf["logits"].classes) for r in callback.records] == [3, 3, 5, 5]

    def test_class_names_come_from_the_dataset(self):
        data = TensorDataset(*blobs())
        data.classes = ["ant", "bee", "cow"]
        callback = Records()
        trainer(callback).fit(Classifier(), DataLoader(data, batch_size=8))
        assert " / " in callback.summary_table()
        assert {"ant", "bee", "cow"} & set(callback.summary_table().replace("/", " ").split())


class TestNoHarm:
    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
    def test_parameters_are_bit_identical(self, precision):
        def parameters(*callbacks):
            model = Classifier()
            torch.manual_seed(1)
            trainer(callbacks=list(callbacks), precision=precision).fit(model, loader(shuffle=True), loader(n=16))
            return [p.detach().clone() for p in model.parameters()], torch.get_rng_state()

        plain, state = parameters()
        watched, watched_state = parameters(LECallback(summary=False))
        assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
        assert torch.equal(state, watched_state)

    def test_no_hook_stays_and_the_module_can_be_pickled(self):
        model = Classifier()
        trainer(LECallback(summary=False)).fit(model, loader())
        assert not any(m._forward_hooks for m in model.modules())
        pickle.dumps(copy.deepcopy(model.head))

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_no_hook_stays_after_an_exception(self, error):
        class Failing(Classifier):
            def training_step(self, batch, batch_idx):
                if batch_idx == 3:
                    raise error("stop")
                return super().training_step(batch, batch_idx)

        model = Failing()
        with pytest.raises((error, SystemExit)):
            trainer(LECallback(summary=False)).fit(model, loader())
        assert not any(m._forward_hooks for m in model.modules())

    def test_no_graph_is_kept(self):
        callback = LECallback(summary=False)
        trainer(callback).fit(Classifier(), loader())
        tensors = [t for m in callback.monitor.window.moments.values() for t in vars(m).values()]
        assert not any(t.requires_grad for t in tensors)

    def test_a_failing_diagnostic_is_told_once_and_training_goes_on(self, monkeypatch):
        def broken(*args):
            raise ArithmeticError("no such luck")

        callback = LECallback(summary=False)
        monkeypatch.setattr("le_callback.monitor.SeparationMonitor.close", broken)
        run = trainer(callback)
        with pytest.warns(DiagnosticWarning, match="could not be evaluated.*no such luck") as caught:
            run.fit(Classifier(), loader())
        assert run.global_step == 24
        assert sum("could not be evaluated" in str(w.message) for w in caught) == 1


class TestBadData:
    def fit(self, features, labels, callback=None, model=None, batch_size=8, **kwargs):
        callback = callback or Records()
        run = trainer(callback, **kwargs)
        run.fit(model or Classifier(), DataLoader(TensorDataset(features, labels), batch_size=batch_size))
        return run, callback

    @pytest.mark.parametrize("alerted", [True, False])
    def test_nan_features_are_skipped_counted_and_told(self, alerted):
        callback = Records(alerts=alerted)
        x, y = blobs()
        x[8:16] = torch.nan  # the second batch of each epoch

        class Tolerant(Classifier):
            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                return None if loss.isnan() else loss

        with pytest.warns(UserWarning, match="features that are not finite") as caught:
            run, callback = self.fit(x, y, callback, model=Tolerant())
        assert sum("not finite" in str(w.message) for w in caught) == 1
        assert run.fit_loop.epoch_loop.total_batch_idx == 23
        assert "Skipped 16 samples with features that are not finite" in callback.summary_table()
        assert np.isfinite(callback.last_record.etf["features"].deviation)

    def test_class_that_never_appears(self):
        x, y = blobs()
        callback = Records(class_names=["ant", "bee", "cow", "dog"])
        _, callback = self.fit(x, y, callback, Classifier(classes=4))
        assert callback.last_record.missing_classes == (3,)
        assert "No samples in this window: dog" in callback.summary_table()
        assert callback.last_record.etf["logits"].classes == (0, 1, 2)

    def test_labels_outside_the_classes_are_counted(self):
        x, y = blobs()

        class Ignoring(Classifier):
            def training_step(self, batch, batch_idx):
                return super().training_step((batch[0], batch[1].clamp(0, 2)), batch_idx)

        y[40:43] = 7
        y[50:52] = -100  # ignored on purpose
        with pytest.warns(DiagnosticWarning, match="label outside the classes"):
            _, callback = self.fit(x, y, Records(label=1), Ignoring())
        assert callback.last_record.skipped == {"unknown_labels": 6}

    def test_two_classes_in_batches_of_one(self):
        x, y = blobs(n=60, classes=2)
        _, callback = self.fit(x, y, model=Classifier(classes=2), batch_size=1, max_epochs=3, log_every_n_steps=15)
        record = callback.last_record
        assert record.samples == 15
        assert record.etf["features"].ideal == 180
        assert record.etf["features"].mean == pytest.approx(180)
        assert record.nearest_mean["logits"].accuracy > 0.5

    def test_empty_slot_is_counted(self):
        class Skipping(Classifier):
            def training_step(self, batch, batch_idx):
                return None if batch_idx == 2 else super().training_step(batch, batch_idx)

        with pytest.warns(DiagnosticWarning, match="head was not called"):
            _, callback = self.fit(*blobs(), model=Skipping())
        assert callback.last_record.skipped == {"head_not_called": 2}

    def test_changed_label_shape_is_counted(self):
        class Odd(Classifier):
            def training_step(self, batch, batch_idx):
                self.head(torch.zeros(5, 8)) if batch_idx == 4 else None
                loss = super().training_step(batch, batch_idx)
                self.head(torch.zeros(5, 8)) if batch_idx == 6 else None
                return loss

        with pytest.warns(DiagnosticWarning, match="without usable labels"):
            _, callback = self.fit(*blobs(), model=Odd())
        assert callback.last_record.skipped == {"unusable_labels": 2}


class TestRefusals:
    """What cannot be resolved is an error at the start that names what was found and the argument that settles it."""

    def refuse(self, match, model=None, batches=None, error=ValueError, **arguments):
        with pytest.raises(error, match=match):
            trainer(LECallback(**arguments)).fit(model or Classifier(), batches or loader())

    def test_unknown_head(self):
        self.refuse(r"head='classifier'.*linear-like layers are body.0, head", head="classifier")

    def test_no_linear_layer(self):
        class Parameters(Classifier):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(6, 3))
                self.head = self.body = nn.Identity()

            def training_step(self, batch, batch_idx):
                return nn.functional.cross_entropy(batch[0] @ self.weight, batch[1])

        self.refuse("no linear-like layer.*`head=`", model=Parameters())

    def test_nothing_fits_the_number_of_classes(self):
        self.refuse(r"10 outputs.*body.0 \(6 to 8\), head \(8 to 3\).*`head=`.*`num_classes=`", num_classes=10)

    def test_head_of_another_width(self):
        self.refuse("head `head`.*num_classes=10.*has 3", head="head", num_classes=10)

    def test_labels_not_found(self):
        class Keyed(Classifier):
            def training_step(self, batch, batch_idx):
                return super().training_step((batch["image"], batch["digit"]), batch_idx)

        data = [{"image": x, "digit": y} for x, y in zip(*blobs(), strict=True)]
        batches = DataLoader(data, batch_size=8)
        trainer(found := LECallback(summary=False)).fit(Keyed(), batches)  # the loss was given them
        assert found.last_record.samples == 40
        self.refuse("label='class'.*keys image, digit", model=Keyed(), batches=batches, label="class")
        trainer(LECallback(label="digit", summary=False)).fit(Keyed(), batches)

    def test_class_names_of_another_length(self):
        self.refuse("`class_names`.*3 names", class_names=["a", "b"])

    @pytest.mark.parametrize(
        ("argument", "value", "error"),
        [
            ("num_classes", 1, ValueError),
            ("every_n_steps", 0, ValueError),
            ("smoothing", 3, ValueError),
            ("identifiability", 1.0, ValueError),
            ("confidence", 1.0, ValueError),
            ("head", 3, TypeError),
            ("label", 2.5, TypeError),
        ],
    )
    def test_arguments_out_of_range(self, argument, value, error):
        with pytest.raises(error, match=f"`{argument}`.*{value}"):
            LECallback(**{argument: value})


class TestShapesOfLabels:
    def test_one_hot_labels_equal_integer_labels(self):
        class OneHot(Classifier):
            def training_step(self, batch, batch_idx):
                return super().training_step((batch[0], batch[1].argmax(1)), batch_idx)

        x, y = blobs()
        hard, soft = Records(), Records()
        trainer(hard).fit(Classifier(dropout=0), DataLoader(TensorDataset(x, y), batch_size=8))
        one_hot = nn.functional.one_hot(y, CLASSES).float()
        trainer(soft).fit(OneHot(dropout=0), DataLoader(TensorDataset(x, one_hot), batch_size=8))
        for a, b in zip(hard.records, soft.records, strict=True):
            assert a.etf["features"].deviation == pytest.approx(b.etf["features"].deviation, abs=1e-3)
            assert a.coefficients["I_logits"].amplitude_difference == pytest.approx(
                b.coefficients["I_logits"].amplitude_difference, rel=1e-5, nan_ok=True
            )

    def test_sequence_heads_are_flattened(self):
        class Tagger(Classifier):
            def training_step(self, batch, batch_idx):
                x, y = batch
                features = self.body(x)
                logits = self.head(features)
                self.seen.append((features.detach(), logits.detach(), y))
                return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

        x, y = blobs()
        model, callback = Tagger(), Records(every_n_steps=12)
        data = TensorDataset(x.reshape(24, 4, -1), y.reshape(24, 4))
        trainer(callback, max_epochs=1).fit(model, DataLoader(data, batch_size=2))
        means, counts = class_means(model.seen, 0)
        assert callback.records[0].samples == counts.sum() == 96
        assert callback.records[0].etf["features"].smallest == pytest.approx(
            min(centred_cosine_angles(means)), abs=1e-3
        )


class TestLogging:
    def test_the_same_tags_from_the_first_log_step_on(self):
        logger = MemoryLogger()
        trainer(LECallback(summary=False), logger=logger).fit(Classifier(), loader())
        rows = list(logger.rows.values())
        assert len(rows) == 4
        assert all(row.keys() == rows[0].keys() for row in rows)
        assert {"le/I_logits/gamma", "etf/features/angle_deviation_deg"} <= rows[0].keys()

    def test_progress_bar_shows_gamma(self):
        run = trainer(LECallback(summary=False), max_epochs=8)
        run.fit(Classifier(dropout=0), loader())
        assert run.progress_bar_metrics["γ"] == run.callback_metrics["le/I_logits/gamma"]
        assert np.isfinite(run.progress_bar_metrics["γ"])

    def test_fast_dev_run_goes_the_whole_way(self, capsys):
        callback = LECallback()
        trainer(callback, fast_dev_run=True).fit(Classifier(), loader(batch_size=32), loader())
        assert callback.last_record.samples == 32
        assert "ETF angle" in capsys.readouterr().out

    def test_barebones_is_a_no_op(self):
        callback = LECallback()
        run = trainer(callback, barebones=True, log_every_n_steps=0, enable_model_summary=False)
        run.fit(Classifier(), loader())
        assert callback.last_record is None

    def test_summary_can_be_turned_off(self, capsys):
        trainer(LECallback(summary=False)).fit(Classifier(), loader())
        assert "ETF" not in capsys.readouterr().out
