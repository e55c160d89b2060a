"""Log amplitudes of the two modes, their sampling variances, and when they rise above the noise.

Legend: T times, K classes, q coordinates a class; z (T, K, q) coordinates of the class means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from le_callback.values import Array

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ModeSeries:
    """One mode over time.

    Attributes:
        log_amplitude: y ``(T,)``; NaN where the mode is not identifiable.
        noise: sampling variance of y ``(T,)``.
        scale: amplitude² ``(T,)``; a process noise of constant variance moves y by that over ``scale``.
        identifiable: ``(T,)``.
        path: growth ``(T,)`` along the mode as it was the time before, see ``projected_growth``; None: that of y.

    >>> t = np.arange(3.0)
    >>> ModeSeries(t, 0 * t, np.exp(2 * t), t > 0).window(1, 3).log_amplitude
    array([1., 2.])
    """

    log_amplitude: Array
    noise: Array
    scale: Array
    identifiable: Flags
    path: Array | None = None

    def window(self, start: int, stop: int) -> ModeSeries:
        """The times from ``start`` up to, not with, ``stop``."""
        part = slice(start, stop)
        path = None if self.path is None else self.path[part]
        return ModeSeries(self.log_amplitude[part], self.noise[part], self.scale[part], self.identifiable[part], path)


@dataclass(frozen=True)
class ModePair:
    """Both modes of the class means over time.

    Attributes:
        common: of the mean of the coordinates.
        difference: of what is left of each class.

    >>> series = norm_series(np.array([[[1.0]], [[0.0]]]), np.zeros(2), 1)
    >>> ModePair(series, series).identifiable
    array([ True, False])
    """

    common: ModeSeries
    difference: ModeSeries

    @property
    def identifiable(self) -> Flags:
        """Whether both modes are, ``(T,)``."""
        return self.common.identifiable & self.difference.identifiable


def split_modes(z: Array) -> tuple[Array, Array]:
    """Common part ``(T, 1, q)`` and difference part ``(T, K, q)`` of the coordinates.

    >>> split_modes(np.array([[[1.0], [3.0]]]))[1].ravel()
    array([-1.,  1.])
    """
    common = z.mean(-2, keepdims=True)
    return common, z - common


def mode_noise(variance: Array) -> tuple[Array, Array]:
    """Sampling variance ``(T,)`` of the common and of the difference mode, from that of the classes ``(T, K)``.

    Totals over all their dimensions: Σ_k σ_k²/K² and Σ_k σ_k² (K−1)/K.

    >>> mode_noise(np.array([[1.0, 1.0]]))
    (array([0.5]), array([1.]))
    """
    K = variance.shape[-1]
    total = variance.sum(-1)
    return total / K**2, total * (K - 1) / K


def norm_series(mode: Array, variance: Array, dimensions: int, *, threshold: float = 3.0) -> ModeSeries:
    """Log norm of a mode, corrected for sampling noise.

    Sampling noise adds its total variance to the squared norm N: y = ½ log(N − variance), defined where
    N > threshold·variance; its variance is variance/(dimensions·amplitude²).

    Args:
        mode: ``(T, n, q)``.
        variance: total sampling variance of the mode ``(T,)``.
        dimensions: directions that the noise spreads over.
        threshold: of identifiability.

    >>> z = np.array([[[1.0]], [[2.0]]])
    >>> np.exp(norm_series(z, np.zeros(2), 1).log_amplitude)
    array([1., 2.])
    """
    flat = mode.reshape(len(mode), -1)
    square = (flat**2).sum(1)
    finite = np.isfinite(square) & np.isfinite(variance)
    identifiable = finite & (square > threshold * variance) & (square > 0)
    scale = np.where(identifiable, square - np.where(finite, variance, 0), np.nan)
    y = 0.5 * np.log(scale)
    with np.errstate(invalid="ignore"):
        noise = np.where(identifiable, variance / (dimensions * scale), np.nan)
    return ModeSeries(y, noise, scale, identifiable, projected_growth(flat, y, noise, scale))


def projected_growth(flat: Array, y: Array, noise: Array, scale: Array) -> Array:
    """Growth of a mode along what it was the time before: Σ log(⟨z_n, z_{n+1}⟩/‖z_n‖²), NaN where not identifiable.

    Noise-free it is the log norm. A walk of z lets the norm grow by half its variance in all but one direction over the
    amplitude², without any drift; across itself it leaves the projection alone. The noise of z_n is in the square: its
    variance is off ``scale``, and what the curvature of the logarithm adds on average, the variance of y, is taken off.
    Where z turns by more than a right angle, the growth is that of y.

    Args:
        flat: z ``(T, D)``.
        y: log amplitude ``(T,)``, NaN where not identifiable.
        noise: sampling variance of y ``(T,)``.
        scale: amplitude² ``(T,)``.

    >>> z = np.array([[1.0, 0.0], [2.0, 1.0]])
    >>> projected_growth(z, np.zeros(2), np.zeros(2), (z**2).sum(1)).round(3)  # log 2, not log √5
    array([0.   , 0.693])
    """
    path = np.full(len(y), np.nan)
    at = np.flatnonzero(np.isfinite(y))
    if len(at):
        before, after = at[:-1], at[1:]
        along = (flat[before] * flat[after]).sum(1) / scale[before]
        steps = np.where(along > 0, np.log(np.where(along > 0, along, 1.0)) - noise[before], y[after] - y[before])
        path[at] = np.concatenate([[0.0], np.cumsum(steps)])
    return path


def entry_series(mode: Array) -> ModeSeries:
    """Mean log absolute value over all entries of a mode ``(T, n, q)``, as in the paper; one entry near zero ruins it.

    >>> entry_series(np.array([[[1.0, -np.e]]])).log_amplitude
    array([0.5])
    """
    flat = np.abs(mode.reshape(len(mode), -1))
    with np.errstate(divide="ignore"):
        y = np.log(flat).mean(1)
    identifiable = np.isfinite(y)
    y = np.where(identifiable, y, np.nan)
    return ModeSeries(y, np.zeros_like(y), np.exp(2 * y), identifiable)
