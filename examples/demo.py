"""Train on GeoMNIST with LECallback attached, print its table and where to look in TensorBoard.

    python examples/demo.py [--steps 3000] [--logdir runs]

Nothing in the module below knows of the callback: it is attached in one line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from geomnist import GeoMNIST, PaperNet

from le_callback import LECallback


class Classifier(LightningModule):
    """A plain image classifier."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = PaperNet()
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.loss(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("val_acc", (self.net(images).argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def main(argv: list[str] | None = None) -> LECallback:
    """Train, print the table, return the callback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--logdir", type=Path, default=Path("runs"))
    arguments = parser.parse_args(argv)

    seed_everything(0, verbose=False)
    train = DataLoader(GeoMNIST(per_class=500, seed=0), batch_size=16, shuffle=True)
    validation = DataLoader(GeoMNIST(per_class=100, seed=1), batch_size=100)
    callback = LECallback(tags="all")  # loggers get the essential tags by default; plot_run.py draws more
    trainer = Trainer(
        max_steps=arguments.steps,
        callbacks=[callback],
        logger=TensorBoardLogger(arguments.logdir, name="geomnist"),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        check_val_every_n_epoch=10,
    )
    trainer.fit(Classifier(lr=0.03), train, validation)
    print(f"tensorboard --logdir {trainer.log_dir}")
    return callback


if __name__ == "__main__":
    main()
