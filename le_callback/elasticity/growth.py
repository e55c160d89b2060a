"""Local polynomial fit of a growth curve whose errors are a random walk plus sampling noise.

Legend: m points of one window, order of the polynomial, C = 1 channel; times in steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from le_callback.elasticity.increments import (
    Channels,
    ProcessHistory,
    fit,
    increment_gram,
    mixture_interval,
    no_history,
)
from le_callback.values import Array


@dataclass(frozen=True)
class GrowthFit:
    """A growth curve y at one time: ``value`` in units of y, ``derivative`` in units of y per step.

    Each has a standard error; ``interval`` is that of the derivative. ``process_variance`` is q, in y² per step.
    """

    value: float
    value_error: float
    derivative: float
    derivative_error: float
    interval: tuple[float, float]
    process_variance: float


def rate_basis(times: Array, at: float, window: Array, order: int) -> Array:
    """Functions φ_j ``(m, order)`` of time of which α, β, γ are sums in a window: φ_0 = 1, φ_j(at) = 0 for j > 0.

    Coefficients that fall as t^(−r) are followed best by such powers: φ_1 = t*/t − 1, φ_2 = (t*/t)^½ − 1,
    φ_3 = (t/t*)^½ − 1, … with t* = ``at``. Constants and 1/t, the critical rate, are exact from order 2 on; the bias at
    t^(−½) is a third of that of a polynomial of equal degree. Far from the origin they are that polynomial. Windows
    that start within their own length of t = 0 use times shifted by what is missing.

    >>> t = np.array([200.0, 400.0])
    >>> rate_basis(t, 200.0, t, 2)[:, 1]
    array([ 0. , -0.5])
    """
    shift = _shift(window)
    ratio = (times + shift) / (at + shift)
    return np.stack([np.ones_like(ratio)] + [ratio**e - 1 for e in _exponents(order)], axis=-1)


def growth_basis(times: Array, at: float, order: int) -> Array:
    """Integrals ``(m, order)`` of :func:`rate_basis` over time, up to constants; ``times`` is the window.

    >>> growth_basis(np.array([100.0, 400.0]), 100.0, 2)[:, 0]
    array([300., 600.])
    """
    shift = _shift(times)
    t, where = times + shift, at + shift
    columns = [t]
    for e in _exponents(order):
        power = np.log(t / where) if e == -1 else (t / where) ** (e + 1) / (e + 1)
        columns.append(where * power - t)
    return np.stack(columns, axis=-1)


def polynomial_basis(times: Array, at: float, order: int) -> Array:
    """(t − at)^j / h^(j−1), j = 1 … order, with h half the window: the first coefficient is the derivative at ``at``.

    >>> polynomial_basis(np.arange(3.0), 1.0, 2)
    array([[-1.,  1.],
           [ 0.,  0.],
           [ 1.,  1.]])
    """
    half = (times[-1] - times[0]) / 2
    return np.stack([(times - at) ** j / half ** (j - 1) for j in range(1, order + 1)], axis=-1)


def _exponents(order: int) -> list[float]:
    return [-1.0, -0.5, *(0.5 * j for j in range(1, order))][: order - 1]


def _shift(window: Array) -> float:
    """What a window's start lacks to be its own length away from t = 0."""
    return float(max(0.0, window[-1] - 2 * window[0]))


def growth_channels(values: Array, noise: Array, process: Array, basis: Array) -> Channels:
    """Channel ``(1, m − 1)`` of a growth curve whose mean is a sum of the ``basis (m, order)`` and a constant.

    ``values``, ``noise`` ``(m,)``; ``process (m − 1,)``: variance of each increment in units of q.

    >>> t = np.arange(3.0)
    >>> growth_channels(2 * t, 0 * t, np.ones(2), polynomial_basis(t, 1.0, 1)).design[0, :, 0]
    array([1., 1.])
    """
    return Channels(np.diff(values)[None], np.diff(basis, axis=0)[None], process[None], noise[None])


def fit_growth(
    times: Any,
    values: Any,
    noise: Any = None,
    *,
    order: int = 2,
    at: float | None = None,
    confidence: float = 0.95,
    process: bool = True,
    history: ProcessHistory | None = None,
) -> GrowthFit:
    """Value and derivative of a growth curve at a time of the window.

    The curve is y_i = f(t_i) + W(t_i) + e_i with f a polynomial, W a random walk of unknown variance q per step and e_i
    sampling noise of known variance. ``process=False`` leaves W out: with equal noise and regular times this is the
    Savitzky–Golay filter of the paper.

    Args:
        times: ``(m,)`` increasing, in steps.
        values: ``(m,)`` log amplitude.
        noise: ``(m,)`` sampling variance of each value, or one number; None is none. With ``process=False``, None means
            equal and unknown.
        order: degree of f, at least 1.
        at: where to evaluate; None is the centre of the window. Use ``times[-1]`` for the causal end point.
        confidence: of the interval.
        process: whether the curve itself wanders.
        history: what other windows say of q.

    Raises:
        ValueError: shapes, times that do not increase, or too few points for the order.

    >>> t = np.arange(9.0)
    >>> round(fit_growth(t, t**2, process=False, at=8.0).derivative, 6)
    16.0
    """
    t, y = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.ndim != 1 or y.shape != t.shape:
        raise ValueError(f"times and values must have the same shape (m,), got {t.shape} and {y.shape}")
    if order < 1 or len(t) < order + 3:
        raise ValueError(f"order must be at least 1 and at most m − 3, got {order} with m = {len(t)}; widen the window")
    if not np.all(np.diff(t) > 0):
        raise ValueError("times must increase strictly; sort them and drop repeated steps")
    known = noise is not None
    r = np.broadcast_to(np.asarray(noise if known else 0.0, dtype=np.float64), t.shape)
    where = float(t[0] + t[-1]) / 2 if at is None else float(at)
    if not (np.isfinite(y).all() and np.isfinite(r).all()):
        nan = float("nan")
        return GrowthFit(nan, nan, nan, nan, (nan, nan), nan)
    nearest = int(np.abs(t - where).argmin())
    basis = polynomial_basis(t, where, order)
    if process:
        channels = growth_channels(y, r, np.diff(t), basis)
        post = fit(channels, no_history(channels) if history is None else history)
        functional = np.eye(order)[:1]
        slope, error, half = (float(a[0]) for a in mixture_interval(post, functional, confidence))
        q = float(post.process_variance[0])
        level, level_error = _level(channels, nearest, q)
    else:
        channels = growth_channels(y, r if known else np.ones_like(r), np.diff(t), basis)
        gram, _ = increment_gram(channels, np.zeros((1, 1)))
        G, h, s = gram[0, 0, :-1, :-1], gram[0, 0, :-1, -1], gram[0, 0, -1, -1]
        freedom = len(t) - 1 - order
        slope = float(np.linalg.solve(G, h)[0])
        variance = 1.0 if known else max(float(s - h @ np.linalg.solve(G, h)), 0.0) / freedom
        error = float(np.sqrt(variance * np.linalg.inv(G)[0, 0]))
        tail = 0.5 + confidence / 2
        half = error * float(ndtri(tail) if known else stdtrit(freedom, tail))
        q = 0.0
        level, level_error = _level(channels, nearest, q)
        level_error *= float(np.sqrt(variance))
    return GrowthFit(float(y[nearest]) - level, level_error, slope, error, (slope - half, slope + half), q)


def _level(channels: Channels, i: int, q: float) -> tuple[float, float]:
    """Sampling error of the level i as predicted from all the increments, and the error of that prediction.

    The best linear predictor is cᵀT⁻¹(d − Xθ̂), where c is the covariance of e_i with the increments.
    """
    r = channels.noise[0]
    covariance = np.zeros(channels.response.shape[-1])
    if i > 0:
        covariance[i - 1] = r[i]
    if i < len(covariance):
        covariance[i] = -r[i]
    design = np.concatenate([channels.design, covariance[None, :, None]], axis=-1)
    gram, _ = increment_gram(
        Channels(channels.response, design, channels.process, channels.noise), np.array([[max(q, 0.0)]])
    )
    W, c = gram[0, 0], channels.design.shape[-1]
    G, cross, h = W[:c, :c], W[:c, c], W[:c, -1]
    predicted = W[c, -1] - cross @ np.linalg.solve(G, h)
    variance = r[i] - (W[c, c] - cross @ np.linalg.solve(G, cross))
    return float(predicted), float(np.sqrt(max(variance, 0.0)))
