"""Kinds of public code. Each was written before it was tried, to see what the search does there."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, images, remade, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES

KINDS = Kinds()
WORDS = 13


@KINDS.found("masked language model, words hidden in the step", data=lambda: batches_of(sequences()[0]), classes=WORDS)
class MaskedInStep(Module):
    def build(self):
        self.embedding, self.rnn = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, WORDS)

    def hide(self, tokens):
        chance = torch.full(tokens.shape, 0.3)
        hidden = torch.bernoulli(chance).bool()
        labels = tokens.clone()
        labels[~hidden] = -100
        shown = tokens.clone()
        shown[hidden] = WORDS - 1
        return shown, labels

    def training_step(self, batch, batch_idx):
        shown, labels = self.hide(batch[0])
        features = self.rnn(self.embedding(shown))[0]
        logits = self.head(features)
        self.see(features, logits, labels)
        return fn.cross_entropy(logits.view(-1, WORDS), labels.view(-1))


@KINDS.found(
    "replaced words: a generator and a judge of its words", data=lambda: batches_of(sequences()[0]), classes=WORDS
)
class Replaced(MaskedInStep):
    """The generator is the classifier that is taken; what the judge is asked is made up of samples."""

    def build(self):
        super().build()
        self.judge = nn.Sequential(nn.Embedding(WORDS, HIDDEN), nn.Linear(HIDDEN, 1))

    def training_step(self, batch, batch_idx):
        (tokens,) = batch
        shown, labels = self.hide(tokens)
        features = self.rnn(self.embedding(shown))[0]
        logits = self.head(features)
        self.see(features, logits, labels)
        guess = torch.distributions.Categorical(logits=logits.detach()).sample()
        filled = torch.where(labels >= 0, guess, tokens)
        changed = (filled != tokens).float()
        judged = self.judge(filled).squeeze(-1)
        words = fn.cross_entropy(logits.transpose(1, 2), labels)
        return words + 5 * fn.binary_cross_entropy_with_logits(judged, changed)


def masks():
    pictures, labels = images(48)
    part = labels[:, None, None] * (pictures[:, 0] > labels[:, None, None])
    return batches_of(pictures, part, size=4)


@KINDS.found("segmentation with losses at two scales", data=masks)
class TwoScales(Module):
    """The coarse loss comes first and is taken; its mask is made smaller in the step."""

    def build(self):
        self.down, self.up = (
            nn.Conv2d(1, HIDDEN, 3, stride=2, padding=1),
            nn.ConvTranspose2d(HIDDEN, HIDDEN, 2, stride=2),
        )
        self.coarse, self.fine = nn.Conv2d(HIDDEN, CLASSES, 1), nn.Conv2d(HIDDEN, CLASSES, 1)

    def training_step(self, batch, batch_idx):
        pictures, mask = batch
        small = self.down(pictures).relu()
        large = self.up(small).relu()
        outputs = [self.coarse(small), self.fine(large)]
        loss = 0
        for output, weight in zip(outputs, (0.5, 1.0), strict=True):
            target = fn.interpolate(mask[:, None].float(), size=output.shape[-2:], mode="nearest").squeeze(1).long()
            if weight == 0.5:
                self.see(small.movedim(1, -1), output.movedim(1, -1), target)
            share = output.softmax(1)[:, 1:]
            hits = torch.stack([target == k for k in range(1, CLASSES)], 1).float()
            dice = 1 - (2 * (share * hits).sum() + 1) / (share.sum() + hits.sum() + 1)
            loss = loss + weight * (fn.cross_entropy(output, target) + dice)
        return loss


def sentence_pairs():
    first, second = sequences()[0], sequences(seed=4)[0]
    relation = (first[:, 0] + second[:, 0]) % 3
    lengths = torch.full((len(first),), 5)
    return batches_of(first, second, relation, lengths, lengths)


@KINDS.found("two sentences, does one follow from the other", data=sentence_pairs)
class Inference(Module):
    def build(self):
        self.embedding, self.encoder = nn.Embedding(12, HIDDEN), nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.classifier = nn.Sequential(nn.Linear(4 * HIDDEN, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        premise, hypothesis, relation, *_ = batch
        u, v = (self.encoder(self.embedding(text))[1][0].squeeze(0) for text in (premise, hypothesis))
        joint = torch.cat([u, v, (u - v).abs(), u * v], dim=1)
        features = self.classifier[1](self.classifier[0](joint))
        logits = self.classifier[2](features)
        self.see(features, logits, relation)
        return self.criterion(self.classifier(joint), relation)


def films():
    frames, actions = sequences(length=9)
    seen = fn.one_hot(frames, 12).float().transpose(1, 2)
    mask = torch.ones(len(frames), 9)
    return batches_of(seen, actions, mask)


@KINDS.found("actions in a film, refined in stages", "stages.1", data=films)
class Stages(Module):
    """The first stage is taken; the others are named."""

    def build(self):
        widths = (12, CLASSES)
        self.mixers = nn.ModuleList(nn.Conv1d(width, HIDDEN, 3, padding=1) for width in widths)
        self.stages = nn.ModuleList(nn.Conv1d(HIDDEN, CLASSES, 1) for _ in widths)

    def training_step(self, batch, batch_idx):
        x, actions, mask = batch
        loss = 0
        for i, (mixer, stage) in enumerate(zip(self.mixers, self.stages, strict=True)):
            features = mixer(x).relu()
            scores = stage(features) * mask[:, None]
            if i == 0:
                self.see(features.movedim(1, -1), scores.movedim(1, -1), actions)
            jumps = scores[:, :, 1:].log_softmax(1) - scores.detach()[:, :, :-1].log_softmax(1)
            steady = fn.mse_loss(
                scores[:, :, 1:].log_softmax(1), scores.detach()[:, :, :-1].log_softmax(1), reduction="none"
            )
            loss = loss + fn.cross_entropy(scores.transpose(2, 1).contiguous().view(-1, CLASSES), actions.view(-1))
            loss = loss + 0.1 * steady.clamp(max=16).mean() + 0 * jumps.sum()
            x = scores.softmax(1) * mask[:, None]
        return loss


def clouds():
    generator = torch.Generator().manual_seed(9)
    points = torch.randn(48, 10, 3, generator=generator)
    part = (points[..., 0] > 0).long() + (points[..., 1] > 0.5).long()
    return batches_of(points, part + 1, size=6)


@KINDS.found("parts of point clouds, labels from 1", data=clouds)
class PointCloud(Module):
    def build(self):
        self.turn, self.local = nn.Linear(3, 9), nn.Conv1d(3, HIDDEN, 1)
        self.wide, self.last = nn.Conv1d(2 * HIDDEN, HIDDEN, 1), nn.Conv1d(HIDDEN, CLASSES, 1)

    def training_step(self, batch, batch_idx):
        points, parts = batch
        turn = self.turn(points.max(1).values).view(-1, 3, 3)
        x = torch.bmm(points, turn).transpose(2, 1)
        near = self.local(x).relu()
        whole = near.max(2, keepdim=True).values.expand(-1, -1, points.shape[1])
        features = self.wide(torch.cat([near, whole], 1)).relu()
        logits = self.last(features)
        self.see(features.movedim(1, -1), logits.movedim(1, -1), parts - 1)
        scores = fn.log_softmax(logits.transpose(2, 1).contiguous().view(-1, CLASSES), dim=-1)
        straight = torch.norm(torch.bmm(turn, turn.transpose(2, 1)) - torch.eye(3), dim=(1, 2)).mean()
        return fn.nll_loss(scores.view(-1, CLASSES), parts.view(-1, 1)[:, 0] - 1) + 0.001 * straight


class Graph:
    def __init__(self, x, y):
        pairs = torch.stack([torch.arange(len(x)), (torch.arange(len(x)) * 3 + 1) % len(x)])
        self.x, self.edge_label_index, self.edge_label = x, pairs, (y[pairs[0]] == y[pairs[1]]).float()

    def to(self, device):
        return self


@KINDS.refused(
    "links of a graph: a product of two nodes",
    data=lambda: remade(Graph),
    classes=2,
    settles="outputs=('features', 'logits'), label=lambda data: data.edge_label, num_classes=2",
)
class Links(Module):
    def build(self):
        self.body = body()

    def training_step(self, data, batch_idx):
        h = self.body(data.x)
        a, b = data.edge_label_index
        features = h[a] * h[b]
        score = features.sum(dim=-1)
        self.see(features, score[:, None], data.edge_label.long())
        loss = fn.binary_cross_entropy_with_logits(score, data.edge_label)
        return {"loss": loss, "features": features, "logits": score[:, None]}
