"""What the simulators accept, checked once.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.similarity import LEModel
from le_callback.values import Array


def check_times(times: Any) -> Array:
    """Times ``(T,)`` as float64.

    >>> check_times([0, 1])
    array([0., 1.])

    Raises:
        ValueError: not one dimension, empty, not finite, or not strictly increasing.
    """
    t = times.detach().cpu().numpy() if isinstance(times, Tensor) else np.asarray(times)
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(f"Expected argument `times` to have shape (T,) with T ≥ 1, but got {t.shape}.")
    t = t.astype(np.float64)
    if not (np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise ValueError(
            "Expected argument `times` to be finite and to increase strictly, but it does not; "
            "sort the times and drop repeated ones."
        )
    return t


def check_start(x0: Any, model: LEModel, *, samples: bool = False) -> Tensor:
    """Start ``(K, p)``, or with ``samples`` also ``(K, n, p)``, as a floating tensor that keeps its device.

    >>> from le_callback.similarity import IModel
    >>> check_start([[1, 2], [3, 4]], IModel()).dtype
    torch.float64

    Raises:
        ValueError: another shape, fewer than two classes, too few dimensions for the model, complex or not finite.
    """
    x = x0.detach() if isinstance(x0, Tensor) else torch.as_tensor(np.asarray(x0))
    if x.is_complex():
        raise ValueError(f"Expected argument `x0` to be real, but got {x.dtype}.")
    if not x.is_floating_point():
        x = x.double()
    shapes = "(K, p) or (K, n, p)" if samples else "(K, p)"
    if x.ndim not in ((2, 3) if samples else (2,)) or x.shape[0] < 2 or 0 in x.shape:
        raise ValueError(f"Expected argument `x0` to have shape {shapes} with K ≥ 2, but got {tuple(x.shape)}.")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("Expected argument `x0` to be finite, but it holds NaN or infinity; start at a later time.")
    K, p = x.shape[0], x.shape[-1]
    if p < model.min_dimensions(K):
        raise ValueError(
            f"Expected argument `x0` to have p ≥ {model.min_dimensions(K)} for the {model.name}-model of {K} classes, "
            f"but got p = {p}; use another model."
        )
    model.coordinates(x if x.ndim == 2 else x[:, 0])  # raises where the model does not fit the shape
    return x


def check_substeps(substeps: Any) -> int:
    """A positive whole number.

    >>> check_substeps(2)
    2

    Raises:
        ValueError: anything else.
    """
    if isinstance(substeps, bool) or not isinstance(substeps, (int, np.integer)) or substeps < 1:
        raise ValueError(f"Expected argument `substeps` to be a whole number ≥ 1, but got {substeps!r}.")
    return int(substeps)
