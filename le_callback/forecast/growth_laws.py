"""Continuation of log growth curves in log time, and its errors when made earlier in the same run.

Legend: τ = log t, T times, n curves, b origins of backtests, h = log(t/t*) horizon after an origin t*.
A curve y(τ) has the elasticity x = dy/dτ (per unit of log time: gap ~ t^x locally).

Three laws go on from an elasticity x at t* > 0: y(t) − y(t*) = log(1 + κ x h)/κ, so that exp(κ y) is linear in log t.
κ = 0 is a power law, gap ~ t^x (rates α, β ~ 1/t); κ = 1 a log law, gap ~ a + b log t; κ = 2 saturates faster.
"""

from __future__ import annotations

import numpy as np

from le_callback.values import Array

LAWS = (0.0, 1.0, 2.0)  # κ
WINDOW = 0.2  # of log time over which an elasticity is read: the last fifth of the run
REACH = 1.1  # of log time: backtests start no earlier than at a third of the run
NEAREST = 0.15  # of log time between the latest backtest and now
ORIGINS = 12
_LEAST = 4  # points in a window
_INDEPENDENT = 2.0  # backtests that overlap count as this many
_FLOOR = 1e-9


def continued(x: Array | float, kappa: Array | float, h: Array | float) -> Array:
    """Growth of y, sign(x) log(1 + κ |x| h)/κ; a falling curve is the mirror of a rising one.

    Args:
        x: elasticity at the origin.
        kappa: κ of the law.
        h: horizon in log time; all three are broadcast.

    >>> continued(np.array([2.0]), 0.0, 1.5), continued(np.array([2.0, -2.0]), 1.0, 0.5).round(4)
    (array([3.]), array([ 0.6931, -0.6931]))
    """
    x, kappa, h = np.broadcast_arrays(np.asarray(x, dtype=np.float64), kappa, h)
    flat = kappa < 1e-12
    k = np.where(flat, 1.0, kappa)
    return np.asarray(np.where(flat, x * h, np.sign(x) * np.log1p(k * np.abs(x) * h) / k))


def elasticity(log_times: Array, curves: Array, at: int, window: float = WINDOW) -> Array:
    """Elasticities ``(n,)`` of curves ``(T, n)`` at index ``at``: least-squares slope over the window that ends there.

    Args:
        log_times: τ ``(T,)``, increasing.
        curves: ``(T, n)``.
        at: index.
        window: its length in log time; it holds at least four points.

    >>> tau = np.linspace(0, 1, 50)
    >>> elasticity(tau, 3 * tau[:, None], 49).round(6)
    array([3.])
    """
    first = min(int(np.searchsorted(log_times, log_times[at] - window)), max(at - _LEAST + 1, 0))
    tau = log_times[first : at + 1]
    centred = tau - tau.mean()
    return np.asarray(centred @ curves[first : at + 1] / (centred @ centred))


def origins(log_times: Array) -> Array:
    """Indices ``(b,)`` of the backtests; empty where the run is too short.

    >>> len(origins(np.log(np.arange(1.0, 100.0))))
    12
    """
    back = log_times[-1] - np.linspace(REACH, NEAREST, ORIGINS)
    found = np.unique(np.searchsorted(log_times, back[back >= log_times[0]]))
    windowed = log_times[found] - log_times[0] >= WINDOW / 2  # enough to read an elasticity
    return np.asarray(found[(found >= _LEAST) & windowed & (found < len(log_times) - 1)])


def law_weights(errors: Array) -> Array:
    """Weights ``(laws,)`` from errors ``(laws, b)`` of their backtests: (root mean square)^(−2), summing to 1.

    The likelihood of two independent normal errors of unknown size; backtests overlap, so they count as two.

    >>> law_weights(np.array([[0.1, 0.1], [0.2, -0.2]])).round(6)
    array([0.8, 0.2])
    """
    size = np.sqrt((errors**2).mean(1)) + _FLOOR
    weights = (size / size.min()) ** -_INDEPENDENT
    return np.asarray(weights / weights.sum())
