"""Small trainings whose data files the page is tried on."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from le_callback import LECallback

ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]


class Net(LightningModule):
    """Two layers; from step ``jump`` on the learning rate is 100 times as large."""

    def __init__(self, dimensions, classes, rate, jump=None):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dimensions, 32), nn.ReLU())
        self.head = nn.Linear(32, classes)
        self.rate, self.jump = rate, jump

    def training_step(self, batch, batch_idx):
        x, y = batch
        if self.jump is not None and self.global_step == self.jump:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] *= 100
        return nn.functional.cross_entropy(self.head(self.body(x)), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def blobs(classes, dimensions, each, distance, noise=1.0):
    centres = distance * torch.randn(classes, dimensions)
    labels = torch.arange(classes).repeat(each)
    return centres[labels] + noise * torch.randn(len(labels), dimensions), labels


def train(
    folder,
    name,
    *,
    classes=10,
    steps=600,
    rate=0.05,
    distance=0.6,
    each=60,
    every=5,
    mixed=None,
    names=None,
    jump=None,
    blind=False,
    callback=None,
    batch=100,
    dimensions=16,
    checkpoint=None,
):
    """Train on Gaussian blobs; the folder of the run."""
    seed_everything(0, verbose=False)
    x, y = blobs(classes, dimensions, each, distance)
    if blind:  # nothing to learn
        y = y[torch.randperm(len(y))]
    if mixed:
        first, second = mixed
        both = (y == first) | (y == second)
        y[both] = torch.where(torch.rand(int(both.sum())) < 0.5, first, second)
    names = names or (ANIMALS[:classes] if classes <= 10 else None)
    callback = callback or LECallback(every_n_steps=every, class_names=names, summary=False, progress_bar=False)
    logger = TensorBoardLogger(folder, name=name, version="")
    trainer = Trainer(
        max_steps=steps,
        callbacks=[callback],
        logger=logger,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=every,
    )
    data = DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True)
    trainer.fit(Net(dimensions, classes, rate, jump), data)
    return logger.log_dir
