"""Real trainings, and how much of a step the callback takes in them.

Steps with and without the callback follow each other in one run, in random order: what a busy machine adds falls on
both alike. A step without it runs as if the Trainer had no such callback. On a CPU the time is that of the process, in
which what else runs on the machine does not count; on a GPU it is wall time. K classes, p feature dimensions.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from le_callback import LECallback


def clock(device: str) -> Callable[[], float]:
    """Seconds of this process on a CPU, of the wall on a GPU."""
    return time.perf_counter if device == "cuda" else time.process_time


class Logging(LECallback):
    """The callback, with the seconds of each of its log steps, and of the update before it; 0 for other steps."""

    def __init__(self, clock: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.now = clock
        self.logs: list[float] = []
        self.ends: list[float] = []  # seconds of ``on_train_batch_end`` in each step

    def on_train_batch_end(self, *args: Any) -> None:
        before, start = self.last_record, self.now()
        super().on_train_batch_end(*args)
        self.ends.append(self.now() - start)
        self.logs.append(0.0 if self.last_record is before else self.ends[-1])


class Timed(Logging):
    """The same, with the seconds of its hooks in each step."""

    def __init__(self, clock: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(clock, **kwargs)
        self.began: list[float] = []  # of each step
        self.hooks: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        start = self.now()
        self.began.append(start)
        super().on_train_batch_start(*args)
        self.hooks.append(self.now() - start)

    def on_before_backward(self, *args: Any) -> None:
        start = self.now()
        super().on_before_backward(*args)
        self.hooks[-1] += self.now() - start

    def on_train_batch_end(self, *args: Any) -> None:
        start = self.now()
        super().on_train_batch_end(*args)
        self.hooks[-1] += self.now() - start


class Turns(Callback):
    """Takes the callback out of the Trainer in a random half of the steps after the first ones.

    It is the last of the callbacks, so a step lasts from its ``on_train_batch_end`` to the next.
    """

    def __init__(self, followed: Logging, first: int) -> None:
        self.followed, self.first = followed, first  # steps that do not count
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.ends: list[float] = []  # of the steps with the callback, the part of it in which sums are made
        self._random = random.Random(0)
        self._with, self._began = True, 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        took = self.followed.now() - self._began
        if trainer.global_step > self.first and not (self._with and self.followed.logs[-1]):
            self.seconds[self._with].append(took)
            if self._with:
                self.ends.append(self.followed.ends[-1])
        self._with = trainer.global_step < self.first or self._random.random() < 0.5
        others = [c for c in trainer.callbacks if c not in (self, self.followed)]
        trainer.callbacks = [*others, *([self.followed] if self._with else []), self]
        self._began = self.followed.now()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.followed not in trainer.callbacks:
            self.followed.on_train_end(trainer, module)


class Model(LightningModule):
    """A body and a linear head."""

    def __init__(self, body: nn.Module, p: int, K: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(p, K)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        logits = self.head(self.body(batch[0]))
        return nn.functional.cross_entropy(logits.flatten(0, -2), batch[1].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Block(nn.Module):
    """Two 3×3 convolutions beside an identity or a 1×1 convolution (He et al. 2016)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inside, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = inside == width and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(inside, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.short(x))


def resnet18() -> nn.Module:
    """For images of 32 × 32 pixels; 512 features."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inside = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inside, width, stride), Block(width, width, 1)]
        inside = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def small_cnn() -> nn.Module:
    """For images of 28 × 28 pixels; 84 features."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
    )


class SmallTransformer(nn.Module):
    """Two layers of width 128 over tokens; every position has a label."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(self.embedding(tokens))


@dataclass(frozen=True)
class Training:
    """What is trained: a body, features p, classes K, shape of a sample, batch size, steps and steps of a window.

    Attributes:
        turn: steps that are averaged, those in which sums that were put off are made once.
    """

    body: Callable[[], nn.Module]
    p: int
    K: int
    sample: tuple[int, ...]
    batch: int
    steps: int
    every: int = 50
    tokens: bool = False
    turn: int = 16


TRAININGS = {
    "small CNN, batch 32": Training(small_cnn, 84, 10, (1, 28, 28), 32, 3000, every=150, turn=64),
    "small transformer, 16 × 32 labels": Training(SmallTransformer, 128, 20, (32,), 16, 1000, every=50, tokens=True),
    "head alone, K = 1000, p = 2048, batch 256": Training(nn.Identity, 2048, 1000, (2048,), 256, 1000, every=50),
    "ResNet-18, batch 128": Training(resnet18, 512, 10, (3, 32, 32), 128, 5, every=100),
}
FEWEST_STEPS = 200  # of a training that is run with and without in turns


@dataclass
class Share:
    """In ms: a step without the callback, what it adds between log steps, the log step (0: none).

    Attributes:
        error: standard error of what it adds.
        late: of what it adds, the sums that are put off and fall on single steps.
    """

    step: float
    hooks: float
    log: float = field(default=0.0)
    error: float = field(default=0.0)
    late: float = field(default=0.0)

    def between(self) -> float:
        """What it adds between log steps to a step without it, in per cent."""
        return 100 * self.hooks / self.step

    def with_log(self, every: int = 50) -> float:
        """The same with a log step every 50 steps."""
        return 100 * (self.hooks + self.log / every) / self.step


def fit(training: Training, device: str, steps: int, callbacks: list[Callback]) -> None:
    """Train with these callbacks."""
    torch.manual_seed(0)
    n = 64 * training.batch  # of 1000 classes 16 samples each: a class of one would count as collapsed
    if training.tokens:
        x = torch.randint(1000, (n, *training.sample))
        y = x % training.K
    else:
        y = torch.arange(n) % training.K
        x = torch.randn(training.K, *training.sample)[y] + torch.randn(n, *training.sample)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_steps=steps,
            max_epochs=-1,
            logger=TensorBoardLogger(folder),
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=training.every,
        )
        loader = DataLoader(TensorDataset(x, y), training.batch, shuffle=True, drop_last=True)
        trainer.fit(Model(training.body(), training.p, training.K), loader)


def measure_share(training: Training, device: str, steps: int | None = None) -> Share:
    """Train and time; the first two windows, whose sums are about the first batch, do not count."""
    steps, settings = steps or training.steps, {"every_n_steps": training.every, "summary": False, "figures": False}
    if steps < FEWEST_STEPS:  # too slow: the time of the hooks, but for the first step, which looks for the head
        timed = Timed(clock(device), **settings)
        fit(training, device, steps, [timed])
        walls = [b - a for a, b in zip(timed.began[1:], timed.began[2:], strict=False)]
        rest = statistics.median(w - o for w, o in zip(walls, timed.hooks[1:-1], strict=True))
        return Share(1e3 * rest, 1e3 * statistics.median(timed.hooks[1:-1]))
    logging = Logging(clock(device), **settings)
    turns = Turns(logging, 2 * training.every)
    fit(training, device, steps, [logging, turns])
    using, without = turns.seconds[True], turns.seconds[False]
    late, turn = [], training.turn
    for start in range(0, len(turns.ends) - turn + 1, turn):
        ends = turns.ends[start : start + turn]
        late.append(statistics.fmean(ends) - statistics.median(ends))
    logs = [seconds for seconds in logging.logs if seconds > 0]
    log = statistics.median(logs[11:] or logs)  # coefficients are known then
    step, put_off = statistics.median(without), statistics.median(late)
    error = (_error(using) ** 2 + _error(without) ** 2) ** 0.5
    added = statistics.median(using) - step + put_off
    return Share(*(1e3 * seconds for seconds in (step, added, log, error, put_off)))


def _error(seconds: list[float]) -> float:
    """Standard error of a median, by the quartiles, as of normal values."""
    low, _, high = statistics.quantiles(seconds, n=4)
    return 1.2533 * (high - low) / 1.349 / len(seconds) ** 0.5
