"""The record of estimated LE coefficients, and the tail index read from it.

Legend: T times, in the unit of ``times`` (steps unless said otherwise); intervals are ``(T, 2)``, lower and upper end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from le_callback.values import Array


@dataclass(frozen=True)
class TailIndex:
    """How fast a coefficient falls off: f ~ t^(−r), critical value r = 1.

    Attributes:
        index: 1 − mean over the tail of log F(t)/log t, with F the cumulative coefficient (A, B or G = A − B). It is
            below 1 exactly where F is above 1 in the tail, infinite where F is not positive there. It depends on
            ``reference_time`` (F is 0 there) and on the unit of t.
        index_interval: from the interval of F, taken as one error common to the whole tail.
        slope: 1 − d log F/d log t at the end of the tail: does not depend on the scale of F.
        slope_interval: by the delta method.
        reference_time: where F is 0.
        status: empty, or why a number is missing.
    """

    index: float
    index_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]
    reference_time: float
    status: str


@dataclass(frozen=True)
class LECoefficients:
    """Estimated LE coefficients of one run.

    A = ∫α, B = ∫β and ``G`` = A − B since ``reference_time``; α, β, γ = α − β per unit of time. NaN where unknown.

    Attributes:
        times: ``(T,)``.
        A, B, alpha, beta, gamma: ``(T,)``.
        A_interval, B_interval, G_interval, alpha_interval, beta_interval, gamma_interval: ``(T, 2)``.
        covariance: of (α, β), ``(T, 2, 2)``.
        identifiable: ``(T,)``, both modes above the sampling noise.
        reference_time: first identifiable time; NaN if there is none.
        model, method: names.
        confidence: of the intervals.
        status: "ok", or what is missing and why.
    """

    times: Array
    A: Array
    B: Array
    alpha: Array
    beta: Array
    gamma: Array
    A_interval: Array = field(repr=False)
    B_interval: Array = field(repr=False)
    G_interval: Array = field(repr=False)
    alpha_interval: Array = field(repr=False)
    beta_interval: Array = field(repr=False)
    gamma_interval: Array = field(repr=False)
    covariance: Array = field(repr=False)
    identifiable: NDArray[np.bool_]
    reference_time: float
    model: str
    method: str
    confidence: float
    status: str

    @property
    def G(self) -> Array:  # noqa: N802
        """Cumulative local elasticity A − B, ``(T,)``."""
        return self.A - self.B

    def tail_index(self, which: str = "gamma", points: int | None = None) -> TailIndex:
        """Tail index of ``"A"``, ``"B"`` or ``"gamma"`` over the last ``points`` times (None: the last tenth).

        The official code's formula; the t in log t is ``times`` itself, so times up to 1 are left out.

        Raises:
            ValueError: another ``which``, or ``points`` outside 1 … T.
        """
        cumulative = {"A": "A", "B": "B", "gamma": "G"}
        rate = {"A": "alpha", "B": "beta", "gamma": "gamma"}
        if which not in cumulative:
            raise ValueError(f'which must be "A", "B" or "gamma", got {which!r}')
        T = len(self.times)
        points = max(1, T // 10) if points is None else points
        if not 1 <= points <= T:
            raise ValueError(f"points must be between 1 and the {T} times there are, got {points}")
        tail = slice(T - points, T)
        t, F = self.times[tail], getattr(self, cumulative[which])[tail]
        low, high = getattr(self, cumulative[which] + "_interval")[tail].T
        name = cumulative[which]
        status = ""
        if not (np.isfinite(F).all() and (t > 1).all()):
            status = f"{name} is not known, or t ≤ 1, in the tail: no index"
        elif which != "gamma" and (F < 0).all():
            F, low, high = -F, -high, -low
            status = f"{name} is negative: index of its absolute value"
        elif (F <= 0).any():
            status = f"{name} is not positive in the tail: it has not grown since the reference time, index infinite"
        nan, inf = float("nan"), float("inf")
        if status.endswith("no index"):
            return TailIndex(nan, (nan, nan), nan, (nan, nan), self.reference_time, status)
        if status.endswith("infinite"):
            lower = _index(t, high) if (high > 0).all() else inf
            return TailIndex(inf, (lower, inf), nan, (nan, nan), self.reference_time, status)
        index, lower = _index(t, F), _index(t, high)
        upper = _index(t, low) if (low > 0).all() else (nan if np.isnan(low).any() else float("inf"))
        f, ends = getattr(self, rate[which]), getattr(self, rate[which] + "_interval")
        known = np.flatnonzero(np.isfinite(f[tail]))
        if not len(known):
            status = f"{rate[which]} is not known in the tail: no slope"
            return TailIndex(index, (lower, upper), nan, (nan, nan), self.reference_time, status)
        i = known[-1]
        f = f * np.sign(getattr(self, name)[-1])
        slope = 1 - t[i] * f[tail][i] / F[i]
        half_f, half_F = (ends[tail][i, 1] - ends[tail][i, 0]) / 2, (high[i] - low[i]) / 2
        half = t[i] / F[i] * np.hypot(half_f, f[tail][i] / F[i] * half_F)
        return TailIndex(
            index, (lower, upper), float(slope), (float(slope - half), float(slope + half)), self.reference_time, status
        )


def _index(t: Array, F: Array) -> float:
    return float(1 - np.mean(np.log(F) / np.log(t)))


def symmetric_interval(centre: Array, half: Array) -> Array:
    """``(T, 2)`` from centre and half width ``(T,)``.

    >>> symmetric_interval(np.array([1.0]), np.array([0.5]))
    array([[0.5, 1.5]])
    """
    return np.stack([centre - half, centre + half], axis=-1)


def normal_half_width(variance: Array, confidence: float) -> Array:
    """Half width of a normal interval.

    >>> normal_half_width(np.array([1.0]), 0.95).round(2)
    array([1.96])
    """
    return np.asarray(ndtri(0.5 + confidence / 2) * np.sqrt(variance))
