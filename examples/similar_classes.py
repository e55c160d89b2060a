"""Two classes made similar: the measured LE matrix shows which. Digits 0 to 4, those of one blended with another's.

    python examples/similar_classes.py --similar 3 4 --blend 0.6 --figure similar.png

The heatmap is the one that the callback gives to TensorBoard as ``le/matrix``. Needs scikit-learn for its digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from le_callback import LECallback
from le_callback.report.heatmaps import matrix_figure

CLASSES = 5


class Digits(LightningModule):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


def digits(similar: tuple[int, int] | None, blend: float) -> TensorDataset:
    """Digits 0 to 4; each image of the second similar class is mixed with a random one of the first."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    x, y = x[y < CLASSES], y[y < CLASSES]
    if similar:
        first, second = ((y == k).nonzero().flatten() for k in similar)
        partner = torch.randint(len(first), (len(second),), generator=torch.Generator().manual_seed(0))
        x[second] = (1 - blend) * x[second] + blend * x[first[partner]]
    return TensorDataset(x, y)


def train(similar: tuple[int, int] | None, blend: float = 0.6, seed: int = 1, epochs: int = 18) -> LECallback:
    """Train with a probe of 40 samples a class that is read every 5 steps."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(digits(similar, blend), batch_size=16, shuffle=True, generator=order)
    callback = LECallback(probe=40, probe_every_n_steps=5, every_n_steps=50, figures=False, summary=False)
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(Digits(), loader)
    return callback


def main() -> None:
    """Train, print the pair and save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--similar", type=int, nargs=2, default=(3, 4))
    parser.add_argument("--blend", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figure", type=Path, default=Path("runs/similar_classes.png"))
    options = parser.parse_args()
    record = train(tuple(options.similar), options.blend, options.seed).last_record
    assert record is not None
    matrix = record.response_matrix["logits"]
    print(f"made similar: {tuple(options.similar)}; measured to move each other most: {matrix.strongest_pair}")
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    title = (
        f"LE matrix up to step {record.step:,}: digits {options.similar[0]} and {options.similar[1]} were made similar"
    )
    matrix_figure(record.response_matrix, [str(k) for k in range(CLASSES)], title).savefig(options.figure, dpi=120)
    print(f"figure: {options.figure}")


if __name__ == "__main__":
    main()
