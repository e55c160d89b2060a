"""The recipes of docs/recipes.md, each in a training."""

import math
import re
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from trainer.test_alarm import Broken
from trainings import Classifier, loader, trainer

from le_callback import LECallback

RECIPES = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


def recipe(name):
    """The code of the recipe that has this word, as it is printed."""
    return next(code for code in re.findall(r"```python\n(.*?)```", RECIPES, re.S) if name in code)


def fit(model, *callbacks, epochs, le=None, **kwargs):
    le = le or LECallback(summary=False, figures=False, every_n_steps=12)
    run = trainer(callbacks=[le, *callbacks], max_epochs=epochs, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit(model, loader(), loader())
    return le, run


class Far(Classifier):
    """Its classes lie far apart."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step((0.3 * x + 3 * torch.eye(x.shape[1])[y], y), batch_idx)


def test_stop_when_separated():
    le, run = fit(Far(dropout=0), eval(recipe("EarlyStopping"), {"EarlyStopping": EarlyStopping}), epochs=100)
    assert run.global_step < 12 * 99
    assert le.last_record.regime.name == "separated"


def test_keep_the_best_by_separability(tmp_path):
    keep = eval(recipe("ModelCheckpoint"), {"ModelCheckpoint": ModelCheckpoint})
    keep.dirpath = str(tmp_path)
    seen = []

    class Seen(LECallback):
        def on_validation_end(self, run, module):
            if not run.sanity_checking:
                seen.append(float(run.callback_metrics["separation/features/discriminability_min"]))

    le = Seen(summary=False, figures=False, every_n_steps=12)
    fit(Classifier(), keep, epochs=12, le=le, enable_checkpointing=True)
    known = [value for value in seen if not math.isnan(value)]
    assert len(known) >= 8
    assert float(keep.best_model_score) == pytest.approx(max(known), rel=1e-6)
    assert torch.load(keep.best_model_path, weights_only=False)["global_step"] > 0


def test_stop_on_some_alerts():
    names = {}
    code = recipe("stop_if_lost").replace("LECallback(on_alert=stop_if_lost)", "")
    exec(code.split("LECallback")[0].split("  # or")[0], names)
    le = LECallback(summary=False, figures=False, every_n_steps=12, on_alert=names["stop_if_lost"])
    run = trainer(callbacks=[le], max_epochs=10)
    names["trainer"] = run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit(Broken(nan_at=13), loader())
    assert run.global_step == 24
