"""Small real trainings, healthy or with a fault from some step on, recorded window by window for ``alerts.py``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from alert_faults import Fault
from alert_kinds import WINDOW, Setup
from alert_nets import Net, dataset, thinned
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from le_callback import LECallback, SeparationMonitor, WindowRecord
from le_callback.measures import held_out_discriminability

VALIDATE = 100
AHEAD = 5  # windows for which a run goes on as if nothing had changed, beside what happens
RATES = {"sgd": 0.1, "sgd_momentum": 0.02, "adam": 2e-3, "adamw": 2e-3}


@dataclass(frozen=True)
class Held:
    """How separable data of its own is at the end of a window."""

    step: int
    loss: float
    accuracy: float
    margin: float
    worst: float  # mean discriminability of the worst tenth of the pairs
    samples: int


@dataclass(frozen=True)
class Run:
    """What was recorded of it."""

    setup: Setup
    records: list[WindowRecord]
    losses: list[float]
    held: list[Held]
    classes: tuple[int, ...]  # that the fault concerns
    unchanged: dict[int, list[Held]]  # the windows from a step on, had the fault not begun or ended there

    @property
    def validation(self) -> list[tuple[int, float]]:
        """Steps and losses of the validations that Lightning's alarms are given."""
        return [(h.step, h.loss) for h in self.held if h.step % VALIDATE == 0]


class Course:
    """One training as it goes: its batches, its fault, its optimizer."""

    def __init__(self, setup: Setup) -> None:
        torch.manual_seed(setup.seed)
        self.setup, self.rng = setup, np.random.default_rng([setup.seed, 4])
        x, y, *self.held = dataset(setup)
        self.classes = K = int(y.max()) + 1
        if setup.imbalanced:  # every other class at a tenth
            keep = [(i := (y == k).nonzero().flatten())[: len(i) // 10 if k % 2 else len(i)] for k in range(K)]
            x, y = x[torch.cat(keep)], y[torch.cat(keep)]
        if setup.ratio > 1:
            keep = thinned(y, setup.ratio)
            x, y = x[keep], y[keep]
        wrong = torch.from_numpy(self.rng.random(len(y)) < setup.noise)
        y = y.clone()
        y[wrong] = torch.from_numpy(self.rng.integers(0, K, int(wrong.sum())))
        self.x, self.y, self.held[0] = setup.scale * x, y, setup.scale * self.held[0]
        self.labels, self.usable = self.y, torch.arange(len(y))
        self.net = Net(setup, K)
        self.fault = Fault(setup.fault, K, self.rng)
        self.order = torch.empty(0, dtype=torch.long)
        self.turn = 0
        self.unchanged: dict[int, list[Held]] = {}

    def before(self, step: int) -> None:
        """The fault begins or ends; a frozen body thaws."""
        s = self.setup
        if s.fault and step in (s.at, s.until, s.again):
            self.unchanged[step] = as_if_unchanged(self, step)
        if s.fault and step in (s.at, s.again):
            self.fault.start(self.net)
            self.labels = self.fault.relabelled(self.y)
            self._restock(self.fault.keeps(self.labels).nonzero().flatten())
        elif s.fault and step == s.until:
            self.fault.stop(self.net)
            self.labels = self.y
            self._restock(torch.arange(len(self.y)))
        if self.net.thaw_at and step in (0, self.net.thaw_at):
            self.net.body.requires_grad_(step > 0)

    def _restock(self, usable: Tensor) -> None:
        if len(usable) != len(self.usable):
            self.usable, self.order = usable, torch.empty(0, dtype=torch.long)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and labels of a step."""
        s = self.setup
        if s.order == "balanced" or (s.order == "balanced_later" and step >= s.steps // 2):
            k = torch.from_numpy(self.rng.permutation(np.arange(s.batch) % self.classes))
            index = torch.stack([self._any_of(int(c)) for c in k])
        else:
            while len(self.order) < s.batch:
                self.order = torch.cat([self.order, self._epoch(step)])
            index, self.order = self.order[: s.batch], self.order[s.batch :]
        x, y = self.x[index], self.labels[index]
        if s.augment or (s.order == "augmented_later" and step >= s.steps // 2 and self.rng.random() < 0.5):
            x = torch.roll(x, tuple(self.rng.integers(-1, 2, 2).tolist()), (-2, -1)) + 0.1 * torch.randn_like(x)
        return self.fault.batch(x, y, self.x, self.y) if self.fault.on else (x, y)

    def _any_of(self, label: int) -> Tensor:
        own = (self.labels == label).nonzero().flatten()
        return own[int(self.rng.integers(len(own)))]

    def _epoch(self, step: int) -> Tensor:
        """Samples in the order of the next epoch, or part of it."""
        s, shuffled = self.setup, self.usable[torch.from_numpy(self.rng.permutation(len(self.usable)))]
        y = self.labels[shuffled]
        if s.order == "sorted":
            return shuffled[y.argsort(stable=True)]
        if s.order == "sharded":  # two classes at a time
            self.turn += 1
            first = 2 * self.turn % self.classes
            return shuffled[(y == first) | (y == first + 1)]
        if s.order == "curriculum":
            return shuffled[y < min(self.classes, 2 + step // 150)]
        return shuffled

    def loss(self, features: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Of a batch."""
        s = self.setup
        each = nn.functional.cross_entropy(logits, y, reduction="none", label_smoothing=s.smoothing)
        if s.loss == "focal":
            each = (1 - (-each).exp()) ** 2 * each
        return each.mean()

    def mixed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mixup: images and class weights."""
        share = float(self.rng.beta(0.3, 0.3))
        other = torch.from_numpy(self.rng.permutation(len(y)))
        weights = nn.functional.one_hot(y, self.classes).float()
        return share * x + (1 - share) * x[other], share * weights + (1 - share) * weights[other]

    def optimizer(self) -> torch.optim.Optimizer:
        """With a learning rate that falls with small batches."""
        s, parameters = self.setup, self.net.parameters()
        self.base = rate = RATES[s.optimizer] * min(1.0, (s.batch / 16) ** 0.5)
        momentum = 0.9 * (s.optimizer == "sgd_momentum")
        if s.optimizer == "adam":
            self.active: torch.optim.Optimizer = torch.optim.Adam(parameters, rate)
        elif s.optimizer == "adamw":
            self.active = torch.optim.AdamW(parameters, rate, weight_decay=0.05)
        else:
            self.active = torch.optim.SGD(parameters, rate, momentum=momentum, weight_decay=s.decay)
        return self.active

    def set_rate(self, step: int) -> None:
        """The learning rate of a step."""
        for group in self.active.param_groups:
            group["lr"] = self.base * factor(self.setup, step) * self.fault.rate()

    def advance(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step by hand: features, logits, targets and loss of its batch."""
        self.set_rate(step)
        x, y = self.batch(step)
        target = y
        if self.setup.loss == "mixup":
            x, target = self.mixed(x, y)
        features, logits = self.net(x)
        loss = self.loss(features, logits, target)
        self.active.zero_grad()
        if self.setup.fault != "nan_class" or loss.isfinite():  # as a gradient scaler does
            loss.backward()
            self.active.step()
        if self.fault.on:
            self.fault.step(self.net, self.base)
        return features.detach(), logits.detach(), target, loss.detach()


def as_if_unchanged(course: Course, step: int) -> list[Held]:
    """How separable data of its own would be in the next windows, if nothing changed at this step."""
    other, held = copy.copy(course), []
    with torch.random.fork_rng(devices=[]):
        other.rng, other.fault = np.random.default_rng([course.setup.seed, 5, step]), copy.deepcopy(course.fault)
        other.net = Net(course.setup, course.classes)
        other.net.load_state_dict(course.net.state_dict())
        other.net.scale, other.net.boost = course.net.scale, course.net.boost
        for mine, its in zip(course.net.parameters(), other.net.parameters(), strict=True):
            its.requires_grad_(mine.requires_grad)
        other.optimizer().load_state_dict(copy.deepcopy(course.active.state_dict()))
        for later in range(step, WINDOW * (step // WINDOW + AHEAD)):
            other.advance(later)
            if (later + 1) % WINDOW == 0:
                held.append(evaluate(other, later + 1))
    return held


def factor(setup: Setup, step: int) -> float:
    """Of the learning rate."""
    done, warm = step / setup.steps, min(1.0, step / 300)
    if setup.schedule == "drops":
        return 0.1 ** ((done > 0.5) + (done > 0.75))
    if setup.schedule == "restarts":
        return float(0.5 * (1 + np.cos(np.pi * (4 * done % 1))))
    if setup.schedule == "cyclic":
        return float(0.05 + 0.95 * abs(2 * (6 * done % 1) - 1))
    cosine = 0.5 * (1 + np.cos(np.pi * done)) if "cosine" in setup.schedule else 1.0
    return float((warm if "warm_up" in setup.schedule else 1.0) * cosine)


def train(setup: Setup) -> Run:
    """Train, by hand or by the Trainer; keep the record of each window."""
    course = Course(setup)
    if setup.trainer:
        return by_trainer(course)
    course.optimizer()
    monitor = SeparationMonitor(num_classes=course.classes)
    records, losses, held = [], [], []
    for step in range(setup.steps):
        course.before(step)
        features, logits, target, loss = course.advance(step)
        monitor.update(features=features, logits=logits, target=target, time=float(step))
        losses.append(float(loss))
        if (step + 1) % WINDOW == 0:
            records.append(slim(monitor.close(step + 1)))
            held.append(evaluate(course, step + 1))
    return Run(setup, records, losses, held, course.fault.classes, course.unchanged)


class Module(LightningModule):
    """A course as a module."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.net, self.losses = course.net, []
        self.__dict__["course"] = course  # not a submodule

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        features, logits = self.net(x)
        if y.ndim > 1 or self.course.setup.loss == "focal":
            loss = self.course.loss(features, logits, y)
        else:
            loss = nn.functional.cross_entropy(logits, y, label_smoothing=self.course.setup.smoothing)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.course.optimizer()

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        self.course.set_rate(index)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.course.fault.on:
            self.course.fault.step(self.net, self.course.base)


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """The batches of a course."""

    def __init__(self, course: Course) -> None:
        self.course = course

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(self.course.setup.steps):
            self.course.before(step)
            x, y = self.course.batch(step)
            yield self.course.mixed(x, y) if self.course.setup.loss == "mixup" else (x, y)


class Recording(LECallback):
    """Keeps the record of every window, and how separable data of its own is."""

    def __init__(self, course: Course) -> None:
        by_hand = {"head": "net.classifier", "label": 1} if course.setup.loss == "mixup" else {}
        super().__init__(summary=False, figures=False, progress_bar=False, alerts=False, **by_hand)
        self.course, self.records, self.held = course, [], []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer, *args)
        if trainer.global_step % WINDOW == 0:
            self.records.append(slim(self.last_record))
            self.held.append(evaluate(self.course, trainer.global_step))


def by_trainer(course: Course) -> Run:
    """The same training by the Trainer."""
    module, callback = Module(course), Recording(course)
    loader = DataLoader(Batches(course), batch_size=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_steps=course.setup.steps, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=WINDOW, callbacks=[callback],
        )  # fmt: skip
        trainer.fit(module, loader)
    return Run(course.setup, callback.records, module.losses, callback.held, course.fault.classes, course.unchanged)


@torch.no_grad()
def evaluate(course: Course, step: int) -> Held:
    """How separable data of its own is: by the head, and by pairs of classes."""
    x, y = course.held
    if course.fault.on and course.fault.name == "permuted_labels":
        y = course.fault.relabelled(y)
    course.net.eval()
    features, logits = course.net(x)
    course.net.train()
    loss = float(nn.functional.cross_entropy(logits, y))
    own = logits.gather(1, y[:, None]).squeeze(1)
    margin = own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
    K, even = course.classes, torch.arange(len(y)) // course.classes % 2 == 0
    means = torch.full((K, features.shape[1]), torch.nan, dtype=features.dtype)
    for k in range(K):
        if (rows := even & (y == k)).any():
            means[k] = features[rows].mean(0)
    D = held_out_discriminability(features[~even], y[~even], means)
    pairs = D[~D.isnan()].sort().values
    worst = float(pairs[: max(2, len(pairs) // 10)].mean()) if len(pairs) else 0.0
    return Held(step, loss, float((margin > 0).float().mean()), float(margin.mean()), worst, len(y))


def slim(record: WindowRecord) -> WindowRecord:
    """Without the angles, which no rule reads, and with pairs in single precision."""
    measures = {**record.measures, "etf": {}}
    for name in ("discriminability", "head"):
        found = measures.get(name, {})
        measures[name] = {layer: replace(m, pairs=m.pairs.astype(np.float32)) for layer, m in found.items()}
    return replace(record, measures=measures)
