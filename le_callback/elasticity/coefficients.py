"""The record of estimated LE coefficients, and how it is made of what a method finds.

Legend: T times, in the unit of ``times`` (steps unless said otherwise); intervals are ``(T, 2)``, lower and upper end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from le_callback.elasticity.amplitudes import Flags
from le_callback.elasticity.sliding import WindowEstimates
from le_callback.elasticity.tail_index import Tail, TailIndex, index_with_interval
from le_callback.errors import require
from le_callback.values import Array

_RATES = {"A": ("A", "alpha"), "B": ("B", "beta"), "gamma": ("G", "gamma")}  # cumulative and rate of a tail index


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

    >>> from le_callback.elasticity.estimators import estimate_coefficients
    >>> growth = np.exp(0.1 * np.arange(60.0))[:, None, None]
    >>> found = estimate_coefficients(growth * np.eye(2), model="I", window=21)
    >>> found.status, round(float(found.A[-1]), 6), found.reference_time
    ('ok', 11.8, 0.0)
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
    identifiable: Flags
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
        """Finite-time tail index of a coefficient over the last times, see ``tail_index.finite_time_index``.

        The formula of the paper's published code, whose t counts points from 1, for times that count from 0. It
        describes the growth so far and depends on ``reference_time`` and on the unit of ``times``.

        Args:
            which: ``"A"``, ``"B"`` or ``"gamma"``.
            points: number of times; None: the last tenth.

        Raises:
            ValueError: another ``which``, or ``points`` outside 1 … T.

        >>> from le_callback.elasticity.estimators import estimate_coefficients
        >>> growth = np.exp(np.arange(1.0, 61.0) ** 0.5)[:, None, None]
        >>> found = estimate_coefficients(growth * np.eye(2), model="I", window=21)
        >>> round(found.tail_index("A").index, 1)
        0.4
        """
        require(which in _RATES, "which", which, 'one of "A", "B", "gamma"')
        T = len(self.times)
        points = max(1, T // 10) if points is None else points
        require(1 <= points <= T, "points", points, f"between 1 and the {T} times there are")
        cumulative, rate = _RATES[which]
        last = slice(T - points, T)
        tail = Tail(
            times=self.times[last],
            cumulative=getattr(self, cumulative)[last],
            cumulative_interval=getattr(self, f"{cumulative}_interval")[last],
            rate=getattr(self, rate)[last],
            rate_interval=getattr(self, f"{rate}_interval")[last],
            cumulative_name=cumulative,
            rate_name=rate,
            may_be_negative=which != "gamma",
        )
        return index_with_interval(tail, self.reference_time)


@dataclass(frozen=True)
class MethodResult:
    """What a method finds in a run.

    Attributes:
        A, B: ``(T,)``, NaN where unknown, up to a constant.
        variances: of A, B and A − B, ``(T, 3)``.
        rates: α, β, γ.

    >>> MethodResult.unknown(WindowEstimates.unknown(4, 3)).A
    array([nan, nan, nan, nan])
    """

    A: Array
    B: Array
    variances: Array
    rates: WindowEstimates

    @classmethod
    def unknown(cls, rates: WindowEstimates) -> MethodResult:
        """No A and B at all."""
        T = len(rates.estimate)
        return cls(np.full(T, np.nan), np.full(T, np.nan), np.full((T, 3), np.nan), rates)

    @classmethod
    def since(
        cls, start: int, identifiable: Flags, integrals: Array, variances: Array, rates: WindowEstimates
    ) -> MethodResult:
        """A and B, the first rows of ``integrals``, from index ``start`` on where they are ``identifiable (T,)``."""
        known = identifiable & (np.arange(len(identifiable)) >= start)
        A, B = np.where(known, integrals[:2], np.nan)
        return cls(A, B, variances, rates)

    def to_coefficients(
        self, times: Array, identifiable: Flags, *, model: str, method: str, confidence: float, notes: list[str]
    ) -> LECoefficients:
        """The record, with A = B = 0 at the first time at which they are known.

        Args:
            times: ``(T,)``.
            identifiable: ``(T,)``.
            model: its name.
            method: its name.
            confidence: of all intervals.
            notes: what is missing and why.
        """
        known = np.isfinite(self.A)
        A, B, reference = self.A, self.B, float("nan")
        if known.any():
            first = known.argmax()
            A, B, reference = A - A[first], B - B[first], float(times[first])
        rates, half = self.rates, [normal_half_width(v, confidence) for v in self.variances.T]
        alpha, beta, gamma = rates.estimate.T
        return LECoefficients(
            times=times,
            A=A,
            B=B,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            A_interval=symmetric_interval(A, half[0]),
            B_interval=symmetric_interval(B, half[1]),
            G_interval=symmetric_interval(A - B, half[2]),
            alpha_interval=symmetric_interval(alpha, rates.half[:, 0]),
            beta_interval=symmetric_interval(beta, rates.half[:, 1]),
            gamma_interval=symmetric_interval(gamma, rates.half[:, 2]),
            covariance=rates.covariance[:, :2, :2],
            identifiable=identifiable,
            reference_time=reference,
            model=model,
            method=method,
            confidence=confidence,
            status="; ".join(notes) if notes else "ok",
        )


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
