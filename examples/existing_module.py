"""Attach LECallback to a module that is already there: dict batches, a head of another name, imbalanced classes.

    python examples/existing_module.py

The module and its data are a stand-in for yours: the handwritten digits that scikit-learn ships (8×8 pixels), batches
as dicts with the key ``digit``, and a head called ``readout`` that is followed by an auxiliary output. The last lines
are all that the callback needs.
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from le_callback import LECallback

Sample = dict[str, Tensor]


class Digits(Dataset[Sample]):
    """Handwritten digits as dicts; every second image of the digits 5 to 9 is left out."""

    def __init__(self) -> None:
        digits = load_digits()
        keep = [i for i, digit in enumerate(digits.target) if digit < 5 or i % 2]
        self.pixels = torch.from_numpy(digits.data[keep]).float() / 16
        self.digits = torch.from_numpy(digits.target[keep])

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Sample:
        return {"pixels": self.pixels[index], "digit": self.digits[index]}


class DigitNet(LightningModule):
    """Classifies a digit and reconstructs its pixels from the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.readout = nn.Linear(32, 10)
        self.decoder = nn.Linear(32, 64)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        features = self.encoder(batch["pixels"])
        loss = nn.functional.cross_entropy(self.readout(features), batch["digit"])
        return loss + nn.functional.mse_loss(self.decoder(features), batch["pixels"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(argv: list[str] | None = None) -> LECallback:
    """Train, print the table, return the callback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--logdir", default="runs")
    arguments = parser.parse_args(argv)
    seed_everything(0, verbose=False)
    loader = DataLoader(Digits(), batch_size=32, shuffle=True)

    callback = LECallback(head="readout", label="digit")
    trainer = Trainer(
        max_steps=arguments.steps,
        callbacks=[callback],
        logger=TensorBoardLogger(arguments.logdir, name="digits"),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(DigitNet(), loader)
    print(f"tensorboard --logdir {trainer.log_dir}")
    return callback


if __name__ == "__main__":
    main()
