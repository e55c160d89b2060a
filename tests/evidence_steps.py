"""Training steps whose losses are watched, and what is asserted of them."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import _get_current_function_mode_stack
from torch.utils.data import DataLoader
from trainings import CLASSES, DIMENSIONS, Recording, assert_windows, blobs, loader, trainer

X, Y = blobs(96)
Pair = namedtuple("Pair", "lengths image digit")


@dataclass
class Sample:
    image: torch.Tensor
    digit: torch.Tensor


def batches(make, n=12, size=8):
    """A loader of ready batches, made of the features and labels of each."""
    parts = [(X[i * size : (i + 1) * size], Y[i * size : (i + 1) * size]) for i in range(n)]
    return DataLoader([make(x, y) for x, y in parts], batch_size=None, collate_fn=lambda batch: batch)


class Net(LightningModule):
    """Body, head and layers that mislead; ``step`` is the training step and may call ``see`` once a batch."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)
        self.one = nn.Linear(16, 1)
        self.aux = nn.Linear(16, CLASSES + 2)
        self.projection = nn.Linear(16, 12)
        self.step = step
        self.seen = []

    def see(self, features, logits, labels):
        self.seen.append((features.detach().clone(), logits.detach().clone(), labels.clone()))

    def training_step(self, batch, batch_idx):
        return self.step(self, batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def classify(net, x, y):
    features = net.body(x)
    logits = net.head(features)
    net.see(features, logits, y)
    return logits


def fit(step, data=None, callback=None, **arguments):
    net, callback = Net(step), callback or Recording(**arguments)
    trainer(callback, max_epochs=1).fit(net, data or loader())
    return callback, net


def follows(step, data=None, classes=CLASSES, **arguments):
    callback, net = fit(step, data, **arguments)
    assert_windows(callback, net.seen, 4, classes)
    assert not any(m._forward_hooks for m in net.modules())
    assert not _get_current_function_mode_stack()


def refuses(step, match, error=ValueError, data=None, **arguments):
    with pytest.raises(error, match=match):
        fit(step, data, **arguments)
    assert not _get_current_function_mode_stack()


def stacked(batch):
    return torch.stack([x for x, _ in batch]), torch.tensor([y for _, y in batch])


def one(net, batch):
    features = net.body(batch[0])
    logits = net.one(features)
    net.see(features, logits, batch[2])
    return F.binary_cross_entropy_with_logits(logits[:, 0], batch[2].float())


class Manual(Net):
    def __init__(self, step):
        super().__init__(step)
        self.automatic_optimization = False

    def learn(self, loss):
        self.manual_backward(loss)
        self.optimizers().step()
        self.optimizers().zero_grad()
