"""Several heads, networks or losses. Which of them in a step is the classifier."""

import copy

import torch
from kinds.frame import HIDDEN, Kinds, Module, body, remade
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES

KINDS = Kinds()


class Student(Module):
    """A plain classifier whose loss is ``loss`` of the inputs, the logits and the labels."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return self.loss(x, logits, y)


@KINDS.found("distillation: the teacher runs after the student")
class Distillation(Student):
    def build(self):
        super().build()
        self.teacher = nn.Sequential(body(), nn.Linear(HIDDEN, CLASSES)).eval().requires_grad_(False)

    def loss(self, x, logits, y):
        with torch.no_grad():
            taught = self.teacher(x)
        soft = fn.kl_div(fn.log_softmax(logits / 2, 1), fn.softmax(taught / 2, 1), reduction="batchmean")
        return 4 * soft + fn.cross_entropy(logits, y)


@KINDS.refused("distillation from the teacher alone", "kl_div", settles="head='head', label=1")
class PureDistillation(Distillation):
    def loss(self, x, logits, y):
        taught = self.teacher(x)
        return fn.kl_div(fn.log_softmax(logits / 2, 1), fn.softmax(taught / 2, 1), reduction="batchmean")


@KINDS.found("mean teacher: an average of the weights runs after the student")
class MeanTeacher(Student):
    def build(self):
        super().build()
        self.average = copy.deepcopy(nn.Sequential(self.body, self.head))
        for parameter in self.average.parameters():
            parameter.requires_grad_(False)

    def loss(self, x, logits, y):
        steady = self.average(x + 0.01)
        return fn.cross_entropy(logits, y) + fn.mse_loss(logits.softmax(1), steady.softmax(1))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        for slow, fast in zip(
            self.average.parameters(), [*self.body.parameters(), *self.head.parameters()], strict=True
        ):
            slow.lerp_(fast.detach(), 0.1)


@KINDS.found("two tasks, two heads", "sign", data=lambda: remade(lambda x, y: (x, y, (x[:, 0] > 0).long())))
class TwoTasks(Module):
    """The first loss is taken; the other head is followed with its own arguments."""

    def build(self):
        super().build()
        self.sign = nn.Linear(HIDDEN, 2)

    def training_step(self, batch, batch_idx):
        x, species, sign = batch
        features = self.body(x)
        logits, other = self.head(features), self.sign(features)
        self.see(features, logits, species)
        return fn.cross_entropy(logits, species) + 0.5 * fn.cross_entropy(other, sign)


@KINDS.found("fine and coarse labels in a dict", data=lambda: remade(lambda x, y: {"x": x, "fine": y, "rough": y // 2}))
class CoarseFine(Module):
    def build(self):
        super().build()
        self.coarse = nn.Linear(HIDDEN, 2)

    def training_step(self, batch, batch_idx):
        features = self.body(batch["x"])
        coarse, logits = self.coarse(features), self.head(features)
        self.see(features, logits, batch["fine"])
        return fn.cross_entropy(logits, batch["fine"]) + fn.cross_entropy(coarse, batch["rough"])


@KINDS.found("a class and a number for each sample", data=lambda: remade(lambda x, y: (x, y, x.mean(1))))
class WithRegression(Module):
    def build(self):
        super().build()
        self.amount = nn.Linear(HIDDEN, 1)

    def training_step(self, batch, batch_idx):
        x, y, amount = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y) + fn.mse_loss(self.amount(features).squeeze(1), amount)


@KINDS.found("auxiliary classifier half way")
class Auxiliary(Module):
    def build(self):
        self.lower, self.upper = body(), body(HIDDEN)
        self.auxiliary, self.head = nn.Linear(HIDDEN, CLASSES), nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        x, y = batch
        half = self.lower(x)
        features = self.upper(half)
        logits, early = self.head(features), self.auxiliary(half)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y) + 0.3 * fn.cross_entropy(early, y)


@KINDS.found("early exits", "exits.1")
class EarlyExits(Auxiliary):
    """The loss that comes first is taken; the others are named."""

    def build(self):
        self.lower, self.upper = body(), body(HIDDEN)
        self.exits = nn.ModuleList(nn.Linear(HIDDEN, CLASSES) for _ in range(2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        half = self.lower(x)
        features = self.upper(half)
        early, logits = self.exits[0](half), self.exits[1](features)
        self.see(half, early, y)
        return fn.cross_entropy(early, y) + fn.cross_entropy(logits, y)


@KINDS.found("reconstruction beside the classifier")
class Reconstruction(Module):
    def build(self):
        super().build()
        self.decoder = nn.Linear(HIDDEN, 6)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y) + fn.mse_loss(self.decoder(features), x)


@KINDS.found("projection head beside the classifier, supervised contrastive")
class Projection(Module):
    def build(self):
        super().build()
        self.projection = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 16))

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        z = fn.normalize(self.projection(features))
        alike = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
        chances = (z @ z.T / 0.5).masked_fill(torch.eye(len(y), dtype=torch.bool), -1e9).log_softmax(1)
        return fn.cross_entropy(logits, y) - (chances * alike).sum(1).div(alike.sum(1).clamp(min=1)).mean()


@KINDS.found("linear probe on detached features of a contrastive training")
class Probed(Module):
    """The embedding is trained by InfoNCE; the probe is the classifier."""

    def build(self):
        super().build()
        self.projection = nn.Linear(HIDDEN, 16)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        first, second = self.projection(features), self.projection(self.body(x + 0.1))
        apart = fn.cross_entropy(fn.normalize(first) @ fn.normalize(second).T, torch.arange(len(x)))
        logits = self.head(features.detach())
        self.see(features, logits, y)
        return apart + fn.cross_entropy(logits, y)


@KINDS.found("pseudo labels: labelled and unlabelled samples in one pass", data=lambda: half_labelled())
class PseudoLabels(Module):
    """The loss of the first n rows is that of the labels; the rest have labels that the step makes up."""

    def training_step(self, batch, batch_idx):
        known, y, unknown = batch
        features = self.body(torch.cat([known, unknown]))
        logits = self.head(features)
        n = len(y)
        self.see(features[:n], logits[:n], y)
        guess = logits[n:].detach().argmax(1)
        return fn.cross_entropy(logits[:n], y) + 0.2 * fn.cross_entropy(logits[n:], guess)


def half_labelled():
    return remade(lambda x, y: (x[:6], y[:6], x[6:]), n=192, size=16)


@KINDS.found("strong and weak pictures in one pass (FixMatch)", data=lambda: half_labelled())
class FixMatch(Module):
    def training_step(self, batch, batch_idx):
        known, y, unknown = batch
        features = self.body(torch.cat([known, unknown, unknown + 0.2]))
        logits = self.head(features)
        own, weak, strong = logits.split([len(y), len(unknown), len(unknown)])
        self.see(features[: len(y)], own, y)
        sure, guess = weak.detach().softmax(1).max(1)
        return fn.cross_entropy(own, y) + (fn.cross_entropy(strong, guess, reduction="none") * (sure > 0.6)).mean()


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -0.1 * gradient


@KINDS.found("domain adversary beside the classifier", data=lambda: half_labelled())
class Adversary(Module):
    """Which domain a sample is of, is made up in the step."""

    def build(self):
        super().build()
        self.domain = nn.Linear(HIDDEN, 2)

    def training_step(self, batch, batch_idx):
        source, y, target = batch
        features, foreign = self.body(source), self.body(target)
        logits = self.head(features)
        self.see(features, logits, y)
        domains = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).long()
        fooled = fn.cross_entropy(self.domain(Reversal.apply(torch.cat([features, foreign]))), domains)
        return fn.cross_entropy(logits, y) + fooled


def boxes(x, y):
    return list(x), [
        {"boxes": part[None, :4].repeat(2, 1), "labels": kind.repeat(2)} for part, kind in zip(x, y, strict=True)
    ]


@KINDS.found("detection: a dict of losses, a list of dicts as targets", data=lambda: remade(boxes))
class Detection(Module):
    def build(self):
        super().build()
        self.box = nn.Linear(HIDDEN, 4)

    def training_step(self, batch, batch_idx):
        pictures, targets = batch
        features = self.body(torch.stack(pictures).repeat_interleave(2, dim=0))
        logits = self.head(features)
        kinds = torch.cat([target["labels"] for target in targets])
        self.see(features, logits, kinds)
        losses = {
            "loss_class": fn.cross_entropy(logits, kinds),
            "loss_box": fn.smooth_l1_loss(self.box(features), torch.cat([target["boxes"] for target in targets])),
        }
        return sum(losses.values())


@KINDS.found("classifier of generated samples too (AC-GAN critic)")
class Critic(Module):
    def build(self):
        super().build()
        self.real = nn.Linear(HIDDEN, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits, real = self.head(features), self.real(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y) + fn.binary_cross_entropy_with_logits(real, torch.ones_like(real))


@KINDS.found("the loss of a second head is only logged")
class LoggedLoss(Module):
    def build(self):
        super().build()
        self.watcher = nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        self.log("watched", fn.cross_entropy(self.watcher(features), y).detach())
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


def two_domains(x, y):
    return {"photo": (x[:8], y[:8]), "drawing": (x[8:] + 1, y[8:])}


@KINDS.found(
    "one head for two domains, a pass and labels for each",
    data=lambda: remade(two_domains, n=192, size=16),
)
class TwoDomains(Module):
    """Only one pass of each step is measured, the first."""

    def training_step(self, batch, batch_idx):
        losses = []
        for x, y in batch.values():
            features = self.body(x)
            logits = self.head(features)
            if not losses:
                self.see(features, logits, y)
            losses.append(fn.cross_entropy(logits, y))
        return sum(losses)


@KINDS.found("a generator's step before that of the classifier", batches=2)
class Conditional(Module):
    """The first backward pass of the step is that of made-up labels."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def build(self):
        super().build()
        self.generator = nn.Linear(4, 6)

    def training_step(self, batch, batch_idx):
        x, y = batch
        of_generator, of_rest = self.optimizers()
        wanted = torch.arange(len(x)) % CLASSES
        made = self.generator(torch.cat([torch.randn(len(x), 1), fn.one_hot(wanted, CLASSES)], dim=1))
        of_generator.zero_grad()
        self.manual_backward(fn.cross_entropy(self.head(self.body(made)), wanted))
        of_generator.step()
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        of_rest.zero_grad()
        self.manual_backward(fn.cross_entropy(logits, y))
        of_rest.step()

    def configure_optimizers(self):
        rest = [*self.body.parameters(), *self.head.parameters()]
        return [torch.optim.SGD(part, lr=0.02) for part in (self.generator.parameters(), rest)]
