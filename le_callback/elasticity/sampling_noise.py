"""What is known of the sampling noise of class means, and what it does to coordinates, modes and projections.

Legend: T times, K classes, p feature dimensions, q coordinates a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from le_callback.errors import require
from le_callback.similarity import LEModel
from le_callback.values import Array


@dataclass(frozen=True)
class SamplingNoise:
    """Sampling covariance of each class mean, as far as it is known.

    A mean of n_k samples whose within-class covariance is Σ_k has the sampling covariance Σ_k/n_k.

    Attributes:
        trace: ``(T, K)``, tr(Σ_k)/n_k.
        along: ``(T, K)`` or None: variance of the mean's coordinate along its direction, d_kᵀΣ_k d_k/(n_k ‖d_k‖⁴). Only
            the L and direction models use it; None takes the noise to be equal in all dimensions.

    Raises:
        ValueError: shapes that differ, or negative entries.

    >>> SamplingNoise.from_moments(counts=np.array([[25, 50]]), trace=np.array([[5.0, 5.0]])).trace
    array([[0.2, 0.1]])
    """

    trace: Array
    along: Array | None = None

    def __post_init__(self) -> None:
        for name in ("trace", "along"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value, dtype=np.float64)
            shaped = value.ndim == 2 and value.shape == np.shape(self.trace)
            require(shaped, name, value.shape, "of shape (T, K), one variance for each time and class")
            require_variances(value, name)
            object.__setattr__(self, name, value)

    @classmethod
    def from_moments(cls, counts: Any, trace: Any, along: Any = None) -> SamplingNoise:
        """From the samples of each class. Classes without samples get an infinite variance.

        Args:
            counts: n_k ``(T, K)``.
            trace: tr(Σ_k) ``(T, K)``.
            along: variance of single samples along the class directions ``(T, K)``, if it is known.

        Raises:
            ValueError: shapes that differ, or negative entries.
        """
        n = np.asarray(counts, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(n > 0, 1 / n, np.inf)
        single = np.asarray(trace, dtype=np.float64)
        return cls(single * share, None if along is None else np.asarray(along, dtype=np.float64) * share)


def require_variances(value: Array, argument: str) -> None:
    """Refuse negative variances.

    Raises:
        ValueError: naming the argument.

    >>> require_variances(np.array([0.1, -0.2]), "noise")
    Traceback (most recent call last):
    ValueError: Expected argument `noise` to be variances, which are not negative, but got [-0.2].
    """
    negative = value[value < 0].tolist()
    require(not negative, argument, negative[:3], "variances, which are not negative")


def directions_of(model: LEModel, num_classes: int) -> Array | None:
    """Class directions ``(K, p)`` of the L and direction models, None for others.

    >>> from le_callback.similarity import LModel
    >>> directions_of(LModel(), 2)
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    directions = model.class_directions(num_classes)
    return None if directions is None else np.asarray(directions.numpy())


def coordinate_variance(noise: SamplingNoise, model: LEModel, p: int) -> Array:
    """Total sampling variance ``(T, K)`` of the coordinates that a model takes of each class mean.

    I-model: the trace. L and direction models: the variance along the direction.

    Args:
        noise: of the class means.
        model: gives the coordinates.
        p: feature dimensions.

    >>> from le_callback.similarity import IModel
    >>> coordinate_variance(SamplingNoise(np.array([[0.2, 0.1]])), IModel(), 4)
    array([[0.2, 0.1]])
    """
    directions = directions_of(model, noise.trace.shape[1])
    if directions is None:
        return noise.trace
    if noise.along is not None:
        return noise.along
    return np.asarray(noise.trace / p / (directions**2).sum(1))


def projected_variance(noise: SamplingNoise, vectors: Array, directions: Array | None) -> Array:
    """Sampling variance ``(T,)`` of ⟨e, X̄⟩ for a unit vector ``e (K, p)``: Σ_k e_kᵀ Cov(X̄_k) e_k.

    >>> projected_variance(SamplingNoise(np.array([[0.5, 0.25]])), np.eye(2), None)
    array([0.375])
    """
    p = vectors.shape[-1]
    squares = (vectors**2).sum(-1)
    if directions is None or noise.along is None or p == 1:
        return np.asarray(noise.trace @ squares / p)
    d2 = (directions**2).sum(-1)
    own = (vectors * directions).sum(-1) ** 2 / d2  # squared part along the class direction
    along = noise.along * d2
    across = np.maximum(noise.trace - along, 0) / (p - 1)
    return np.asarray(along @ own + across @ np.maximum(squares - own, 0))
