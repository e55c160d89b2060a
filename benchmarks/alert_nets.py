"""Data and networks of the trainings that ``alerts.py`` judges."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from alert_kinds import Setup
from sklearn.datasets import load_digits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from geomnist import GeoMNIST, PaperNet

DIMENSIONS = 32  # of blobs


class Net(nn.Module):
    """A body with a classifier; ``scale`` multiplies the features, ``boost`` the logits."""

    def __init__(self, setup: Setup, classes: int) -> None:
        super().__init__()
        self.body, width = body(setup, classes)
        self.classifier, self.scale, self.boost = nn.Linear(width, classes), 1.0, 1.0
        if setup.net == "tiny_start":
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.mul_(0.2)
        self.thaw_at = 800 if setup.net == "thaw" else 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.scale * self.body(x)
        return features, self.boost * self.classifier(features)


class Rows(nn.Module):
    """An image (N, 8, 8) as a sequence of rows, through a transformer or a GRU; the mean over rows."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(8, 32), nn.Parameter(0.1 * torch.randn(8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2) if kind == "transformer" else nn.GRU(32, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layers(self.embed(x.reshape(-1, 8, 8)) + self.places)
        return (found[0] if isinstance(found, tuple) else found).mean(1)


def body(setup: Setup, classes: int) -> tuple[nn.Module, int]:
    """What comes before the classifier, and its width."""
    if setup.data == "geomnist":
        paper = PaperNet(classes)
        layers: list[nn.Module] = [paper.convolutions, nn.Flatten(), *paper.dense]
        layers += [nn.BatchNorm1d(84)] * (setup.net == "batch_norm") + [nn.Dropout(0.5)] * (setup.net == "dropout")
        return nn.Sequential(*layers), 84
    width = DIMENSIONS if setup.data == "blobs" else 64
    if setup.net in ("transformer", "gru"):
        return Rows(setup.net), 32
    if setup.net == "linear":
        return nn.Flatten(), width
    if setup.net == "four_units":
        return nn.Sequential(nn.Flatten(), nn.Linear(width, 4), nn.ReLU()), 4
    if setup.net == "deep":
        hidden = [m for _ in range(5) for m in (nn.Linear(64, 64), nn.Tanh())]
        return nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.Tanh(), *hidden), 64
    middle = {"batch_norm": nn.BatchNorm1d(64), "layer_norm": nn.LayerNorm(64)}.get(setup.net, nn.Identity())
    first = [nn.BatchNorm1d(width)] * (setup.net == "batch_norm_first")
    last = [nn.Dropout(0.5)] * (setup.net == "dropout")
    return nn.Sequential(
        nn.Flatten(), *first, nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 64), middle, nn.ReLU(), *last
    ), 64


def dataset(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and validation images and labels."""
    if setup.data == "geomnist":
        train, held = GeoMNIST(per_class=200, seed=setup.seed), GeoMNIST(per_class=60, seed=10_000 + setup.seed)
        return train.images, train.labels, held.images, held.labels
    if setup.data == "blobs":
        return blobs(setup)
    digits = load_digits()
    order = np.random.default_rng([setup.seed, 3]).permutation(len(digits.target))
    x, y = torch.tensor(digits.images / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order].long()
    return x[:1400], y[:1400], x[1400:], y[1400:]


def blobs(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gaussian classes around random centres, many samples: no sample is learnt by heart."""
    g = torch.Generator().manual_seed(setup.seed)
    centres = torch.randn(setup.classes, DIMENSIONS, generator=g) / DIMENSIONS**0.5
    y = torch.randint(setup.classes, (40_000,), generator=g)
    held = torch.arange(max(1000, 10 * setup.classes)) % setup.classes
    x, held_x = (
        centres[k] + setup.overlap * torch.randn(len(k), DIMENSIONS, generator=g) * (2 / DIMENSIONS) ** 0.5
        for k in (y, held)
    )
    return x, y, held_x, held


def thinned(y: Tensor, ratio: float) -> Tensor:
    """Indices of samples so that class frequencies fall geometrically by ``ratio`` from the first to the last."""
    K = int(y.max()) + 1
    most = min(int((y == k).sum()) for k in range(K))
    kept = [(y == k).nonzero().flatten()[: max(2, round(most * ratio ** (-k / (K - 1))))] for k in range(K)]
    return torch.cat(kept)
