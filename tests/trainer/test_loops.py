"""Every kind of training loop: what is captured is what the model saw, and the training is bit for bit the same."""

import copy
import pickle

import pytest
import torch
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset
from trainings import (
    CLASSES,
    DIMENSIONS,
    Classifier,
    Recording,
    assert_windows,
    blobs,
    check_training,
    check_windows,
    loader,
    trainer,
)

from le_callback import DiagnosticWarning, LECallback

try:
    from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
except ImportError:  # lightning < 2.6
    EMAWeightAveraging = WeightAveraging = None


class TwoOptimizers(Classifier):
    """Manual optimization: body and head have an optimizer each, and the body's steps every second batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        body, head = self.optimizers()
        self.manual_backward(super().training_step(batch, batch_idx))
        for optimizer in (body, head) if batch_idx % 2 else (head,):
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.body, self.head)]


class Closures(Classifier):
    """LBFGS calls the training step several times a batch."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def training_step(self, batch, batch_idx):
        self.calls.append(batch_idx)
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        del self.seen[batch_idx:-1]  # the last call of each batch

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


class Checkpointed(Classifier):
    """Body and head run again in the backward pass."""

    reentrant = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = checkpoint(self.body, x.requires_grad_(), use_reentrant=self.reentrant)
        logits = checkpoint(self.head, features, use_reentrant=self.reentrant)
        self.seen.append((features.detach().clone(), logits.detach().clone(), y.clone()))
        return nn.functional.cross_entropy(logits, y)


class Reentrant(Checkpointed):
    reentrant = True


class TestOptimization:
    @pytest.mark.parametrize(("accumulate", "batches_of_data"), [(2, 96), (4, 96)])
    def test_accumulation_closes_a_window_once(self, accumulate, batches_of_data):
        callback, _ = check_training(
            Classifier, loader(batches_of_data), 4 * accumulate, accumulate_grad_batches=accumulate
        )
        assert callback.last_record.step % 4 == 0
        assert callback.last_record.window == (callback.last_record.step - 4, callback.last_record.step)

    def test_accumulation_that_does_not_divide_the_epoch(self):
        callback, model = Recording(every_n_steps=3), Classifier()
        trainer(callback, accumulate_grad_batches=5, max_epochs=2).fit(model, loader())  # steps after 5, 10, 12 batches
        assert_windows(callback, model.seen, 12)

    def test_manual_optimization_with_two_optimizers(self):
        """One step a batch, two every second: 6 steps are 4 batches, and time counts each of them."""
        callback, _ = check_training(TwoOptimizers, loader(), 4, callback=Recording(every_n_steps=6))
        assert callback.last_record.window == (30, 36)

    def test_epochs_of_manual_optimization(self):
        callback = LECallback(summary=False, time_axis="epochs", every_n_steps=6)
        trainer(callback).fit(TwoOptimizers(), loader())
        # the last window holds batches 20 to 23 of 2 × 12, each at the time before its steps
        assert callback.last_record.coefficients["I_logits"].time == pytest.approx((20 + 21 + 22 + 23) / 4 / 12)

    def test_closures_of_lbfgs(self):
        _, model = check_training(Closures, loader(), 4, max_epochs=1)
        assert len(model.calls) >= 3 * 12

    @pytest.mark.parametrize("model", [Checkpointed, Reentrant])
    def test_activation_checkpointing(self, model):
        check_training(model, loader(), 4)

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_layers_that_run_again_in_the_backward_pass_are_not_taken_for_the_head(self, reentrant):
        class Narrow(Classifier):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(nn.Linear(DIMENSIONS, CLASSES), nn.Tanh())
                self.head = nn.Linear(CLASSES, CLASSES)

            def training_step(self, batch, batch_idx):
                x, y = batch
                features = checkpoint(self.body, x.requires_grad_(), use_reentrant=reentrant)
                logits = self.head(features)
                self.seen.append((features.detach().clone(), logits.detach().clone(), y.clone()))
                return nn.functional.cross_entropy(logits, y)

        check_training(Narrow, loader(), 4)


class TestPartsOfTheTrainer:
    def test_validation_in_the_middle_and_sanity_check(self):
        class Validating(Classifier):
            validated = 0

            def validation_step(self, batch, batch_idx):
                self.validated += 1
                super().validation_step(batch, batch_idx)

        _, model = check_training(
            Validating, loader(shuffle=True), 4, validation=loader(16), val_check_interval=5, num_sanity_val_steps=2
        )
        assert model.validated > 8

    @pytest.mark.parametrize(
        ("settings", "batches", "every"),
        [
            ({"overfit_batches": 3}, 3, 3),
            ({"limit_train_batches": 4}, 4, 4),
            ({"limit_train_batches": 0.5, "limit_val_batches": 1}, 3, 3),
            ({"fast_dev_run": True}, 1, 1),
            ({"fast_dev_run": 3}, 3, 3),
            ({"max_steps": 8, "max_epochs": -1}, 4, 4),
        ],
        ids=lambda v: "-".join(v) if isinstance(v, dict) else None,
    )
    def test_parts_of_the_data(self, settings, batches, every):
        check_training(
            Classifier, loader(), batches, validation=loader(16), callback=Recording(every_n_steps=every), **settings
        )

    def test_fit_called_twice(self):
        callback, model = Recording(), Classifier()
        run = trainer(callback, max_epochs=1)
        for epochs in (1, 2):
            run.fit_loop.max_epochs = epochs
            run.fit(model, loader())
        assert_windows(callback, model.seen, 4)

    @pytest.mark.parametrize("replacement", ["width", "same"])
    def test_head_replaced_between_fits(self, replacement):
        classes = 5 if replacement == "width" else CLASSES
        callback, model = Recording(), Classifier()
        run = trainer(callback, max_epochs=1)
        run.fit(model, loader())
        assert_windows(callback, model.seen, 4)
        model.seen.clear()
        model.head = nn.Linear(8, classes)
        run.fit_loop.max_epochs = 2
        run.fit(model, loader(classes=classes))
        check_windows(callback.windows[-3:], model.seen, 4, classes)

    def test_head_that_left_the_model_is_told(self):
        model = Classifier()
        callback = LECallback(head=model.head, summary=False)
        model.head = nn.Linear(8, CLASSES)
        with pytest.warns(DiagnosticWarning, match="head was not called.*`head=`"):
            trainer(callback).fit(model, loader())

    def test_head_built_in_configure_model(self):
        class Late(Classifier):
            def __init__(self):
                super().__init__()
                self.head = None

            def configure_model(self):
                if self.head is None:
                    self.head = nn.Linear(8, CLASSES)

        check_training(Late, loader(), 4)

    def test_frozen_backbone(self):
        class Frozen(Classifier):
            def __init__(self):
                super().__init__()
                self.body.requires_grad_(False).eval()

            def configure_optimizers(self):
                return torch.optim.SGD(self.head.parameters(), lr=0.1)

        check_training(Frozen, loader(), 4)


class Unfreezing(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.body)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.body, optimizer, lr=0.01)


class HeadOnly(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.1)


class Normalised(Classifier):
    """Batch norm makes StochasticWeightAveraging run one more epoch without steps, which updates its statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.BatchNorm1d(8), nn.ReLU())


class TestOtherCallbacks:
    def check(self, make_other, model=Classifier, batches=4, **kwargs):
        """As ``check_training``, beside a callback that is made anew for each of the two trainings."""

        class Beside(model):
            def configure_callbacks(self):
                return [make_other()]

        return check_training(Beside, loader(), batches, **kwargs)

    def test_finetuning(self):
        self.check(Unfreezing, HeadOnly, max_epochs=3)

    @pytest.mark.skipif(WeightAveraging is None, reason="lightning < 2.6 has no WeightAveraging")
    @pytest.mark.parametrize("kind", ["EMAWeightAveraging", "WeightAveraging"])
    def test_weight_averaging(self, kind):
        make = {"EMAWeightAveraging": lambda: EMAWeightAveraging(decay=0.9), "WeightAveraging": WeightAveraging}[kind]
        self.check(make, validation=loader(16))

    def test_stochastic_weight_averaging(self):
        self.check(lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1), max_epochs=4)

    def test_stochastic_weight_averaging_with_an_epoch_without_steps(self):
        def swa():
            return StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1)

        plain, watched = (self.run_with_swa(swa, *callbacks) for callbacks in ((), (Recording(),)))
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))

    def run_with_swa(self, swa, *callbacks):
        model = Normalised()
        torch.manual_seed(1)
        trainer(callbacks=[swa(), *callbacks], max_epochs=4).fit(model, loader())
        for callback in callbacks:
            steps = 4 * 12
            assert callback.last_record.window[1] <= steps
            assert len(model.seen) == 5 * 12
            assert_windows(callback, model.seen[:steps], 4)
        return model

    def test_learning_rate_finder_and_tuner_leave_no_trace(self):
        callback, model = Recording(), Classifier()
        run = trainer(callback)
        tuner = Tuner(run)
        tuner.lr_find(model, loader(), num_training=5)
        assert callback.monitor is None
        model.seen.clear()
        run.fit(model, loader())
        assert_windows(callback, model.seen, 4)

    def test_learning_rate_finder_callback(self):
        class Fresh(Classifier):
            def on_train_start(self):
                self.seen.clear()

        def finder():
            return LearningRateFinder(num_training_steps=5)

        callback, model = Recording(), Fresh()
        trainer(callbacks=[finder(), callback]).fit(model, loader())
        assert_windows(callback, model.seen, 4)
        assert callback.last_record.window == (20, 24)

    def test_batch_size_scaling(self):
        class Sized(Classifier):
            batch_size = 2

            def train_dataloader(self):
                return loader(batch_size=self.batch_size)

            def val_dataloader(self):
                return []

        callback, model = Recording(), Sized()
        run = trainer(callback)
        Tuner(run).scale_batch_size(model, max_trials=2, steps_per_trial=2)
        assert callback.monitor is None
        assert model.batch_size > 2
        model.seen.clear()
        run.fit(model)
        assert_windows(callback, model.seen, 4)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*blobs(), strict=True))


class Pairs(Classifier):
    """Takes batches of two loaders, in a dict or a list, and passes their samples together."""

    def training_step(self, batch, batch_idx):
        first, second = batch.values() if isinstance(batch, dict) else batch
        return super().training_step([torch.cat(parts) for parts in zip(first, second, strict=True)], batch_idx)


def labels_of_both(batch):
    first, second = batch.values() if isinstance(batch, dict) else batch
    return torch.cat([first[1], second[1]])


class TestLoaders:
    def test_iterable_dataset(self):
        check_training(Classifier, DataLoader(Stream(), batch_size=8), 4)

    @pytest.mark.parametrize("kind", ["dict", "list", "combined"])
    def test_several_loaders_with_a_label_callable(self, kind):
        a, b = loader(48), loader(96, batch_size=16)
        data = {"dict": {"a": a, "b": b}, "list": [a, b]}.get(kind) or CombinedLoader(
            {"a": a, "b": b}, "max_size_cycle"
        )
        check_training(Pairs, data, 3, callback=Recording(label=labels_of_both, every_n_steps=3))

    def test_several_loaders_without_one_ask_for_it(self):
        for data in ({"a": loader(), "b": loader()}, [loader(), loader()]):
            with pytest.raises(ValueError, match="`label=`.*callable"):
                trainer(LECallback()).fit(Pairs(), data)

    def test_a_loader_that_ends_early_is_counted(self):
        class Missing(Classifier):
            def training_step(self, batch, batch_idx):
                return super().training_step(batch["a"] or batch["b"], batch_idx)

        callback, model = Recording(label=lambda batch: batch["a"][1]), Missing()
        with pytest.warns(DiagnosticWarning, match="without usable labels"):
            trainer(callback, max_epochs=1).fit(
                model, CombinedLoader({"a": loader(64), "b": loader(96)}, mode="max_size")
            )
        assert callback.monitor.skipped == {"unusable_labels": 4}
        *windows, empty = callback.windows
        assert empty["logits"][0].sum() == 0
        check_windows(windows, model.seen[:8], 4)


class TestEndings:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward", "on_validation_batch_end"])
    def test_exceptions_leave_no_hook_and_a_module_that_can_be_pickled(self, hook, error):
        class Failing(Classifier):
            pass

        def stop(*args):
            if model.trainer.global_step >= 3:
                raise error("stop")

        model, callback = Failing(), Recording()
        setattr(model, hook, stop)
        with pytest.raises((error, SystemExit)):
            trainer(callback, val_check_interval=4).fit(model, loader(), loader(16))
        assert not any(m._forward_hooks for m in model.modules())
        pickle.dumps(model.body)
        copy.deepcopy(model.head)

    def test_a_run_that_was_interrupted_can_be_fitted_again(self):
        class Failing(Classifier):
            broken = True

            def training_step(self, batch, batch_idx):
                if self.broken and batch_idx == 6:
                    raise KeyboardInterrupt
                return super().training_step(batch, batch_idx)

        model, callback = Failing(), Recording()
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            trainer(callback).fit(model, loader())
        model.broken = False
        model.seen.clear()
        trainer(callback).fit(model, loader())
        assert_windows(callback, model.seen, 4)


class TestPrecision:
    @pytest.mark.parametrize(
        ("precision", "dtype"),
        [("bf16-mixed", torch.bfloat16), ("bf16-true", torch.bfloat16), ("64-true", torch.float64)],
    )
    def test_precisions(self, precision, dtype):
        # sums are kept in single precision whatever the model computes in
        _, model = check_training(Classifier, loader(), 4, precision=precision)
        assert model.seen[0][1].dtype == dtype

    def test_half_precision_falls_back_on_a_cpu(self):
        _, model = check_training(Classifier, loader(), 4, precision="16-mixed")
        assert model.seen[0][1].dtype == torch.bfloat16  # Lightning replaces it
