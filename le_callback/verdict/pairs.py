"""How far apart the pairs of classes are, window by window. C classes are followed, P = C(C − 1)/2 pairs.

The discriminability D of a pair has a sampling error of √(1/n_k + 1/n_l + D²/(2(n_k + n_l − 2))) ≈ √(2/n)·√(1 + D²/8):
y = asinh(D/√8) has the same error at every D, is near D/√8 where classes overlap and near log D where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from le_callback.measures import Discriminability
from le_callback.values import NAN, Array
from le_callback.verdict.trend import SPANS

MOST_CLASSES = 128
KEPT = SPANS[-1]  # windows
WORST = 0.1  # share of the pairs
_ROOT = math.sqrt(8.0)
_LARGE = 1e3  # stands for a pair without any deviation


@lru_cache(maxsize=8)
def _pairs_of(classes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(combinations(classes, 2))


@lru_cache(maxsize=8)
def _above_diagonal(C: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.triu_indices(C, 1)
    return rows, columns


def stabilised(D: Array) -> Array:
    """Y = asinh(D/√8), of equal sampling error at every D.

    >>> stabilised(np.array([0.0, 4.0])).round(2)
    array([0.  , 1.15])
    """
    return np.arcsinh(np.clip(D, -_LARGE, _LARGE) / _ROOT)


def discriminability_at(y: float) -> float:
    """The inverse of ``stabilised``.

    >>> round(discriminability_at(float(stabilised(np.array(4.0)))), 6)
    4.0
    """
    return _ROOT * math.sinh(y)


@dataclass(frozen=True)
class PairSeries:
    """y of all followed pairs in the last windows.

    Attributes:
        classes: (C,) that are followed.
        times: of the windows.
        pairs: (P,) of each window, in single precision; NaN where unknown.

    >>> found = Discriminability((0, 1), np.full(2, 9.0), np.array([[np.nan, 4.0], [4.0, np.nan]]), True, ())
    >>> PairSeries.of(2, found.classes).add(25.0, found).lowest()
    (array([1.146...]), ((0, 1),))
    """

    classes: tuple[int, ...]
    times: tuple[float, ...] = ()
    pairs: tuple[Array, ...] = ()

    @classmethod
    def of(cls, num_classes: int, seen: Sequence[int]) -> PairSeries:
        """Of all classes, if they are at most 128, else of some: evenly spaced, among those ``seen`` if very many."""
        among = range(num_classes) if num_classes <= 8 * MOST_CLASSES else seen
        return cls(tuple(among[:: -(-len(among) // MOST_CLASSES)]))

    def add(self, time: float, found: Discriminability) -> PairSeries:
        """With one window more; the oldest is dropped."""
        C, whole = len(self.classes), np.asarray(found.pairs, dtype=np.float64)
        if found.classes != self.classes:
            position = {k: i for i, k in enumerate(self.classes)}
            here = [i for i, k in enumerate(found.classes) if k in position]
            rows = [position[found.classes[i]] for i in here]
            some, whole = whole[np.ix_(here, here)], np.full((C, C), NAN)
            whole[np.ix_(rows, rows)] = some
        new: Array = stabilised(whole[_above_diagonal(C)]).astype(np.float32)
        return replace(self, times=(*self.times, time)[-KEPT:], pairs=(*self.pairs, new)[-KEPT:])

    def since(self, window: int) -> PairSeries:
        """Only the windows from this position on."""
        return replace(self, times=self.times[window:], pairs=self.pairs[window:])

    def lowest(self) -> tuple[Array, tuple[tuple[int, int], ...]]:
        """The smallest y of each window, and the pair of which it is; NaN and an empty pair where none is known."""
        y = self._all
        if not y.shape[1]:
            return np.full(len(y), NAN), ((0, 0),) * len(y)
        places = np.where(np.isnan(y), np.inf, y).argmin(1)
        values = y[np.arange(len(y)), places]
        known, names = values < np.inf, _pairs_of(self.classes)
        named = tuple(names[i] if ok else (0, 0) for i, ok in zip(places.tolist(), known.tolist(), strict=True))
        return np.where(known, values.astype(np.float64), NAN), named

    def lowest_tenth(self) -> Array:
        """The mean of the lowest tenth of the pairs of each window; NaN where none is known."""
        y = self._all
        known = y.shape[1] - np.isnan(y).sum(1)
        found = np.full(len(y), NAN)
        for number in set(known.tolist()) - {0}:
            rows, most = known == number, math.ceil(WORST * number)
            found[rows] = np.partition(y[rows], most - 1)[:, :most].mean(1)  # NaN counts as the largest
        return found

    @cached_property
    def _all(self) -> Array:
        """Of the windows, in single precision ``(windows, P)``."""
        C = len(self.classes)
        return np.asarray(np.array(self.pairs, np.float32).reshape(len(self.pairs), C * (C - 1) // 2))

    def worst(self, last: int) -> tuple[Array, Array, float, tuple[int, int] | None]:
        """The worst tenth of the pairs over the last windows: their course, about its mean.

        The pairs are those of the lowest mean over all of these windows. A mean over a span and a slope within it are
        uncorrelated, so that the choice does not bend the course. Each pair counts about its own mean: classes that
        are missing in some windows move nothing.

        Args:
            last: number of windows.

        Returns:
            Times and values of the windows in which any of these pairs is known, their mean level, and the pair if
            it is only one.
        """
        times = np.array(self.times[-last:])
        y = self._all[-last:].astype(np.float64)
        known = ~np.isnan(y)
        seen = known.sum(0)
        usable = seen >= max(2, math.ceil(0.5 * seen.max(initial=0)))
        if not usable.any():
            return times[:0], times[:0], NAN, None
        y, known = y[:, usable], known[:, usable]
        level = np.where(known, y, 0).sum(0) / known.sum(0)
        chosen = level.argsort(kind="stable")[: math.ceil(WORST * len(level))]
        y, known = np.where(known, y - level, 0)[:, chosen], known[:, chosen]
        count = known.sum(1)
        there = count > 0
        pair = _pairs_of(self.classes)[int(np.flatnonzero(usable)[chosen[0]])] if len(chosen) == 1 else None
        mean = float(level[chosen].mean())
        return times[there], y.sum(1)[there] / count[there] + mean, mean, pair
