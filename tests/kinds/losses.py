"""Losses of every kind. Other than one call of `cross_entropy` on what the head returns."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, remade, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES

KINDS = Kinds()


class Loss(Module):
    """A plain classifier; ``loss`` is what differs."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return self.loss(logits, y)


@KINDS.found("cross entropy as a module")
class AsModule(Loss):
    def build(self):
        super().build()
        self.loss = nn.CrossEntropyLoss()


@KINDS.found("cross entropy of each sample, the hardest count")
class Hardest(Loss):
    def loss(self, logits, y):
        return fn.cross_entropy(logits, y, reduction="none").topk(4).values.mean()


@KINDS.found("log-softmax in the model, nll_loss")
class LogSoftmax(Module):
    def build(self):
        self.body, self.head = body(), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        self.features = self.body(x)
        self.logits = self.head(self.features)
        return fn.log_softmax(self.logits, dim=1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        scores = self(x)
        self.see(self.features, self.logits, y)
        return fn.nll_loss(scores, y)


@KINDS.found("log-softmax as the last layer of a Sequential")
class LogSoftmaxLayer(LogSoftmax):
    def build(self):
        self.net = nn.Sequential(nn.Linear(6, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES), nn.LogSoftmax(dim=1))

    def forward(self, x):
        self.features = self.net[1](self.net[0](x))
        self.logits = self.net[2](self.features)
        return self.net[3](self.logits)


@KINDS.found("softmax in the model, then cross entropy")
class DoubleSoftmax(Loss):
    def loss(self, logits, y):
        return fn.cross_entropy(logits.softmax(1), y)


@KINDS.found("focal loss of log_softmax and gather")
class Focal(Loss):
    def loss(self, logits, y):
        log_p = fn.log_softmax(logits, dim=1).gather(1, y[:, None]).squeeze(1)
        return -((1 - log_p.exp()) ** 2 * log_p).mean()


@KINDS.found("focal loss of cross entropy")
class FocalOfCrossEntropy(Loss):
    def loss(self, logits, y):
        cost = fn.cross_entropy(logits, y, reduction="none")
        return ((1 - torch.exp(-cost)) ** 2 * cost).mean()


@KINDS.found("cross entropy written with logsumexp")
class ByHand(Loss):
    def loss(self, logits, y):
        return (logits.logsumexp(1) - logits[torch.arange(len(y)), y]).mean()


@KINDS.found("multi-class hinge")
class Hinge(Loss):
    def loss(self, logits, y):
        return fn.multi_margin_loss(logits, y)


@KINDS.found("log-likelihood of a distribution")
class Categorical(Loss):
    def loss(self, logits, y):
        return -torch.distributions.Categorical(logits=logits).log_prob(y).mean()


@KINDS.found("squared error to one-hot labels", "mse_loss")
class Brier(Loss):
    def loss(self, logits, y):
        return fn.mse_loss(logits, fn.one_hot(y, CLASSES).float())


@KINDS.found("divergence from smoothed labels in the batch", data=lambda: remade(lambda x, y: (x, smooth(y))))
class Divergence(Loss):
    def loss(self, logits, y):
        return fn.kl_div(fn.log_softmax(logits, 1), y, reduction="batchmean")


def smooth(y):
    return 0.9 * fn.one_hot(y, CLASSES) + 0.1 / CLASSES


@KINDS.found("conditional random field over the tags", data=lambda: batches_of(*sequences()))
class RandomField(Module):
    def build(self):
        self.embedding, self.head = nn.Embedding(12, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.moves = nn.Parameter(torch.zeros(CLASSES, CLASSES))

    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features = self.embedding(tokens)
        logits = self.head(features)
        self.see(features, logits, tags)
        path = logits.gather(2, tags[:, :, None]).sum((1, 2)) + self.moves[tags[:, :-1], tags[:, 1:]].sum(1)
        total = logits[:, 0]
        for t in range(1, tokens.shape[1]):
            total = (total[:, :, None] + self.moves).logsumexp(1) + logits[:, t]
        return (total.logsumexp(1) - path).mean()


@KINDS.found("pieces of the batch one after the other")
class Pieces(Module):
    def training_step(self, batch, batch_idx):
        losses, seen = [], []
        for x, y in zip(*(part.chunk(2) for part in batch), strict=True):
            features = self.body(x)
            logits = self.head(features)
            seen.append((features, logits, y))
            losses.append(fn.cross_entropy(logits, y))
        self.see(*map(torch.cat, zip(*seen, strict=True)))
        return sum(losses) / 2


@KINDS.found("logits divided by a temperature")
class Temperature(Loss):
    def loss(self, logits, y):
        return fn.cross_entropy(logits / 0.5, y)


@KINDS.found("logits adjusted by the frequency of the classes")
class Adjusted(Loss):
    def loss(self, logits, y):
        return fn.cross_entropy(logits + torch.tensor([0.5, 0.3, 0.2]).log(), y)


@KINDS.found("cross entropy and a penalty on the features")
class CentreLoss(Module):
    def build(self):
        super().build()
        self.centres = nn.Parameter(torch.zeros(CLASSES, HIDDEN))

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return 0.1 * fn.mse_loss(features, self.centres[y]) + fn.cross_entropy(logits, y)


@KINDS.found("consistency of two dropout masks")
class TwoPasses(Module):
    """Both passes enter the loss; the first one is measured."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        first, second = self.head(features), self.head(self.body(x))
        self.see(features, first, y)
        between = fn.kl_div(first.log_softmax(1), second.softmax(1), reduction="batchmean")
        return fn.cross_entropy(first, y) + fn.cross_entropy(second, y) + 0.1 * between


@KINDS.refused(
    "ordinal regression, K − 1 thresholds",
    settles="outputs=('features', 'scores')",
)
class Ordinal(Module):
    def build(self):
        self.body, self.head = body(), nn.Linear(HIDDEN, CLASSES - 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        above = self.head(features)
        chance = fn.pad(fn.pad(above.sigmoid(), (1, 0), value=1.0), (0, 1))
        scores = chance[:, :-1] - chance[:, 1:]
        self.see(features, scores, y)
        levels = (y[:, None] > torch.arange(CLASSES - 1)).float()
        return {"loss": fn.binary_cross_entropy_with_logits(above, levels), "features": features, "scores": scores}


@KINDS.refused(
    "adaptive softmax",
    settles="outputs=('features', 'logits')",
    classes=6,
    data=lambda: remade(lambda x, y: (x, y + 3 * (x[:, 0] > 0)), classes=3),
)
class Adaptive(Module):
    def build(self):
        self.body = body()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, 6, cutoffs=[3], div_value=2.0)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.softmax.log_prob(features)
        self.see(features, logits, y)
        return {"loss": self.softmax(features, y).loss, "features": features, "logits": logits}


@KINDS.refused(
    "hierarchical softmax, a tree of two levels",
    settles="outputs=('features', 'logits')",
    classes=4,
    data=lambda: remade(lambda x, y: (x, y), classes=4),
)
class Tree(Module):
    def build(self):
        self.body, self.branch, self.leaf = body(), nn.Linear(HIDDEN, 2), nn.Linear(HIDDEN, 4)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        branch, leaf = self.branch(features), self.leaf(features).unflatten(1, (2, 2))
        logits = (branch.log_softmax(1)[:, :, None] + leaf.log_softmax(2)).flatten(1)
        self.see(features, logits, y)
        own = leaf[torch.arange(len(y)), y // 2]
        loss = fn.cross_entropy(branch, y // 2) + fn.cross_entropy(own, y % 2)
        return {"loss": loss, "features": features, "logits": logits}
