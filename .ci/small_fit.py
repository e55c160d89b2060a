"""Twenty steps with the callback in an environment that has the package and what it requires, nothing else.

    python .ci/small_fit.py

Run from outside the checkout, with a fresh environment's Python and the -P or -I option, so that the installed package
is the one imported.
"""

import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import le_callback
from le_callback import LECallback

DEVELOPMENT = (
    "pytest",
    "hypothesis",
    "sklearn",
    "ruff",
    "mypy",
    "jsonargparse",
    "apprise",
    "importlinter",
    "mutmut",
    "selenium",
)


class Classifier(LightningModule):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    """Fit, and look at the records."""
    assert Path(le_callback.__file__).is_relative_to(sys.prefix), le_callback.__file__
    present = [name for name in DEVELOPMENT if find_spec(name)]
    assert not present, f"development packages are here: {present}"

    torch.manual_seed(0)
    labels = torch.arange(160) % 3
    samples = TensorDataset(torch.randn(160, 4) + 2 * nn.functional.one_hot(labels, 4), labels)
    callback = LECallback(every_n_steps=5)
    trainer = Trainer(
        max_steps=20,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), DataLoader(samples, batch_size=8))
    record = callback.last_record
    assert record is not None
    assert record.window == (15, 20), record.window
    assert record.samples == 40, record.samples
    accuracy = trainer.callback_metrics["separation/features/nearest_mean_accuracy"]
    assert 0.5 < accuracy <= 1, accuracy
    (tab,) = (entry.load() for entry in entry_points(group="tensorboard_plugins") if entry.name == "le_callback")
    assert {"/index.js", "/page.js", "/style.css", "/data"} <= tab(None).get_plugin_apps().keys()
    print(f"le_callback {le_callback.__version__} fits with only what it requires")


if __name__ == "__main__":
    main()
