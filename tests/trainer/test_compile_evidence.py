"""What is known of the loss of a compiled model: the graph of gradients shows it, or the log says that it is hidden."""

import logging

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset
from trainings import CLASSES, DIMENSIONS, Recording, blobs, trainer

from le_callback.capture.evidence import NoClassificationError


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


def test_a_hidden_loss_is_told(caplog):
    fit(Model(), "whole", "aot_eager", label=2)
    (line,) = said(caplog)
    assert "labels as named, by position: the loss is hidden in compiled code; name `head=`" in line


def test_a_line_also_where_everything_is_named(caplog):
    fit(Model(), "", "", head="net.head", label=2)
    fit(Model(), "whole", "aot_eager", head="net.head", label=2)
    first, second = said(caplog)
    assert first == "LECallback: head net.head (8 → 3), labels as named, by cross_entropy"
    assert second == "LECallback: head net.head (8 → 3), labels as named"
