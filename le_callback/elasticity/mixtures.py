"""Quantiles of mixtures of normal distributions. C mixtures of N components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from le_callback.values import Array

_CLOSE = 3e-5  # of a probability, before the last step


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of normal distributions.

    Attributes:
        weights: ``(C, N)``, sum 1.
        means: ``(C, N)``.
        deviations: ``(C, N)``, standard deviations.

    >>> one = Mixtures(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    >>> one.quantiles(0.5, 0.975).round(2).ravel()
    array([0.  , 1.96])
    """

    weights: Array
    means: Array
    deviations: Array

    def mean(self) -> Array:
        """``(C,)``."""
        return np.asarray((self.weights * self.means).sum(-1))

    def scaled(self, factor: Array) -> Mixtures:
        """Of the variables times ``factor (C,)``, which is positive."""
        f = factor[:, None]
        return Mixtures(self.weights, self.means * f, self.deviations * f)

    def widened(self, factor: Array) -> Mixtures:
        """Stretched about the mean by ``factor (C,)``."""
        f, mean = factor[:, None], self.mean()[:, None]
        return Mixtures(self.weights, mean + (self.means - mean) * f, self.deviations * f)

    def quantiles(self, *probabilities: float) -> Array:
        """``(P, C)``, by Newton's method inside a bracket."""
        p = np.array(probabilities)[:, None]
        deviate = ndtri(p)
        ends = self.means + deviate[..., None] * self.deviations  # (P, C, N)
        low, high = ends.min(-1), ends.max(-1)
        mean = self.mean()
        spread = np.sqrt((self.weights * (self.deviations**2 + (self.means - mean[:, None]) ** 2)).sum(-1))
        x = np.clip(mean + deviate * spread, low, high)
        for _ in range(40):
            z = (x[..., None] - self.means) / self.deviations
            missing = p - (self.weights * ndtr(z)).sum(-1)
            low, high = np.where(missing > 0, x, low), np.where(missing > 0, high, x)
            density = (self.weights / self.deviations * np.exp(-0.5 * z**2)).sum(-1) / np.sqrt(2 * np.pi)
            step = x + missing / np.maximum(density, 1e-300)
            x = np.where((step >= low) & (step <= high), step, (low + high) / 2)
            if (np.abs(missing) < _CLOSE).all():  # the step just taken squares what was missing
                break
        return np.asarray(x)


def largest(weights: Array, most: int = 64) -> NDArray[np.intp]:
    """Places of the ``most`` largest weights ``(C, N)``, in any order.

    >>> largest(np.array([[0.2, 0.5, 0.3]]), 1)
    array([[1]])
    """
    most = min(most, weights.shape[1])
    return np.argpartition(weights, -most, axis=-1)[:, -most:]


def likeliest(weights: Array, means: Array, variances: Array, top: NDArray[np.intp]) -> Mixtures:
    """The components ``top (C, n)`` of mixtures ``(C, N)``, and one for all others, of their mean and variance.

    >>> half = np.array([[0.5, 0.3, 0.2]])
    >>> likeliest(half, np.array([[0.0, 1.0, 2.0]]), np.ones((1, 3)), largest(half, 1)).weights.round(2)
    array([[0.5, 0.5]])
    """
    places = top + np.arange(len(top))[:, None] * weights.shape[1]
    w, m, v = (x.take(places) for x in (weights, means, variances))
    left = np.maximum(1 - w.sum(-1), 1e-12)
    first, second = (weights * means).sum(-1), (weights * (variances + means**2)).sum(-1)
    mean = (first - (w * m).sum(-1)) / left
    variance = np.maximum((second - (w * (v + m**2)).sum(-1)) / left - mean**2, variances.min(-1))
    rest = left, np.clip(mean, means.min(-1), means.max(-1)), variance
    w, m, v = (np.concatenate([x, extra[:, None]], -1) for x, extra in zip((w, m, v), rest, strict=True))
    return Mixtures(w / w.sum(-1, keepdims=True), m, np.sqrt(v))
