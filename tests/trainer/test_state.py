"""A run that was stopped and resumed equals the uninterrupted one."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from trainings import Classifier, MemoryLogger, loader, trainer

from le_callback import LECallback


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


def logged(ckpt_path=None, checkpoint_every=None, directory=None, **kwargs):
    """The le, etf and separation rows of a run, and the paths of its checkpoints."""
    logger = MemoryLogger()
    callbacks = [LECallback(summary=False)]
    if checkpoint_every:
        callbacks.append(
            ModelCheckpoint(directory, filename="{step}", save_top_k=-1, every_n_train_steps=checkpoint_every)
        )
    run = trainer(
        callbacks=callbacks, logger=logger, max_epochs=6, enable_checkpointing=bool(checkpoint_every), **kwargs
    )
    # batches in the same order in every epoch: what a loader that can be resumed gives
    run.fit(Classifier(dropout=0), ResumableLoader(), ckpt_path=ckpt_path)
    return {step: row for step, row in logger.rows.items() if "le/I_logits/A" in row}


class ResumableLoader:
    """A loader that goes on at the batch where its state was taken."""

    def __init__(self):
        self.batches = list(loader())
        self.position = 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        start = self.position % len(self.batches)
        for position in range(start, len(self.batches)):
            self.position = position + 1
            yield self.batches[position]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"] % len(self.batches)


@pytest.mark.parametrize("cut", [17, 20, 31, 48])  # mid-window, between windows, mid-epoch, between epochs
def test_resumed_run_logs_what_the_uninterrupted_one_does(tmp_path, cut):
    whole = logged(checkpoint_every=cut, directory=tmp_path)
    resumed = logged(ckpt_path=tmp_path / f"step={cut}.ckpt")
    expected = {step: row for step, row in whole.items() if step >= cut}
    assert resumed.keys() == expected.keys()
    assert len(resumed) >= 4
    for step, row in resumed.items():
        different = [tag for tag, value in row.items() if not same(value, expected[step][tag])]
        assert different == []
    last = expected[max(expected)]
    assert math.isfinite(last["le/I_logits/gamma"])
    assert math.isfinite(last["separation/features/nearest_mean_accuracy"])


def test_state_survives_safe_loading_and_holds_only_cpu_tensors(tmp_path):
    callback = LECallback(summary=False)
    trainer(callback).fit(Classifier(), loader())
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = LECallback(summary=False)
    again.load_state_dict(state)
    assert again.state_dict() is state  # not used yet: a checkpoint written now passes it on


def test_state_of_another_number_of_classes_is_told_and_left(tmp_path):
    callback = LECallback(summary=False)
    trainer(callback).fit(Classifier(), loader())
    other = LECallback(summary=False)
    other.load_state_dict(callback.state_dict())
    with pytest.warns(UserWarning, match="another number of classes or features"):
        trainer(other).fit(Classifier(classes=5), loader(classes=5))
    assert other.last_record.window == (15, 20)


def test_two_instances_with_different_heads_have_their_own_state():
    class TwoHeads(Classifier):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Linear(8, 3)

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss + torch.nn.functional.cross_entropy(self.other(self.body(batch[0])), batch[1])

    first, second = LECallback(head="head", summary=False), LECallback(head="other", name="other", summary=False)
    trainer(callbacks=[first, second]).fit(TwoHeads(), loader())
    assert first.state_key != second.state_key
    assert first.last_record.etf["logits"].smallest != second.last_record.etf["logits"].smallest


@pytest.mark.parametrize(("before", "after"), [(5, None), (None, 5)])
def test_a_probe_that_comes_or_goes_between_runs(before, after):
    first, second = (LECallback(summary=False, probe=probe) for probe in (before, after))
    run = trainer(first)
    run.fit(Classifier(), loader())
    second.load_state_dict(first.state_dict())
    run.callbacks = [second if c is first else c for c in run.callbacks]
    run.fit_loop.max_epochs = 4
    run.fit(Classifier(), loader())
    assert second.last_record.window == (40, 45)
    assert math.isfinite(second.last_record.coefficients["I_features"].A)
    assert ("I_probe_features" in second.last_record.coefficients) == (after is not None)


def test_callback_that_is_added_to_a_resumed_run(tmp_path):
    plain = trainer(enable_checkpointing=True, default_root_dir=tmp_path)
    plain.fit(Classifier(), loader())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    callback = LECallback(summary=False)
    trainer(callback, max_epochs=3).fit(Classifier(), loader(), ckpt_path=tmp_path / "plain.ckpt")
    assert callback.last_record.window == (30, 35)
    assert callback.last_record.coefficients["I_logits"].time == 32
