"""Several callbacks in one Trainer: each has its own tags, progress bar entry, figures and state."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from trainings import Classifier, MemoryLogger, Recording, assert_windows, loader, trainer

from le_callback import LECallback


class TwoHeads(Classifier):
    """A second head, of twice the classes, reads the same features after another layer."""

    def __init__(self):
        super().__init__()
        self.neck, self.second = nn.Linear(8, 5), nn.Linear(5, 6)
        self.seen_second = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        features = self.neck(self.seen[-1][0])
        logits, labels = self.second(features), fine(batch)
        self.seen_second.append((features.detach().clone(), logits.detach().clone(), labels))
        return loss + nn.functional.cross_entropy(logits, labels)


def fine(batch):
    """Six classes: the sign of the first input splits each of the three."""
    return 2 * batch[1] + (batch[0][:, 0] > 0)


def pair(**arguments):
    return (
        Recording(head="head", name="coarse", **arguments),
        Recording(head="second", label=fine, name="fine", **arguments),
    )


def test_each_sees_its_own_head_and_the_training_is_the_same():
    def fitted(*callbacks):
        torch.manual_seed(1)
        model = TwoHeads()
        trainer(callbacks=list(callbacks)).fit(model, loader())
        return model

    coarse, detailed = pair()
    plain, model = fitted(), fitted(coarse, detailed)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert_windows(coarse, model.seen, 4)
    assert_windows(detailed, model.seen_second, 4, classes=6)


def test_tags_progress_bar_metrics_and_table(capsys):
    logger = MemoryLogger()
    first, second = pair(tags="all", summary=True)
    run = trainer(callbacks=[first, second], logger=logger)
    run.fit(TwoHeads(), loader())
    row = logger.rows[23]
    names = {tag.split("/")[0] for tag in row if "/" in tag}
    assert names == {"coarse", "fine"}
    assert {tag.removeprefix("coarse/") for tag in row if tag.startswith("coarse/")} == {
        tag.removeprefix("fine/") for tag in row if tag.startswith("fine/")
    }
    for callback in (first, second):
        key = f"{callback.arguments.name}/etf/logits/angle_mean_deg"
        assert row[key] == callback.last_record.etf["logits"].mean
        assert float(run.callback_metrics[key]) == pytest.approx(row[key])
    assert {"γ coarse", "γ fine"} <= run.progress_bar_metrics.keys()
    assert "γ" not in run.progress_bar_metrics
    assert "coarse: Local elasticity and separability, 3 classes" in capsys.readouterr().out


def test_figures(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    trainer(callbacks=list(pair()), logger=logger).fit(TwoHeads(), loader())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == {"coarse/etf/cosines", "fine/etf/cosines"}


def test_state_goes_back_to_where_it_came_from(tmp_path):
    run = trainer(callbacks=list(pair()), enable_checkpointing=True, default_root_dir=tmp_path)
    run.fit(TwoHeads(), loader())
    run.save_checkpoint(tmp_path / "run.ckpt")
    coarse, detailed = pair()
    trainer(callbacks=[detailed, coarse], max_epochs=3).fit(TwoHeads(), loader(), ckpt_path=tmp_path / "run.ckpt")
    assert (coarse.monitor.num_classes, detailed.monitor.num_classes) == (3, 6)
    assert coarse.monitor.windows == detailed.monitor.windows == 36 // 4


def test_equal_instances_are_refused_by_the_trainer():
    with pytest.raises(RuntimeError, match=r"more than one stateful callback of type `LECallback`.*state_key"):
        trainer(callbacks=[LECallback(), LECallback()])


@pytest.mark.parametrize("name", [None, "both"])
def test_instances_whose_tags_would_collide_are_refused(name):
    first, second = LECallback(head="head", name=name), LECallback(head="second", label=fine, name=name)
    with pytest.raises(ValueError, match=rf"`name` to be another one for each LECallback.*{name}"):
        trainer(callbacks=[first, second]).fit(TwoHeads(), loader())


def test_one_instance_may_go_without_a_name():
    logger = MemoryLogger()
    first, second = Recording(head="head"), pair()[1]
    trainer(callbacks=[first, second], logger=logger).fit(TwoHeads(), loader())
    assert {"le/I_logits/gamma", "fine/le/I_logits/gamma"} <= logger.rows[23].keys()


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("a/", ValueError), ("/a", ValueError), (3, TypeError)])
def test_names_that_make_no_tag(name, error):
    with pytest.raises(error, match="`name`"):
        LECallback(name=name)
