"""Small trainings for ``forecast.py``: a probe is read every few steps; its class means over time are kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from geomnist import CLASSES, GeoMNIST, PaperNet

from le_callback import SeparationMonitor
from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import empty_moments, update_moments
from le_callback.monitor import MonitorSettings
from le_callback.trajectory import Trajectory

BATCH = 16
READINGS = 300  # of the probe in a run
PROBE = 100  # samples of each class


@dataclass(frozen=True)
class Run:
    """One training: which data and network, learning rate of plain SGD, seed, optimizer steps."""

    family: str
    lr: float
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Of the file that keeps it."""
        return f"{self.family}-lr{self.lr:g}-seed{self.seed}-steps{self.steps}"


def load(family: str, seed: int) -> tuple[Tensor, Tensor, nn.Sequential, nn.Linear]:
    """Images, labels, body and head."""
    if family == "geomnist":
        data, net = GeoMNIST(per_class=500, seed=seed), PaperNet()
        body = nn.Sequential(net.convolutions, nn.Flatten(), net.dense)
        return data.images, data.labels, body, net.classifier
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    return x, y, body, nn.Linear(32, 10)


def train(run: Run, weights: list[Tensor] | None = None) -> Trajectory:
    """Train with batches of 16 and return what the monitor's recorder holds of the probe.

    ``weights`` is given the head's weight at every reading.
    """
    torch.manual_seed(run.seed)
    x, y, body, head = load(run.family, run.seed)
    K = int(y.max()) + 1
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=run.lr)
    monitor = SeparationMonitor(K, MonitorSettings(probe=True))
    probe = torch.cat([(y == k).nonzero().flatten()[:PROBE] for k in range(K)])
    order = torch.randperm(len(y))
    for step in range(run.steps + 1):
        if step % (run.steps // READINGS) == 0:
            monitor.add_probe(float(step), read(body, head, x[probe], y[probe], K))
            if weights is not None:
                weights.append(head.weight.detach().clone())
        i = step * BATCH % (len(y) - BATCH)
        if i < BATCH:
            order = torch.randperm(len(y))
        batch = order[i : i + BATCH]
        loss = nn.functional.cross_entropy(head(body(x[batch])), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    names = CLASSES if run.family == "geomnist" else [str(k) for k in range(K)]
    return Trajectory(monitor.recorder.sources(), "step", tuple(names))


@torch.no_grad()
def read(body: nn.Module, head: nn.Module, x: Tensor, y: Tensor, num_classes: int) -> dict[str, ClassStatistics]:
    """Class moments of features and logits."""
    features = body(x)
    found = {}
    for name, values in (("features", features), ("logits", head(features))):
        moments = empty_moments(values.new_zeros(num_classes, values.shape[1]))
        update_moments(moments, values, y)
        found[name] = class_statistics(moments)
    return found
