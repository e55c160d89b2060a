"""Small trainings for the tests of the callback."""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 3
DIMENSIONS = 6


def blobs(n=96, classes=CLASSES, seed=0):
    """Gaussian blobs around fixed corners, labels in random order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = 2 * torch.randn(classes, DIMENSIONS, generator=torch.Generator().manual_seed(99))
    return centres[labels] + torch.randn(n, DIMENSIONS, generator=generator), labels


def loader(n=96, batch_size=8, classes=CLASSES, **kwargs):
    return DataLoader(TensorDataset(*blobs(n, classes)), batch_size=batch_size, **kwargs)


class Classifier(LightningModule):
    """Two dense layers with dropout, so that a changed random state shows in the parameters."""

    def __init__(self, classes=CLASSES, dropout=0.2, lr=0.1):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(8, classes)
        self.lr = lr
        self.seen = []  # what the head saw in training: (features, logits, labels) of each batch

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.seen.append((features.detach().clone(), logits.detach().clone(), y.clone()))
        return nn.functional.cross_entropy(logits, y)

    def validation_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class MemoryLogger(Logger):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.rows = {}

    @property
    def name(self):
        return "memory"

    @property
    def version(self):
        return 0

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        self.rows.setdefault(step, {}).update(metrics)


def trainer(callback=None, **kwargs):
    """A quiet CPU Trainer."""
    callbacks = [*kwargs.pop("callbacks", []), *([callback] if callback is not None else [])]
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 5,
    }
    return Trainer(callbacks=callbacks, **(settings | kwargs))
