"""An ordinary training that knows nothing of le_callback.

Where the package is installed, an environment variable adds the callback:

    LE_CALLBACK=1 python examples/unmodified/plain.py
    tensorboard --logdir runs
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def digits(samples: int = 2000, classes: int = 10) -> TensorDataset:
    """Images (N, 1, 8, 8) of one random prototype a class, shifted by up to a pixel, with noise."""
    prototypes = torch.rand(classes, 8, 8)
    labels = torch.randint(classes, (samples,))
    shifts = torch.randint(-1, 2, (samples, 2)).tolist()
    images = torch.stack([prototypes[k].roll(shift, (0, 1)) for k, shift in zip(labels, shifts, strict=True)])
    return TensorDataset((images + 0.3 * torch.randn_like(images)).unsqueeze(1), labels)


class ConvNet(LightningModule):
    """Two convolutions and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten()
        )
        self.classifier = nn.Linear(32 * 9, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10)."""
        return self.classifier(self.features(images))  # type: ignore[no-any-return]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--logdir", default="runs")
    arguments = parser.parse_args()
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=arguments.steps,
        logger=TensorBoardLogger(arguments.logdir, name="plain"),
        accelerator="cpu",
        enable_checkpointing=False,
        log_every_n_steps=25,
    )
    trainer.fit(ConvNet(), DataLoader(digits(), batch_size=32, shuffle=True))


if __name__ == "__main__":
    main()
