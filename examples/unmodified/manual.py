"""Another training that knows nothing of le_callback: pytorch_lightning, dict batches, two optimizers by hand.

Where the package is installed, an environment variable adds the callback:

    LE_CALLBACK=1 python examples/unmodified/manual.py
    tensorboard --logdir runs
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Sample = dict[str, Tensor]


class Signals(Dataset[Sample]):
    """Sums of two sines (N, 32) with noise; the class is the pair of their frequencies."""

    def __init__(self, samples: int = 2000) -> None:
        time = torch.linspace(0, 2 * torch.pi, 32)
        self.labels = torch.randint(4, (samples,))
        low, high = 1 + self.labels % 2, 4 + 2 * (self.labels // 2)
        phase = torch.rand(samples, 2, 1) * 0.5
        waves = torch.sin(low[:, None] * time + phase[:, 0]) + torch.sin(high[:, None] * time + phase[:, 1])
        self.signals = waves + 0.5 * torch.randn(samples, 32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return {"signal": self.signals[index], "label": self.labels[index]}


class DenoisingClassifier(LightningModule):
    """Classifies a signal and reconstructs it; encoder with classifier and decoder have an optimizer each."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU())
        self.classify = nn.Linear(16, 4)
        self.decoder = nn.Linear(16, 32)

    def training_step(self, batch: Sample, batch_idx: int) -> None:
        classifying, decoding = self.optimizers()  # type: ignore[attr-defined]
        code = self.encoder(batch["signal"])
        classifying.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self.classify(code), batch["label"]))
        classifying.step()
        decoding.zero_grad()
        self.manual_backward(nn.functional.mse_loss(self.decoder(code.detach()), batch["signal"]))
        decoding.step()

    def configure_optimizers(self) -> Any:
        classifying = [*self.encoder.parameters(), *self.classify.parameters()]
        return torch.optim.Adam(classifying, lr=1e-3), torch.optim.Adam(self.decoder.parameters(), lr=1e-3)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="of both optimizers together")
    parser.add_argument("--logdir", default="runs")
    arguments = parser.parse_args()
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=arguments.steps,
        logger=TensorBoardLogger(arguments.logdir, name="manual"),
        accelerator="cpu",
        enable_checkpointing=False,
        log_every_n_steps=50,
    )
    trainer.fit(DenoisingClassifier(), DataLoader(Signals(), batch_size=32, shuffle=True))


if __name__ == "__main__":
    main()
