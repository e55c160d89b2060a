"""A run that was stopped and resumed equals the uninterrupted one."""

import copy
import math
import warnings

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from trainings import Classifier, MemoryLogger, blobs, loader, trainer

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
    assert again.state_dict().keys() == state.keys()  # not used yet: a checkpoint written now passes it on
    state["monitor"]["windows"] = -1
    assert again.state_dict()["monitor"]["windows"] == 4  # and it is a copy


def test_state_of_another_number_of_classes_is_told_and_left(tmp_path):
    callback = LECallback(summary=False)
    trainer(callback).fit(Classifier(), loader())
    other = LECallback(summary=False)
    other.load_state_dict(callback.state_dict())
    with pytest.warns(UserWarning, match=r"not continued, everything starts anew \(it is of 3 classes, here are 5\)"):
        trainer(other).fit(Classifier(classes=5), loader(classes=5))
    assert other.last_record.window == (15, 20)


def fresh_run(callback, steps=24, **kwargs):
    """The tables of all windows of a run that starts with the callback as it is."""
    logger = MemoryLogger()
    run = trainer(callback, logger=logger, max_epochs=-1, max_steps=steps, **kwargs)
    run.fit(Classifier(dropout=0), loader())
    return {step: {k: None if math.isnan(v) else v for k, v in row.items()} for step, row in logger.rows.items()}


@pytest.fixture(scope="module")
def saved():
    callback = LECallback(summary=False)
    fresh_run(callback, 23)  # in the middle of a window
    return callback.state_dict()


def changed(state, *path, to):
    state = copy.deepcopy(state)
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return state


def without(state, *path):
    state = copy.deepcopy(state)
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return state


SPOILT = {
    "from before versions": (lambda s: without(s, "version"), "has no version"),
    "of another version": (lambda s: changed(s, "version", to=1), "layout 1, here is layout 5"),
    "without a part": (lambda s: without(s, "timeline"), "lacks timeline"),
    "with one part more": (lambda s: s | {"extra": 3}, "holds the unknown extra"),
    "without a key": (lambda s: without(s, "monitor", "windows"), r"lacks monitor\.windows"),
    "with one key more": (lambda s: changed(s, "monitor", "more", to=1), r"the unknown monitor\.more"),
    "with a key less below": (
        lambda s: without(s, "monitor", "coefficients", "trackers", "I_logits", "series"),
        "KeyError: 'series'",
    ),
    "with a moment less": (lambda s: without(s, "monitor", "window", "sums", "logits", "state", "weight"), "weight"),
    "with a moment more": (
        lambda s: changed(s, "monitor", "window", "sums", "logits", "state", "w", to=0),
        "cannot be read",
    ),
    "with no logits": (lambda s: without(s, "monitor", "window", "sums", "logits"), "KeyError: 'logits'"),
    "of another axis": (lambda s: changed(s, "timeline", "axis", to="lr"), "time axis is 'lr', here it is 'steps'"),
    "of another K": (lambda s: changed(s, "monitor", "num_classes", to=4), "of 4 classes, here are 3"),
    "with text for a number": (lambda s: changed(s, "monitor", "start_step", to="five"), "start_step is of type str"),
    "with text for a part": (lambda s: changed(s, "monitor", to="nothing"), "monitor is of type str"),
    "with odd alerts": (lambda s: changed(s, "alerts", to=[3]), "cannot be read"),
    "with an odd window": (lambda s: changed(s, "monitor", "window", to=torch.ones(3)), "cannot be read"),
    "a list": (lambda s: [s], "of type list"),
    "a number": (lambda s: 17, "of type int"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_state_that_does_not_fit_is_told_and_everything_starts_anew(saved, what):
    spoil, told = SPOILT[what]
    callback = LECallback(summary=False)
    callback.load_state_dict(spoil(saved))
    with pytest.warns(UserWarning, match=f"not continued, everything starts anew.*({told})") as caught:
        rows = fresh_run(callback)
    assert sum("not continued" in str(w.message) for w in caught) == 1
    assert rows == fresh_run(LECallback(summary=False))


@pytest.mark.parametrize("probe", [None, 5])
def test_a_state_of_another_width_is_told_and_everything_starts_anew(saved, probe):
    class Wider(Classifier):
        def __init__(self):
            super().__init__()
            self.body, self.head = torch.nn.Linear(6, 11), torch.nn.Linear(11, 3)

    callback = LECallback(summary=False, probe=probe)
    callback.load_state_dict(saved)
    with pytest.warns(UserWarning, match="its features are 8 wide, here 11"):
        trainer(callback).fit(Wider(), loader())
    assert callback.monitor.windows == 4
    assert callback.last_record.samples == 40


def test_a_resume_of_the_trainer_from_a_spoilt_checkpoint_goes_on(tmp_path):
    run = trainer(LECallback(summary=False), enable_checkpointing=True, default_root_dir=tmp_path)
    run.fit(Classifier(), loader())
    run.save_checkpoint(tmp_path / "run.ckpt")
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    for state in checkpoint["callbacks"].values():
        state.pop("monitor", None)
    torch.save(checkpoint, tmp_path / "spoilt.ckpt")
    callback = LECallback(summary=False)
    again = trainer(callback, max_epochs=4)
    with pytest.warns(UserWarning, match="it lacks monitor"):
        again.fit(Classifier(), loader(), ckpt_path=tmp_path / "spoilt.ckpt")
    assert again.global_step == 48
    assert callback.last_record.window == (40, 45)
    assert callback.monitor.windows == 5  # of steps 25 to 48


class TestAfterACrash:
    """Without a checkpoint nothing that was seen before an exception counts."""

    class Failing(Classifier):
        fail_at = 7

        def training_step(self, batch, batch_idx):
            if self.global_step == self.fail_at:
                raise RuntimeError("out of luck")
            return super().training_step(batch, batch_idx)

    @pytest.mark.parametrize("another_trainer", [False, True])
    def test_no_sample_of_the_first_try_counts(self, another_trainer):
        model, callback = self.Failing(dropout=0), LECallback(summary=False, every_n_steps=1000)
        run = trainer(callback, max_epochs=-1, max_steps=17)
        with pytest.raises(RuntimeError, match="out of luck"):
            run.fit(model, loader())
        model.fail_at, model.seen = None, []
        if another_trainer:
            run = trainer(callback, max_epochs=-1, max_steps=10)
        run.fit(model, loader())
        assert callback.last_record.samples == sum(len(y) for _, _, y in model.seen) == 80
        assert callback.last_record.window == ((0, 10) if another_trainer else (7, 17))

    def test_a_checkpoint_from_before_it_is_continued(self, tmp_path):
        model, callback = self.Failing(dropout=0), LECallback(summary=False, every_n_steps=1000)
        keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5)
        run = trainer(callbacks=[callback, keep], max_epochs=1, enable_checkpointing=True)
        with pytest.raises(RuntimeError, match="out of luck"):
            run.fit(model, loader())
        model.fail_at = None
        again = trainer(callbacks=[callback, keep], max_epochs=1, enable_checkpointing=True)
        again.fit(model, loader(), ckpt_path=tmp_path / "step=5.ckpt")
        assert callback.last_record.window == (0, 12)
        assert callback.last_record.samples == 96


class TestFolds:
    """One callback in one Trainer after another is as a new one in each."""

    def fold(self, callback, fold, classes=3):
        logger = MemoryLogger()
        keep = torch.arange(96) % 5 != fold
        data = [x[keep] for x in blobs(classes=classes, seed=fold)]
        batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=7)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = trainer(callback, logger=logger, max_epochs=8, gradient_clip_val=1.0)
            run.fit(NoisyLate(classes=classes, nan_at=25 if fold == 1 else None), batches)
        told = [str(w.message) for w in caught if "LECallback" in str(w.message)]
        metrics = {tag: repr(float(value)) for tag, value in run.callback_metrics.items()}
        table = [line for line in callback.summary_table().splitlines() if not line.startswith("Own time")]
        return run.global_step, told, metrics, table, {s: repr(row) for s, row in logger.rows.items()}

    @pytest.mark.parametrize("arguments", [{}, {"probe": 4, "on_alert": "stop"}, {"time_axis": "epochs"}])
    def test_five_folds_equal_five_callbacks(self, arguments):
        settings = {"summary": False, "figures": False, "tags": "all", "every_n_steps": 4} | arguments
        one = LECallback(**settings)
        steps = []
        for fold in range(5):
            reused, fresh = self.fold(one, fold), self.fold(LECallback(**settings), fold)
            assert reused == fresh
            assert any("NonFinite" in text for text in reused[1]) == (fold == 1)
            steps.append(reused[0])
        stopped = "on_alert" in arguments
        assert [n < 80 for n in steps] == [False, stopped, False, False, False]

    def test_from_three_classes_to_five(self):
        one = LECallback(summary=False, figures=False, tags="all", every_n_steps=4)
        self.fold(one, 0)
        fresh = self.fold(LECallback(summary=False, figures=False, tags="all", every_n_steps=4), 2, classes=5)
        reused = self.fold(one, 2, classes=5)
        assert reused == fresh
        assert len(reused[-1]) == reused[0] // 4

    def test_a_fit_without_a_training_step_shows_no_table_of_another(self, capsys):
        callback = LECallback()
        trainer(callback).fit(Classifier(), loader())
        assert "Local elasticity" in capsys.readouterr().out
        trainer(callback, max_epochs=0).fit(Classifier(), loader())
        assert capsys.readouterr().out == ""

    def test_a_checkpoint_without_a_state_in_another_trainer_starts_anew(self, tmp_path):
        plain = trainer(enable_checkpointing=True, default_root_dir=tmp_path)
        plain.fit(Classifier(), loader())
        plain.save_checkpoint(tmp_path / "plain.ckpt")
        callback = LECallback(summary=False)
        first = trainer(callback)
        first.fit(Classifier(), loader())
        trainer(callback, max_epochs=3).fit(Classifier(), loader(), ckpt_path=tmp_path / "plain.ckpt")
        assert callback.monitor.windows == 3
        assert first.global_step == 24


class NoisyLate(Classifier):
    """One batch holds NaN."""

    def __init__(self, classes, nan_at=None):
        super().__init__(classes=classes, dropout=0)
        self.nan_at = nan_at

    def on_before_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return (torch.full_like(x, torch.nan) if self.trainer.fit_loop.total_batch_idx + 1 == self.nan_at else x), y

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if loss.isfinite() else None


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
    assert math.isfinite(second.last_record.coefficients["I_features"].A.value)
    assert ("I_probe_features" in second.last_record.coefficients) == (after is not None)


def test_callback_that_is_added_to_a_resumed_run(tmp_path):
    plain = trainer(enable_checkpointing=True, default_root_dir=tmp_path)
    plain.fit(Classifier(), loader())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    callback = LECallback(summary=False)
    trainer(callback, max_epochs=3).fit(Classifier(), loader(), ckpt_path=tmp_path / "plain.ckpt")
    assert callback.last_record.window == (30, 35)
    assert callback.last_record.coefficients["I_logits"].time == 32
