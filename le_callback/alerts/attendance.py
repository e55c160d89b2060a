"""How often each class is seen, in what bursts, and whether its samples vary. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from le_callback.records import WindowRecord
from le_callback.values import Array

_FADING = 0.98  # of what is known of the bursts
_KEPT = 10  # windows of the variation
_FALL = 1.3  # of the log variation below the lowest of the last windows, also against the other classes
_DEVIATIONS = 3.0  # … and its standard deviations over these windows
_BELOW = 0.3  # … to so much below every other class
_LEAST_SAMPLES = 5.0  # of a class, for its variation
_NOTHING = 1e-3  # of the length of other class means: a class that is mapped to zero varies as it may


@dataclass(frozen=True)
class Bursts:
    """How unevenly classes come: the chi-square of the counts of windows per degree of freedom.

    Attributes:
        total: faded samples.
        windows: faded windows.
        sums: (K,) faded samples of each class.
        squares: (K,) faded n²/N of each window with N samples of which n are of the class.

    >>> even = Bursts.empty(2)
    >>> for _ in range(20):
    ...     even = even.add(np.array([50.0, 50.0]))
    >>> even.factor
    1.0
    """

    total: float
    windows: float
    sums: Array
    squares: Array

    @classmethod
    def empty(cls, num_classes: int) -> Bursts:
        """Of no window yet."""
        return cls(0.0, 0.0, np.zeros(num_classes), np.zeros(num_classes))

    def add(self, counts: Array) -> Bursts:
        """Take in a window with ``counts`` (K,) samples."""
        n = max(float(counts.sum()), 1e-9)
        return Bursts(
            _FADING * self.total + n,
            _FADING * self.windows + 1,
            _FADING * self.sums + counts,
            _FADING * self.squares + counts**2 / n,
        )

    @property
    def factor(self) -> float:
        """Median over the classes of Σ (n − πN)²/N over π(1 − π) and the number of windows; at least 1."""
        share = self.sums / max(self.total, 1e-9)
        spread = share * (1 - share)
        known = spread > 0
        if not known.any():
            return math.inf
        each = (self.squares - share**2 * self.total)[known] / (spread[known] * self.windows)
        return max(1.0, float(np.median(each)))


@dataclass(frozen=True)
class Attendance:
    """Samples of each class over a run.

    Attributes:
        windows: with any sample.
        total: (K,) samples.
        seen: (K,) windows with the class.
        gap: (K,) samples of others since its last window.
        longest: (K,) longest gap that ended.
        bursts: how unevenly classes come.
        variation: (K,) log variance over squared mean of each class in the last windows.
        flat: (K,) windows in a row in which it fell at once, alone.
        calm: how unevenly classes came in the last window that had all of them; infinite before there was any.
        gone: (K,) 1 for classes that were told to have vanished: the gap that ends then is no usual one.

    >>> after = Attendance.empty(2).add(np.array([8.0, 0.0]))
    >>> after.seen, after.gap
    (array([1., 0.]), array([0., 8.]))
    """

    windows: int
    total: Array
    seen: Array
    gap: Array
    longest: Array
    bursts: Bursts
    variation: tuple[Array, ...] = ()
    flat: Array = field(default_factory=lambda: np.zeros(0))
    calm: float = math.inf
    gone: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def empty(cls, num_classes: int) -> Attendance:
        """Of no window yet."""
        zeros = np.zeros(num_classes)
        return cls(0, zeros, zeros, zeros, zeros, Bursts.empty(num_classes), (), zeros, math.inf, zeros)

    def add(self, counts: Array) -> Attendance:
        """Take in a window with ``counts`` (K,) samples."""
        present = counts > 0
        usual = present & (self.seen > 0) & (self.gone == 0)
        # a loss that was told says nothing of how classes come
        bursts = (Bursts.empty(len(counts)) if self.gone.any() else self.bursts).add(counts)
        return replace(
            self,
            calm=bursts.factor if present.all() else self.calm,
            windows=self.windows + 1,
            total=self.total + counts,
            seen=self.seen + present,
            gap=np.where(present, 0.0, self.gap + counts.sum()),
            longest=np.where(usual, np.maximum(self.longest, self.gap), self.longest),
            gone=np.where(present, 0.0, self.gone),
            bursts=bursts,
        )

    def missed(self) -> Array:
        """Samples (K,) expected during the gap, by the share of the class while it was still there.

        >>> at = Attendance.empty(2)
        >>> at = replace(at, total=np.array([30.0, 10.0]), gap=np.array([0.0, 20.0]))
        >>> at.missed()
        array([ 0., 10.])
        """
        share: Array = self.total / np.maximum(self.total.sum() - self.gap, 1)
        return share * self.gap

    def varied(self, now: Array) -> Attendance:
        """Take in the log variation (K,) of a window, NaN where unknown.

        A class is flat if it falls by more than a factor e^1.3, and by three of its standard deviations, below the
        lowest of the last windows, by itself and against the median class, and so becomes the lowest of all. Windows
        in which a class is flat do not count for what is usual.
        """
        if len(self.variation) < _KEPT // 2:
            return replace(self, variation=(*self.variation, now))
        fell = _fell(np.array(self.variation), now)
        flat = np.where(np.isnan(now), self.flat, np.where(fell, self.flat + 1, 0))
        if np.isnan(now).all() or (flat > 0).any():  # what was is kept while a class is flat
            return replace(self, flat=flat)
        return replace(self, variation=(*self.variation, now)[-_KEPT:], flat=flat)


def _fell(past: Array, now: Array) -> NDArray[np.bool_]:
    """Which classes (K,) fell below all that was, while the others did not: ``past`` is (T, K)."""
    nobody, known = np.zeros(len(now), dtype=bool), ~np.isnan(now)
    if not known.any():
        return nobody
    median = np.array([np.median(row[~np.isnan(row)]) if (~np.isnan(row)).any() else np.nan for row in past])
    against, against_now = past - median[:, None], now - np.median(now[known])
    there = ~np.isnan(past)
    count = there.sum(0)
    mean = np.where(there, against, 0).sum(0) / np.maximum(count, 1)
    deviation = np.sqrt(np.where(there, (against - mean) ** 2, 0).sum(0) / np.maximum(count, 1))
    needed = np.maximum(_FALL, _DEVIATIONS * deviation)
    lowest, lowest_against = (np.where(there, x, np.inf).min(0) for x in (past, against))
    fell: NDArray[np.bool_] = known & (count >= _KEPT // 2)
    fell &= (now < lowest - needed) & (against_now < lowest_against - needed)
    others = now[known & ~fell]
    if len(others) < 2 or 2 * fell.sum() >= known.sum():
        return nobody
    fell &= now < others.min() - _BELOW
    return fell


def sampled(record: WindowRecord) -> Array | None:
    """Samples of each class (K,) in a window; None where it has none.

    >>> from le_callback import SeparationMonitor
    >>> sampled(SeparationMonitor(num_classes=2).close(1)) is None
    True
    """
    counts = np.asarray(record.class_samples, dtype=np.float64)
    return counts if counts.sum() > 0 else None


def log_variation(record: WindowRecord) -> Array:
    """Log of the variance within each class over the square of its mean (K,), in the features; NaN where unknown.

    >>> from le_callback import SeparationMonitor
    >>> log_variation(SeparationMonitor(num_classes=2).close(1))
    array([], dtype=float64)
    """
    counts = np.asarray(record.class_samples, dtype=np.float64)
    found, after = record.scatter.get("features"), np.full(len(counts), np.nan)
    if found is None:
        return after
    rows = np.array(found.classes, dtype=np.intp)
    usable = (counts[rows] >= _LEAST_SAMPLES) & (found.size > _NOTHING * np.median(found.size))
    after[rows[usable]] = np.log(np.maximum(found.variance[usable], 1e-30)) - 2 * np.log(found.size[usable])
    return after
