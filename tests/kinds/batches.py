"""Batches of every shape. The classifier is plain; where its labels are is what differs."""

from collections import UserDict, namedtuple
from dataclasses import dataclass

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, remade
from torch import Tensor, nn
from torch.nn import functional as fn
from trainings import CLASSES, blobs

KINDS = Kinds()


class Reading(Module):
    """Trains on what ``read`` takes from a batch."""

    def read(self, batch):
        return batch

    def training_step(self, batch, batch_idx):
        x, y = self.read(batch)
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found("pair of inputs and labels")
class Pair(Reading):
    pass


@KINDS.found("dict with the key `label`", data=lambda: remade(lambda x, y: {"image": x, "label": y}))
class Dictionary(Reading):
    def read(self, batch):
        return batch["image"], batch["label"]


@KINDS.found("dict with keys of its own", data=lambda: remade(lambda x, y: {"pixels": x, "species": y}))
class OwnKeys(Reading):
    def read(self, batch):
        return batch["pixels"], batch["species"]


@KINDS.found("labels popped from the dict in the step", data=lambda: remade(lambda x, y: {"x": x, "labels": y}))
class Popped(Reading):
    def read(self, batch):
        y = batch.pop("labels")
        return batch["x"], y


@KINDS.found(
    "nested dicts",
    data=lambda: remade(lambda x, y: {"inputs": {"x": x}, "annotations": {"kind": y, "weight": y * 2.0}}),
)
class Nested(Reading):
    def read(self, batch):
        return batch["inputs"]["x"], batch["annotations"]["kind"]


@dataclass
class Sample:
    signal: Tensor
    weight: Tensor
    kind: Tensor


@KINDS.found("data class", data=lambda: remade(lambda x, y: Sample(x, torch.ones(len(x)), y)))
class DataClass(Reading):
    def read(self, batch):
        return batch.signal, batch.kind


Named = namedtuple("Named", ["target", "source"])


@KINDS.found("named tuple with the labels first", data=lambda: remade(lambda x, y: Named(y, x)))
class NamedTuple(Reading):
    def read(self, batch):
        return batch.source, batch.target


class Encoding(UserDict):
    """A dict that also has its keys as attributes, as tokenizers return it."""

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device):
        return Encoding({key: value.to(device) for key, value in self.data.items()})


@KINDS.found("encoding of a tokenizer", data=lambda: remade(lambda x, y: Encoding({"input_ids": x, "labels": y})))
class Tokenized(Reading):
    def read(self, batch):
        return batch.input_ids, batch["labels"]


class Graphs:
    """Several graphs as one: nodes, edges, the graph of each node, and a label a graph."""

    def __init__(self, x, y):
        self.x = x.repeat_interleave(2, dim=0)
        nodes = torch.arange(2 * len(x))
        self.edge_index = torch.stack([nodes, nodes ^ 1])
        self.batch = nodes // 2
        self.y = y

    def to(self, device):
        return self


@KINDS.found("graphs with attributes", data=lambda: remade(Graphs))
class GraphClassifier(Module):
    def training_step(self, data, batch_idx):
        hidden = self.body(data.x)
        hidden = hidden + hidden[data.edge_index[0]]
        features = torch.zeros(len(data.y), HIDDEN).index_add(0, data.batch, hidden)
        logits = self.head(features)
        self.see(features, logits, data.y)
        return fn.cross_entropy(logits, data.y)


class Network:
    """One graph whose nodes have labels, those of some of them known."""

    def __init__(self, x, y):
        self.x, self.y = x, y
        self.train_mask = torch.arange(len(x)) % 3 > 0

    def to(self, device):
        return self


@KINDS.found("nodes of one graph, some masked", data=lambda: remade(Network))
class NodeClassifier(Module):
    def training_step(self, data, batch_idx):
        features = self.body(data.x)
        logits = self.head(features)
        known = data.train_mask
        self.see(features[known], logits[known], data.y[known])
        return fn.cross_entropy(logits[known], data.y[known])


@KINDS.found("attention mask as second element", data=lambda: remade(lambda x, y: (x, torch.ones(len(x)).long(), y)))
class Masked(Reading):
    def read(self, batch):
        x, mask, y = batch
        return x * mask[:, None], y


@KINDS.found("lengths as second element", data=lambda: remade(lambda x, y: (x.view(-1, 3, 2), 1 + (y + 1) % 3, y)))
class Lengths(Module):
    def build(self):
        self.rnn = nn.GRU(2, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        x, lengths, y = batch
        states, _ = self.rnn(x)
        features = states[torch.arange(len(x)), lengths - 1]
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found("index of the sample first", data=lambda: remade(lambda x, y: (torch.arange(len(x)), x, y)))
class Indexed(Reading):
    def read(self, batch):
        return batch[1:]


@KINDS.found("labels first", data=lambda: remade(lambda x, y: [y, x]))
class LabelsFirst(Reading):
    def read(self, batch):
        return batch[1], batch[0]


@KINDS.found("inputs as a tuple beside the labels", data=lambda: remade(lambda x, y: ((x[:, :4], x[:, 4:]), y)))
class TwoInputs(Reading):
    def read(self, batch):
        (left, right), y = batch
        return torch.cat([left, right], dim=1), y


@KINDS.found("list of samples", data=lambda: remade(lambda x, y: (list(x), list(y))))
class Listed(Reading):
    def read(self, batch):
        x, y = batch
        return torch.stack(x), torch.stack(y)


@KINDS.found("crops of each picture, labels repeated", data=lambda: remade(lambda x, y: ([x, x + 0.1, x - 0.1], y)))
class Crops(Reading):
    def read(self, batch):
        crops, y = batch
        return torch.cat(crops), y.repeat(len(crops))


@KINDS.found("several loaders at once", data=lambda: {"a": batches_of(*blobs()), "b": batches_of(*blobs(seed=2))})
class Loaders(Reading):
    def read(self, batch):
        return batch["a"][0] + batch["b"][0], batch["a"][1]
