"""Recorded trainings for the benchmark of imitation: class means of the logits over the whole training set.

The paper's network on GeoMNIST, and on three classes of CIFAR-10 where its archive is given; 300 images a class, SGD, a
reading every ten steps. A training of batch 16 takes about half a minute on one core, one of batch 1 a minute.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "paper"))
from geomnist import GeoMNIST, PaperNet

from le_callback.moments.statistics import class_statistics
from le_callback.moments.sums import empty_moments, update_moments
from le_callback.recorder import SourceTrajectory

K, PER_CLASS, EVERY, CHUNK = 3, 300, 10, 100
SHARES = (1.0, 0.32, 0.1)  # of the images of each class that unbalanced trainings keep


@dataclass(frozen=True)
class Kind:
    """One kind of training."""

    name: str
    corrupt: float = 0.0
    batch: int = 16
    lr: float = 0.02
    steps: int = 4000
    unbalanced: bool = False
    cifar: bool = False


KINDS = [
    Kind("clean, batch 16", steps=6000),
    Kind("clean, batch 1", batch=1, lr=0.005, steps=10_000),
    *[Kind(f"corrupted {p:.2g}, batch 16", corrupt=p) for p in (0.3, 0.6, 2 / 3, 0.8)],
    Kind("unbalanced 10:1, batch 16", unbalanced=True),
]
CIFAR = Kind("CIFAR-10, batch 16", cifar=True)


def recorded(kind, seed, folder, archive=None):
    """The training, made if it is not in the folder."""
    path = folder / f"{kind.name.replace(', ', '-').replace(' ', '-').replace(':', '-')}-{seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **vars(train(kind, seed, archive)))
    with np.load(path) as saved:
        return SourceTrajectory(*(saved[f] for f in ("times", "means", "mean_noise", "counts")))


def train(kind, seed, archive):
    """Class means of the logits every ten steps."""
    torch.manual_seed(seed)
    x, y = data(kind, seed, archive)
    net = network(kind).to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=kind.lr)
    times, means, noise, counts = [], [], [], []
    order, at = torch.randperm(len(y)), 0
    for step in range(kind.steps + 1):
        if step % EVERY == 0:
            found = reading(net, x, y)
            for kept, value in ((means, found.mean), (noise, found.mean_noise), (counts, found.weight)):
                kept.append(value.numpy())
            times.append(float(step))
        if at + kind.batch > len(y):
            order, at = torch.randperm(len(y)), 0
        batch, at = order[at : at + kind.batch], at + kind.batch
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
    return SourceTrajectory(np.array(times), np.stack(means), np.stack(noise), np.stack(counts))


def data(kind, seed, archive):
    """Images and labels."""
    if kind.cifar:
        from cifar import CIFAR10

        found = CIFAR10(archive, K, per_class=PER_CLASS)
        return found.images, found.labels
    made = GeoMNIST(per_class=PER_CLASS, seed=seed, corrupt=kind.corrupt)
    x, y = made.images, made.labels
    if kind.unbalanced:
        share = torch.tensor(SHARES, dtype=torch.float64)
        kept = torch.from_numpy(np.random.default_rng(seed).random(len(y))) < share[y]
        x, y = x[kept], y[kept]
    return x, y


def network(kind):
    """The paper's network, for images of one or three channels."""
    net = PaperNet()
    if kind.cifar:
        net.convolutions[0] = nn.Conv2d(3, 6, 5)
    return net


def reading(net, x, y):
    """Statistics of the logits over all images; a chunk of them stays in the cache."""
    with torch.no_grad():
        logits = torch.cat([net(chunk) for chunk in x.split(CHUNK)])
    sums = empty_moments(torch.zeros(K, K))
    update_moments(sums, logits, y)
    return class_statistics(sums)
