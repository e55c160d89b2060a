"""How well a simulated trajectory imitates the genuine one.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.values import Array


def relative_difference(x: Any, y: Any, model: LEModel | str | None = None) -> Tensor:
    """RD_k = ‖X̄_k − Ȳ_k‖_H / ((‖X̄_k‖ + ‖Ȳ_k‖)/2), symmetric in both trajectories.

    ‖z‖²_H = zᵀ H_kk z: the part of the difference along the direction of class k. H_kk counts by its symmetric part,
    and where that gives a negative square, as general blocks may, RD is NaN, as it is where both means are zero.

    Args:
        x: ``(..., K, p)``, such as the genuine class means over time.
        y: the same shape, such as the simulated ones.
        model: gives H, or its short name, ``"I"`` or ``"L"``; None takes the full norm, as the I-model does.

    Returns:
        ``(..., K)``.

    Raises:
        ValueError: shapes that differ or have fewer than two axes.
        TypeError: a model that is none.

    Source: Zhang, Wang, Su 2021, eq. 20.

    >>> relative_difference(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([1.4142])
    """
    chosen = None if model is None else as_model(model)
    a, b = (z.detach() if isinstance(z, Tensor) else torch.as_tensor(np.asarray(z)) for z in (x, y))
    require(a.ndim >= 2, "x", tuple(a.shape), "of shape (..., K, p)")
    require(a.shape == b.shape, "y", tuple(b.shape), f"of shape {tuple(a.shape)}, as `x`")
    a, b = (z if z.is_floating_point() else z.double() for z in (a, b.to(a.device)))
    difference = a - b
    if chosen is None:
        size = difference.norm(dim=-1)
    else:
        own, _ = chosen.regressors(difference, torch.eye(a.shape[-2], dtype=torch.float64))  # H_kk z_k
        square = (difference * own).sum(-1)
        # rounding may leave a small negative square
        tolerance = 1e-12 * difference.square().sum(-1)
        size = torch.where(square < -tolerance, torch.nan, square.clamp(min=0)).sqrt()
    score: Tensor = size / ((a.norm(dim=-1) + b.norm(dim=-1)) / 2)
    return score


@dataclass(frozen=True)
class Score:
    """Mean relative difference over classes and later readings.

    Attributes:
        full: of the class means.
        centred: of their differences from their centre.

    >>> Score(0.1, 0.05).full
    0.1
    """

    full: float
    centred: float


def mean_score(x: Array, y: Array) -> Score:
    """Of genuine class means and simulated ones ``(T, K, p)``; where these are not finite they count 2, the most.

    >>> x = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> mean_score(x, 3 * x).full
    1.0
    """
    return Score(*(_mean_difference(a, b) for a, b in ((x, y), (centred(x), centred(y)))))


def centred(x: Array) -> Array:
    """Differences of the classes from their centre, ``(..., K, p)``.

    >>> centred(np.array([[1.0], [3.0]])).ravel()
    array([-1.,  1.])
    """
    return np.asarray(x - x.mean(-2, keepdims=True))


def _mean_difference(x: Array, y: Array) -> float:
    known = np.asarray(np.isfinite(y).all((-2, -1)))
    found = relative_difference(torch.tensor(x), torch.from_numpy(np.nan_to_num(y))).numpy()
    return float(np.where(known[..., None], found, 2.0).mean())
