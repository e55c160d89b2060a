"""The paper's experiments: what is trained, and one training through ``LECallback`` to a recorded run.

K classes, T readings of the probe, W windows of training batches; features are logits, p = K.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from cifar import CIFAR10
from geomnist import GeoMNIST, PaperNet

from le_callback import LECallback

WINDOW = 50  # steps of a window of training batches
REPORT = 50  # steps between two reports of progress
VALIDATION_SEED = 1_000  # of the first run's validation images; those of run n have n more

Floats = NDArray[np.float64]
Report = Callable[[int], None]


@dataclass(frozen=True)
class Experiment:
    """What is trained.

    Attributes:
        data: "GeoMNIST" or "CIFAR-10".
        per_class: training images a class; 0: all.
        probe_per_class: of these, the images a class that the class means are taken over.
        probe_every: steps between two readings of the probe.
    """

    name: str
    data: str
    num_classes: int
    batch: int
    lr: float
    steps: int
    per_class: int
    probe_per_class: int = 200
    probe_every: int = 20

    @property
    def title(self) -> str:
        """For figures and tables."""
        return f"{self.data}, K = {self.num_classes}, batch {self.batch}, learning rate {self.lr:g}"


EXPERIMENTS = (
    Experiment("geomnist_k3_batch16", "GeoMNIST", 3, 16, 0.02, 6_000, 500),
    Experiment("geomnist_k3_batch1", "GeoMNIST", 3, 1, 0.005, 10_000, 500),
    Experiment("geomnist_k2_batch16", "GeoMNIST", 2, 16, 0.02, 4_000, 500),
    Experiment("cifar10_k3_batch16", "CIFAR-10", 3, 16, 0.02, 4_000, 0),
    Experiment("cifar10_k2_batch16", "CIFAR-10", 2, 16, 0.02, 4_000, 0),
)


class AlexNetLike(nn.Module):
    """Convolutions, poolings and three dense layers with ReLU as in AlexNet, narrow enough for a CPU."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        stages: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            stages += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*stages)
        self.dense = nn.Sequential(nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dense(self.convolutions(images).flatten(1)))
        return logits


class Classifier(LightningModule):
    """A network with cross entropy and plain SGD."""

    def __init__(self, net: nn.Module, lr: float) -> None:
        super().__init__()
        self.net, self.lr = net, lr

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Progress(Callback):
    """Tells how many steps were taken."""

    def __init__(self, report: Report) -> None:
        self.report, self.told = report, 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step - self.told >= REPORT:
            self._tell(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        self.report(trainer.global_step - self.told)
        self.told = trainer.global_step


def quiet_trainer(callback: LECallback, steps: int, report: Report) -> Trainer:
    """A Trainer on the CPU that writes nothing and tells its progress to ``report``."""
    return Trainer(
        max_steps=steps,
        max_epochs=-1,
        callbacks=[callback, Progress(report)],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


@dataclass(frozen=True)
class Run:
    """What one training leaves.

    Attributes:
        about: the experiment, seed, seconds, versions.
        times, means: ``(T,)`` steps and ``(T, K, K)`` class means of the logits over the probe.
        window_times, window_means, window_noise: ``(W,)``, ``(W, K, K)``, ``(W, K)`` of the training batches.
        logits, labels: ``(N, K)`` and ``(N,)`` of the validation images after the training.
    """

    about: dict[str, Any]
    times: Floats
    means: NDArray[np.float32]
    window_times: Floats
    window_means: NDArray[np.float32]
    window_noise: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of the validation images that are classified right."""
        return float((self.logits.argmax(1) == self.labels).mean())

    def save(self, path: Path) -> None:
        """Write one ``.npz`` file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "about"}
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(self.about)), **arrays)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            arrays = {f.name: archive[f.name] for f in fields(cls)}
        return cls(**{**arrays, "about": json.loads(str(arrays["about"]))})


def load_if_same(path: Path, experiment: Experiment, seed: int) -> Run | None:
    """The recorded run, if there is one of this experiment with all its settings."""
    if not path.exists():
        return None
    run = Run.load(path)
    return run if (run.about["experiment"], run.about["seed"]) == (asdict(experiment), seed) else None


def train(experiment: Experiment, seed: int, path: Path, cifar: str | None, report: Report) -> Path:
    """Train once and write the run to ``path``."""
    started = time.monotonic()
    torch.set_num_threads(1)
    (images, labels), (held_out, held_out_labels) = _data(experiment, seed, cifar)
    seed_everything(seed, verbose=False)
    num_classes = experiment.num_classes
    net = PaperNet(num_classes) if experiment.data == "GeoMNIST" else AlexNetLike(num_classes)
    model = Classifier(net, experiment.lr)
    chosen = torch.cat([(labels == k).nonzero()[: experiment.probe_per_class, 0] for k in range(num_classes)])
    callback = LECallback(
        probe=(images[chosen], labels[chosen]),
        probe_every_n_steps=experiment.probe_every,
        every_n_steps=min(WINDOW, experiment.steps),
        figures=False,
        summary=False,
    )
    trainer = quiet_trainer(callback, experiment.steps, report)
    trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=experiment.batch, shuffle=True))
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(part) for part in torch.split(held_out, 1000)])
    assert callback.trajectory is not None
    probe, windows = (callback.trajectory.sources[name] for name in ("probe_logits", "logits"))
    about = {
        "experiment": asdict(experiment),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "torch": torch.__version__,
    }
    Run(
        about,
        probe.times,
        probe.means,
        windows.times,
        windows.means,
        windows.mean_noise,
        logits.numpy(),
        held_out_labels.numpy(),
    ).save(path)
    return path


Labelled = tuple[Tensor, Tensor]


def _data(experiment: Experiment, seed: int, cifar: str | None) -> tuple[Labelled, Labelled]:
    """Training and validation images."""
    if experiment.data == "GeoMNIST":
        sets: list[Any] = [
            GeoMNIST(experiment.per_class, seed=seed),
            GeoMNIST(200, seed=VALIDATION_SEED + seed),
        ]
    else:
        assert cifar is not None
        sets = [CIFAR10(cifar, experiment.num_classes, train, experiment.per_class) for train in (True, False)]
    first, second = (
        (s.images[s.labels < experiment.num_classes], s.labels[s.labels < experiment.num_classes]) for s in sets
    )
    return first, second
