"""What the losses of the first batch decide: head and labels."""

import logging
from types import SimpleNamespace

import pytest
import torch
from evidence_steps import Manual, Net, Pair, Sample, X, Y, batches, classify, fit, follows, one, stacked
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader
from trainings import CLASSES, Recording, assert_windows, loader, trainer

from le_callback import DiagnosticWarning


class TestHead:
    def test_a_projection_that_is_called_last(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            return F.cross_entropy(logits, y) + 1e-3 * net.projection(net.body(x)).square().mean()

        follows(step)

    def test_a_teacher_that_is_called_last(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            with torch.no_grad():
                soft = net.aux(net.body(x))[:, :CLASSES].softmax(1)
            return F.cross_entropy(logits, y) + F.kl_div(logits.log_softmax(1), soft, reduction="batchmean")

        follows(step)

    @pytest.mark.parametrize(
        "change",
        [
            lambda z, y: z / 0.5,
            lambda z, y: 3 * z - 1.5 * F.one_hot(y, CLASSES),
            lambda z, y: z.T.contiguous().T,
            lambda z, y: z.unsqueeze(0).expand(1, -1, -1)[0],
            lambda z, y: z.double(),
            lambda z, y: 30 * torch.tanh(z / 30),
        ],
        ids=["temperature", "margin", "transposed", "views", "cast", "capped"],
    )
    def test_logits_that_are_changed_behind_the_head(self, change):
        follows(lambda net, batch: F.cross_entropy(change(classify(net, *batch), batch[1]), batch[1]))

    @pytest.mark.parametrize(
        "loss",
        [
            lambda z, y: F.nll_loss(F.log_softmax(z, dim=1), y),
            lambda z, y: F.nll_loss(torch.log(z.softmax(1)), y),
            lambda z, y: F.multi_margin_loss(z, y),
            lambda z, y: nn.CrossEntropyLoss(label_smoothing=0.1)(z, y),
            lambda z, y: F.cross_entropy(z, F.one_hot(y, CLASSES).float()),
            lambda z, y: F.mse_loss(z, F.one_hot(y, CLASSES).float()),
            lambda z, y: -(z.log_softmax(1) * F.one_hot(y, CLASSES)).sum(1).mean(),
            lambda z, y: -z.log_softmax(1).gather(1, y[:, None]).mean(),
            lambda z, y: (z.logsumexp(1) - z.gather(1, y[:, None])[:, 0]).mean(),
            lambda z, y: -z.log_softmax(1)[torch.arange(len(y)), y].mean(),
        ],
    )
    def test_losses(self, loss):
        follows(lambda net, batch: loss(classify(net, *batch), batch[1]))

    def test_one_logit(self):
        data = DataLoader(torch.utils.data.TensorDataset(X, Y, (Y > 0).long()), batch_size=8)
        follows(one, data, classes=2)

    def test_of_two_losses_the_first_is_taken_and_the_other_told(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            return F.cross_entropy(logits, y) + 0.3 * F.cross_entropy(net.aux(net.body(x)), y)

        with pytest.warns(DiagnosticWarning, match=r"several classification losses.*`head`.*`head='aux'`.*`name=`"):
            follows(step)

    def test_the_labelled_part_of_a_batch(self):
        def step(net, batch):
            x, y = batch
            features = net.body(torch.cat([x, x + 1]))
            logits = net.head(features)
            net.see(features[:8], logits[:8], y)
            return F.cross_entropy(logits[:8], y) + F.cross_entropy(logits[8:], logits[8:].argmax(1).detach())

        follows(step)

    def test_the_labelled_call_of_several(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            other = net.head(net.body(x + 1))
            return F.cross_entropy(logits, y) + F.cross_entropy(other, other.argmax(1).detach())

        follows(step)

    def test_a_later_pass_without_gradients_does_not_replace_the_training_pass(self):
        def step(net, batch):
            loss = F.cross_entropy(classify(net, *batch), batch[1])
            with torch.no_grad():
                net.head(net.body(batch[0] + 5))
            return loss

        follows(step)
        follows(step, head="head")

    def test_a_layer_of_the_users_own(self):
        class Cosine(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.randn(CLASSES, 16))

            def forward(self, x):
                return 5 * F.linear(F.normalize(x), F.normalize(self.weight))

        def step(net, batch):
            x, y = batch
            features = net.body(x)
            logits = net.cosine(features)
            net.see(features, logits, y)
            return F.cross_entropy(logits, y)

        cosine = Cosine()
        net, callback = Net(step), Recording()
        net.cosine = cosine
        trainer(callback, max_epochs=1).fit(net, loader())
        assert_windows(callback, net.seen, 4)


class TestLabels:
    @pytest.mark.parametrize(
        ("make", "get"),
        [
            (lambda x, y: (x, torch.full((8,), 2), y), lambda b: (b[0], b[2])),
            (lambda x, y: Pair(torch.full((8,), 1), x, y), lambda b: (b.image, b.digit)),
            (lambda x, y: {"a": {"x": x}, "b": [{"y": y}]}, lambda b: (b["a"]["x"], b["b"][0]["y"])),
            (lambda x, y: Sample(x, y), lambda b: (b.image, b.digit)),
            (lambda x, y: SimpleNamespace(x=x, y=y, edges=torch.zeros(2, 5).long()), lambda b: (b.x, b.y)),
            (lambda x, y: (x, y[:, None]), lambda b: (b[0], b[1].squeeze(1))),
            (lambda x, y: (x, y.to(torch.uint8)), lambda b: (b[0], b[1].long())),
            (lambda x, y: (x, y.to(torch.uint16)), lambda b: (b[0], b[1].long())),
            (lambda x, y: (x, F.one_hot(y, CLASSES)), lambda b: (b[0], b[1].argmax(1))),
            (lambda x, y: (x, torch.stack([y.flip(0), y], 1)), lambda b: (b[0], b[1][:, 1])),
            (lambda x, y: torch.cat([x, y[:, None].float()], 1), lambda b: (b[:, :-1], b[:, -1].long())),
            (lambda x, y: list(zip(x, y.tolist(), strict=True)), lambda b: stacked(b)),
            (lambda x, y: (list(x), list(y)), lambda b: (torch.stack(b[0]), torch.stack(b[1]))),
            (lambda x, y: ([x, x], y.tolist()), lambda b: (b[0][0], torch.tensor(b[1]))),
        ],
    )
    def test_wherever_they_are(self, make, get):
        def step(net, batch):
            x, y = get(batch)
            return F.cross_entropy(classify(net, x, y), y)

        follows(step, batches(make))

    def test_taken_out_of_the_batch_in_the_step(self):
        def step(net, batch):
            y = batch.pop("digit")
            return F.cross_entropy(classify(net, batch["x"], y), y)

        def fresh():
            return batches(lambda x, y: {"x": x, "digit": y})

        follows(step, fresh())
        follows(step, fresh(), label="digit")
        follows(step, fresh(), label=lambda batch: batch["digit"])

    def test_ignore_index_of_the_loss(self):
        def make(x, y):
            return x, torch.where(torch.arange(8) == 3, 255, y)

        def step(net, batch):
            x, y = batch
            features = net.body(x)
            logits = net.head(features)
            net.see(features[y != 255], logits[y != 255], y[y != 255])
            return F.cross_entropy(logits, y, ignore_index=255)

        callback, net = fit(step, batches(make))
        assert_windows(callback, net.seen, 4)
        assert not callback.monitor.skipped

    @pytest.mark.parametrize("padded", [False, True])
    def test_next_tokens_of_a_language_model(self, padded):
        tokens = torch.randint(5, (48, 7), generator=torch.Generator().manual_seed(0))

        class Model(LightningModule):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.embed, self.out = nn.Embedding(5, 8), nn.Linear(8, 5)
                self.seen = []

            def training_step(self, batch, batch_idx):
                labels = batch["labels"]
                features = self.embed(batch["input_ids"])
                logits = self.out(features)
                following = labels[:, 1:]
                self.seen.append((features[:, :-1].detach().clone(), logits[:, :-1].detach().clone(), following))
                if padded:
                    target = F.pad(labels, (0, 1), value=-100)[:, 1:]
                    return F.cross_entropy(logits.reshape(-1, 5), target.reshape(-1))
                return F.cross_entropy(logits[:, :-1].reshape(-1, 5), following.reshape(-1))

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.05)

        data = [{"input_ids": t, "labels": t} for t in tokens]
        model, callback = Model(), Recording()
        trainer(callback, max_epochs=1).fit(model, DataLoader(data, batch_size=4))
        assert_windows(callback, model.seen, 4, 5)

    def test_the_log_says_what_was_found(self, caplog):
        def step(net, batch):
            return F.cross_entropy(classify(net, batch["x"], batch["digit"]), batch["digit"])

        with caplog.at_level(logging.INFO):
            fit(step, batches(lambda x, y: {"x": x, "digit": y}))
        assert "head head (16 → 3), labels batch['digit'], by cross_entropy" in caplog.text


class TestSeveralPasses:
    @pytest.mark.parametrize("generator_first", [False, True])
    def test_of_one_head_in_a_step(self, generator_first):
        def made_up(net, batch):
            wanted = torch.arange(len(batch[1])).flip(0) % CLASSES
            net.learn(F.cross_entropy(net.head(net.body(batch[0] + 1)), wanted))

        def step(net, batch):
            if generator_first:
                made_up(net, batch)
            net.learn(F.cross_entropy(classify(net, *batch), batch[1]))
            if not generator_first:
                made_up(net, batch)

        net, callback = Manual(step), Recording(label=1, every_n_steps=8)
        trainer(callback, max_epochs=1).fit(net, loader())
        assert_windows(callback, net.seen, 4)


class TestFirstBatches:
    def test_without_anything_to_learn_from(self):
        def step(net, batch):
            if batch is None:
                return None
            if net.trainer.fit_loop.epoch_loop.total_batch_idx == 1:
                return None
            return F.cross_entropy(classify(net, *batch), batch[1])

        parts = [None, (X[:8], Y[:8]), *[(X[i : i + 8], Y[i : i + 8]) for i in range(8, 80, 8)]]
        data = DataLoader(parts, batch_size=None, collate_fn=lambda batch: batch)
        net, callback = Net(step), Recording(every_n_steps=11)
        with pytest.warns(DiagnosticWarning, match="first training batch cannot be used"):
            trainer(callback, max_epochs=1).fit(net, data)
        assert_windows(callback, net.seen, 9)
