"""What a kind of training is, what is expected of the callback there, and how that is checked.

A kind is a short module in the words of its field. In ``training_step`` it says what the right features, logits and
labels are (``see``); the windows of the callback are compared with class means that are computed from that alone.
"""

import logging
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning_utilities.core import rank_zero
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainings import CLASSES, DIMENSIONS, Recording, blobs, trainer

from le_callback.entry_point import AddedCallback

HIDDEN = 8
FOUND, REFUSED, NOTHING = "found", "refused", "no classification"
WRONG, DIED = "silently wrong", "died"


class Module(LightningModule):
    """A training: ``build`` makes the layers, ``training_step`` calls ``see``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.seen = []
        self.build()

    def build(self):
        self.body = body()
        self.head = nn.Linear(HIDDEN, CLASSES)

    def see(self, features, logits, labels):
        """Say what is right in this step: (..., p), (..., K) and (...) labels, or (..., K) class weights."""
        self.seen.append((features.detach().clone(), logits.detach().clone(), labels.detach().clone()))

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def body(width=DIMENSIONS, out=HIDDEN):
    return nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Dropout(0.1))


def batches_of(*tensors, size=8, **kwargs):
    return DataLoader(TensorDataset(*tensors), batch_size=size, **kwargs)


def pairs(n=96, classes=CLASSES):
    """The usual data: (x, y) batches of 8."""
    return batches_of(*blobs(n, classes))


def remade(make, n=96, classes=CLASSES, size=8):
    """Batches that are made of (x, y) by ``make``."""
    x, y = blobs(n, classes)
    rows = list(zip(x, y, strict=True))
    return DataLoader(rows, batch_size=size, collate_fn=lambda part: make(*map(torch.stack, zip(*part, strict=True))))


def sequences(n=96, length=5, classes=CLASSES, seed=3):
    """Token ids (n, length) below 12, and a label below ``classes`` for each."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(12, (n, length), generator=generator)
    return tokens, tokens % classes


def ready(batches):
    """A loader of batches that are made already."""
    return DataLoader(list(batches), batch_size=None)


def images(n=96, classes=CLASSES, size=4):
    """Pictures (n, 1, size, size) whose brightness tells the class, and labels."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(classes, (n,), generator=generator)
    noise = torch.randn(n, 1, size, size, generator=generator)
    return noise + labels.float().view(-1, 1, 1, 1), labels


@dataclass(frozen=True)
class Kind:
    """One kind of training.

    Attributes:
        title: as in the documentation.
        make: the module.
        expected: ``FOUND`` without arguments; ``REFUSED`` with an error that names the argument; ``NOTHING`` where no
            loss of a classification is computed.
        says: what the error, or the line in the log, has to say.
        settles: the arguments that settle a refusal, as they are written; ``model`` is the module. Empty where none do.
        data: makes the loader.
        classes: K.
        batches: of a window.
        settings: of the Trainer.
    """

    title: str
    make: type[Module]
    expected: str
    says: tuple[str, ...] = ()
    settles: str = ""
    data: Callable[[], Any] = pairs
    classes: int = CLASSES
    batches: int = 4
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self):
        return self.title

    def train(self, model, *callbacks):
        """Parameters and buffers after a training from a fixed random state, and that state afterwards."""
        torch.manual_seed(1)
        trainer(callbacks=list(callbacks), **({"max_epochs": 1} | self.settings)).fit(model, self.data())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        return [t.detach().clone() for t in model.state_dict().values()], torch.get_rng_state()

    def outcome(self, arguments=""):
        """How it ends with the callback: a word, what was said, the state of the training (None if refused)."""
        model = self.make()
        known = vars(sys.modules[self.make.__module__]) | {"model": model}
        callback = Recording(**eval(f"dict({arguments})", known))
        with hearing() as said:
            try:
                state = self.train(model, callback)
            except ValueError as error:
                assert not any(m._forward_hooks for m in model.modules())
                return REFUSED, str(error), None
            except Exception as error:
                return DIED, f"{type(error).__name__}: {error}", None
        said = " ".join(said)
        fault = difference(callback.windows, model.seen, self.batches, self.classes)
        if fault is None:
            return FOUND, said, state
        return ("told" if said and not callback.windows else WRONG), f"{fault} {said}", state

    def check(self):
        """Compare with what is expected, and the training with that without the callback."""
        plain = self.train(self.make())
        word, said, state = self.outcome()
        if self.expected == FOUND:
            assert word == FOUND, f"{word}: {said}"
            assert "labels" in said, said
            assert " by " in said, said
            assert all(part in said for part in self.says), said
            assert_same(plain, state)
            return
        assert word == REFUSED, f"{word}: {said}"
        assert all(part in said for part in self.says), said
        if self.settles:
            word, said, state = self.outcome(self.settles)
            assert word == FOUND, f"with arguments {word}: {said}"
            assert_same(plain, state)
        added = AddedCallback()
        with hearing() as said:
            assert_same(plain, self.train(self.make(), added))
        assert added.trajectory is None
        assert len(said) == 1, said
        assert self.expected != NOTHING or not said[0].startswith("warning"), said


@contextmanager
def hearing():
    """What the callback says meanwhile, as warnings or information."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    rank_zero.log.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
    finally:
        rank_zero.log.removeHandler(handler)
        said[:] = [text for text in [*said, *(f"warning: {w.message}" for w in caught)] if "LECallback" in text]


class Kinds(list):
    """The kinds of one file, each added by a decorator of its module."""

    def found(self, title, *says, **options):
        """Head and labels are found without arguments; the log says so, and ``says``."""
        return self._add(title, FOUND, says, options)

    def refused(self, title, *says, settles="", **options):
        """Told in an error that names the arguments that settle it, and ``says``."""
        return self._add(
            title,
            REFUSED,
            (*says, *re.findall(r"\b(?:head|label|outputs)=", settles)),
            options | {"settles": settles},
        )

    def nothing(self, title, *seen, **options):
        """No loss of a classification: told with those that were seen."""
        return self._add(title, NOTHING, ("no classification loss", *seen), options)

    def _add(self, title, expected, says, options):
        def register(module):
            self.append(Kind(title, module, expected, says, **options))
            return module

        return register


def assert_same(plain, watched):
    """Two trainings ended in the same parameters, buffers and random state, bit for bit."""
    assert all(torch.equal(a, b) for a, b in zip(plain[0], watched[0], strict=True))
    assert torch.equal(plain[1], watched[1])


def difference(windows, seen, batches, classes):
    """In what the windows of a ``Recording`` differ from what was seen; None if in nothing."""
    expected = len(seen) // batches
    if len(windows) != expected or not expected:
        return f"{len(windows)} windows for {expected}"
    for i, window in enumerate(windows):
        part = seen[i * batches : (i + 1) * batches]
        weights = torch.cat([class_weights(labels, features, classes) for features, _, labels in part])
        for source, name in enumerate(("features", "logits")):
            x = torch.cat([batch[source].reshape(-1, batch[source].shape[-1]) for batch in part]).double()
            count, mean = window[name]
            if count.shape != (classes,):
                return f"{len(count)} classes for {classes}"
            if not torch.allclose(count.double(), weights.sum(0), rtol=1e-5):
                return f"counts {count.tolist()} for {weights.sum(0).tolist()}"
            present = weights.sum(0) > 0
            right = (weights.T @ x)[present] / weights.sum(0)[present, None]
            if mean.shape[1:] != right.shape[1:]:
                return f"{name} of width {mean.shape[1]} for {right.shape[1]}"
            if not torch.allclose(mean.double()[present], right, rtol=1e-5, atol=1e-5):
                return f"class means of the {name} differ"
    return None


def class_weights(labels, features, classes):
    """(N, K): a row of a sample is its class weights, or 1 at its label; zero where the label is none of the K."""
    rows = features.shape[:-1].numel()
    if labels.shape == (*features.shape[:-1], classes) and labels.is_floating_point():
        return labels.reshape(rows, classes).double()
    return (labels.reshape(rows, 1).long() == torch.arange(classes)).double()
