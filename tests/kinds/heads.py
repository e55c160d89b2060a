"""Heads of every kind."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, images, ready, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES, DIMENSIONS, blobs

KINDS = Kinds()
RETURNED = "outputs=('features', 'logits')"


@KINDS.found("convolutional network", data=lambda: batches_of(*images()))
class Convolutional(Module):
    def build(self):
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.fc = nn.Linear(16, CLASSES)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.fc(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found("a 1×1 convolution before global pooling", data=lambda: batches_of(*images()))
class PooledLogits(Module):
    """Features are pooled as the logits are."""

    def build(self):
        self.body, self.head = nn.Conv2d(1, HIDDEN, 3, padding=1), nn.Conv2d(HIDDEN, CLASSES, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        maps = self.body(x).relu()
        logits = self.head(maps).mean((2, 3))
        features = maps.mean((2, 3))
        self.see(features, logits, y)
        return {"loss": fn.cross_entropy(logits, y), "features": features, "logits": logits}


class Headed(Module):
    """Features of the body go through ``classify``, which returns what enters the head and what leaves it."""

    def classify(self, features):
        return features, self.head(features)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features, logits = self.classify(self.body(x))
        self.see(features, logits, y)
        return {"loss": fn.cross_entropy(logits, y), "features": features, "logits": logits}


@KINDS.found("head as a Sequential")
class Stacked(Headed):
    def build(self):
        self.body, self.head = (
            body(),
            nn.Sequential(nn.Dropout(0.1), nn.Linear(HIDDEN, 5), nn.ReLU(), nn.Linear(5, CLASSES)),
        )

    def classify(self, features):
        inner = self.head[:3](features)
        return inner, self.head[3](inner)


@KINDS.found("dropout behind the head")
class DropoutBehind(Headed):
    def classify(self, features):
        logits = self.head(features)
        self.see(features, logits, self.y)
        return features, fn.dropout(logits, 0.2)

    def training_step(self, batch, batch_idx):
        x, self.y = batch
        return fn.cross_entropy(self.classify(self.body(x))[1], self.y)


@KINDS.found("body as wide as the classes")
class SameWidth(Headed):
    def build(self):
        self.body, self.head = body(out=CLASSES), nn.Linear(CLASSES, CLASSES)


@KINDS.found("bottleneck before the head, skip around it")
class Bottleneck(Headed):
    def build(self):
        self.body, self.down, self.up = body(), nn.Linear(HIDDEN, 2), nn.Linear(2, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def classify(self, features):
        features = features + self.up(self.down(features).relu())
        return features, self.head(features)


@KINDS.found("frozen backbone")
class Frozen(Headed):
    def build(self):
        super().build()
        self.body.requires_grad_(False).eval()


@KINDS.found("head made on the first batch")
class Lazy(Headed):
    def build(self):
        self.body, self.head = body(), nn.LazyLinear(CLASSES)
        self.head(torch.zeros(1, HIDDEN))


class Adapted(nn.Module):
    """A frozen layer and a low-rank correction of it."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(HIDDEN, 2, bias=False), nn.Linear(2, CLASSES, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class AdaptedLinear(Adapted):
    """The same, with the widths as attributes."""

    in_features, out_features = HIDDEN, CLASSES


@KINDS.found("low-rank adapter on the head")
class LowRank(Headed):
    def build(self):
        self.body, self.head = body(), AdaptedLinear(nn.Linear(HIDDEN, CLASSES))


@KINDS.found("low-rank adapter on the head that states no widths")
class LowRankPlain(Headed):
    def build(self):
        self.body, self.head = body(), Adapted(nn.Linear(HIDDEN, CLASSES))


class Cosine(nn.Module):
    """Cosines between the features and a direction for each class."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def forward(self, x):
        return 10 * fn.linear(fn.normalize(x), fn.normalize(self.weight))


@KINDS.found("cosine classifier as a module")
class CosineModule(Headed):
    def build(self):
        self.body, self.head = body(), Cosine()


@KINDS.found("cosine classifier written in the step")
class CosineInline(Headed):
    """Features as they enter the product, normalised."""

    def build(self):
        self.body, self.weight = body(), nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def classify(self, features):
        features = fn.normalize(features)
        return features, 10 * fn.linear(features, fn.normalize(self.weight))


@KINDS.found("weight and bias as parameters")
class Parameters(Headed):
    def build(self):
        self.body = body()
        self.weight, self.bias = nn.Parameter(torch.randn(HIDDEN, CLASSES)), nn.Parameter(torch.zeros(CLASSES))

    def classify(self, features):
        return features, features @ self.weight + self.bias


@KINDS.found("weights normalised by torch")
class WeightNorm(Headed):
    def build(self):
        self.body, self.head = body(), nn.utils.parametrizations.weight_norm(nn.Linear(HIDDEN, CLASSES))


class Margin(nn.Module):
    """An additive angular margin: the logits depend on the labels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def forward(self, x, y):
        cosine = fn.linear(fn.normalize(x), fn.normalize(self.weight)).clamp(-0.99, 0.99)
        moved = torch.cos(torch.acos(cosine) + 0.2)
        return 8 * torch.where(fn.one_hot(y, CLASSES).bool(), moved, cosine)


@KINDS.found("angular margin as a layer")
class ArcFace(Module):
    def build(self):
        self.body, self.embedding, self.margin = body(), nn.Linear(HIDDEN, HIDDEN), Margin()

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.embedding(self.body(x))
        logits = self.margin(features, y)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


class MarginWithWidths(Margin):
    in_features, out_features = HIDDEN, CLASSES


@KINDS.found("angular margin as a layer that states its widths")
class ArcFaceWidths(ArcFace):
    def build(self):
        super().build()
        self.margin = MarginWithWidths()


class Proxies(nn.Module):
    """A loss that has the directions of the classes inside."""

    def __init__(self):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def logits(self, x):
        return 8 * (fn.normalize(x) @ fn.normalize(self.directions).T)

    def forward(self, x, y):
        return fn.cross_entropy(self.logits(x), y)


@KINDS.found("weights of the classes inside the loss")
class ProxyLoss(Module):
    """Features as they enter the product, normalised."""

    def build(self):
        self.body, self.embedding, self.criterion = body(), nn.Linear(HIDDEN, HIDDEN), Proxies()

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.embedding(self.body(x))
        logits = self.criterion.logits(features)
        self.see(fn.normalize(features), logits, y)
        return {"loss": self.criterion(features, y), "features": features, "logits": logits}


@KINDS.refused("mean over five dropout masks before the loss", settles=RETURNED)
class ManyDropouts(Headed):
    def classify(self, features):
        return features, sum(self.head(fn.dropout(features, 0.3)) for _ in range(5)) / 5


@KINDS.found("mean over the frames of a film")
class Frames(Headed):
    def classify(self, features):
        frames = torch.stack([features, 0.9 * features, 1.1 * features], dim=1)
        return frames.mean(1), self.head(frames).mean(1)


@KINDS.refused(
    "click prediction: a product of embeddings",
    settles=RETURNED + ", num_classes=2",
    classes=2,
    data=lambda: clicks(),
)
class Clicks(Module):
    def build(self):
        self.users, self.things = nn.Embedding(12, HIDDEN), nn.Embedding(12, HIDDEN)

    def training_step(self, batch, batch_idx):
        features = self.users(batch["user"]) * self.things(batch["thing"])
        logits = features.sum(1, keepdim=True)
        self.see(features, logits, batch["label"])
        loss = fn.binary_cross_entropy_with_logits(logits.squeeze(1), batch["label"].float())
        return {"loss": loss, "features": features, "logits": logits}


def clicks():
    users, things = sequences()[0].T[:2]
    label = ((users + things) % 3 == 0).long()
    parts = zip(users.split(8), things.split(8), label.split(8), strict=True)
    return ready({"user": u, "thing": t, "label": y} for u, t, y in parts)


@KINDS.found("margin subtracted from the logits of a dense head")
class MarginBehind(Headed):
    def training_step(self, batch, batch_idx):
        x, y = batch
        features, logits = self.classify(self.body(x))
        self.see(features, logits, y)
        return fn.cross_entropy(5 * (logits - 0.3 * fn.one_hot(y, CLASSES)), y)


@KINDS.found("mixture of experts")
class Experts(Headed):
    """Features that all experts see, and logits as the loss is given them."""

    def build(self):
        self.body, self.gate = body(), nn.Linear(HIDDEN, 2)
        self.experts = nn.ModuleList(nn.Linear(HIDDEN, CLASSES) for _ in range(2))

    def classify(self, features):
        share = self.gate(features).softmax(1)
        return features, sum(share[:, i, None] * expert(features) for i, expert in enumerate(self.experts))


@KINDS.refused("sum of a wide and a deep part", settles=RETURNED)
class WideAndDeep(Headed):
    def build(self):
        self.body, self.deep, self.wide = body(), nn.Linear(HIDDEN, CLASSES), nn.Linear(DIMENSIONS, CLASSES)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.deep(features) + self.wide(x)
        self.see(features, logits, y)
        return {"loss": fn.cross_entropy(logits, y), "features": features, "logits": logits}


@KINDS.refused(
    "prototypes of the episode",
    settles=RETURNED + ", label=lambda batch: batch[1][6:]",
    data=lambda: episodes(),
)
class Prototypes(Headed):
    def training_step(self, batch, batch_idx):
        x, y = batch
        embedded = self.body(x)
        prototypes = torch.stack([embedded[:6][y[:6] == k].mean(0) for k in range(CLASSES)])
        features, logits = embedded[6:], -(torch.cdist(embedded[6:], prototypes) ** 2)
        self.see(features, logits, y[6:])
        return {"loss": fn.cross_entropy(logits, y[6:]), "features": features, "logits": logits}


def episodes():
    """Twelve episodes: two samples of each class to learn from, eight in question."""
    x, y = blobs(400)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(12):
        support = torch.cat(
            [(y == k).nonzero()[torch.randperm(50, generator=generator)[:2], 0] for k in range(CLASSES)]
        )
        chosen = torch.cat([support, torch.randint(400, (8,), generator=generator)])
        found.append((x[chosen], y[chosen]))
    return ready(found)


@KINDS.found("head called by its weight")
class ByWeight(Headed):
    def classify(self, features):
        return features, fn.linear(features, self.head.weight, self.head.bias)


@KINDS.found("texts of the classes as head")
class ZeroShot(Headed):
    def build(self):
        self.body, self.project, self.texts = body(), nn.Linear(HIDDEN, 5), nn.Embedding(CLASSES, 4)
        self.text = nn.Linear(4, 5)

    def classify(self, features):
        image = fn.normalize(self.project(features))
        return image, 4 * (image @ fn.normalize(self.text(self.texts.weight)).T)
