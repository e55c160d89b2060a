"""Small real trainings, healthy or with a fault from some step on, recorded window by window for ``alerts.py``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from geomnist import GeoMNIST, PaperNet

from le_callback import SeparationMonitor, WindowRecord

WINDOW, VALIDATE = 50, 100
FAULTS = (
    "corrupt_0.4", "corrupt_0.7", "corrupt_1.0", "pair_mixed", "rate_x100", "dead_relu", "class_dropped",
    "scale_to_zero", "nan_batch",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """One training."""

    data: str = "digits"
    optimizer: str = "sgd_momentum"
    schedule: str = "constant"
    batch: int = 16
    net: str = "plain"  # plain, dropout, batch_norm
    imbalanced: bool = False
    augment: bool = False
    smoothing: float = 0.0
    steps: int = 2500
    fault: str = ""
    at: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """What was recorded of it."""

    setup: Setup
    records: list[WindowRecord]
    losses: list[float]
    validation: list[tuple[int, float]]
    classes: tuple[int, ...]  # that the fault concerns
    accuracy: float  # on validation data, at the end


def faulty(fault: str, seed: int) -> Setup:
    """The setup of a fault and seed."""
    rng = np.random.default_rng([seed, 1])
    return Setup(
        data=("digits", "geomnist")[seed % 2],
        optimizer=str(rng.choice(["sgd_momentum", "adam"])),
        batch=int(rng.choice([8, 16, 32, 64])),
        steps=2000, fault=fault, at=int(rng.integers(20, 25)) * WINDOW + int(rng.integers(WINDOW)), seed=seed,
    )  # fmt: skip


def healthy(seed: int) -> Setup:
    """A healthy setup; every twentieth runs for 20,000 steps after it has converged."""
    rng = np.random.default_rng([seed, 2])
    if seed % 20 == 19:
        return Setup(optimizer="adam", schedule=str(rng.choice(["constant", "cosine"])), steps=28_000, seed=seed)
    batch = (1, 2, 4, 16, 64, 256)[seed % 6]
    nets = ["plain", "dropout"] + ["batch_norm"] * (batch > 2)
    return Setup(
        data="geomnist" if rng.random() < 0.35 and batch < 256 else "digits",
        optimizer=str(rng.choice(["sgd", "sgd_momentum", "adam", "adamw"])),
        schedule=str(rng.choice(["constant", "warm_up", "drops", "cosine", "warm_up_cosine"])),
        batch=batch, net=str(rng.choice(nets)), imbalanced=bool(rng.random() < 0.4), augment=bool(rng.random() < 0.4),
        smoothing=0.1 * bool(rng.random() < 0.3), seed=seed,
    )  # fmt: skip


class Net(nn.Module):
    """A body with a classifier; ``scale`` multiplies the features."""

    def __init__(self, setup: Setup, classes: int) -> None:
        super().__init__()
        middle: list[nn.Module] = []
        if setup.data == "geomnist":
            paper = PaperNet(classes)
            self.body: nn.Module = nn.Sequential(paper.convolutions, nn.Flatten(), *paper.dense)
            width = 84
        else:
            if setup.net == "batch_norm":
                middle = [nn.BatchNorm1d(64)]
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), *middle, nn.ReLU()
            )
            width = 64
        if setup.net == "batch_norm" and setup.data == "geomnist":
            self.body.append(nn.BatchNorm1d(width))
        if setup.net == "dropout":
            self.body.append(nn.Dropout(0.5))
        self.classifier, self.scale = nn.Linear(width, classes), 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.scale * self.body(x)
        return features, self.classifier(features)


def dataset(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and validation images and labels."""
    if setup.data == "geomnist":
        train, held = GeoMNIST(per_class=200, seed=setup.seed), GeoMNIST(per_class=60, seed=10_000 + setup.seed)
        return train.images, train.labels, held.images, held.labels
    digits = load_digits()
    order = np.random.default_rng([setup.seed, 3]).permutation(len(digits.target))
    x, y = torch.tensor(digits.images / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order].long()
    return x[:1400], y[:1400], x[1400:], y[1400:]


RATES = {"sgd": 0.1, "sgd_momentum": 0.02, "adam": 2e-3, "adamw": 2e-3}


def optimizer_of(setup: Setup, net: nn.Module) -> tuple[torch.optim.Optimizer, float]:
    """The optimizer, with a learning rate that falls with small batches."""
    rate = RATES[setup.optimizer] * min(1.0, (setup.batch / 16) ** 0.5)
    if setup.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), rate), rate
    if setup.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05), rate
    return torch.optim.SGD(net.parameters(), rate, momentum=0.9 * (setup.optimizer == "sgd_momentum")), rate


def factor(setup: Setup, step: int) -> float:
    """Of the learning rate."""
    done, warm = step / setup.steps, min(1.0, step / 300)
    if setup.schedule == "drops":
        return 0.1 ** ((done > 0.5) + (done > 0.75))
    cosine = 0.5 * (1 + np.cos(np.pi * done)) if "cosine" in setup.schedule else 1.0
    return float((warm if "warm_up" in setup.schedule else 1.0) * cosine)


def train(setup: Setup) -> Run:
    """Train, feed the monitor, keep its records."""
    torch.manual_seed(setup.seed)
    rng = np.random.default_rng([setup.seed, 4])
    x, y, held_x, held_y = dataset(setup)
    K = int(y.max()) + 1
    if setup.imbalanced:  # every other class at a tenth
        keep = torch.cat([(i := (y == k).nonzero().flatten())[: len(i) // 10 if k % 2 else len(i)] for k in range(K)])
        x, y = x[keep], y[keep]
    net = Net(setup, K)
    optimizer, rate = optimizer_of(setup, net)
    criterion = nn.CrossEntropyLoss(label_smoothing=setup.smoothing)
    monitor = SeparationMonitor(num_classes=K)
    records, losses, validation = [], [], []
    classes: tuple[int, ...] = ()
    order = torch.empty(0, dtype=torch.long)
    for step in range(setup.steps):
        if setup.fault and step == setup.at:
            y, classes = inject(setup.fault, net, y, K, rng)
            if setup.fault == "class_dropped":
                x, y = x[y != classes[0]], y[y != classes[0]]
                order = torch.empty(0, dtype=torch.long)
        while len(order) < setup.batch:
            order = torch.cat([order, torch.from_numpy(rng.permutation(len(y)))])
        index, order = order[: setup.batch], order[setup.batch :]
        images, labels = x[index], y[index]
        if setup.augment:
            images = torch.roll(images, tuple(rng.integers(-1, 2, 2).tolist()), (-2, -1))
            images = images + 0.1 * torch.randn_like(images)
        if setup.fault == "nan_batch" and step == setup.at:
            images = images * torch.nan
        boost = 100.0 if setup.fault == "rate_x100" and step >= setup.at else 1.0
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(setup, step) * boost
        features, logits = net(images)
        monitor.update(features=features.detach(), logits=logits.detach(), target=labels, time=float(step))
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % WINDOW == 0:
            records.append(slim(monitor.close(step + 1)))
        if (step + 1) % VALIDATE == 0:
            value, accuracy = evaluate(net, held_x, held_y)
            validation.append((step + 1, value))
    return Run(setup, records, losses, validation, classes, accuracy)


def inject(fault: str, net: Net, y: Tensor, K: int, rng: np.random.Generator) -> tuple[Tensor, tuple[int, ...]]:
    """Break something; returns the labels from now on and the classes concerned."""
    y = y.clone()
    if fault.startswith("corrupt"):
        wrong = torch.from_numpy(rng.random(len(y)) < float(fault.split("_")[1]))
        y[wrong] = (y[wrong] + torch.from_numpy(rng.integers(1, K, int(wrong.sum())))) % K
    elif fault == "pair_mixed":
        first, second = sorted(rng.choice(K, 2, replace=False).tolist())
        mixed = (y == first) | (y == second)
        y[mixed] = torch.from_numpy(rng.choice([first, second], int(mixed.sum())))
        return y, (first, second)
    elif fault == "dead_relu":
        last = [m for m in net.body.modules() if isinstance(m, nn.Linear)][-1]
        with torch.no_grad():
            last.bias.fill_(-100.0)
    elif fault == "scale_to_zero":
        net.scale = float(rng.choice([0.0, 1e-3]))
    elif fault == "class_dropped":
        return y, (int(rng.integers(K)),)
    return y, ()


@torch.no_grad()
def evaluate(net: Net, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy on validation data."""
    net.eval()
    logits = net(x)[1]
    net.train()
    return float(nn.functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())


def slim(record: WindowRecord) -> WindowRecord:
    """Without the angles, which no rule reads."""
    return replace(record, etf={})
