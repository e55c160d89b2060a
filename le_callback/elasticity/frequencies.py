"""Class frequencies between two windows, from the samples that were drawn in them. K classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from le_callback.values import Array

_MEMORY = 0.985  # of the counts, a window


@dataclass(frozen=True)
class Frequencies:
    """Class frequencies between two windows.

    Attributes:
        share: π between them ``(K,)``.
        usual: over a longer time ``(K,)``, for weights that change slowly.
        doubt: variance of a share of them over its expectation: those that were drawn differ from π by chance.
        usual_doubt: the same of the frequencies over a longer time, where π is taken from those.
    """

    share: Array
    usual: Array
    doubt: float = 0.0
    usual_doubt: float = 0.0

    def variance(self, pulls: Array) -> Array:
        """Of Σ π_k f_k relative to its square, for pulls f ``(n, K)`` and shares whose ``doubt`` is 1: ``(n,)``.

        >>> Frequencies(np.array([0.5, 0.5]), np.array([0.5, 0.5])).variance(np.array([[1.0, 1.0], [2.0, 0.0]]))
        array([0., 1.])
        """
        relative = np.square(pulls / (pulls @ self.share)[:, None])
        return np.maximum(0.0, relative @ self.share - 1)


def common_weights(frequencies: Array, uniform: bool) -> Array:
    """Weights v ``(K,)`` of the mean over classes: all alike, or class frequencies, which give it the least noise."""
    return np.full(len(frequencies), 1 / len(frequencies)) if uniform else frequencies


def contrast_weights(frequencies: Array) -> Array:
    """Weights w ``(K,)`` of the classes in the difference: like 1/noise for rare classes, bounded for frequent ones.

    >>> contrast_weights(np.array([0.5, 0.5]))
    array([0.5, 0.5])
    """
    with np.errstate(divide="ignore"):
        relative = 1 / np.maximum(frequencies, 1e-12)
    known = frequencies > 0
    weights = np.where(known, 1 / (relative + relative[known].mean()), 0.0)
    return np.asarray(weights / weights.sum())


class ClassFrequencies:
    """Follows how often each class is trained.

    Counts that differ from the usual frequencies by no more than chance (χ² up to five deviations above its mean) are
    taken for those, others as they were drawn.

    >>> frequencies = ClassFrequencies()
    >>> frequencies.add(np.array([30.0, 10.0]), 40.0)
    >>> frequencies.now.share
    array([0.75, 0.25])
    """

    def __init__(self) -> None:
        self._total: Array = np.zeros(0)
        self._samples = 0.0
        self._last: Array = np.zeros(0)
        self._last_samples = 0.0
        self._squares = 0.0  # of the samples' weights in the total
        self._spread = self._freedom = 0.0  # χ² of windows that differ by chance, and its expectation
        self.now = Frequencies(np.zeros(0), np.zeros(0))

    def add(self, counts: Array, samples: float) -> None:
        """Take in a window: samples of each class that is followed, and of all classes."""
        if not len(self._total):
            self._total, self._last = np.zeros(len(counts)), np.zeros(len(counts))
        self._total = _MEMORY * self._total + counts
        self._samples = _MEMORY * self._samples + samples
        self._squares = _MEMORY**2 * self._squares + samples
        drawn, number = self._last + counts, self._last_samples + samples
        self._last, self._last_samples = counts, samples
        if number <= 0:
            return
        usual = self._total / self._samples
        expected = number * usual
        known = expected > 0
        chi2 = float(((drawn - expected)[known] ** 2 / expected[known]).sum())
        freedom = max(int(known.sum()) - 1, 1)
        excess = chi2 / freedom
        changed = excess > 1 + 5 * (2 / freedom) ** 0.5
        if changed:
            self.now = Frequencies(drawn / number, usual, min(1.0, excess) / number)
            return
        free = freedom * max(0.0, 1 - number / self._samples)  # what was drawn is in the usual frequencies
        self._spread, self._freedom = _MEMORY * self._spread + chi2, _MEMORY * self._freedom + free
        by_chance = min(1.0, (freedom + self._spread) / (freedom + self._freedom))
        self.now = Frequencies(usual, usual, by_chance / number, by_chance * self._squares / self._samples**2)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers."""
        arrays = self._total, self._last, self.now.share, self.now.usual
        now = [self.now.doubt, self.now.usual_doubt]
        numbers = [self._samples, self._last_samples, self._squares, self._spread, self._freedom, *now]
        return {"arrays": [torch.from_numpy(x) for x in arrays], "numbers": numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._total, self._last, share, usual = (x.numpy() for x in state["arrays"])
        self._samples, self._last_samples, self._squares, self._spread, self._freedom, *doubts = state["numbers"]
        self.now = Frequencies(share, usual, *doubts)
