"""A training for test_processes, ``python processes_run.py FOLDER CASE``: every process saves what it saw."""

import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader, TensorDataset
from trainings import Classifier, blobs, run_body_and_head, trainer

from le_callback import LECallback
from le_callback.alerts import Alert
from le_callback.entry_point import AddedCallback


class SilentOnOne(Classifier):
    """The head is not called through its module on the second process for the first ten steps."""

    def training_step(self, batch, batch_idx):
        if self.global_rank == 1 and self.global_step < 10:
            loss = torch.nn.functional.cross_entropy(
                torch.nn.functional.linear(self.body(batch[0]), self.head.weight, self.head.bias), batch[1]
            )
            self.seen.append(None)
            return loss
        return super().training_step(batch, batch_idx)


class DifferOnOne(Classifier):
    """The second process trains another layer as its classifier."""

    def __init__(self):
        super().__init__()
        self.wide = torch.nn.Linear(8, self.head.out_features + 1)

    def training_step(self, batch, batch_idx):
        features = self.body(batch[0])
        heads = [self.head, self.wide]
        used, unused = reversed(heads) if self.global_rank == 1 else heads
        self.seen.append(None)
        return torch.nn.functional.cross_entropy(used(features), batch[1]) + 0 * unused(features).sum()


class Regression(Classifier):
    """No classification."""

    def training_step(self, batch, batch_idx):
        self.seen.append(None)
        return torch.nn.functional.mse_loss(self.head(self.body(batch[0])).mean(1), batch[0][:, 0])


class Ends(Callback):
    """One process wants to stop: Lightning makes it a decision of all."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        mine = trainer.global_rank == 1 and trainer.global_step >= 11
        trainer.should_stop = trainer.should_stop or trainer.strategy.reduce_boolean_decision(mine, all=False)


class Records(Callback):
    """Metrics after every window, as other callbacks can monitor them."""

    def __init__(self, callback, folder=None):
        self.callback, self.folder, self.rows, self.said = callback, folder, {}, {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        record = self.callback.last_record
        if record is not None and record.step == trainer.global_step:
            self.rows[record.step] = {k: float(v) for k, v in trainer.callback_metrics.items()}
            self.said[record.step] = [
                record.regime.name,
                record.regime.reason,
                *(r for r, on in record.alerts.items() if on),
            ]

    def on_fit_end(self, trainer, pl_module):
        if self.folder is not None:  # of a spawned process the parent keeps nothing
            self.save(self.folder, "spawn", trainer, pl_module)

    def save(self, folder, case, trainer, model):
        found = {"rows": self.rows, "seen": model.seen, "step": trainer.global_step}
        if self.callback.last_record and self.callback.last_record.step_response:
            tracker = self.callback.monitor.probe.step_response["features"]
            found["compositions"] = [composition for composition, _ in tracker._steps]
        if self.callback.last_epoch is not None:
            found["epoch"] = self.callback.last_epoch.values
            found["parameters"] = whole_parameters(model)
        if case == "rules":
            found |= {"said": self.said, "state": self.callback.state_dict()}
        torch.save(found, Path(folder) / f"{case}_{trainer.global_rank}.pt")


def whole_parameters(model):
    """Of a model whose parameters may be split."""
    return {k: (v.full_tensor() if hasattr(v, "full_tensor") else v).detach() for k, v in model.state_dict().items()}


def data(uneven):
    """The part of this process; uneven: low classes for the first, high classes for the second."""
    x, y = blobs(192)
    order = y.argsort(stable=True) if uneven else torch.arange(192)
    mine = order.view(2, 96)[int(os.environ.get("LOCAL_RANK", "0"))]
    return DataLoader(TensorDataset(x[mine], y[mine]), batch_size=8)


class BreaksOnOne(Classifier):
    """From step 60 on the second process has wrong labels."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step(
            (x, (y + 1) % 3 if self.global_rank == 1 and self.global_step >= 60 else y), batch_idx
        )


def on_first_only(record):
    """A rule that does not say the same on all processes."""
    if record.step >= 12 and os.environ.get("LOCAL_RANK", "0") == "0":
        return Alert("OnFirstOnly", record.step, (), "It is so.", "Stop.", 0.0, 0.0, 0.0)
    return None


def sharded():
    """A model whose parameters are split over the processes."""
    from torch.distributed.fsdp import fully_shard

    class Sharded(Classifier):
        def configure_model(self):
            for module in (self.body, self.head, self):
                fully_shard(module, mesh=self.device_mesh["data_parallel"])

    return Sharded(dropout=0)


def run(folder, case):
    """Train, and save metrics, what the head saw, and how it ended on this process."""
    checkpoint = Path(folder) / "checkpoint.ckpt"
    settings = {"devices": 2, "strategy": "ddp", "precision": "64-true", "use_distributed_sampler": False}
    if case == "spawn":
        settings["strategy"] = "ddp_spawn"
    if "fsdp" in case:
        strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
        settings |= {"strategy": strategy, "precision": "32-true"}
    if case in ("save_one", "resume_one"):
        settings |= {"devices": 1, "strategy": "auto"}
    models = {
        "silent": SilentOnOne,
        "differ": DifferOnOne,
        "fsdp": sharded,
        "exact_fsdp": sharded,
        "rules": BreaksOnOne,
        "regression": Regression,
        "added_regression": Regression,
    }
    model = models.get(case, Classifier)()
    extra = {"probe": blobs(30), "probe_every_n_steps": 2} if case == "probe" else {}
    head = "head" if case == "silent" else None  # where nothing is named, the other process finds another layer
    if "exact" in case:
        extra = {"exact": blobs(50, seed=3), "out_of_distribution": blobs(20, seed=9)[0]}
        extra["probe_forward"] = run_body_and_head  # as the step does it: parameters are gathered layer by layer
    if case == "alert":
        extra |= {"alerts": [on_first_only], "on_alert": "stop"}
    callback = LECallback(head, every_n_steps=6, smoothing=4, summary=False, **extra)
    if case == "added_regression":
        callback = AddedCallback()
    records = Records(callback, folder if case == "spawn" else None)
    callbacks = [*([Ends()] if case == "stop" else []), callback, records]
    runner = trainer(callbacks=callbacks, max_epochs={"save": 1, "save_one": 1, "rules": 9}.get(case, 2), **settings)
    runner.fit(model, data(uneven=case == "uneven"), ckpt_path=checkpoint if "resume" in case else None)
    if "save" in case:
        runner.save_checkpoint(checkpoint)
    if case != "spawn":
        records.save(folder, case, runner, model)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2])
