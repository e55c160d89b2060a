"""How far apart each pair of classes is and once was, and the evidence that it fell. K classes."""

from __future__ import annotations

import math
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

    def widened(self, rows: Sequence[int], size: int) -> PairTrack:
        """Of ``size`` classes, where those of now have ``rows``; of the others nothing is known."""
        return PairTrack(*(_placed(x, rows, size, 0.0) for x in (self.recent, self.weight, self.best)))

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
    """What ``PairMerging`` remembers. C of K classes are followed.

    Attributes:
        num_classes: K.
        classes: (C,) of the rows, in order.
        windows: judged so far.
        log_sum: (C, C) evidence that the pair merges.
        features: discriminability in the features.
        head: discriminability by the head.

    >>> PairState.empty(2).classes
    (0, 1)
    """

    num_classes: int
    classes: tuple[int, ...]
    windows: int
    log_sum: Array
    features: PairTrack
    head: PairTrack

    @classmethod
    def empty(cls, num_classes: int, most: int | None = None) -> PairState:
        """Of no window yet; of more than ``most`` classes, those that come are followed."""
        C = num_classes if most is None or num_classes <= most else 0
        nothing = np.full((C, C), -np.inf)
        return cls(num_classes, tuple(range(C)), 0, nothing, PairTrack.empty(C), PairTrack.empty(C))

    def joined(self, classes: Sequence[int], most: int) -> PairState:
        """With others of ``classes``, evenly spaced, as long as not more than ``most`` are followed.

        >>> PairState.empty(1000, most=4).joined(range(0, 1000, 2), most=4).classes
        (0, 250, 500, 750)
        """
        room = most - len(self.classes)
        new = sorted(set(classes) - set(self.classes)) if room > 0 else []
        if not new:
            return self
        new = new[:: -(-len(new) // room)]
        after = tuple(sorted({*self.classes, *new}))
        position = {k: i for i, k in enumerate(after)}
        rows, C = [position[k] for k in self.classes], len(after)
        return replace(
            self,
            classes=after,
            log_sum=_placed(self.log_sum, rows, C, -np.inf),
            features=self.features.widened(rows, C),
            head=self.head.widened(rows, C),
        )

    def accumulated(self, rows: Sequence[int], log_e: Array, warm_up: int, needed: float = math.inf) -> PairState:
        """One window on, with its evidence for some rows; none counts during the ``warm_up``."""
        windows, log_sum, there = self.windows + 1, self.log_sum.copy(), np.ix_(rows, rows)
        if windows > warm_up:
            log_sum[there] = accumulate(log_sum[there], log_e, windows, needed)
        return replace(self, windows=windows, log_sum=log_sum)


def _placed(part: Array, rows: Sequence[int], size: int, otherwise: float) -> Array:
    """A square of ``size`` that holds ``part`` in ``rows``."""
    whole = np.full((size, size), otherwise)
    whole[np.ix_(rows, rows)] = part
    return whole
