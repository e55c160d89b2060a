"""Classes of which too few samples come for what is measured on them to say that they are separated. K classes.

A class that is rare may consist of a handful of samples that come again and again: a network has them by heart, and is
wrong about any other. Shuffled epochs betray it. With N samples in the data and W in a window, u = W/N, the counts of a
class vary less than those of independent draws, by a factor of 1 − u + u²/3 (u ≤ 1) or 1/(3u) on average over where a
window begins: only the parts of epochs at both its ends vary. Neighbouring windows share such an epoch, so that their
counts lean in opposite directions, with a correlation near −1/2. A sampler that balances classes, or windows that are
whole epochs, show no such correlation, and nothing is concluded from them. Windows that are whole epochs but for a few
samples vary less than on average, until where they begin has wandered: so the largest N of the last windows counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from le_callback.values import Array

_KEPT = 20  # windows
_LEAST_WINDOWS = 5  # from which their counts say something
_OPPOSED = -0.25  # correlation of the counts of neighbouring windows below which epochs are seen in them
_SHRINKS, _FORGOTTEN = 0.98, 10  # a window, and windows after which the size of the data is unknown again
_RARE = 0.25  # of the mean share of the classes that were seen
_MEMORY = 10.0  # windows whose samples count
ENOUGH = 15.0  # different samples of a rare class


@dataclass(frozen=True)
class Supply:
    """Samples of each class in the last windows.

    Attributes:
        counts: (K,) of each window with any.
        size: samples N in the data; infinite where the counts do not show any epochs.
        age: windows since they showed it.

    >>> supply = Supply()
    >>> for _ in range(8):
    ...     supply = supply.add(np.array([90.0, 90.0, 1.0]))
    >>> supply.few(), supply.different()
    ((2,), array([720., 720.,   8.]))
    """

    counts: tuple[Array, ...] = ()
    size: float = math.inf
    age: int = 0

    def add(self, new: Array) -> Supply:
        """Take in a window; one without samples changes nothing, other classes begin anew."""
        if new.sum() <= 0:
            return self
        same = bool(self.counts) and len(self.counts[-1]) == len(new)
        counts: Array = new.astype(np.float32)
        if not same:
            return Supply((counts,))
        after = replace(self, counts=(*self.counts, counts)[-_KEPT:], age=self.age + 1)
        if after.epochs > 0:
            now = float(np.sum(after.counts, dtype=np.float64)) / len(after.counts) / after.epochs
            return replace(after, size=max(now, _SHRINKS * self.size) if math.isfinite(self.size) else now, age=0)
        return replace(after, size=math.inf) if after.age > _FORGOTTEN else after

    @property
    def epochs(self) -> float:
        """Epochs u that a window holds, by the last windows; 0 where their counts do not show any."""
        T = len(self.counts)
        if T < _LEAST_WINDOWS:
            return 0.0
        counts = np.array(self.counts, dtype=np.float64)
        N = counts.sum(1, keepdims=True)
        share = counts.sum(0) / N.sum()
        spread = float((share * (1 - share)).sum())
        off = (counts - share * N) / np.sqrt(N)
        if spread <= 0 or not off.any():
            return 0.0
        f = float((off**2).sum()) / (T - 1) / spread
        opposed = float((off[1:] * off[:-1]).sum() / (off**2).sum()) + 1 / T < _OPPOSED
        if f >= 1 or not opposed:
            return 0.0
        return 1 / (3 * f) if f <= 1 / 3 else 1.5 * (1 - math.sqrt(1 - 4 * (1 - f) / 3))

    def different(self) -> Array:
        """Samples (K,) of the last ten windows that are not one again that came before, as far as counts show it."""
        usual: Array = np.mean(self.counts, axis=0, dtype=np.float64)
        windows = min(len(self.counts), _MEMORY, self.size / float(usual.sum()))
        found: Array = usual * windows
        return found

    def few(self) -> tuple[int, ...]:
        """Rare classes with fewer than 15 such samples."""
        if not self.counts:
            return ()
        sums = np.sum(self.counts, axis=0, dtype=np.float64)
        rare = sums < _RARE * sums.sum() / max(int((sums > 0).sum()), 1)
        return tuple(np.flatnonzero((sums > 0) & rare & (self.different() < ENOUGH)).tolist())
