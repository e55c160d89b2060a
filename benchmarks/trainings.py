"""Real trainings, and how much of a step the callback's hooks take in them.

Hooks are timed inside the loop: nothing is subtracted between runs. On a CPU the time is that of the process, in which
what else runs on the machine does not count; on a GPU it is wall time. K classes, p feature dimensions.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from le_callback import LECallback


def clock(device: str) -> Callable[[], float]:
    """Seconds of this process on a CPU, of the wall on a GPU."""
    return time.perf_counter if device == "cuda" else time.process_time


class Timed(LECallback):
    """The callback, with the seconds of its hooks in each step and, of these, of its log step."""

    def __init__(self, clock: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.now = clock
        self.began: list[float] = []  # of each step
        self.hooks: list[float] = []
        self.logs: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        start = self.now()
        self.began.append(start)
        self.logs.append(0.0)
        super().on_train_batch_start(*args)
        self.hooks.append(self.now() - start)

    def on_before_backward(self, *args: Any) -> None:
        start = self.now()
        super().on_before_backward(*args)
        self.hooks[-1] += self.now() - start

    def on_train_batch_end(self, *args: Any) -> None:
        before, start = self.last_record, self.now()
        super().on_train_batch_end(*args)
        took = self.now() - start
        self.hooks[-1] += took
        if self.last_record is not before:  # a log step, with the update before it
            self.logs[-1] = took


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
    """What is trained: a body, features p, classes K, shape of a sample, batch size, steps and steps of a window."""

    body: Callable[[], nn.Module]
    p: int
    K: int
    sample: tuple[int, ...]
    batch: int
    steps: int
    every: int = 50
    tokens: bool = False


TRAININGS = {
    "small CNN, batch 32": Training(small_cnn, 84, 10, (1, 28, 28), 32, 512, every=32),
    "small transformer, 16 × 32 labels": Training(SmallTransformer, 128, 20, (32,), 16, 160, every=10, tokens=True),
    "head alone, K = 1000, p = 2048, batch 256": Training(nn.Identity, 2048, 1000, (2048,), 256, 160, every=10),
    "ResNet-18, batch 128": Training(resnet18, 512, 10, (3, 32, 32), 128, 5, every=100),
}


@dataclass
class Share:
    """Medians in ms: a step without the callback's part, the hooks between log steps, the log step (0: none)."""

    step: float
    hooks: float
    log: float = field(default=0.0)

    def between(self) -> float:
        """Share of the hooks between log steps, in per cent."""
        return 100 * self.hooks / (self.step + self.hooks)

    def with_log(self, every: int = 50) -> float:
        """Share of everything with a log step every 50 steps, in per cent."""
        own = self.hooks + self.log / every
        return 100 * own / (self.step + own)


def measure_share(training: Training, device: str, steps: int | None = None) -> Share:
    """Train and time; the first windows, in which coefficients are not known yet, do not count."""
    torch.manual_seed(0)
    n = 8 * training.batch
    if training.tokens:
        x = torch.randint(1000, (n, *training.sample))
        y = x % training.K
    else:
        y = torch.randint(training.K, (n,))
        x = torch.randn(training.K, *training.sample)[y] + torch.randn(n, *training.sample)
    timed = Timed(clock(device), every_n_steps=training.every, summary=False, figures=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_steps=steps or training.steps,
            max_epochs=-1,
            logger=TensorBoardLogger(folder),
            callbacks=[timed],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=training.every,
        )
        loader = DataLoader(TensorDataset(x, y), training.batch, shuffle=True, drop_last=True)
        trainer.fit(Model(training.body(), training.p, training.K), loader)
    # the first step looks for the head
    walls = [b - a for a, b in zip(timed.began[1:], timed.began[2:], strict=False)]
    own, logs = timed.hooks[1:-1], timed.logs[1:-1]
    rest = statistics.median(w - o for w, o in zip(walls, own, strict=True))
    # sums that are put off fall on single steps, hence the mean; the largest hundredth are interruptions
    between = sorted(o - e for o, e in zip(own, logs, strict=True))
    between = between[: max(1, len(between) - len(between) // 100)]
    known = [e for e in logs if e > 0][11:]
    return Share(1e3 * rest, 1e3 * statistics.fmean(between), 1e3 * statistics.median(known) if known else 0.0)
