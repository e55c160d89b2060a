"""Watching the losses leaves nothing behind, whatever happens in the step."""

import copy
import io

import pytest
import torch
from evidence_steps import (
    Net,
    classify,
)
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from trainings import CLASSES, Classifier, Recording, assert_windows, loader, trainer

from le_callback import LECallback
from le_callback.capture.watching import Watch


class TestOutOfTheWay:
    def test_what_is_done_to_the_module_between_two_steps(self):
        done = []

        class Exporting(Classifier):
            def on_train_batch_end(self, *args):
                torch.jit.script(self.head)
                torch.save(self.body, file := io.BytesIO())
                assert b"le_callback" not in file.getvalue()
                assert not any(m._forward_hooks for m in copy.deepcopy(self.body).modules())
                done.append(1)

        model = Exporting()
        trainer(LECallback(summary=False), max_epochs=1).fit(model, loader())
        assert len(done) == 12

    @pytest.mark.filterwarnings("ignore")  # torch.ao tells that it will move to another package
    def test_dynamic_quantization_between_two_steps(self):
        """The integer copy holds no hook and says what the model says, to the step of its integers."""
        said = []

        class Quantizing(Classifier):
            def on_train_batch_end(self, outputs, batch, batch_idx):
                model = copy.deepcopy(torch.nn.Sequential(self.body, self.head)).eval()
                small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
                assert not any(m._forward_hooks for m in small.modules())
                with torch.no_grad():
                    exact, rounded = model(batch[0]), small(batch[0])
                said.append(((exact - rounded).abs().max() / exact.abs().max()).item())

        model, callback = Quantizing(), Recording()
        trainer(callback, max_epochs=1).fit(model, loader())
        assert_windows(callback, model.seen, 4)
        assert max(said) < 0.1

    @pytest.mark.parametrize("step", [0, 5])
    def test_a_copy_made_in_the_step_holds_no_tensors(self, step):
        copies = []

        class Copying(Classifier):
            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                if batch_idx == step:
                    copies.append(copy.deepcopy(self.head))
                return loss

        model, callback = Copying(), Recording()
        trainer(callback, max_epochs=1).fit(model, loader())
        assert_windows(callback, model.seen, 4)
        for hook in copies[0]._forward_hooks.values():
            assert not getattr(getattr(hook, "slot", None), "captured", None)
            assert getattr(hook, "search", None) is None

    def test_random_state_parameters_and_gradients(self):
        class Watching(Classifier):
            def on_after_backward(self):
                self.grads = getattr(self, "grads", [])
                self.grads.append([p.grad.clone() for p in self.parameters()])

        def run(*callbacks):
            model = Watching()
            torch.manual_seed(1)
            trainer(callbacks=list(callbacks), max_epochs=1).fit(model, loader())
            return model.grads, torch.get_rng_state()

        (plain, state), (watched, watched_state) = run(), run(LECallback(summary=False))
        assert torch.equal(state, watched_state)
        assert all(torch.equal(a, b) for p, w in zip(plain, watched, strict=True) for a, b in zip(p, w, strict=True))

    @pytest.mark.parametrize("where", ["training_step", "on_before_backward", "on_train_batch_start"])
    def test_an_exception_leaves_no_mode_and_no_hook(self, where):
        class Failing(Classifier):
            pass

        def stop(*args):
            raise RuntimeError("stop")

        model = Failing()
        setattr(model, where, stop)
        with pytest.raises(RuntimeError, match="stop"):
            trainer(LECallback(summary=False)).fit(model, loader())
        assert not _get_current_function_mode_stack()
        assert not any(m._forward_hooks for m in model.modules())

    def test_a_batch_that_is_skipped_leaves_no_mode(self):
        class Skipping(Classifier):
            def on_train_batch_start(self, batch, batch_idx):
                return -1

        stacks = []

        class After(Classifier):
            pass

        model = Skipping()
        model.on_train_epoch_end = lambda: stacks.append(len(_get_current_function_mode_stack()))
        trainer(LECallback(summary=False), max_epochs=1).fit(model, loader())
        assert stacks == [0]

    def test_modes_of_others_stay(self):
        class Other(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return func(*args, **(kwargs or {}))

        a, b, other = Watch(lambda call: None), Watch(lambda call: None), Other()
        a.enter()
        b.enter()
        with other:
            a.leave()
            assert _get_current_function_mode_stack() == [b, other]
        b.leave()
        b.leave()
        assert not _get_current_function_mode_stack()

    @pytest.mark.parametrize("accumulated", [1, 3])
    def test_clearing_the_gradients_is_not_watched(self, accumulated):
        """A model of many parameters has two calls for each of them there."""
        watched = []

        class Functional(Net):
            def optimizer_zero_grad(self, *args):
                watched.append(len(_get_current_function_mode_stack()))
                super().optimizer_zero_grad(*args)

        def step(net, batch):
            x, y = batch
            features = net.body(x)
            logits = F.linear(features, net.head.weight)
            net.see(features, logits, y)
            return F.cross_entropy(logits, y)

        net, callback = Functional(step), Recording()
        trainer(callback, max_epochs=1, accumulate_grad_batches=accumulated).fit(net, loader())
        assert_windows(callback, net.seen, 4 * accumulated)
        assert len(watched) == 12 // accumulated
        assert not any(watched[1:])

    def test_two_callbacks_in_one_trainer(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            return F.cross_entropy(logits, y) + F.cross_entropy(net.aux(net.body(x)), y)

        first, second = Recording(name="a", head="head"), Recording(name="b", head="aux")
        net = Net(step)
        trainer(callbacks=[first, second], max_epochs=1).fit(net, loader())
        assert_windows(first, net.seen, 4)
        assert second.monitor.num_classes == CLASSES + 2
        assert not _get_current_function_mode_stack()
