"""torch.compile: the hook costs no graph break and no recompilation, and hooks that come too late are told."""

import logging

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from trainings import CLASSES, DIMENSIONS, Recording, assert_windows, blobs, check_training, loader, trainer

from le_callback import DiagnosticWarning, LECallback
from le_callback.capture.head import HeadCapture

KINDS = ["whole", "in place", "submodule", "submodule in place", "head", "head in place"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)


class Compiled(LightningModule):
    """The network returns its features, so that the oracle does not depend on hooks."""

    def __init__(self, returns=False, num_classes=None):
        super().__init__()
        self.net = Net()
        self.returns = returns
        if num_classes:
            self.num_classes = num_classes
        self.outputs = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        features, logits = self(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        if self.returns:
            return {"loss": loss, "features": features, "logits": logits}
        return loss

    def validation_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Seeing(Recording):
    """Runs the model on the batch again, from the random state before the step: what the head must have seen."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        state = torch.get_rng_state()
        net = getattr(pl_module.net, "_orig_mod", pl_module.net)
        head = getattr(net.head, "_orig_mod", net.head)
        with torch.no_grad():
            features = net.body.forward(batch[0])
            logits = nn.functional.linear(features, head.weight, head.bias)
        torch.set_rng_state(state)
        self.seen.append((features, logits, batch[1]))


def compiled(model, kind, counter):
    """What is passed to ``fit``."""
    if kind == "whole":
        return torch.compile(model, backend=counter)
    if kind == "in place":
        model.compile(backend=counter)
    elif kind == "submodule":
        model.net = torch.compile(model.net, backend=counter)
    elif kind == "submodule in place":
        model.net.compile(backend=counter)
    elif kind == "head":
        model.net.head = torch.compile(model.net.head, backend=counter)
    else:
        model.net.head.compile(backend=counter)
    return model


def head_name(kind):
    return "net._orig_mod.head" if kind == "submodule" else "net.head"


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def fit(kind, callback=None, model=None, counter=None, **kwargs):
    """Train; returns the model and the number of graphs."""
    model, counter = model or Compiled(), counter or CompileCounter()
    torch.manual_seed(1)
    trainer(callback, **kwargs).fit(compiled(model, kind, counter), loader(), loader(16))
    return model, counter.frame_count


def parameters(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_captured_samples_and_parameters(kind):
    plain, _ = fit(kind)
    torch._dynamo.reset()
    callback = Seeing(head=head_name(kind))
    watched, _ = fit(kind, callback)
    assert all(torch.equal(a, b) for a, b in zip(parameters(plain), parameters(watched), strict=True))
    assert_windows(callback, callback.seen, 4)


@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_named_head_costs_no_graph(kind):
    """Two epochs, with validation in between, which is compiled in evaluation mode."""
    _, without = fit(kind)
    torch._dynamo.reset()
    _, graphs = fit(kind, LECallback(head=head_name(kind), summary=False))
    assert graphs == without
    assert not counters["graph_break"]
    assert not counters["recompiles"]


def test_hooks_on_a_layer_compiled_in_place_do_not_recompile():
    """PyTorch skips the code of its own layers, so that there the hook itself is compiled, once a mode."""
    counts = []
    for epochs in (1, 3):
        torch._dynamo.reset()
        _, graphs = fit("head in place", LECallback(head="net.head", summary=False), max_epochs=epochs)
        counts.append(graphs)
    assert counts[0] == counts[1] <= 4
    assert not counters["graph_break"]


@pytest.mark.parametrize("kind", KINDS[:5])
@pytest.mark.parametrize("stated", [False, True])
def test_a_head_that_is_found_costs_one_more_graph_unless_the_classes_are_stated(kind, stated):
    if kind == "head":
        stated = True  # only the wrapper is hooked, and the body is not compiled
    _, without = fit(kind)
    torch._dynamo.reset()
    callback = Seeing()
    _, graphs = fit(kind, callback, Compiled(num_classes=CLASSES if stated else None))
    assert graphs == without + (0 if stated else 1)
    assert_windows(callback, callback.seen, 4)


def test_found_head_of_a_compiled_model_is_named(caplog):
    with caplog.at_level(logging.INFO):
        fit("submodule", LECallback(summary=False))
    assert "`head='net._orig_mod.head'` saves that" in caplog.text


@pytest.mark.parametrize("kind", KINDS[:4])
def test_two_fits_with_the_callback(kind):
    model, counter, callback = Compiled(), CompileCounter(), Seeing(head=head_name(kind))
    network = compiled(model, kind, counter)
    run = trainer(callback, max_epochs=1)
    run.fit(network, loader())
    graphs = counter.frame_count
    run.fit_loop.max_epochs = 2
    run.fit(network, loader())
    assert counter.frame_count == graphs
    assert_windows(callback, callback.seen, 4)


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("found", [False, True])
def test_a_hook_that_comes_too_late_is_told_with_what_to_do(kind, found):
    model, counter = Compiled(), CompileCounter()
    network = compiled(model, kind, counter)
    trainer(max_epochs=1).fit(network, loader())
    late = LECallback(head=None if found else head_name(kind), summary=False)
    with pytest.warns(DiagnosticWarning, match=r"head was not called.*compiled.*`reset_compiler=True`.*`outputs="):
        trainer(late, max_epochs=1).fit(network, loader())
    assert late.last_record is None

    mended = Seeing(head=None if found else head_name(kind), reset_compiler=True)
    trainer(mended, max_epochs=1).fit(network, loader())
    assert_windows(mended, mended.seen, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_the_training_step_need_no_hook(kind):
    model, counter = Compiled(returns=True), CompileCounter()
    network = compiled(model, kind, counter)
    trainer(max_epochs=1).fit(network, loader())
    graphs = counter.frame_count
    callback = Seeing(outputs=("features", "logits"))
    trainer(callback, max_epochs=1).fit(network, loader())
    assert counter.frame_count == graphs
    assert_windows(callback, callback.seen, 4)


class Returning(Compiled):
    """Not compiled here; also records what it returns."""

    def __init__(self, **kwargs):
        super().__init__(returns=True, **kwargs)
        self.seen = []

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        self.seen.append((outputs["features"].detach().clone(), outputs["logits"].detach().clone(), batch[1]))
        return outputs


class TestOutputs:
    def test_windows_and_parameters(self):
        check_training(Returning, loader(), 4, callback=Recording(outputs=("features", "logits")))

    def test_gradient_accumulation_and_manual_optimization(self):
        class Manual(Returning):
            def __init__(self):
                super().__init__()
                self.automatic_optimization = False

            def training_step(self, batch, batch_idx):
                outputs = super().training_step(batch, batch_idx)
                self.optimizers().zero_grad()
                self.manual_backward(outputs["loss"])
                self.optimizers().step()
                return outputs

        outputs = ("features", "logits")
        check_training(Manual, loader(), 4, callback=Recording(outputs=outputs))
        check_training(Returning, loader(), 8, callback=Recording(outputs=outputs), accumulate_grad_batches=2)

    def test_what_is_missing_is_told(self):
        with pytest.warns(DiagnosticWarning, match="keys features and scores.*keys loss, features, logits"):
            trainer(LECallback(outputs=("features", "scores"), summary=False)).fit(Returning(), loader())
        with pytest.warns(DiagnosticWarning, match="keys features and logits.*mapping with keys loss"):
            trainer(LECallback(outputs=("features", "logits"), summary=False)).fit(Compiled(), loader())

    def test_no_layer_is_needed_and_no_graph_kept(self):
        class Bare(Returning):
            def __init__(self):
                super().__init__()
                self.net = nn.ParameterList([torch.zeros(DIMENSIONS, CLASSES)])

            def forward(self, x):
                return x.detach(), x @ self.net[0]

        callback = Recording(outputs=("features", "logits"))
        check_training(Bare, loader(), 4, callback=callback)
        assert callback.last_record.etf["logits"].ideal == pytest.approx(120)

    def test_number_of_classes_is_checked(self):
        with pytest.raises(ValueError, match="output `logits`.*num_classes=7.*has 3"):
            trainer(LECallback(outputs=("features", "logits"), num_classes=7)).fit(Returning(), loader())

    def test_probe(self):
        x, y = blobs(30, seed=5)

        def forward(module, batch):
            features, logits = module(batch[0])
            return {"features": features, "logits": logits}

        read, hooked = (
            LECallback(probe=(x, y), probe_forward=forward, summary=False, **arguments)
            for arguments in ({"outputs": ("features", "logits")}, {"head": "net.head"})
        )
        for callback in (read, hooked):
            trainer(callback, max_epochs=1).fit(Returning(), loader())
        a, b = (c.last_record.coefficients["I_probe_features"] for c in (read, hooked))
        assert a.amplitude_difference == b.amplitude_difference > 0
        with pytest.raises(ValueError, match="`probe_forward="):
            trainer(LECallback(probe=(x, y), outputs=("features", "logits"))).fit(Returning(), loader())

    @pytest.mark.parametrize("outputs", ["features", ("features",), ("features", 3), 5])
    def test_keys_of_another_type(self, outputs):
        with pytest.raises(TypeError, match="`outputs`.*features and logits"):
            LECallback(outputs=outputs)

    def test_not_beside_a_head(self):
        with pytest.raises(ValueError, match="`head` to be None where `outputs`"):
            LECallback(outputs=("features", "logits"), head="head")


def test_candidates_of_a_compiled_model():
    model = nn.Sequential(nn.Linear(4, 8), nn.Conv1d(8, 3, 1), nn.Linear(8, 3))
    assert HeadCapture(model, num_classes=3)._watched.keys() == {"0", "1", "2"}
    model[2] = torch.compile(model[2], backend="eager")
    assert HeadCapture(model)._watched.keys() == {"0", "1", "2"}
    assert HeadCapture(model, num_classes=3)._watched.keys() == {"1", "2"}
    assert HeadCapture(model, num_classes=5)._watched.keys() == {"0", "1", "2"}
