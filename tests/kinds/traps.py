"""Traps. Targets that depend on the labels or on the batch and yet tell no classes, and rows in another order."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, images, remade, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES, DIMENSIONS

KINDS = Kinds()


@KINDS.nothing("adversarial networks, real and fake in the type of the pictures", "binary_cross_entropy_with_logits")
class TypedCritic(Module):
    """`type_as` gives the target the type of the batch, and nothing else."""

    def build(self):
        self.critic, self.generator = nn.Sequential(body(), nn.Linear(HIDDEN, 1)), nn.Linear(2, DIMENSIONS)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        real, fake = torch.ones(len(x), 1).type_as(x), torch.zeros(len(x), 1).type_as(x)
        made = self.generator(torch.randn(len(x), 2).type_as(x))
        loss = fn.binary_cross_entropy_with_logits(self.critic(x), real)
        return loss + fn.binary_cross_entropy_with_logits(self.critic(made), fake)


@KINDS.refused("supervised contrastive, soft targets of the samples of the batch", "no single layer")
class AlikeInBatch(Module):
    """The columns of the logits are samples, not classes, though their targets are made of the labels."""

    def build(self):
        self.body, self.projection = body(), nn.Linear(HIDDEN, 5)

    def training_step(self, batch, batch_idx):
        x, y = batch
        z = fn.normalize(self.projection(self.body(x)))
        alike = (y[:, None] == y).float()
        return fn.cross_entropy(4 * z @ z.T, alike / alike.sum(1, keepdim=True))


@KINDS.refused("autoencoder of pictures with one channel", data=lambda: batches_of(*images()))
class OneChannel(Module):
    """Brightness between 0 and 1 is no label."""

    def build(self):
        self.encoder, self.decoder = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def training_step(self, batch, batch_idx):
        x = batch[0].sigmoid()
        return fn.binary_cross_entropy_with_logits(self.decoder(self.encoder(x).relu()), x)


@KINDS.refused(
    "autoencoder of black and white pictures", data=lambda: batches_of((images()[0] > 1).float(), images()[1])
)
class BlackAndWhite(Module):
    """The target is the input."""

    def build(self):
        self.encoder, self.decoder = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def training_step(self, batch, batch_idx):
        return fn.binary_cross_entropy_with_logits(self.decoder(self.encoder(batch[0]).relu()), batch[0])


@KINDS.found(
    "tagger with time first, as many words as sentences", data=lambda: batches_of(*sequences(length=8), size=8)
)
class TimeFirst(Module):
    """The head sees (T, N), the labels are (N, T), and T = N."""

    def build(self):
        self.embedding, self.rnn = nn.Embedding(12, HIDDEN), nn.GRU(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features, _ = self.rnn(self.embedding(tokens.T))
        logits = self.head(features)
        self.see(features, logits, tags.T)
        return fn.cross_entropy(logits.permute(1, 2, 0), tags)


@KINDS.found("tagger with time first, labels turned in the step", data=lambda: batches_of(*sequences(length=8), size=8))
class TimeFirstTurned(TimeFirst):
    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features, _ = self.rnn(self.embedding(tokens.T))
        logits = self.head(features)
        self.see(features, logits, tags.T)
        return fn.cross_entropy(logits.reshape(-1, CLASSES), tags.T.reshape(-1))


@KINDS.found("labels that are cut off only in later batches", data=lambda: remade(lambda x, y: (x, rising(x, y))))
class CutOff(Module):
    """In the first batch the target equals the field of the batch."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        y = y.clamp(max=CLASSES - 1)
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


def rising(x, y):
    rising.calls = getattr(rising, "calls", -1) + 1
    return y if rising.calls % 12 == 0 else y + 1


class WholeNetwork(nn.Module):
    """Weights of its own beside the layers: the head is a product inside."""

    def __init__(self):
        super().__init__()
        self.body, self.weight = body(), nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def forward(self, x):
        self.features = self.body(x)
        return fn.linear(self.features, self.weight)


@KINDS.found("a network whose forward ends in a product")
class EndsInProduct(Module):
    def build(self):
        self.net = WholeNetwork()

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.see(self.net.features, logits, y)
        return fn.cross_entropy(logits, y)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(CLASSES))

    def forward(self, x):
        return x * self.scale


@KINDS.found("a scale with a weight of its own behind a product")
class ScaledProduct(Module):
    """Logits as the loss is given them."""

    def build(self):
        self.body, self.scale, self.weight = body(), Scaled(), nn.Parameter(torch.randn(HIDDEN, CLASSES))

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.scale(features @ self.weight)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found(
    "mixed pairs from the loader, two losses", data=lambda: remade(lambda x, y: (x, y, y.flip(0), torch.tensor(0.7)))
)
class MixedPairs(Module):
    """Both targets count, by their parts in the loss."""

    def training_step(self, batch, batch_idx):
        x, first, second, share = batch
        features = self.body(share * x + (1 - share) * x.flip(0))
        logits = self.head(features)
        table = torch.eye(CLASSES)
        self.see(features, logits, share * table[first] + (1 - share) * table[second])
        return share * fn.cross_entropy(logits, first) + (1 - share) * fn.cross_entropy(logits, second)


@KINDS.refused(
    "two targets, the parts of which follow from the logits",
    "several targets",
    settles="label=1",
    data=lambda: remade(lambda x, y: (x, y, y.flip(0))),
)
class LearnedParts(Module):
    def training_step(self, batch, batch_idx):
        x, first, second = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, first)
        costs = torch.stack([fn.cross_entropy(logits, first), fn.cross_entropy(logits, second)])
        return (costs * costs.detach().softmax(0)).sum() + 0.5 * costs.logsumexp(0)


@KINDS.found("are two samples of one class, pairs made in the step", classes=2)
class PairsInStep(Module):
    """A classification of pairs; the labels of the batch become those of the pairs."""

    def build(self):
        self.body, self.same = body(), nn.Linear(HIDDEN, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        a, b = self.body(x).chunk(2)
        features = (a - b).abs()
        logits = self.same(features)
        half = len(y) // 2
        alike = (y[:half] == y[half:]).float()
        self.see(features, logits, alike.long())
        return fn.binary_cross_entropy_with_logits(logits.squeeze(1), alike)
