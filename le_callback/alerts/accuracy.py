"""Accuracy of a window by two measures, held-out nearest class mean and head, against the best of each so far.

K classes. Both must have fallen: class means of the window before are out of date while features move fast, and the
head alone may only be out of tune.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from le_callback.alerts.evidence import accumulate, rate_evidence
from le_callback.records import WindowRecord
from le_callback.values import Array

NEAREST_MEAN, HEAD = "nearest_mean", "head"
_FADING = 0.7  # of counts from one window to the next
_MOST = 4.0  # nats of a window: a loss must last for some of them
_MOST_SAMPLES = 100.0  # of a window that count as independent
_SEPARABLE = 0.2  # share of the way from chance to certainty from which there is something to lose
_FALLEN = 0.2  # by which the accuracy of a single class must be lower to be named


class Counts(NamedTuple):
    """Samples of each class in one window.

    Attributes:
        tried: (K,) samples.
        hits: (K,) of which rightly classified.

    >>> Counts(np.array([4.0, 6.0]), np.array([3.0, 6.0])).rate
    0.9
    """

    tried: Array
    hits: Array

    @property
    def rate(self) -> float:
        """Accuracy over all classes."""
        return float(self.hits.sum() / self.tried.sum())


def counts(record: WindowRecord) -> dict[str, Counts]:
    """Counts by measure, ``nearest_mean`` and ``head``; empty where either is missing.

    >>> from le_callback import SeparationMonitor
    >>> counts(SeparationMonitor(num_classes=2).close(1))
    {}
    """
    measured, head = record.nearest_mean.get("features"), record.head
    if measured is None or head is None or measured.tried.sum() == 0:
        return {}
    K = len(head.tried)
    tried, hits = np.zeros(K), np.zeros(K)
    tried[list(measured.classes)], hits[list(measured.classes)] = measured.tried, measured.hits
    return {NEAREST_MEAN: Counts(tried, hits), HEAD: Counts(head.tried, head.hits)}


@dataclass(frozen=True)
class AccuracyTrack:
    """Recent and best accuracy by one measure.

    Attributes:
        tried: (K,) faded samples.
        hits: (K,) faded hits.
        best: highest lower bound of the accuracy over all classes.
        rates: (K,) accuracies of the classes when it was best.

    >>> track = AccuracyTrack.empty(2).add(Counts(np.array([50.0, 50.0]), np.array([48.0, 42.0])))
    >>> round(track.best, 2)
    0.83
    """

    tried: Array
    hits: Array
    best: float
    rates: Array

    @classmethod
    def empty(cls, num_classes: int) -> AccuracyTrack:
        """Of no window yet."""
        zeros = np.zeros(num_classes)
        return cls(zeros, zeros, 0.0, zeros)

    def add(self, window: Counts) -> AccuracyTrack:
        """Take in a window."""
        recent, right = _FADING * self.tried + window.tried, _FADING * self.hits + window.hits
        total = float(recent.sum())
        rate = float((right.sum() + 0.5) / (total + 1))
        bound = rate - 2 * math.sqrt(rate * (1 - rate) / total)
        if bound <= self.best:
            return AccuracyTrack(recent, right, self.best, self.rates)
        # classes with few samples borrow from all
        return AccuracyTrack(recent, right, bound, (right + 2 * rate) / (recent + 2))

    def expected(self, tried: Array) -> float:
        """Accuracy at its best for classes in these proportions (K,), lowered by what is uncertain of it."""
        overall = float(self.rates @ self.tried / max(self.tried.sum(), 1e-9))
        return float(self.rates @ tried / tried.sum()) + min(self.best - overall, 0.0)

    def floor(self, tried: Array, keep: float) -> float:
        """Accuracy at which ``keep`` of the best above chance is left; 0 while there is nothing to lose."""
        chance = 1 / len(tried)
        if self.best <= chance + _SEPARABLE * (1 - chance):
            return 0.0
        return chance + keep * (self.expected(tried) - chance)


@dataclass(frozen=True)
class AccuracyState:
    """What rules on the accuracy remember.

    Attributes:
        windows: judged so far.
        log_sum: evidence that both accuracies fell.
        tracks: by measure.
        falling: whether the last window speaks for a fall.

    >>> found = {"head": Counts(np.array([50.0, 50.0]), np.array([48.0, 42.0]))}
    >>> after, floor = AccuracyState().add(found, keep=0.75, warm_up=5)
    >>> after.windows, after.log_sum, floor
    (1, -inf, 0.0)
    """

    windows: int = 0
    log_sum: float = -math.inf
    tracks: Mapping[str, AccuracyTrack] = field(default_factory=dict)
    falling: bool = False

    def add(
        self, found: Mapping[str, Counts], keep: float, warm_up: int, needed: float = math.inf
    ) -> tuple[AccuracyState, float]:
        """Take in a window.

        Args:
            found: counts by measure.
            keep: share of the best accuracy above chance that may not be lost.
            warm_up: windows before evidence counts.
            needed: evidence at which an alert is raised.

        Returns:
            The next state, and the accuracy by nearest class mean below which it counts as lost (0: not judged).
        """
        log_e, shown, tracks = _MOST, 0.0, {}
        for measure, window in found.items():
            track = self.tracks.get(measure) or AccuracyTrack.empty(len(window.tried))
            floor = track.floor(window.tried, keep)
            log_e = min(log_e, fall_evidence(window, floor))
            shown = floor if measure == NEAREST_MEAN else shown
            tracks[measure] = track.add(window)
        windows, log_sum = self.windows + 1, -math.inf
        if windows > warm_up:
            log_sum = float(accumulate(np.array(self.log_sum), np.array(log_e), windows, needed))
        return AccuracyState(windows, log_sum, tracks, log_e > 0 and windows > warm_up), shown

    def fallen_classes(self) -> tuple[int, ...]:
        """Classes whose accuracy by the head fell, if they are two or at most half; empty where it concerns more."""
        head = self.tracks[HEAD]
        recent = (head.hits + 1) / (head.tried + 2)
        fallen = np.flatnonzero(recent < head.rates - _FALLEN)
        few = len(fallen) <= len(head.rates) / 2 or 2 == len(fallen) < len(head.rates)
        return tuple(fallen.tolist()) if few else ()


def fall_evidence(window: Counts, floor: float) -> float:
    """Log e-value that the accuracy is below ``floor``; 0 where that is no more than chance.

    >>> fall_evidence(Counts(np.array([20.0, 20.0]), np.array([10.0, 12.0])), 0.9)
    4.0
    """
    if floor <= 1 / len(window.tried):
        return 0.0
    return rate_evidence(window.hits.sum(), window.tried.sum(), floor, _MOST_SAMPLES, _MOST)
