"""What is no evidence, and refusals that name what settles them."""

import pytest
import torch
from evidence_steps import batches, classify, follows, refuses
from torch.nn import functional as F  # noqa: N812
from trainings import CLASSES

from le_callback.capture.evidence import NoClassificationError


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
            y = torch.tensor(batch["after"].tolist())
            return F.cross_entropy(classify(net, batch["x"], y), y)

        def followed(net, batch):
            y = batch["after"] + 0
            return F.cross_entropy(classify(net, batch["x"], y), y)

        data = batches(lambda x, y: {"x": x, "before": y.clone(), "after": y.clone()})
        refuses(step, r"several fields of the batch: batch\['before'\], batch\['after'\].*`label=`", data=data)
        follows(followed, data)
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
            return F.cross_entropy(-torch.cdist(features, features[[0, 1, 6]]), batch[1])

        refuses(step, r"\(8, 3\) of `cross_entropy`.*no single layer.*`outputs=.*`head=`")

    def test_labels_made_of_others_name_the_argument_that_takes_them(self):
        def step(net, batch):
            y = torch.from_numpy(2 - batch[1].numpy())
            return F.cross_entropy(classify(net, batch[0], y), y)

        refuses(step, "made up in the step.*`label=` a callable")
        refuses(step, "made up in the step.*`label=` a callable", head="head")
        follows(step, label=lambda batch: 2 - batch[1])

    def test_mixed_samples(self):
        def step(net, batch):
            x, y = batch
            order = torch.arange(len(y)).roll(1)
            logits = classify(net, 0.7 * x + 0.3 * x[order], y)
            other = torch.tensor(y[order].tolist())
            return 0.7 * F.cross_entropy(logits, y) + 0.3 * F.cross_entropy(logits, other)

        refuses(step, "second target.*`label=`")
        follows(step, label=1)

    def test_number_of_classes_that_no_loss_has(self):
        refuses(
            lambda net, b: F.cross_entropy(net.head(net.body(b[0])), b[1]), "7 outputs.*`num_classes=`", num_classes=7
        )
