"""What the losses of the first batch decide: head and labels, or a refusal that names what settles it."""

import copy
import io
import logging
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.data import DataLoader
from trainings import CLASSES, DIMENSIONS, Classifier, Recording, assert_windows, blobs, loader, trainer

from le_callback import DiagnosticWarning, LECallback
from le_callback.capture.evidence import LossWatch, NoClassificationError

X, Y = blobs(96)
Pair = namedtuple("Pair", "lengths image digit")


@dataclass
class Sample:
    image: torch.Tensor
    digit: torch.Tensor


def batches(make, n=12, size=8):
    """A loader of ready batches, made of the features and labels of each."""
    parts = [(X[i * size : (i + 1) * size], Y[i * size : (i + 1) * size]) for i in range(n)]
    return DataLoader([make(x, y) for x, y in parts], batch_size=None, collate_fn=lambda batch: batch)


class Net(LightningModule):
    """Body, head and layers that mislead; ``step`` is the training step and may call ``see`` once a batch."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)
        self.one = nn.Linear(16, 1)
        self.aux = nn.Linear(16, CLASSES + 2)
        self.projection = nn.Linear(16, 12)
        self.step = step
        self.seen = []

    def see(self, features, logits, labels):
        self.seen.append((features.detach().clone(), logits.detach().clone(), labels.clone()))

    def training_step(self, batch, batch_idx):
        return self.step(self, batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def classify(net, x, y):
    features = net.body(x)
    logits = net.head(features)
    net.see(features, logits, y)
    return logits


def fit(step, data=None, callback=None, **arguments):
    net, callback = Net(step), callback or Recording(**arguments)
    trainer(callback, max_epochs=1).fit(net, data or loader())
    return callback, net


def follows(step, data=None, classes=CLASSES, **arguments):
    callback, net = fit(step, data, **arguments)
    assert_windows(callback, net.seen, 4, classes)
    assert not any(m._forward_hooks for m in net.modules())
    assert not _get_current_function_mode_stack()


def refuses(step, match, error=ValueError, data=None, **arguments):
    with pytest.raises(error, match=match):
        fit(step, data, **arguments)
    assert not _get_current_function_mode_stack()


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


def stacked(batch):
    return torch.stack([x for x, _ in batch]), torch.tensor([y for _, y in batch])


def one(net, batch):
    features = net.body(batch[0])
    logits = net.one(features)
    net.see(features, logits, batch[2])
    return F.binary_cross_entropy_with_logits(logits[:, 0], batch[2].float())


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


class TestWhatIsNoEvidence:
    def test_a_loss_that_is_only_logged(self):
        def step(net, batch):
            x, y = batch
            net.log("watched", F.cross_entropy(net.aux(net.body(x)), y))
            return F.cross_entropy(classify(net, x, y), y)

        follows(step)

    def test_an_attack_before_the_step(self):
        def step(net, batch):
            x, y = batch
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(net.head(net.body(x)), y), x)
            x = (x + 0.1 * slope.sign()).detach()
            return F.cross_entropy(classify(net, x, y), y)

        follows(step)

    def test_fields_that_equal_the_labels_in_the_first_batch(self):
        def step(net, batch):
            y = batch["after"] + 0
            return F.cross_entropy(classify(net, batch["x"], y), y)

        data = batches(lambda x, y: {"x": x, "before": y.clone(), "after": y.clone()})
        refuses(step, r"several fields of the batch: batch\['before'\], batch\['after'\].*`label=`", data=data)
        follows(step, data, label="after")
        follows(step, batches(lambda x, y: {"x": x, "y": y.clone(), "after": y.clone()}))

    def test_a_mean_over_several_calls(self):
        def step(net, batch):
            features = net.body(batch[0])
            return F.cross_entropy(sum(net.head(F.dropout(features)) for _ in range(3)) / 3, batch[1])

        refuses(step, "no single layer.*`outputs=")

    def test_a_gate_whose_softmax_weighs_the_logits(self):
        def step(net, batch):
            features = net.body(batch[0])
            gate = net.one(features).expand(-1, 2).softmax(1)
            logits = torch.einsum("ne,nek->nk", gate, torch.stack([net.head(features), net.head(-features)], 1))
            return F.cross_entropy(logits, batch[1])

        refuses(step, "no single layer.*`outputs=")

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_a_target_that_another_model_gives(self, by_hand):
        def step(net, batch):
            z = net.aux(net.body(batch[0])).log_softmax(1)
            with torch.no_grad():
                target = net.aux(net.body(batch[0] + 1)).softmax(1)
            return -(target * z).sum(1).mean() if by_hand else F.kl_div(z, target, reduction="batchmean")

        refuses(step, "no classification loss", NoClassificationError)


class TestRefusals:
    def test_no_classification(self):
        refuses(
            lambda net, b: F.mse_loss(net.projection(net.body(b[0])).sum(1), b[1].float()),
            r"no classification loss \(seen: mse_loss\).*`head=`.*`label=`",
            NoClassificationError,
        )

    def test_contrastive(self):
        def step(net, batch):
            z = F.normalize(net.projection(net.body(batch[0])))
            return F.cross_entropy(z @ z.T / 0.1, torch.arange(len(z)))

        refuses(step, "no classification loss", NoClassificationError)

    def test_adversarial(self):
        def step(net, batch):
            real, fake = net.one(net.body(batch[0])), net.one(net.body(-batch[0]))
            ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
            return F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)

        refuses(step, "no classification loss", NoClassificationError)

    def test_adversarial_with_labels_that_are_all_equal(self):
        def step(net, batch):
            real, fake = net.one(net.body(batch[0])), net.one(net.body(-batch[0]))
            ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
            return F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)

        refuses(step, "made up", NoClassificationError, batches(lambda x, y: (x, torch.zeros(8))))

    def test_autoencoder_by_binary_cross_entropy(self):
        def with_decoder(net, batch):
            return F.binary_cross_entropy_with_logits(
                net.projection(net.body(batch[0])), batch[0].sigmoid().repeat(1, 2)
            )

        refuses(with_decoder, "12 outputs has a target of its own.*`label=`")

    def test_several_labels_a_sample(self):
        data = batches(lambda x, y: (x, (torch.rand(8, CLASSES) > 0.5).float()))
        refuses(
            lambda net, b: F.binary_cross_entropy_with_logits(net.head(net.body(b[0])), b[1]),
            "several labels a sample.*`label=`",
            data=data,
        )

    def test_floating_labels_that_are_no_weights(self):
        data = batches(lambda x, y: (x, torch.rand(8, CLASSES) * 3))
        refuses(lambda net, b: F.cross_entropy(net.head(net.body(b[0])), b[1]), "no class weights", data=data)

    def test_logits_of_no_layer(self):
        def step(net, batch):
            features = net.body(batch[0])
            return F.cross_entropy(features @ net.head.weight.T, batch[1])

        refuses(step, r"\(8, 3\) of `cross_entropy`.*no single layer.*`outputs=.*`head=`")

    def test_labels_made_of_others_name_the_argument_that_takes_them(self):
        def step(net, batch):
            y = 2 - batch[1]
            return F.cross_entropy(classify(net, batch[0], y), y)

        refuses(step, "made up in the step.*`label=` a callable")
        refuses(step, "made up in the step.*`label=` a callable", head="head")
        follows(step, label=lambda batch: 2 - batch[1])

    def test_mixed_samples(self):
        def step(net, batch):
            x, y = batch
            order = torch.arange(len(y)).roll(1)
            logits = classify(net, 0.7 * x + 0.3 * x[order], y)
            return 0.7 * F.cross_entropy(logits, y) + 0.3 * F.cross_entropy(logits, y[order])

        refuses(step, "second target.*`label=`")
        follows(step, label=1)

    def test_number_of_classes_that_no_loss_has(self):
        refuses(
            lambda net, b: F.cross_entropy(net.head(net.body(b[0])), b[1]), "7 outputs.*`num_classes=`", num_classes=7
        )


class Manual(Net):
    def __init__(self, step):
        super().__init__(step)
        self.automatic_optimization = False

    def learn(self, loss):
        self.manual_backward(loss)
        self.optimizers().step()
        self.optimizers().zero_grad()


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


class TestOutOfTheWay:
    def test_what_is_done_to_the_module_between_two_steps(self):
        done = []

        class Exporting(Classifier):
            def on_train_batch_end(self, *args):
                torch.jit.script(self.head)
                torch.save(self.body, file := io.BytesIO())
                assert b"le_callback" not in file.getvalue()
                assert not any(m._forward_hooks for m in copy.deepcopy(self.body).modules())
                done.append(1)

        model = Exporting()
        trainer(LECallback(summary=False), max_epochs=1).fit(model, loader())
        assert len(done) == 12

    @pytest.mark.parametrize("step", [0, 5])
    def test_a_copy_made_in_the_step_holds_no_tensors(self, step):
        copies = []

        class Copying(Classifier):
            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                if batch_idx == step:
                    copies.append(copy.deepcopy(self.head))
                return loss

        model, callback = Copying(), Recording()
        trainer(callback, max_epochs=1).fit(model, loader())
        assert_windows(callback, model.seen, 4)
        for hook in copies[0]._forward_hooks.values():
            assert not getattr(getattr(hook, "slot", None), "captured", None)
            assert getattr(hook, "search", None) is None

    def test_random_state_parameters_and_gradients(self):
        class Watching(Classifier):
            def on_after_backward(self):
                self.grads = getattr(self, "grads", [])
                self.grads.append([p.grad.clone() for p in self.parameters()])

        def run(*callbacks):
            model = Watching()
            torch.manual_seed(1)
            trainer(callbacks=list(callbacks), max_epochs=1).fit(model, loader())
            return model.grads, torch.get_rng_state()

        (plain, state), (watched, watched_state) = run(), run(LECallback(summary=False))
        assert torch.equal(state, watched_state)
        assert all(torch.equal(a, b) for p, w in zip(plain, watched, strict=True) for a, b in zip(p, w, strict=True))

    @pytest.mark.parametrize("where", ["training_step", "on_before_backward", "on_train_batch_start"])
    def test_an_exception_leaves_no_mode_and_no_hook(self, where):
        class Failing(Classifier):
            pass

        def stop(*args):
            raise RuntimeError("stop")

        model = Failing()
        setattr(model, where, stop)
        with pytest.raises(RuntimeError, match="stop"):
            trainer(LECallback(summary=False)).fit(model, loader())
        assert not _get_current_function_mode_stack()
        assert not any(m._forward_hooks for m in model.modules())

    def test_a_batch_that_is_skipped_leaves_no_mode(self):
        class Skipping(Classifier):
            def on_train_batch_start(self, batch, batch_idx):
                return -1

        stacks = []

        class After(Classifier):
            pass

        model = Skipping()
        model.on_train_epoch_end = lambda: stacks.append(len(_get_current_function_mode_stack()))
        trainer(LECallback(summary=False), max_epochs=1).fit(model, loader())
        assert stacks == [0]

    def test_modes_of_others_stay(self):
        class Other(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return func(*args, **(kwargs or {}))

        a, b, other = LossWatch(lambda call: None), LossWatch(lambda call: None), Other()
        a.enter()
        b.enter()
        with other:
            a.leave()
            assert _get_current_function_mode_stack() == [b, other]
        b.leave()
        b.leave()
        assert not _get_current_function_mode_stack()

    def test_two_callbacks_in_one_trainer(self):
        def step(net, batch):
            x, y = batch
            logits = classify(net, x, y)
            return F.cross_entropy(logits, y) + F.cross_entropy(net.aux(net.body(x)), y)

        first, second = Recording(name="a", head="head"), Recording(name="b", head="aux")
        net = Net(step)
        trainer(callbacks=[first, second], max_epochs=1).fit(net, loader())
        assert_windows(first, net.seen, 4)
        assert second.monitor.num_classes == CLASSES + 2
        assert not _get_current_function_mode_stack()
