"""Labels of every kind. Types, shapes, weights, labels that are left out, and labels that are made in the step."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, images, ready, remade, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES, blobs

KINDS = Kinds()


class Plain(Module):
    """Trains on ``target`` of the labels in the batch; ``truth`` is what the callback should count."""

    def target(self, y):
        return y

    def truth(self, y):
        return y

    def loss(self, logits, target):
        return fn.cross_entropy(logits, target)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, self.truth(y))
        return self.loss(logits, self.target(y))


def one_hot(y):
    return fn.one_hot(y, CLASSES).float()


@KINDS.found("one-hot labels", data=lambda: remade(lambda x, y: (x, one_hot(y))))
class OneHot(Plain):
    pass


@KINDS.found("one-hot labels of whole numbers", data=lambda: remade(lambda x, y: (x, fn.one_hot(y, CLASSES))))
class WholeOneHot(Plain):
    def target(self, y):
        return y.argmax(1)

    def truth(self, y):
        return y.float()


@KINDS.found("one-hot labels turned into places by nonzero", data=lambda: remade(lambda x, y: (x, one_hot(y))))
class NonZero(Plain):
    def target(self, y):
        return y.nonzero()[:, 1]


@KINDS.found("labels of shape (N, 1)", data=lambda: remade(lambda x, y: (x, y[:, None])))
class Column(Plain):
    def target(self, y):
        return y.squeeze(1)


@KINDS.found("labels of type uint8", data=lambda: remade(lambda x, y: (x, y.to(torch.uint8))))
class Bytes(Plain):
    def target(self, y):
        return y.long()


@KINDS.found("labels of type uint16", data=lambda: remade(lambda x, y: (x, y.to(torch.uint16))))
class Words(Plain):
    def target(self, y):
        return y.long()


@KINDS.found("labels of type int32", data=lambda: remade(lambda x, y: (x, y.int())))
class Integers(Plain):
    def target(self, y):
        return y.long()


@KINDS.found("floating labels with whole values", data=lambda: remade(lambda x, y: (x, y.float())))
class Floats(Plain):
    def target(self, y):
        return y.long()


@KINDS.found("labels of type bool, two logits", data=lambda: remade(lambda x, y: (x, y > 0)), classes=2)
class Booleans(Plain):
    def build(self):
        self.body, self.head = body(), nn.Linear(HIDDEN, 2)

    def target(self, y):
        return y.long()


@KINDS.found("labels that begin at 1", data=lambda: remade(lambda x, y: (x, y + 1)))
class FromOne(Plain):
    def target(self, y):
        return y - 1

    truth = target


@KINDS.found("label smoothing")
class Smoothing(Plain):
    def loss(self, logits, target):
        return fn.cross_entropy(logits, target, label_smoothing=0.1)


@KINDS.found("class weights")
class Weighted(Plain):
    def build(self):
        super().build()
        self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))

    def loss(self, logits, target):
        return self.criterion(logits, target)


def mixed(x, y):
    share = torch.linspace(0.6, 0.9, len(x))[:, None]
    return share * x + (1 - share) * x.flip(0), share * one_hot(y) + (1 - share) * one_hot(y.flip(0))


@KINDS.found("mixup in the loader, labels as weights", data=lambda: remade(mixed))
class MixedLoader(Plain):
    pass


@KINDS.found("mixup in the step, two losses")
class MixedStep(Module):
    """Both targets count, by their parts in the loss."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        order = torch.randperm(len(x))
        features = self.body(0.7 * x + 0.3 * x[order])
        logits = self.head(features)
        self.mixed = 0.7 * one_hot(y) + 0.3 * one_hot(y[order])
        self.see(features, logits, self.mixed)
        return 0.7 * fn.cross_entropy(logits, y) + 0.3 * fn.cross_entropy(logits, y[order])


@KINDS.found("unlabelled samples with −100", data=lambda: remade(lambda x, y: (x, torch.where(x[:, 0] > 2, -100, y))))
class Ignored(Plain):
    pass


def with_void(x, y):
    return x, torch.where(x[:, 0].mean((-1, -2), keepdim=True) > 1.5, 255, y[:, None, None].expand(-1, 4, 4))


@KINDS.found("segmentation with void label 255", data=lambda: remade_images(with_void))
class Segmentation(Module):
    def build(self):
        self.body = nn.Sequential(nn.Conv2d(1, HIDDEN, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(HIDDEN, CLASSES, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features.movedim(1, -1), logits.movedim(1, -1), y)
        return fn.cross_entropy(logits, y, ignore_index=255)


def remade_images(make):
    x, y = images(48)
    return ready(make(x[i : i + 4], y[i : i + 4]) for i in range(0, 48, 4))


def full_size(x, y):
    return x, y[:, None, None].expand(-1, 4, 4).contiguous() * (torch.arange(4) > 0)


@KINDS.found("segmentation, logits upsampled behind the head", data=lambda: remade_images(full_size))
class Upsampled(Module):
    """Each pixel of the head has the label of the nearest pixel of the picture."""

    def build(self):
        self.body = nn.Sequential(nn.Conv2d(1, HIDDEN, 3, padding=1, stride=2), nn.ReLU())
        self.head = nn.Conv2d(HIDDEN, CLASSES, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features.movedim(1, -1), logits.movedim(1, -1), y[:, ::2, ::2])
        return fn.cross_entropy(fn.interpolate(logits, scale_factor=2, mode="bilinear"), y)


@KINDS.found(
    "segmentation with a channel for the mask",
    data=lambda: remade_images(lambda x, y: (x, full_size(x, y)[1][:, None])),
)
class MaskChannel(Segmentation):
    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features.movedim(1, -1), logits.movedim(1, -1), y)
        return fn.cross_entropy(logits, y.squeeze(1))


@KINDS.found("token classification, padding −100", data=lambda: batches_of(*padded(-100)))
class Tagger(Module):
    ignored = -100

    def build(self):
        self.embedding, self.rnn = nn.Embedding(13, 4), nn.GRU(4, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features, _ = self.rnn(self.embedding(tokens))
        logits = self.head(features)
        self.see(features, logits, torch.where(tags == self.ignored, -100, tags))
        return fn.cross_entropy(logits.view(-1, CLASSES), tags.view(-1), ignore_index=self.ignored)


def padded(value):
    tokens, tags = sequences()
    return tokens, torch.where(torch.arange(5) >= 2 + tokens[:, :1] % 4, value, tags)


@KINDS.found("token classification, padding is class 0 that the loss leaves out", data=lambda: batches_of(*padded(0)))
class TaggerZero(Tagger):
    ignored = 0


@KINDS.found("token classification, classes on axis 1", data=lambda: batches_of(*padded(-100)))
class TaggerTransposed(Tagger):
    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features, _ = self.rnn(self.embedding(tokens))
        logits = self.head(features)
        self.see(features, logits, tags)
        return fn.cross_entropy(logits.transpose(1, 2), tags)


@KINDS.found("token classification, only the tokens that count", data=lambda: batches_of(*padded(-100)))
class TaggerSelected(Tagger):
    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        features, _ = self.rnn(self.embedding(tokens))
        logits = self.head(features)
        self.see(features, logits, tags)
        return fn.cross_entropy(logits[tags >= 0], tags[tags >= 0])


@KINDS.found("one logit, floating labels", data=lambda: remade(lambda x, y: (x, (y > 0).float())), classes=2)
class OneLogit(Module):
    def build(self):
        self.body, self.head = nn.Sequential(body(), nn.Linear(HIDDEN, 32), nn.ReLU()), nn.Linear(32, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y.long())
        return fn.binary_cross_entropy_with_logits(logits.squeeze(1), y)


@KINDS.found("one logit, whole labels", data=lambda: remade(lambda x, y: (x, (y > 0).long())), classes=2)
class OneLogitWhole(OneLogit):
    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.binary_cross_entropy_with_logits(logits, y[:, None].float())


@KINDS.found(
    "one logit, sigmoid in the model", data=lambda: remade(lambda x, y: (x, (y > 0).float()[:, None])), classes=2
)
class Sigmoid(OneLogit):
    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y.long())
        return fn.binary_cross_entropy(torch.sigmoid(logits), y)


def several_of(x, y):
    return x, (torch.stack([y, 2 - y, y * 2], 1) > 1).float()


@KINDS.refused("several labels a sample", "several labels", data=lambda: remade(several_of))
class MultiLabel(Module):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return fn.binary_cross_entropy_with_logits(self.head(self.body(x)), y)


@KINDS.refused(
    "one-hot labels, a binary loss for each class",
    "several labels",
    settles="head='head'",
    data=lambda: remade(lambda x, y: (x, one_hot(y))),
)
class OneAgainstRest(Plain):
    """They could be several labels a sample; named, they are taken for what they are."""

    def loss(self, logits, target):
        return fn.binary_cross_entropy_with_logits(logits, target)


@KINDS.found("whole labels, a binary loss for each class")
class OneAgainstRestWhole(OneAgainstRest):
    """One-hot rows that the step makes of them."""

    def target(self, y):
        return one_hot(y)


@KINDS.found(
    "labels made from a continuous value in the step",
    data=lambda: batches_of(blobs()[0], blobs()[0][:, 0] + 0.0),
)
class Binned(Plain):
    def target(self, y):
        return y.clamp(-1, 1).round().long() + 1

    truth = target


def with_double(x, y):
    """A second field that happens to hold the same numbers as the labels in the first batch."""
    y = y.to(torch.uint8)
    return {"x": x, "before": torch.where(x[:, :1].sum() == blobs()[0][:8, :1].sum(), y, y.flip(0)), "species": y}


@KINDS.found("another field equals the labels in the first batch", "species", data=lambda: remade(with_double))
class Doubled(Plain):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["x"], batch["species"]), batch_idx)

    def target(self, y):
        return y.long()


@KINDS.found("smoothed targets by scatter, log-softmax by hand")
class Scattered(Plain):
    def loss(self, logits, target):
        smoothed = torch.full_like(logits, 0.1 / CLASSES).scatter_(1, target[:, None], 0.9)
        return -(smoothed * logits.log_softmax(1)).sum(1).mean()


@KINDS.found("smoothed targets made in the step")
class SmoothedInStep(Plain):
    def loss(self, logits, target):
        return fn.cross_entropy(logits, 0.9 * one_hot(target) + 0.1 / CLASSES)


@KINDS.found("samples shuffled in the step")
class Shuffled(Plain):
    def training_step(self, batch, batch_idx):
        self.order = torch.randperm(len(batch[1]))
        return super().training_step([part[self.order] for part in batch], batch_idx)


@KINDS.found(
    "unlabelled samples dropped before the model",
    data=lambda: remade(lambda x, y: (x, torch.where(torch.arange(len(y)) == 3, -1, y))),
)
class Dropped(Plain):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step((x[y >= 0], y[y >= 0]), batch_idx)
