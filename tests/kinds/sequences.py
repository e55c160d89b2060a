"""Language models and other sequences."""

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, ready, sequences
from torch import nn
from torch.nn import functional as fn

KINDS = Kinds()
WORDS = 12


def texts(**kwargs):
    return batches_of(sequences(**kwargs)[0])


def named_texts(**kwargs):
    tokens = sequences(**kwargs)[0]
    return ready({"input_ids": part, "labels": part.clone()} for part in tokens.split(8))


class Language(Module):
    def build(self):
        self.embedding, self.rnn = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, WORDS)

    def states(self, tokens):
        return self.rnn(self.embedding(tokens))[0]


@KINDS.found(
    "language model, inputs and the next words",
    data=lambda: batches_of(sequences()[0][:, :-1].contiguous(), sequences()[0][:, 1:].contiguous()),
    classes=WORDS,
)
class NextWord(Language):
    def training_step(self, batch, batch_idx):
        tokens, following = batch
        features = self.states(tokens)
        logits = self.head(features)
        self.see(features, logits, following)
        return fn.cross_entropy(logits.flatten(0, 1), following.flatten())


@KINDS.found(
    "causal language model, labels shifted in the model",
    data=named_texts,
    classes=WORDS,
)
class Causal(Language):
    def training_step(self, batch, batch_idx):
        features = self.states(batch["input_ids"])
        logits = self.head(features)
        labels = batch["labels"][:, 1:]
        self.see(features[:, :-1], logits[:, :-1], labels)
        return fn.cross_entropy(logits[:, :-1].reshape(-1, WORDS), labels.reshape(-1))


@KINDS.found("causal language model, the first batch has no padding", data=lambda: padded_later(), classes=WORDS)
class CausalPadded(Causal):
    """Only later do the labels differ from the text."""


def padded_later():
    tokens = sequences()[0]
    kept = (torch.arange(len(tokens))[:, None] < 8) | (torch.arange(5) < 2 + tokens[:, :1] % 4)
    labels = torch.where(kept, tokens, -100)
    return ready({"input_ids": a, "labels": b} for a, b in zip(tokens.split(8), labels.split(8), strict=True))


@KINDS.found(
    "causal language model, the text is all there is",
    data=texts,
    classes=WORDS,
)
class TextOnly(Language):
    def training_step(self, batch, batch_idx):
        (tokens,) = batch
        features = self.states(tokens[:, :-1])
        logits = self.head(features)
        self.see(features, logits, tokens[:, 1:])
        return fn.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])


@KINDS.found(
    "language model with tied embeddings as a layer",
    data=lambda: batches_of(sequences()[0][:, :-1].contiguous(), sequences()[0][:, 1:].contiguous()),
    classes=WORDS,
)
class TiedLayer(NextWord):
    def build(self):
        super().build()
        self.head.weight = self.embedding.weight


@KINDS.found(
    "language model with tied embeddings, no layer",
    data=lambda: batches_of(sequences()[0][:, :-1].contiguous(), sequences()[0][:, 1:].contiguous()),
    classes=WORDS,
)
class Tied(Language):
    def training_step(self, batch, batch_idx):
        tokens, following = batch
        features = self.states(tokens)
        logits = features @ self.embedding.weight.T
        self.see(features, logits, following)
        loss = fn.cross_entropy(logits.flatten(0, 1), following.flatten())
        return {"loss": loss, "features": features, "logits": logits}


@KINDS.found("masked language model", data=lambda: hidden_words(), classes=WORDS)
class MaskedLanguage(Language):
    def training_step(self, batch, batch_idx):
        features = self.states(batch["input_ids"])
        logits = self.head(features)
        self.see(features, logits, batch["labels"])
        return fn.cross_entropy(logits.view(-1, WORDS), batch["labels"].view(-1))


def hidden_words():
    tokens = sequences()[0]
    hidden = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(8)) < 0.3
    shown, labels = torch.where(hidden, 0, tokens), torch.where(hidden, tokens, -100)
    mask = torch.ones_like(tokens)
    return ready(
        {"input_ids": a, "attention_mask": b, "labels": c}
        for a, b, c in zip(shown.split(8), mask.split(8), labels.split(8), strict=True)
    )


@KINDS.found(
    "translation with teacher forcing",
    data=lambda: batches_of(sequences()[0], sequences(seed=4)[0]),
    classes=WORDS,
)
class Translation(Language):
    def build(self):
        super().build()
        self.encoder = nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def training_step(self, batch, batch_idx):
        source, target = batch
        _, state = self.encoder(self.embedding(source))
        features, _ = self.rnn(self.embedding(target[:, :-1]), state)
        logits = self.head(features)
        self.see(features, logits, target[:, 1:])
        return fn.cross_entropy(logits.reshape(-1, WORDS), target[:, 1:].reshape(-1))


@KINDS.found("sequence to one label, last state", data=lambda: batches_of(sequences()[0], sequences()[0].sum(1) % 3))
class LastState(Language):
    def build(self):
        super().build()
        self.head = nn.Linear(HIDDEN, 3)

    def training_step(self, batch, batch_idx):
        tokens, y = batch
        features = self.states(tokens)[:, -1]
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found("encoder with attention, first token", data=lambda: batches_of(sequences()[0], sequences()[0][:, 0] % 3))
class FirstToken(LastState):
    def build(self):
        super().build()
        self.attention = nn.TransformerEncoderLayer(HIDDEN, 2, 16, dropout=0.0, batch_first=True)

    def states(self, tokens):
        return self.attention(self.embedding(tokens)).flip(1)


@KINDS.found("packed sequences", data=lambda: batches_of(sequences()[0], sequences()[1]))
class Packed(Language):
    def build(self):
        super().build()
        self.head = nn.Linear(HIDDEN, 3)

    def training_step(self, batch, batch_idx):
        tokens, tags = batch
        states = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths(tokens), True, False)
        features = self.rnn(states)[0].data
        logits = self.head(features)
        self.see(features, logits, pack(tags))
        return fn.cross_entropy(logits, pack(tags))


def lengths(tokens):
    return 2 + torch.arange(len(tokens)) % 4


def pack(tags):
    return nn.utils.rnn.pack_padded_sequence(tags, lengths(tags), True, False).data


@KINDS.nothing(
    "speech, connectionist (CTC)",
    "ctc_loss",
    data=lambda: batches_of(sequences(length=6)[0], sequences(length=2)[1] + 1),
)
class Connectionist(Language):
    def training_step(self, batch, batch_idx):
        sounds, words = batch
        scores = self.head(self.states(sounds)).log_softmax(2).transpose(0, 1)
        return fn.ctc_loss(scores, words, torch.full((len(words),), 6), torch.full((len(words),), 2))


@KINDS.refused(
    "multiple choice: one logit for each answer",
    "no classes of a head",
    data=lambda: batches_of(sequences(length=12)[0].view(-1, 3, 4), sequences(length=4)[1][:, 0]),
    settles="outputs=('features', 'logits'), num_classes=2, label=lambda batch: fn.one_hot(batch[1], 3).flatten()",
    classes=2,
)
class Choice(Language):
    """Which answer is right is no class; whether an answer is right can be followed as two classes."""

    def build(self):
        super().build()
        self.head = nn.Linear(HIDDEN, 1)

    def training_step(self, batch, batch_idx):
        answers, right = batch
        features = self.states(answers.flatten(0, 1))[:, -1]
        logits = self.head(features)
        self.see(features, logits, fn.one_hot(right, 3).flatten())
        return {"loss": fn.cross_entropy(logits.view(-1, 3), right), "features": features, "logits": logits}


@KINDS.refused(
    "span of an answer: first and last word",
    "no classes of a head",
    data=lambda: batches_of(sequences()[0], sequences()[0][:, 0] % 5, sequences()[0][:, 1] % 5),
    settles="outputs=('features', 'logits'), num_classes=2, label=lambda batch: fn.one_hot(batch[1], 5)",
    classes=2,
)
class Span(Language):
    """Positions are no classes; whether a word is the first can be followed as two classes."""

    def build(self):
        super().build()
        self.head = nn.Linear(HIDDEN, 2)

    def training_step(self, batch, batch_idx):
        tokens, begin, end = batch
        features = self.states(tokens)
        first, last = self.head(features).unbind(2)
        logits = first[:, :, None]
        self.see(features, logits, fn.one_hot(begin, 5))
        loss = fn.cross_entropy(first, begin) + fn.cross_entropy(last, end)
        return {"loss": loss, "features": features, "logits": logits}
