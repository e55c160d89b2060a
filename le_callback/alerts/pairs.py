"""How far apart each pair of classes is and once was, and the evidence that it fell. K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from le_callback.alerts.evidence import accumulate
from le_callback.values import Array

_FADING = 0.7  # of samples from one window to the next
_LEAST_SAMPLES = 6.0  # of a class, from which a lower bound is taken
_LARGE = 1e3  # stands for a pair without any deviation


@dataclass(frozen=True)
class PairTrack:
    """Discriminability of all pairs by one measure.

    Attributes:
        recent: (K, K) faded mean.
        weight: (K, K) its samples of a class.
        best: (K, K) highest lower bound so far.

    >>> D = np.full((2, 2), 4.0)
    >>> PairTrack.empty(2).add(D, np.array([18.0, 18.0])).best.round(2)
    array([[2.85, 2.85], [2.85, 2.85]])
    """

    recent: Array
    weight: Array
    best: Array

    @classmethod
    def empty(cls, num_classes: int) -> PairTrack:
        """Of no window yet."""
        return cls(*np.zeros((3, num_classes, num_classes)))

    def only(self, classes: Sequence[int]) -> PairTrack:
        """Of some classes."""
        rows = np.ix_(classes, classes)
        return PairTrack(self.recent[rows], self.weight[rows], self.best[rows])

    def replaced(self, classes: Sequence[int], part: PairTrack) -> PairTrack:
        """With ``part`` for some classes."""
        rows = np.ix_(classes, classes)
        after = PairTrack(self.recent.copy(), self.weight.copy(), self.best.copy())
        after.recent[rows], after.weight[rows], after.best[rows] = part.recent, part.weight, part.best
        return after

    def add(self, D: Array, samples: Array) -> PairTrack:
        """Take in a window of discriminabilities (K, K), NaN where unknown, of ``samples`` (K,)."""
        n = 2 / (1 / np.maximum(samples[:, None], 1e-9) + 1 / np.maximum(samples[None, :], 1e-9))
        n = np.where(np.isnan(D), 0.0, n)
        total = _FADING * self.weight + n
        new = np.nan_to_num(np.clip(D, -_LARGE, _LARGE)) * n
        mean = (self.recent * _FADING * self.weight + new) / np.maximum(total, 1e-9)
        error = np.sqrt((2 + mean**2 / 4) / np.maximum(total, 1e-9))
        bound = np.where(total >= _LEAST_SAMPLES, mean - 2 * error, 0.0)
        return PairTrack(mean, total, np.maximum(self.best, bound))


@dataclass(frozen=True)
class PairState:
    """What ``PairMerging`` remembers.

    Attributes:
        windows: judged so far.
        log_sum: (K, K) evidence that the pair merges.
        features: discriminability in the features.
        head: discriminability by the head.

    >>> PairState.empty(2).windows
    0
    """

    windows: int
    log_sum: Array
    features: PairTrack
    head: PairTrack

    @classmethod
    def empty(cls, num_classes: int) -> PairState:
        """Of no window yet."""
        nothing = np.full((num_classes, num_classes), -np.inf)
        return cls(0, nothing, PairTrack.empty(num_classes), PairTrack.empty(num_classes))

    def accumulated(self, classes: Sequence[int], log_e: Array, warm_up: int) -> PairState:
        """One window on, with its evidence for some classes; none counts during the ``warm_up``."""
        windows, log_sum, rows = self.windows + 1, self.log_sum.copy(), np.ix_(classes, classes)
        if windows > warm_up:
            log_sum[rows] = accumulate(log_sum[rows], log_e, windows)
        return replace(self, windows=windows, log_sum=log_sum)
