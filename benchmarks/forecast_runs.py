"""Small trainings of seven kinds for ``forecast.py``: class means of training windows and of a probe, kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from geomnist import CLASSES, GeoMNIST, PaperNet

from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import MomentState, empty_moments, update_moments
from le_callback.recorder import SourceTrajectory, TrajectoryRecorder
from le_callback.trajectory import Trajectory
from le_callback.values import Source

KINDS = ("clean", "corrupted", "unbalanced", "warm-up, cosine", "step drops", "AdamW", "plateau or chance")
READINGS = 200
PROBE = 50  # samples of each class


@dataclass(frozen=True)
class Run:
    """One training; its settings are drawn from its kind and seed.

    Attributes:
        kind: one of ``KINDS``.
        seed: even ones train a perceptron on digits, odd ones the paper's network on GeoMNIST.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Of the file that keeps it."""
        return f"{self.kind.replace(', ', '-').replace(' ', '-')}-{self.seed}"

    @property
    def settings(self) -> Settings:
        """Drawn anew for each kind and seed."""
        rng = np.random.default_rng([KINDS.index(self.kind), self.seed])
        digits = self.seed % 2 == 0
        low, high = (0.01, 0.2) if digits else (0.02, 0.08)
        corrupted = 0.0
        if self.kind == "AdamW":
            low, high = 5e-4, 5e-3
        if self.kind == "corrupted":
            corrupted = float(rng.choice([0.3, 0.5, 0.7] if digits else [0.2, 0.3, 0.5]))
        if self.kind == "plateau or chance":
            chance = bool(rng.random() < 0.5)
            low, high = (low, high) if chance else ((0.001, 0.004) if digits else (0.005, 0.015))
            corrupted = (0.9 if digits else 2 / 3) if chance else 0.0
        return Settings(
            family="digits" if digits else "geomnist",
            lr=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
            batch=int(rng.choice([8, 16, 32] if digits else [8, 16])),
            steps=3000 if digits else 2400,
            corrupted=corrupted,
        )


@dataclass(frozen=True)
class Settings:
    """Of a training: data, learning rate, batch size, optimizer steps, share of labels that are wrong."""

    family: str
    lr: float
    batch: int
    steps: int
    corrupted: float


def load(run: Run) -> tuple[Tensor, Tensor, nn.Module, nn.Linear]:
    """Images, labels, body and head."""
    s, rng = run.settings, np.random.default_rng([run.seed, 7])
    if s.family == "geomnist":
        data, net = GeoMNIST(per_class=300, seed=run.seed, corrupt=s.corrupted), PaperNet()
        x, y, head = data.images, data.labels, net.classifier
        body: nn.Module = nn.Sequential(net.convolutions, nn.Flatten(), net.dense)
    else:
        digits = load_digits()
        x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
        wrong = torch.from_numpy(rng.random(len(y)) < s.corrupted)
        y = torch.where(wrong, (y + torch.from_numpy(rng.integers(1, 10, len(y)))) % 10, y)
        body, head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()), nn.Linear(32, 10)
    if run.kind == "unbalanced":  # 10:1
        K = int(y.max()) + 1
        share = torch.from_numpy(rng.permutation(np.geomspace(0.1, 1, K)))
        kept = torch.from_numpy(rng.random(len(y))) < share[y]
        x, y = x[kept], y[kept]
    return x, y, body, head


def rate(run: Run, step: int) -> float:
    """Learning rate at a step, as a share of the highest."""
    steps = run.settings.steps
    if run.kind == "warm-up, cosine":
        warm = steps // 10
        return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
    if run.kind == "step drops":
        return 0.1 ** int(step >= steps * 0.4) * 0.3 ** int(step >= steps * 0.7)
    return 1.0


@dataclass(frozen=True)
class Step:
    """What an optimizer step sees, before it changes the weights.

    Attributes:
        number: of the step, from 0.
        features, logits, labels: of its batch.
        lr: learning rate.
    """

    number: int
    features: Tensor
    logits: Tensor
    labels: Tensor
    lr: float


def steps(run: Run, data: tuple[Tensor, Tensor, nn.Module, nn.Linear], number: int) -> Iterator[Step]:
    """Train by ``number`` steps; each is taken once the next is asked for."""
    s, (x, y, body, head) = run.settings, data
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, s.lr) if run.kind == "AdamW" else torch.optim.SGD(parameters, s.lr)
    order, at = torch.randperm(len(y)), 0
    for step in range(number):
        if at + s.batch > len(y):
            order, at = torch.randperm(len(y)), 0
        batch, at = order[at : at + s.batch], at + s.batch
        lr = optimizer.param_groups[0]["lr"] = s.lr * rate(run, step)
        features = body(x[batch])
        logits = head(features)
        yield Step(step, features.detach(), logits.detach(), y[batch], lr)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, y[batch]).backward()
        optimizer.step()


def train(run: Run) -> Recorded:
    """Train, and return class means of training windows and of a probe of the training set."""
    torch.manual_seed(run.seed)
    x, y, body, head = data = load(run)
    K = int(y.max()) + 1
    probe = torch.cat([(y == k).nonzero().flatten()[:PROBE] for k in range(K)])
    recorder, window = TrajectoryRecorder(), run.settings.steps // READINGS
    clock, sums = [0.0], empty_moments(torch.zeros(K, head.out_features))
    for step in steps(run, data, run.settings.steps + 1):
        if step.number % window == 0:
            recorder.add(Source("features", True), float(step.number), _read(body(x[probe]), y[probe], K))
            recorder.add(Source("logits", True), float(step.number), _read(head(body(x[probe])), y[probe], K))
            if step.number:
                recorder.add(Source("logits"), step.number - (window + 1) / 2, class_statistics(sums))
                sums = empty_moments(class_statistics(sums).mean.nan_to_num())
        update_moments(sums, step.logits, step.labels)
        clock.append(clock[-1] + step.lr)
    names = CLASSES if run.settings.family == "geomnist" else tuple(map(str, range(K)))
    return Recorded(Trajectory(recorder.sources(), "step", names), np.array(clock))


def _read(values: Tensor, y: Tensor, num_classes: int) -> ClassStatistics:
    moments: MomentState = empty_moments(values.new_zeros(num_classes, values.shape[1]))
    update_moments(moments, values.detach(), y)
    return class_statistics(moments)


@dataclass(frozen=True)
class Recorded:
    """A training that is over.

    Attributes:
        trajectory: in optimizer steps.
        clock: learning rates added up before each step ``(steps + 2,)``.
    """

    trajectory: Trajectory
    clock: np.ndarray

    def in_learning_rate(self) -> Trajectory:
        """The trajectory as ``LECallback(time_axis="lr")`` records it."""
        steps = np.arange(len(self.clock))
        sources = {
            name: SourceTrajectory(np.interp(s.times, steps, self.clock), s.means, s.mean_noise, s.counts)
            for name, s in self.trajectory.sources.items()
        }
        return Trajectory(sources, "learning rate", self.trajectory.class_names)


def recorded(run: Run, folder: Path) -> Recorded:
    """The run, trained if it is not there yet."""
    path = folder / f"{run.name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = train(run)
        arrays = {f"{k}/{f}": v for k, s in made.trajectory.sources.items() for f, v in vars(s).items()}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, clock=made.clock, names=np.array(made.trajectory.class_names), **arrays)
        partial.rename(path)
    with np.load(path) as saved:
        names = {key.split("/")[0] for key in saved.files if "/" in key}
        fields = ("times", "means", "mean_noise", "counts")
        sources = {name: SourceTrajectory(*(saved[f"{name}/{f}"] for f in fields)) for name in sorted(names)}
        return Recorded(Trajectory(sources, "step", tuple(saved["names"].tolist())), saved["clock"])
