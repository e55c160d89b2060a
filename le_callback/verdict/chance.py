"""Whether classes are told apart better than by chance. K classes.

A guess that does not look at the sample is right for class k with some probability q_k, Σ q_k ≤ 1, whatever the class
frequencies: the mean accuracy over the classes, each counted once, is at most 1/K.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from le_callback.records import WindowRecord
from le_callback.values import NAN, Array

_RARELY = 1e-3
ABOVE = 3.5  # standard errors: reached by chance once in 4,000


class Tally(NamedTuple):
    """Samples of each class by one measure.

    Attributes:
        tried: (K,) samples.
        hits: (K,) of which rightly classified.
    """

    tried: Array
    hits: Array


def above_chance(tally: Tally) -> float:
    """Standard errors by which the mean accuracy over the classes lies above that of a guess; NaN without samples.

    Classes without samples are left out of the mean, and of the K that chance is the inverse of. The variance of each
    class is binomial, at the larger of its accuracy and 1/K, with one success and one failure added.

    Args:
        tally: of one measure.

    >>> round(above_chance(Tally(np.array([50.0, 50.0]), np.array([40.0, 40.0]))), 1)
    7.3
    >>> above_chance(Tally(np.array([90.0, 10.0]), np.array([90.0, 0.0])))
    0.0
    """
    seen = tally.tried > 0
    K = int(seen.sum())
    if K < 2:
        return NAN
    n, hits = tally.tried[seen], tally.hits[seen]
    p = np.maximum((hits + 1) / (n + 2), 1 / K)
    error = math.sqrt(float((p * (1 - p) / n).sum())) / K
    return (float((hits / n).mean()) - 1 / K) / error


def certainly_below(tally: Tally, floor: float) -> NDArray[np.bool_]:
    """Which classes (K,) have an accuracy below ``floor``, at one chance in a thousand each to say so wrongly.

    The probability of as few hits at that accuracy is binomial: I_{1−floor}(n − hits, hits + 1).

    >>> certainly_below(Tally(np.array([50.0, 50.0, 2.0]), np.array([50.0, 30.0, 0.0])), 0.9)
    array([False,  True, False])
    """
    misses = np.maximum(tally.tried - tally.hits, 0)
    p = np.where(misses > 0, betainc(np.maximum(misses, 1e-9), tally.hits + 1, 1 - floor), 1.0)
    below: NDArray[np.bool_] = p < _RARELY
    return below


def tallies(record: WindowRecord) -> dict[str, Tally]:
    """What a window says: by the nearest class mean of each layer, and by the head.

    >>> from le_callback import SeparationMonitor
    >>> tallies(SeparationMonitor(num_classes=2).close(1))
    {}
    """
    K, found = len(record.class_samples), {}
    for layer, nearest in record.nearest_mean.items():
        tried, hits = np.zeros(K), np.zeros(K)
        tried[list(nearest.classes)], hits[list(nearest.classes)] = nearest.tried, nearest.hits
        found[layer] = Tally(tried, hits)
    if record.head is not None:
        found["head"] = Tally(record.head.tried, record.head.hits)
    return {name: tally for name, tally in found.items() if tally.tried.any()}


@dataclass(frozen=True)
class Recent:
    """Tallies that fade.

    Attributes:
        faded: by measure.

    >>> recent = Recent().add({"head": Tally(np.array([9.0, 9.0]), np.array([9.0, 9.0]))})
    >>> recent.accuracy("head"), recent.at_chance
    (1.0, False)
    """

    faded: Mapping[str, Tally] = field(default_factory=dict)

    def add(self, new: Mapping[str, Tally], keep: float = 0.5) -> Recent:
        """Take in a window; what was before counts ``keep`` times as much as it did."""
        after = dict(self.faded)
        for name, tally in new.items():
            old = self.faded.get(name)
            same = old is not None and len(old.tried) == len(tally.tried)
            after[name] = Tally(*(keep * a + b for a, b in zip(old, tally, strict=True))) if same and old else tally
        return Recent(after)

    def accuracy(self, name: str) -> float:
        """Share of all samples by one measure; NaN where there are none."""
        tally = self.faded.get(name)
        return NAN if tally is None else float(tally.hits.sum() / tally.tried.sum())

    @property
    def nearest(self) -> float:
        """The better accuracy by nearest class means, of features or logits."""
        known = [a for a in map(self.accuracy, ("features", "logits")) if not math.isnan(a)]
        return max(known, default=NAN)

    def behind(self, head: float, nearest: float) -> tuple[int, ...]:
        """Classes whose accuracy is below what is given, by the head or by the nearest class mean of every layer."""
        below = {
            name: certainly_below(tally, head if name == "head" else nearest) for name, tally in self.faded.items()
        }
        means = [of for name, of in below.items() if name != "head"]
        parts = [np.all(means, axis=0)] * bool(means) + [of for name, of in below.items() if name == "head"]
        return tuple(np.flatnonzero(np.any(parts, axis=0)).tolist()) if parts else ()

    @property
    def at_chance(self) -> bool:
        """Whether no measure tells classes apart better than a guess."""
        return all(not above_chance(tally) > ABOVE for tally in self.faded.values())
