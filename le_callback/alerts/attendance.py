"""How often each class is seen: counts over the run, the gap of now and the longest before. K classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from le_callback.records import WindowRecord
from le_callback.values import Array

_UNMOVED, _MOVED = 1e-6, 1e-3  # of the radius: a mean that stays where it is, one that does not


@dataclass(frozen=True)
class Attendance:
    """Samples of each class over a run.

    Attributes:
        windows: with any sample.
        total: (K,) samples.
        seen: (K,) windows with the class.
        gap: (K,) samples of others since its last window.
        longest: (K,) longest gap that ended.
        still: (K,) windows in a row in which its mean did not move while others did.

    >>> after = Attendance.empty(2).add(np.array([8.0, 0.0]), np.zeros(2))
    >>> after.seen, after.gap
    (array([1., 0.]), array([0., 8.]))
    """

    windows: int
    total: Array
    seen: Array
    gap: Array
    longest: Array
    still: Array

    @classmethod
    def empty(cls, num_classes: int) -> Attendance:
        """Of no window yet."""
        zeros = np.zeros(num_classes)
        return cls(0, zeros, zeros, zeros, zeros, zeros)

    def add(self, counts: Array, still: Array) -> Attendance:
        """Take in a window with ``counts`` (K,) samples; ``still`` (K,) replaces the one before."""
        present = counts > 0
        return Attendance(
            self.windows + 1,
            self.total + counts,
            self.seen + present,
            np.where(present, 0.0, self.gap + counts.sum()),
            np.where(present, np.maximum(self.longest, self.gap), self.longest),
            still,
        )

    def missed(self) -> Array:
        """Samples (K,) expected during the gap, by the share of the class while it was still there.

        >>> Attendance(9, np.array([30.0, 10.0]), np.full(2, 9.0), np.array([0.0, 20.0]), *np.zeros((2, 2))).missed()
        array([ 0., 10.])
        """
        share: Array = self.total / np.maximum(self.total.sum() - self.gap, 1)
        return share * self.gap


def windows_still(record: WindowRecord, before: Array) -> Array:
    """Windows in a row (K,), with this one, in which the mean of a class did not move while that of another did.

    Args:
        record: of the window.
        before: (K,) the same at the window before.

    >>> from le_callback import SeparationMonitor
    >>> windows_still(SeparationMonitor(num_classes=2).close(1), np.array([2.0, 0.0]))
    array([0., 0.])
    """
    measured, nearest = record.scatter.get("features"), record.nearest_mean.get("features")
    after = np.zeros_like(before)
    if measured is not None and nearest is not None and np.isfinite(measured.moved).any() and measured.radius > 0:
        rows = list(measured.classes)
        unmoved = (measured.moved < _UNMOVED * measured.radius) & (nearest.tried >= 2)
        if (measured.moved > _MOVED * measured.radius).any():
            after[rows] = np.where(unmoved, before[rows] + 1, 0)
    return after
