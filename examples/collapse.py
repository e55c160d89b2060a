"""Two trainings in which neural collapse happens, as the callback sees it: draws docs/collapse.png.

    python examples/collapse.py [--steps 3000] [--out docs/collapse.png]

The handwritten digits of scikit-learn with a dense network, and GeoMNIST with a small convolutional one, both with
batch norm and weight decay, trained long after the last error. Needs scikit-learn, for the digits.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from geomnist import GeoMNIST

from le_callback import LECallback

WINDOW = 20
TAGS = {
    "nc1": "collapse/features/within",
    "deviation": "etf/features/angle_deviation_deg",
    "nc4": "collapse/features/head_agreement",
    "accuracy": "separation/head_accuracy",
    "duality": "collapse/features/self_duality",
    "predicted": "collapse/predicted",
    "growth": "collapse/predicted_growth",
}
Run = dict[str, NDArray[np.float64]]


class Classifier(LightningModule):
    """Cross entropy, SGD with momentum, weight decay and a learning rate that falls to zero."""

    def __init__(self, net: nn.Module, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net, steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def dense(*widths: int) -> list[nn.Module]:
    """Dense layers with batch norm and ReLU."""
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]


def convolutional() -> nn.Module:
    """Two convolutions with stride 2 and two dense layers, three classes."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, 2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        *dense(800, 128, 64),
        nn.Linear(64, 3),
    )


class Recording(Callback):
    """Keeps the tags of every window."""

    def __init__(self, followed: LECallback) -> None:
        self.followed = followed
        self.rows: dict[int, list[float]] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        record = self.followed.last_record
        if record is not None:
            self.rows[record.step] = [float(trainer.callback_metrics[tag]) for tag in TAGS.values()]


def train(net: nn.Module, data: Dataset[Any], steps: int) -> Run:
    """The tags of a training, by the names of ``TAGS``, and its steps."""
    callback = LECallback(every_n_steps=WINDOW, figures=False, summary=False, alerts=False)
    recording = Recording(callback)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, recording],
    )
    trainer.fit(Classifier(net, steps), DataLoader(data, batch_size=100, shuffle=True, drop_last=True))
    columns = np.array(list(recording.rows.values())).T
    return {"step": np.array(list(recording.rows), float), **dict(zip(TAGS, columns, strict=True))}


def digits() -> TensorDataset:
    """1,797 handwritten digits of 8 × 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return TensorDataset(torch.tensor(found.data / 16.0, dtype=torch.float32), torch.tensor(found.target))


def draw(runs: dict[str, Run], path: Path) -> None:
    """One column a training: NC1, the angles, NC4, and what the proposition predicts."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(4, len(runs), sharex="col", squeeze=False)
    for column, (name, run) in zip(axes.T, runs.items(), strict=True):
        step, first = run["step"], first_without_error(run)
        column[0].semilogy(step, run["nc1"], color="C0")
        column[0].set(ylabel="within over\nbetween (NC1)", title=name)
        column[1].plot(step, run["deviation"], color="C1")
        column[1].set_ylabel("angles off an ETF,\ndegrees (NC2)")
        column[1].set_ylim(bottom=0)
        column[2].plot(step, run["nc4"], color="C2", label="head agrees with nearest mean (NC4)")
        column[2].plot(step, run["accuracy"], color="0.5", lw=0.8, label="accuracy of the head")
        column[2].plot(step, run["duality"], color="C4", label="head against means (NC3)")
        column[2].legend(fontsize=8)
        column[2].set_ylim(0, 1.1)
        column[3].plot(step, run["growth"], color="C3", label="log ratio of the L-modes")
        _shade(column[3], step, run["predicted"])
        column[3].axhline(0, color="0.8", lw=0.8)
        column[3].set(xlabel="step", ylabel="ETF part over the rest")
        column[3].legend(fontsize=8)
        for panel in column:
            panel.grid(alpha=0.3)
            if first is not None:
                panel.axvline(first, color="0.4", ls=":", lw=1)
    figure.suptitle("Neural collapse. Dotted: first window without an error. Shaded: γ > 0 and B < 0", fontsize=11)
    figure.savefig(path, dpi=90)


def first_without_error(run: Run) -> float | None:
    """The step of the first window in which the head is right for all samples."""
    right = np.flatnonzero(run["accuracy"] >= 1)
    return float(run["step"][right[0]]) if len(right) else None


def _shade(axes: Axes, step: NDArray[np.float64], predicted: NDArray[np.float64]) -> None:
    for start, holds in zip(step, predicted == 1, strict=True):
        if holds:
            axes.axvspan(start - WINDOW, start, color="C3", alpha=0.12, lw=0)


def summary(name: str, run: Run) -> str:
    """What the run says of collapse, in a line."""
    last, known = slice(-10, None), ~np.isnan(run["predicted"])
    share = float((run["predicted"][known] == 1).mean())
    first = first_without_error(run)
    early = int(np.searchsorted(run["step"], first if first is not None else run["step"][-1]))
    return (
        f"{name}: no error from step {first}; NC1 {run['nc1'][early]:.3g} there, {run['nc1'][last].mean():.3g} last;"
        f" deviation {run['deviation'][early]:.1f}° and {run['deviation'][last].mean():.1f}°;"
        f" NC4 {run['nc4'][last].mean():.4f}; NC3 {run['duality'][early]:.2f} and {run['duality'][last].mean():.2f};"
        f" γ > 0 and B < 0 in {share:.0%} of the windows where both are known;"
        f" the L-modes' log ratio ends at {run['growth'][-1]:.2f}"
    )


def main() -> None:
    """Train, draw, and say in numbers what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "collapse.png")
    options = parser.parse_args()
    seed_everything(0, verbose=False)
    network = nn.Sequential(*dense(64, 256, 256, 128), nn.Linear(128, 10))
    runs = {"digits, K = 10": train(network, digits(), options.steps)}
    seed_everything(0, verbose=False)
    runs["GeoMNIST, K = 3"] = train(convolutional(), GeoMNIST(per_class=500), options.steps)
    draw(runs, options.out)
    for name, run in runs.items():
        print(summary(name, run))


if __name__ == "__main__":
    main()
