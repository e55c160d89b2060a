"""Generalised least squares on increments whose noise is a random walk plus sampling noise.

A series x_0 … x_n is measured; its increments obey  d_i = X_i θ + w_i + e_{i+1} − e_i  with

    w_i ~ N(0, q·s_i)   process noise: s_i known (usually the time step), q not,
    e_i ~ N(0, r_i)     sampling noise of the level i: known.

The increments' covariance T(q) = q·diag(s) + D diag(r) Dᵀ is tridiagonal, so everything costs O(n). What is not
known, q, is integrated out: on a logarithmic grid, each q is weighed by its restricted likelihood in this window, its
likelihood in other windows (``ProcessHistory``) and a prior. Without sampling noise and history the result is
Student's t with n − c degrees of freedom; where q is known well, it is normal.

One window cannot tell a small random walk from none: with sampling noise and no history the intervals are too wide
(conservative). A few windows of history mend that.

Legend: n increments, c coefficients, C channels (1 or 2) that share coefficients, G grid points of q, N components of
the posterior, ... independent runs or windows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtr, ndtri

from le_callback.errors import require
from le_callback.values import Array

_SPACING = 0.7  # of log q; the log likelihood is smooth on this scale and is interpolated
_POINTS = 16  # grids have a multiple of so many, so that those of several windows are mostly of one length
_COMPONENTS = 11  # of the posterior, a channel
_PRIOR_POWER = 0.75  # 1: Jeffreys' prior, intervals too wide; 0: 1/q, too narrow where sampling noise rules


@dataclass(frozen=True)
class Channels:
    """Measured series that share the coefficients θ, each with a process variance of its own.

    Attributes:
        response: increments d ``(..., C, n)``.
        design: X ``(..., C, n, c)``.
        process: s ``(..., C, n)``, the process variance of each increment in units of q.
        noise: r ``(..., C, n + 1)``, the known sampling variance of each level.

    >>> Channels(np.array([[1.0, 3.0]]), np.ones((1, 2, 1)), np.ones((1, 2)), np.zeros((1, 3))).design.shape
    (1, 2, 1)
    """

    response: Array
    design: Array
    process: Array
    noise: Array


@dataclass(frozen=True)
class ProcessHistory:
    """What other windows say of q. Likelihoods of windows that do not overlap add up.

    Attributes:
        log_q: grid ``(G,)`` or ``(..., 1, G)``.
        log_likelihood: ``(..., C, G)``; multiply by a factor below 1 to forget.

    >>> ProcessHistory(np.linspace(-3.0, 3.0, 7), np.zeros((1, 7))).log_likelihood.shape
    (1, 7)
    """

    log_q: Array
    log_likelihood: Array


@dataclass(frozen=True)
class Posterior:
    """Mixture of N normal distributions of the c coefficients.

    Attributes:
        weights: ``(..., N)``, sum 1.
        mean: ``(..., N, c)``.
        covariance: ``(..., N, c, c)``.
        process_variance: posterior mean of q for each channel, ``(..., C)``.
        condition: smallest eigenvalue of the normalised Gram matrix ``(...)``; near 0 where the data do not tell the
            coefficients apart.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> round(float(fit(channels, no_history(channels)).weights.sum()), 6)
    1.0
    """

    weights: Array
    mean: Array
    covariance: Array
    process_variance: Array
    condition: Array


def increment_gram(channels: Channels, q: Array) -> tuple[Array, Array]:
    """Gram matrix of the whitened columns [X, d] ``(..., C, G, c + 1, c + 1)`` and log|T| ``(..., C, G)``, at each q.

    T = LDLᵀ is factorised and L⁻¹ is applied on the way, one step for each increment.

    >>> channels = Channels(np.array([[1.0, 3.0]]), np.ones((1, 2, 1)), np.ones((1, 2)), np.zeros((1, 3)))
    >>> increment_gram(channels, np.array([[1.0]]))[0][0, 0]
    array([[ 2.,  4.],
           [ 4., 10.]])
    """
    columns = np.concatenate([channels.design, channels.response[..., None]], axis=-1)  # (..., C, n, c + 1)
    s, r = channels.process, channels.noise
    diagonal = q[..., None] * s[..., None, :] + (r[..., :-1] + r[..., 1:])[..., None, :]  # (..., C, G, n)
    if not np.any(r):
        gram = np.swapaxes(columns, -1, -2)[..., None, :, :] / diagonal[..., None, :] @ columns[..., None, :, :]
        return gram, np.log(diagonal).sum(-1)
    n = s.shape[-1]
    pivots = np.empty((n, *diagonal.shape[:-1]))
    white = np.empty((n, *diagonal.shape[:-1], columns.shape[-1]))
    pivots[0], white[0] = diagonal[..., 0], columns[..., None, 0, :]
    for i in range(1, n):
        ratio = r[..., i, None] / pivots[i - 1]
        pivots[i] = diagonal[..., i] - r[..., i, None] * ratio
        white[i] = columns[..., None, i, :] + ratio[..., None] * white[i - 1]
    white /= np.sqrt(pivots)[..., None]
    moved = np.moveaxis(white, 0, -2)  # (..., C, G, n, c + 1)
    return np.swapaxes(moved, -1, -2) @ moved, np.log(pivots).sum(0)


def process_grid(channels: Channels, margin: float = 0.0) -> Array:
    """Grid of log q ``(G,)`` that holds the posterior of all the windows given: from "no matter" to "explains it all".

    Args:
        channels: of all windows.
        margin: widens the grid at both ends, for windows still to come.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> grid = process_grid(channels)
    >>> bool(grid[0] < -2 and grid[-1] > 2)
    True
    """
    d, X, s, r = channels.response, channels.design, channels.process, channels.noise
    n = d.shape[-1]
    freedom = max(n - min(X.shape[-1], n - 1), 1)
    weight = 1 / np.sqrt(s)
    Xw, dw = X * weight[..., None], d * weight
    Xw = Xw / (np.sqrt((Xw**2).sum(-2, keepdims=True)) + 1e-300)
    gram = np.swapaxes(Xw, -1, -2) @ Xw + 1e-10 * np.eye(X.shape[-1])
    fit = np.linalg.solve(gram, np.swapaxes(Xw, -1, -2) @ dw[..., None])
    residual = dw - (Xw @ fit)[..., 0]
    ratio = r.mean(-1) / s.mean(-1)
    # an exact fit leaves no residual; channels of too unequal precision could not be joined in floating point
    floor = 1e-14 * (dw**2).mean(-1).max(-1, keepdims=True) + 1e-300
    total = np.log(np.maximum((residual**2).sum(-1) / freedom, 1e-3 * ratio) + floor)
    width = 6 * np.sqrt(2 / freedom)
    low = np.where(ratio > 0, np.minimum(total - width, np.log(0.01 * ratio / n**2 + 1e-300)), total - width)
    ends = float(low.min()) - margin, float((total + width).max()) + margin
    points = int(np.ceil((ends[1] - ends[0]) / _SPACING)) + 1
    return np.linspace(*ends, _POINTS * -(-points // _POINTS))


def log_prior(channels: Channels, log_q: Array) -> Array:
    """Prior of log q ``(..., C, G)``: flat where process noise rules, q^¾ where it drowns in sampling noise.

    It is a power of Jeffreys' prior, q (Σ_i (λ_i + q)^−2)^½, where λ_i = (r/s)(2 − 2 cos(πi/(n+1))) are the
    eigenvalues of the sampling noise in units of the process noise, at regular times and equal noise.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> bool(np.ptp(log_prior(channels, np.array([[-1.0, 0.0, 1.0]]))) < 1e-12)
    True
    """
    n, c = channels.design.shape[-2:]
    ratio = channels.noise.mean(-1) / channels.process.mean(-1)
    eigenvalues = 2 - 2 * np.cos(np.pi * np.arange(1 + min(c, n - 1), n + 1) / (n + 1))
    relative = ratio[..., None, None] * eigenvalues * np.exp(-log_q)[..., None]  # λ_i / q
    return np.asarray(0.5 * _PRIOR_POWER * np.log(((1 + relative) ** -2).sum(-1) + 1e-300))


def window_likelihood(channels: Channels, log_q: Array) -> Array:
    """Restricted log likelihood of q ``(..., C, G)``, of each channel with coefficients of its own.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> int(window_likelihood(channels, np.array([-3.0, 0.0, 3.0])).argmax())
    1
    """
    log_q = np.broadcast_to(log_q, (*channels.response.shape[:-1], log_q.shape[-1]))
    full, log_det = increment_gram(channels, np.exp(log_q))
    c = full.shape[-1] - 1
    scale = np.sqrt(np.einsum("...cc->...c", full[..., :c, :c])) + 1e-150
    gram = full[..., :c, :c] / (scale[..., :, None] * scale[..., None, :])
    cross = full[..., :c, c] / scale
    values, vectors = np.linalg.eigh(gram)
    used = values > 1e-8
    along = (np.swapaxes(vectors, -1, -2) @ cross[..., None])[..., 0]
    explained = np.where(used, along**2 / np.where(used, values, 1), 0).sum(-1)
    # columns that vanish in this channel are no coefficients of it: only directions in use count
    log_gram = np.where(used, np.log(np.where(used, values, 1)), 0).sum(-1)
    live = scale > 1e-140
    log_gram += used.sum(-1) / np.maximum(live.sum(-1), 1) * 2 * np.where(live, np.log(scale), 0).sum(-1)
    return np.asarray(-0.5 * (log_det + log_gram + full[..., c, c] - explained))


def fit(channels: Channels, history: ProcessHistory) -> Posterior:
    """Posterior of the coefficients of one window (leading axes: of many), given what is known of q elsewhere.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> post = fit(channels, no_history(channels))
    >>> round(float((post.weights[:, None] * post.mean).sum()), 6)
    2.0

    Raises:
        ValueError: not one or two channels.
    """
    C = channels.response.shape[-2]
    require(C in (1, 2), "channels", C, "1 or 2 series", "Pool series that share a process variance.")
    coarse = np.broadcast_to(history.log_q, (*channels.response.shape[:-1], history.log_q.shape[-1]))
    log_weight = window_likelihood(channels, coarse) + history.log_likelihood + log_prior(channels, coarse)
    log_q, other = _refine(coarse, log_weight, history.log_likelihood)
    gram, log_det = increment_gram(channels, np.exp(log_q))
    c = gram.shape[-1] - 1
    log_weight = other + log_prior(channels, log_q) - 0.5 * log_det
    q = np.exp(log_q)
    if C == 1:
        gram, log_weight = gram[..., 0, :, :, :], log_weight[..., 0, :]
        q = q[..., 0, :, None]
    else:
        gram, log_weight = _outer_sum(gram, 2), _outer_sum(log_weight, 0)
        pairs = np.broadcast_arrays(q[..., 0, :, None], q[..., 1, None, :])
        q = np.stack([a.reshape(log_weight.shape) for a in pairs], axis=-1)
    return _mixture(gram[..., :c, :c], gram[..., :c, c], gram[..., c, c], log_weight, q)


def no_history(channels: Channels) -> ProcessHistory:
    """A history that says nothing, on a grid that fits ``channels``.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> bool(no_history(channels).log_likelihood.any())
    False
    """
    grid = process_grid(channels)
    return ProcessHistory(grid, np.zeros((*channels.response.shape[:-1], len(grid))))


def _refine(coarse: Array, log_weight: Array, history: Array) -> tuple[Array, Array]:
    """Grid of log q ``(..., C, N)`` over the bulk of the posterior, and the history's log likelihood there."""
    G = coarse.shape[-1]
    last = 8 * G - 1
    start, step = coarse[..., :1], (coarse[..., -1:] - coarse[..., :1]) / last
    refinement = _spline(G)
    log_fine = log_weight @ refinement
    mass = np.exp(log_fine - log_fine.max(-1, keepdims=True)).cumsum(-1)
    mass /= mass[..., -1:]
    low = (mass < 3e-4).sum(-1, keepdims=True)
    high = np.minimum((mass < 1 - 3e-4).sum(-1, keepdims=True), last)
    position = (low - 1) + (high - low + 2) * np.linspace(0, 1, _COMPONENTS)  # in steps of the fine grid
    log_q = start + step * position
    if not np.any(history):
        return log_q, np.zeros_like(log_q)
    smooth = np.broadcast_to(history, log_weight.shape) @ refinement
    position = np.clip(position, 0, last - 1e-6)
    left = position.astype(np.int64)
    share = position - left
    other = np.take_along_axis(smooth, left, -1) * (1 - share) + np.take_along_axis(smooth, left + 1, -1) * share
    return log_q, other


@functools.lru_cache(maxsize=32)
def _spline(G: int) -> Array:
    """The not-a-knot cubic spline through G equidistant points as a matrix ``(G, 8G)``: it is linear in the values."""
    nodes = np.arange(float(G))
    return np.ascontiguousarray(CubicSpline(nodes, np.eye(G))(np.linspace(0, G - 1, 8 * G)).T)


def _mixture(gram: Array, cross: Array, square: Array, log_weight: Array, q: Array) -> Posterior:
    """Normal distributions of the coefficients at each q, weighed by their restricted likelihood."""
    c = gram.shape[-1]
    scale = np.sqrt(np.einsum("...cc->...c", gram)) + 1e-150
    normal = gram / (scale[..., :, None] * scale[..., None, :])
    covariance = np.linalg.inv(normal + 1e-13 * np.eye(c)) / (scale[..., :, None] * scale[..., None, :])
    mean = (covariance @ cross[..., None])[..., 0]
    log_gram = np.log(np.maximum(np.linalg.det(normal), 1e-300)) + 2 * np.log(scale).sum(-1)
    log_weight = log_weight - 0.5 * (log_gram + square - (mean * cross).sum(-1))
    weights = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    best = weights.argmax(-1)[..., None, None, None]
    condition = np.linalg.eigvalsh(np.take_along_axis(normal, best, axis=-3)[..., 0, :, :])[..., 0]
    return Posterior(weights, mean, covariance, (weights[..., None] * q).sum(-2), condition)


def _outer_sum(a: Array, trailing: int) -> Array:
    """a[..., 0, i] + a[..., 1, j] over both grids, which become one axis."""
    axis = a.ndim - trailing - 2
    first, second = np.take(a, 0, axis), np.take(a, 1, axis)
    total = np.expand_dims(first, axis + 1) + np.expand_dims(second, axis)
    return np.asarray(total.reshape(*total.shape[:axis], -1, *total.shape[axis + 2 :]))


def mixture_interval(post: Posterior, functionals: Any, confidence: float = 0.95) -> tuple[Array, Array, Array]:
    """Estimate, standard error and half width, each ``(..., F)``, of functionals ``(..., F, c)`` of the coefficients.

    The interval estimate ± half width holds ``confidence`` of the mixture: its tails include that q is estimated.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> estimate, error, half = mixture_interval(fit(channels, no_history(channels)), [[1.0]])
    >>> student = 4.302652729911275 / np.sqrt(3)  # t(0.975, 2 degrees of freedom) · s/√n
    >>> bool(abs(half[0] / student - 1) < 0.05)
    True
    """
    f = np.asarray(functionals, dtype=np.float64)
    w = post.weights[..., None, :]  # (..., 1, N)
    centre = f @ np.swapaxes(post.mean, -1, -2)
    within = ((f[..., None, :, :] @ post.covariance) * f[..., None, :, :]).sum(-1)
    within = np.swapaxes(within, -1, -2)
    estimate = (w * centre).sum(-1)
    offset = centre - estimate[..., None]
    error = np.sqrt((w * (within + offset**2)).sum(-1))
    sd = np.sqrt(np.maximum(within, 1e-300))
    half = ndtri(0.5 + confidence / 2) * np.sqrt((w * within).sum(-1)) + 1e-300
    for _ in range(12):
        upper, lower = (half[..., None] - offset) / sd, (-half[..., None] - offset) / sd
        mass = (w * (ndtr(upper) - ndtr(lower))).sum(-1)
        density = (w * (np.exp(-0.5 * upper**2) + np.exp(-0.5 * lower**2)) / sd).sum(-1) / np.sqrt(2 * np.pi)
        step = (confidence - mass) / np.maximum(density, 1e-300)
        half = half + np.clip(step, -0.5 * half, half)
        if np.all(np.abs(confidence - mass) < 1e-6):
            break
    return estimate, error, half
