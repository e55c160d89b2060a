"""Small trainings for the tests of the callback."""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from le_callback import LECallback

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


class Recording(LECallback):
    """Tells counts (K,) and means (K, width) of every window that the callback has closed, by source."""

    def __init__(self, **kwargs):
        super().__init__(**({"summary": False, "every_n_steps": 4} | kwargs))

    @property
    def windows(self):
        if self.trajectory is None:
            return []
        sources = {name: self.trajectory.sources[name] for name in ("features", "logits")}
        return [
            {name: (torch.from_numpy(s.counts[i]), torch.from_numpy(s.means[i])) for name, s in sources.items()}
            for i in range(len(sources["features"].times))
        ]


class Records(LECallback):
    """Keeps the record of every window."""

    def __init__(self, **kwargs):
        super().__init__(**({"summary": False} | kwargs))
        self.records = []

    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        self._keep()

    def on_train_end(self, *args):
        super().on_train_end(*args)
        self._keep()

    def _keep(self):
        if self.last_record is not None and not (self.records and self.records[-1] is self.last_record):
            self.records.append(self.last_record)


def assert_windows(callback, seen, batches, classes=CLASSES, rtol=1e-5):
    """The windows of a ``Recording`` hold ``seen``: (features, logits, labels) of each batch, ``batches`` a window."""
    check_windows(callback.windows, seen, batches, classes, rtol)


def check_windows(windows, seen, batches, classes=CLASSES, rtol=1e-5):
    """Counts and means of ``windows`` are those of what was ``seen``."""
    assert len(windows) == len(seen) // batches > 0
    for i, window in enumerate(windows):
        part = seen[i * batches : (i + 1) * batches]
        labels = torch.cat([y.reshape(-1) for _, _, y in part]).cpu()
        for source, name in enumerate(("features", "logits")):
            x = torch.cat([batch[source].reshape(len(batch[2].reshape(-1)), -1) for batch in part]).cpu().double()
            weight, mean = window[name]
            assert weight.tolist() == [(labels == k).sum() for k in range(classes)]
            for k in labels.unique():
                torch.testing.assert_close(mean[k].double(), x[labels == k].mean(0), rtol=rtol, atol=rtol)


def trained(make_model, data, *callbacks, validation=None, **kwargs):
    """Parameters and buffers after a training from a fixed random state, that state afterwards, and the model."""
    torch.manual_seed(1)
    model = make_model()
    trainer(callbacks=list(callbacks), **kwargs).fit(model, data() if callable(data) else data, validation)
    return [t.detach().clone() for t in model.state_dict().values()], torch.get_rng_state(), model


def check_training(make_model, data, batches, validation=None, callback=None, rtol=1e-5, classes=CLASSES, **kwargs):
    """Train with and without the callback: bit for bit the same; what it holds is what the model recorded."""
    plain, state, _ = trained(make_model, data, validation=validation, **kwargs)
    callback = callback or Recording()
    watched, watched_state, model = trained(make_model, data, callback, validation=validation, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert torch.equal(state, watched_state)
    assert_windows(callback, model.seen, batches, classes, rtol)
    assert not any(m._forward_hooks for m in model.modules())
    return callback, model


def run_body_and_head(module, batch):
    """What a command line can name as ``probe_forward``."""
    return module.head(module.body(batch[0]))
