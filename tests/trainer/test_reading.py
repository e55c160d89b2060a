"""Reading what a loss is given, in every step: what is left behind, what it costs the run, what the user is asked."""

import copy

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import _get_current_function_mode_stack
from trainings import CLASSES, DIMENSIONS, Recording, assert_windows, loader, trainer

from le_callback import LECallback


class Product(LightningModule):
    """A head that is no layer, and labels that the step makes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.ReLU())
        self.weight = nn.Parameter(torch.randn(CLASSES, 8))
        self.seen = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        y = torch.where(y > 5, 0, y)
        features = self.body(x)
        logits = F.linear(features, self.weight)
        self.seen.append((features.detach().clone(), logits.detach().clone(), y))
        return F.cross_entropy(logits, y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def test_what_is_done_to_the_module_between_two_steps():
    stacks = []

    class Exporting(Product):
        def on_train_batch_end(self, *args):
            stacks.append(len(_get_current_function_mode_stack()))
            assert not any(m._forward_hooks for m in self.modules())
            assert not any(m._forward_hooks for m in copy.deepcopy(self.body).modules())
            torch.jit.script(self.body)
            exported = torch.export.export(copy.deepcopy(self.body).eval(), (torch.zeros(2, DIMENSIONS),))
            assert "call_function" in {node.op for node in exported.graph.nodes}

    callback, model = Recording(), Exporting()
    trainer(callback, max_epochs=1).fit(model, loader())
    assert_windows(callback, model.seen, 4)
    assert stacks == [0] * 12


def test_export_inside_the_step():
    class Exporting(Product):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            exported = torch.export.export(copy.deepcopy(self.body), (batch[0],))
            assert "le_callback" not in str(exported.graph)
            return loss

    callback, model = Recording(), Exporting()
    trainer(callback, max_epochs=1, limit_train_batches=4).fit(model, loader())
    assert_windows(callback, model.seen, 4)


@pytest.mark.parametrize("step", [0, 3])
def test_an_exception_leaves_no_mode_and_no_hook(step):
    class Failing(Product):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if batch_idx == step:
                raise RuntimeError("stop")
            return loss

    model = Failing()
    with pytest.raises(RuntimeError, match="stop"):
        trainer(LECallback(summary=False), max_epochs=1).fit(model, loader())
    assert not _get_current_function_mode_stack()
    assert not any(m._forward_hooks for m in model.modules())


def test_a_mode_of_the_user_around_the_layer_is_left_in_its_order():
    class Placed(Product):
        def training_step(self, batch, batch_idx):
            with torch.device("cpu"):
                features = self.body(batch[0])
            logits = F.linear(features, self.weight)
            self.seen.append((features.detach().clone(), logits.detach().clone(), batch[1]))
            return F.cross_entropy(logits, batch[1])

    callback, model = Recording(), Placed()
    trainer(callback, max_epochs=1).fit(model, loader())
    assert_windows(callback, model.seen, 4)
    assert not _get_current_function_mode_stack()


def test_a_head_that_is_not_the_same_in_a_later_step_is_skipped_and_counted():
    class Changing(Product):
        def training_step(self, batch, batch_idx):
            if batch_idx < 8:
                return super().training_step(batch, batch_idx)
            features = self.body(batch[0])
            return F.cross_entropy(features[:, :CLASSES] @ self.weight[:, :CLASSES].T, batch[1])

    callback = Recording()
    trainer(callback, max_epochs=1).fit(Changing(), loader())
    assert callback.last_record.skipped["head_not_called"] == 4


def test_a_callable_for_the_labels_is_asked_once_a_batch():
    asked = []

    def label(batch):
        asked.append(len(batch[1]))
        return batch[1]

    trainer(LECallback(label=label, summary=False), max_epochs=1).fit(Product(), loader())
    assert asked == [8] * 12


def test_labels_that_the_step_takes_out_are_read_by_a_callable():
    class Popping(Product):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch["x"], batch.pop("y")), batch_idx)

    data = [{"x": x, "y": y} for x, y in loader()]
    callback, model = Recording(label=lambda batch: batch["y"]), Popping()
    trainer(callback, max_epochs=1).fit(model, torch.utils.data.DataLoader(data, batch_size=None))
    assert_windows(callback, model.seen, 4)
