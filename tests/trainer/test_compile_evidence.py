"""What is known of the loss of a compiled model: the graph of gradients shows it, or the log says that it is hidden."""

import logging
import shutil

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset
from trainings import CLASSES, DIMENSIONS, Recording, blobs, trainer

from le_callback.capture.evidence import NoClassificationError
from le_callback.capture.gradients import decide, reached
from le_callback.capture.slot import Captured

INDUCTOR = pytest.param(
    "inductor",
    marks=pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the host"),
)


class Net(nn.Module):
    """The classifier comes first; a layer of the same width runs after it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.ReLU()), nn.Linear(8, CLASSES)
        self.after = nn.Linear(8, CLASSES)

    def forward(self, x):
        features = self.body(x)
        return self.head(features), self.after(features)


class Model(LightningModule):
    def __init__(self, loss="classes"):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.loss = Net(), loss

    def training_step(self, batch, batch_idx):
        x, _, y = batch
        logits, other = self.net(x)
        if self.loss == "numbers":
            return F.mse_loss(logits, x[:, :CLASSES]) + other.pow(2).mean()
        if self.loss == "margins":
            return F.multi_margin_loss(logits, y)
        if self.loss == "features":
            return self.net.body(x).pow(2).mean()
        return F.cross_entropy(logits, y) + 0.01 * other.pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


@pytest.fixture(autouse=True)
def _fresh_compiler(caplog):
    caplog.set_level(logging.INFO)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def fit(model, kind, backend, **arguments):
    callback = Recording(summary=False, **arguments)
    network = model
    if kind == "whole":
        network = torch.compile(model, backend=backend)
    elif kind == "submodule":
        model.net = torch.compile(model.net, backend=backend)
    elif kind == "in place":
        model.compile(backend=backend)
    x, y = blobs(96)
    data = DataLoader(TensorDataset(x, (y + 1) % CLASSES, y), batch_size=8)
    trainer(callback, max_epochs=1).fit(network, data)
    return callback


def said(caplog):
    return [m for r in caplog.records if "→" in (m := r.getMessage())]


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("whole", "eager"), ("in place", "eager"), ("submodule", "eager"), ("submodule", "aot_eager")],
)
def test_a_loss_that_the_graph_shows_decides_on_head_and_labels(kind, backend, caplog):
    callback = fit(Model(), kind, backend)
    assert callback.last_record is not None
    name = "net._orig_mod.head" if kind == "submodule" else "net.head"
    assert said(caplog) == [f"LECallback: head {name} (8 → 3), labels batch[2], by nll_loss"]


@pytest.mark.parametrize("kind", ["whole", "submodule"])
def test_no_classification(kind):
    with pytest.raises(NoClassificationError, match=r"seen: mse_loss.*`head="):
        fit(Model("numbers"), kind, "eager")


GRADIENT = "by cross_entropy (by the gradient of its weights, as compiled code hides the loss)"


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
def test_a_hidden_cross_entropy_is_known_by_its_gradient(backend, caplog):
    """The labels of ``batch[1]`` and the layer ``net.after`` mislead; both would be taken by their position."""
    callback = fit(Model(), "whole", backend)
    assert said(caplog) == [f"LECallback: head net.head (8 → 3), labels batch[2], {GRADIENT}"]
    labels = blobs(96)[1]
    assert sum(window["logits"][0] for window in callback.windows).tolist() == labels.bincount().tolist()


def test_labels_that_are_named_stay(caplog):
    fit(Model(), "whole", "aot_eager", label=1)
    assert said(caplog) == [f"LECallback: head net.head (8 → 3), labels as named, {GRADIENT}"]


def test_another_hidden_loss_is_searched_where_its_gradient_flows(caplog):
    """The last layer that fits, ``net.after``, has no part in the loss."""
    fit(Model("margins"), "whole", "aot_eager", label=2)
    (line,) = said(caplog)
    assert line.startswith("LECallback: head net.head (8 → 3), labels as named, by position: the loss is hidden in")


def test_layers_that_a_hidden_loss_does_not_reach_are_refused():
    with pytest.raises(ValueError, match=r"no gradient of the loss reaches .* net\.head, net\.after\. Name the head"):
        fit(Model("features"), "whole", "aot_eager", label=2, num_classes=CLASSES)


@pytest.mark.parametrize(
    ("p", "K", "kind", "ignored"),
    [
        (4, 3, "labels", None),
        (6, 5, "weights", None),
        (3, 1, "one logit", None),
        (4, 3, "labels", 1),
        (2, 2, "conv", None),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_tell_head_and_labels(p, K, kind, ignored, frozen):
    """Of several layers and label-like tensors the pair that the loss was computed of; none where no loss was."""
    g = torch.Generator().manual_seed(p * K)
    x = torch.randn(40, p, generator=g)
    layers = {name: nn.Linear(p, K) for name in ("aux", "head", "after")}
    if kind == "conv":
        x, layers = x[..., None], {name: nn.Conv1d(p, K, 1) for name in layers}
    classes = max(K, 2)
    y, decoy = (torch.randint(0, classes, (40,), generator=g) for _ in range(2))
    logits = {name: layer(x).squeeze(-1) if kind == "conv" else layer(x) for name, layer in layers.items()}
    if kind == "one logit":
        loss = F.binary_cross_entropy_with_logits(logits["head"].squeeze(1), y.float())
    elif kind == "weights":
        y = (0.8 * F.one_hot(y, K) + 0.2 / K).float()
        loss = F.cross_entropy(logits["head"], y)
    else:
        loss = F.cross_entropy(logits["head"], y, ignore_index=-100 if ignored is None else ignored)
    if frozen:
        layers["head"].requires_grad_(False)
        loss = loss + 0 * sum(layer.weight.sum() for layer in layers.values())
    (loss + logits["aux"].pow(2).mean()).backward()
    rows = {name: Captured(x.flatten(1), z.detach()) for name, z in logits.items()}
    decision = decide(layers, rows, (x, decoy, y), None, ignored)
    if frozen:
        assert decision is None
        assert reached(layers, nn.ModuleDict(layers)) == {"aux", "head"}
    else:
        assert decision is not None
        assert (decision.finding.head, str(decision.finding.labels)) == ("head", "batch[2]")
        assert reached(layers, nn.ModuleDict(layers)) == {"aux", "head"}


def test_a_line_also_where_everything_is_named(caplog):
    fit(Model(), "", "", head="net.head", label=2)
    fit(Model(), "whole", "aot_eager", head="net.head", label=2)
    first, second = said(caplog)
    assert first == "LECallback: head net.head (8 → 3), labels as named, by cross_entropy"
    assert second == "LECallback: head net.head (8 → 3), labels as named"
