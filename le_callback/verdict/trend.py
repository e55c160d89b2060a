"""Whether a series grows or falls now: the slope of a line through its last points, with an interval.

The residuals of neighbouring windows are alike, since windows share a network that wanders. The variance of the slope
is that of Newey and West (1987): Σ over lags |j| ≤ L of (1 − |j|/(L + 1)) Γ_j with Γ_j = Σ_i s_i s_{i−j} and
s_i = (t_i − t̄) û_i, over (Σ (t_i − t̄)²)². With few points and long lags its quotient is no normal deviate: the
critical value is that of Kiefer and Vogelsang (2005) for b = (L + 1)/n, widened to n − 2 degrees of freedom.

Legend: n points, L lags.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.stats import norm, t

from le_callback.values import Array, Estimate

SPANS = (4, 5, 7, 10, 14, 20)  # points of one line
LEAST = 4  # points of a line
_BARTLETT = (2.9694, 0.4160, -0.5324)  # Kiefer and Vogelsang 2005, table 1, 97.5 %: cv(b) = 1.96 + a₁b + a₂b² + a₃b³


def lags(n: int) -> int:
    """Lags of the residuals that count: 1.3·√n (Lazarus, Lewis, Stock and Watson 2018), of up to 7 points 1.

    >>> lags(10), lags(20)
    (4, 5)
    """
    return 1 if n <= 7 else int(1.3 * math.sqrt(n))


def newey_west(score: Array, most: int) -> float:
    """Σ_i s_i² + 2 Σ_{j=1}^{L} (1 − j/(L + 1)) Σ_i s_i s_{i−j}, never below 0.

    Args:
        score: s ``(n,)``.
        most: L.

    >>> newey_west(np.array([1.0, 1.0, 1.0]), 1)
    5.0
    """
    n = len(score)
    products = np.correlate(score, score, "full")[n - 1 : n + most]  # of lag 0, 1, … L
    return max(float(products @ _lag_weights(most)[: len(products)]), 0.0)


@lru_cache
def _lag_weights(most: int) -> Array:
    weights = 2 * (1 - np.arange(most + 1) / (most + 1))
    weights[0] = 1.0
    return weights


@lru_cache
def critical_value(n: int, confidence: float) -> float:
    """Half of the interval over the standard error for ``n`` points.

    >>> round(critical_value(20, 0.95), 2)
    3.08
    """
    level = 0.5 + confidence / 2
    b = (lags(n) + 1) / n if lags(n) else 0.0
    widening = sum(a * b ** (i + 1) for i, a in enumerate(_BARTLETT)) / norm.ppf(0.975)
    return float(t.ppf(level, n - 2) * (1 + widening))


def slope(times: Array, values: Array, confidence: float = 0.95) -> Estimate:
    """Slope of the least-squares line with its interval, robust to residuals that are alike in neighbouring points.

    Args:
        times: ``(n,)``.
        values: ``(n,)``.
        confidence: of the interval.

    Returns:
        The slope; unknown with fewer than four points, or where times do not differ.

    Source: Newey and West 1987; Kiefer and Vogelsang 2005.

    >>> found = slope(np.arange(8.0), np.array([0.1, 0.9, 2.1, 2.9, 4.0, 5.1, 5.9, 7.0]))
    >>> round(found.value, 2), found.low > 0.9
    (0.99, True)
    """
    n = len(times)
    centred = times - times.sum() / n if n else times
    square = float(centred @ centred)
    if n < LEAST or square <= 0:
        return Estimate.unknown()
    value = float(centred @ values) / square
    residual = values - values.sum() / n - value * centred
    score = centred * residual
    variance = max(newey_west(score, lags(n)), float(score @ score)) * n / (n - 2) / square**2
    half = critical_value(n, confidence) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def longest_line(times: Array, values: Array, confidence: float = 0.95) -> tuple[Estimate, int]:
    """Slope over the longest span whose interval meets those of all shorter ones: what changed is left behind.

    Args:
        times: ``(n,)``.
        values: ``(n,)``.
        confidence: of the intervals.

    Returns:
        The slope and the number of points; unknown and 0 with fewer than four points.

    Source: the choice of a bandwidth by intersecting intervals, Lepski 1990.

    >>> steps = np.arange(20.0)
    >>> longest_line(steps, np.maximum(steps, 10) + 0.1 * np.cos(steps))[1]
    14
    """
    chosen, points = Estimate.unknown(), 0
    low, high = -math.inf, math.inf
    for span in SPANS:
        if span > len(times):
            break
        found = slope(times[-span:], values[-span:], confidence)
        low, high = max(low, found.low), min(high, found.high)
        if not low <= high:
            break
        chosen, points = found, span
    return chosen, points
