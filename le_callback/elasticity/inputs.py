"""What the estimators accept, checked once: class means, times and noise.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from le_callback.elasticity.sampling_noise import SamplingNoise
from le_callback.similarity import LEModel
from le_callback.values import Array


def as_noise(noise: Any, T: int, K: int) -> SamplingNoise:
    """What a caller says of the sampling noise, for T times and K classes.

    >>> as_noise([0.1, 0.2], 3, 2).trace.shape
    (3, 2)

    Raises:
        ValueError: a shape other than ``(T, K)`` or ``(K,)``.
    """
    if isinstance(noise, SamplingNoise):
        known = noise
    else:
        trace = np.zeros((T, K)) if noise is None else np.asarray(noise, dtype=np.float64)
        known = SamplingNoise(np.broadcast_to(trace, (T, K)) if trace.shape in ((K,), (T, K)) else trace)
    if known.trace.shape != (T, K):
        raise ValueError(
            f"noise must have shape ({T}, {K}) or ({K},), got {known.trace.shape}; one variance a time and class"
        )
    return known


def check_means(means: Any, times: Any, model: LEModel) -> tuple[Array, Array]:
    """Class means ``(T, K, p)`` and times ``(T,)`` as float64 arrays.

    >>> from le_callback.similarity import IModel
    >>> check_means(torch.ones(3, 2, 1), None, IModel())[1]
    array([0., 1., 2.])

    Raises:
        ValueError: shapes, K = 1, too few dimensions, times that do not increase.
    """
    X = means.detach().cpu().numpy() if isinstance(means, torch.Tensor) else np.asarray(means)
    X = X.astype(np.float64)
    if X.ndim != 3 or len(X) == 0:
        raise ValueError(f"means must have shape (T, K, p), got {X.shape}; stack one (K, p) matrix a time")
    T, K, p = X.shape
    if K < 2:
        raise ValueError(f"means must hold at least 2 classes, got K = {K}; local elasticity compares classes")
    if p < model.min_dimensions(K):
        raise ValueError(
            f"the {model.name}-model of {K} classes needs p ≥ {model.min_dimensions(K)} dimensions, got p = {p}; "
            "use IModel or DirectionModel for other features"
        )
    t = np.arange(T, dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
    if t.shape != (T,):
        raise ValueError(f"times must have shape ({T},) like the means, got {t.shape}; give one time for each matrix")
    if not (np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise ValueError("times must be finite and increase strictly; sort them and drop repeated steps")
    return X, t
