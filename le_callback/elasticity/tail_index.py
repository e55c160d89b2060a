"""Finite-time index of a coefficient f ~ t^(−r), critical value r = 1: how far its integral has grown so far.

As in the paper's published code, of a cumulative F = ∫f; it depends on the reference time (F is 0 there) and on the
unit of t. How the rate falls now is another question: see ``rate_index``.

Legend: T times, n times of a tail; t counts from 0; intervals are lower and upper end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from le_callback.values import NAN, Array, Estimate

_UNKNOWN = (NAN, NAN)
RECENT = 0.1  # share of the time that is recent


@dataclass(frozen=True)
class TailIndex:
    """How fast a coefficient falls off: f ~ t^(−r), critical value r = 1.

    Attributes:
        index: finite-time index of the cumulative coefficient F (A, B or G = A − B), see ``finite_time_index``. It is
            below 1 exactly where F is above 1 in the tail, and depends on ``reference_time`` and on the unit of t.
        index_interval: from the interval of F, taken as one error common to the whole tail.
        slope: 1 − d log F/d log t at the end of the tail: does not depend on the scale of F.
        slope_interval: by the delta method.
        reference_time: where F is 0.
        status: empty, or why a number is missing.

    >>> TailIndex(0.5, (0.4, 0.6), 0.5, (0.3, 0.7), 0.0, "").index
    0.5
    """

    index: float
    index_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]
    reference_time: float
    status: str


@dataclass(frozen=True)
class Tail:
    """A cumulative coefficient and its rate over the last times of a run.

    Attributes:
        times: t ``(n,)``.
        cumulative: F ``(n,)``.
        cumulative_interval: ``(n, 2)``.
        rate: f ``(n,)``, NaN where it is not known.
        rate_interval: ``(n, 2)``.
        cumulative_name, rate_name: as in ``TailIndex.status``.
        may_be_negative: whether growth below zero is growth, as B's is; its absolute value is then taken.

    >>> one = np.array([[99.0]])
    >>> Tail(one[0], one[0], one, one[0], one, "A", "alpha", True).times
    array([99.])
    """

    times: Array
    cumulative: Array
    cumulative_interval: Array
    rate: Array
    rate_interval: Array
    cumulative_name: str
    rate_name: str
    may_be_negative: bool

    @property
    def mirrored(self) -> Tail:
        """The same tail with F and f of opposite sign."""
        return replace(
            self,
            cumulative=-self.cumulative,
            cumulative_interval=-self.cumulative_interval[:, ::-1],
            rate=-self.rate,
            rate_interval=-self.rate_interval[:, ::-1],
        )


def finite_time_index(times: Array, cumulative: Array) -> float:
    """Finite-time index of a cumulative coefficient: 1 − mean of log F(t)/log(1 + t).

    If f ~ t^(−r) with r < 1 then F = ∫f ~ t^(1−r), and the index tends to r. In the paper's published code t counts
    points from 1; here times count from 0, hence the 1 + t. The index describes the growth so far: it depends on the
    reference time, where F is 0, and on the unit of t.

    Args:
        times: t ``(n,)``, of the tail that is averaged over.
        cumulative: F ``(n,)``.

    Returns:
        The index; infinite where F is not positive throughout (no growth since the reference time: above any critical
        value), NaN where F is not known, times are not positive, or there are none.

    Source: Zhang, Wang, Su 2021, section 3, and their published code.

    >>> round(finite_time_index(np.array([98.0, 99.0]), np.array([10.0, 10.0])), 6)
    0.499...
    """
    return float(_indices(times, cumulative[None])[0])


def _indices(times: Array, cumulative: Array) -> Array:
    """``finite_time_index`` of several F ``(m, n)`` at the same times: ``(m,)``."""
    if not len(times) or not times.min() > 0:
        return np.full(len(cumulative), NAN)
    lowest = cumulative.min(1)  # NaN if one is
    positive = np.where(lowest[:, None] > 0, cumulative, 1.0)
    index = 1 - (np.log(positive) / np.log1p(times)).mean(1)
    return np.where(np.isnan(lowest), NAN, np.where(lowest > 0, index, math.inf))


def recent_index(
    times: Sequence[float],
    cumulative: Sequence[float],
    share: float = RECENT,
    either_sign: bool = False,
    half_width: float = NAN,
) -> Estimate:
    """Finite-time index over the last ``share`` of the time, as it is followed live.

    Args:
        times: ``(T,)`` increasing.
        cumulative: F ``(T,)``, finite.
        share: of the time from the last point backwards that is averaged over.
        either_sign: take the absolute value of an F that is negative throughout the tail, as B usually is.
        half_width: of the interval of F at the end, taken as one error common to the whole tail.

    Returns:
        As ``finite_time_index``; with ``either_sign``, NaN where F changes its sign.

    >>> found = recent_index([1.0, 98.0, 99.0], [1.0, 10.0, 10.0], half_width=1.0)
    >>> round(found.value, 6), round(found.low, 2), round(found.high, 2)
    (0.499..., 0.48, 0.52)
    """
    if not len(times):
        return Estimate.unknown()
    t, F = np.asarray(times, dtype=np.float64), np.asarray(cumulative, dtype=np.float64)
    late = (t >= (1 - share) * t[-1]) & (t > 0)
    t, F = t[late], F[late]
    if either_sign and (F < 0).all():
        F = -F
    value, low, high = _indices(t, F + np.array([[0.0], [half_width], [-half_width]])).tolist()
    return Estimate.unknown() if either_sign and math.isinf(value) else Estimate(value, low, high)


def index_with_interval(tail: Tail, reference_time: float) -> TailIndex:
    """Finite-time index and slope of a tail, with intervals.

    >>> t = np.array([98.0, 99.0])
    >>> F, f = np.array([10.0, 10.0]), np.array([0.05, 0.05])
    >>> tail = Tail(t, F, np.stack([F - 1, F + 1], 1), f, np.stack([f, f], 1), "G", "gamma", False)
    >>> found = index_with_interval(tail, 0.0)
    >>> round(found.index, 2), round(found.slope, 3)
    (0.5, 0.505)
    """
    name, status = tail.cumulative_name, ""
    if not (np.isfinite(tail.cumulative).all() and (tail.times > 0).all()):
        status = f"{name} is not known, or t ≤ 0, in the tail: no index"
        return TailIndex(NAN, _UNKNOWN, NAN, _UNKNOWN, reference_time, status)
    if tail.may_be_negative and (tail.cumulative < 0).all():
        status = f"{name} is negative: index of its absolute value"
        tail = tail.mirrored
    t, F = tail.times, tail.cumulative
    low, high = tail.cumulative_interval.T
    # a larger F gives a smaller index
    index, interval = finite_time_index(t, F), (finite_time_index(t, high), finite_time_index(t, low))
    if math.isinf(index):
        status = f"{name} is not positive in the tail: it has not grown since the reference time, index infinite"
        lower = interval[0] if (high > 0).all() else math.inf
        return TailIndex(index, (lower, math.inf), NAN, _UNKNOWN, reference_time, status)
    slope, slope_interval = _slope(tail)
    if math.isnan(slope):
        status = f"{tail.rate_name} is not known in the tail: no slope"
    return TailIndex(index, interval, slope, slope_interval, reference_time, status)


def _slope(tail: Tail) -> tuple[float, tuple[float, float]]:
    """1 − d log F/d log t = 1 − t·f/F at the last time at which f is known, and its interval; NaN without one."""
    known = np.flatnonzero(np.isfinite(tail.rate))
    if not len(known):
        return NAN, _UNKNOWN
    i = known[-1]
    t, F, f = tail.times[i], tail.cumulative[i], tail.rate[i]
    half_f, half_F = (np.diff(ends[i])[0] / 2 for ends in (tail.rate_interval, tail.cumulative_interval))
    slope = 1 - t * f / F
    half = t / F * np.hypot(half_f, f / F * half_F)
    return float(slope), (float(slope - half), float(slope + half))
