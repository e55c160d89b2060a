"""The noise that drives the LE-SDE, Σ(t), from all that may describe it.

Legend: K classes, p feature dimensions, S paths, n coordinates that the drift couples (``linear``), n_t times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.errors import require
from le_callback.simulation.linear import Space, square_roots
from le_callback.simulation.strengths import Rate, is_function
from le_callback.values import Array


@dataclass(frozen=True)
class Noise:
    """Noise of each class per unit of time.

    Attributes:
        isotropic: ``at`` gives σ_k ``(n_t, K)``, else covariance rates ``(n_t, K, p, p)``.
        at: function of times ``(n_t,)``.

    >>> Noise(True, lambda t: np.full((len(t), 2), 0.5)).roots(np.zeros(1))
    array([[0.5, 0.5]])
    """

    isotropic: bool
    at: Callable[[Array], Array]

    def roots(self, t: Array) -> Array:
        """σ_k ``(n_t, K)`` or Σ_k^½ ``(n_t, K, p, p)``."""
        values = self.at(t)
        return values if self.isotropic else square_roots(values)

    def in_coordinates(self, space: Space, t: Array) -> Array:
        """Covariance rate S(t) ``(n_t, n, n)`` in the coordinates of ``space``."""
        values = self.at(t)
        K = values.shape[1]
        if self.isotropic:
            each = 1 if space.blocks is None else space.blocks.shape[-1]
            return np.repeat(values**2, each, axis=1)[:, :, None] * np.eye(K * each)
        n = K * values.shape[-1]
        blocks = np.einsum("tiab,ij->tiajb", values, np.eye(K))
        return np.asarray(blocks.reshape(len(t), n, n))


def as_noise_rate(noise: Any, start: float, num_classes: int, dimensions: int) -> Noise:
    """Noise from σ, σ_k ``(K,)``, covariance rates ``(K, p, p)``, or a function of time to one of these.

    Args:
        noise: what the caller gave.
        start: first time, at which a function is asked which of these it gives.
        num_classes: K.
        dimensions: p.

    >>> as_noise_rate(0.5, 0.0, 2, 3).at(np.zeros(1))
    array([[0.5, 0.5]])

    Raises:
        ValueError: another shape, not finite, negative σ, or covariance rates that are no covariances.
    """
    K, p = num_classes, dimensions
    if not is_function(noise):
        constant = _read(noise, K, p)
        return Noise(constant.ndim == 1, lambda t: np.broadcast_to(constant, (len(t), *constant.shape)))
    first = _read(noise(start), K, p)

    def rate(t: Array) -> Array:
        rows = [_read(noise(float(s)), K, p) for s in t]
        for row in rows:
            require(row.shape == first.shape, "noise", row.shape, f"of one shape at all times, {first.shape} as before")
        return np.stack(rows) if rows else np.zeros((0, *first.shape))

    return Noise(first.ndim == 1, rate)


def _read(value: Any, K: int, p: int) -> Array:
    """σ_k ``(K,)`` or covariance rates ``(K, p, p)`` at one time."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    array = array.astype(np.float64)
    fits = array.shape in ((), (K,), (K, p, p))
    require(fits, "noise", array.shape, f"a number or of shape {(K,)} or {(K, p, p)}")
    require(bool(np.isfinite(array).all()), "noise", array, "finite")
    if array.ndim < 2:
        require(not (array < 0).any(), "noise", array, "a σ that is not negative")
        return np.broadcast_to(array, (K,))
    tolerance = 1e-9 * np.abs(array).max()
    symmetric = np.abs(array - np.swapaxes(array, 1, 2)).max() <= tolerance
    covariances = bool(symmetric and np.linalg.eigvalsh(array).min() >= -tolerance)
    require(covariances, "noise", array, "made of symmetric covariance rates without negative eigenvalues")
    return array


def across_space(noise: Noise, space: Space, dimensions: int) -> Rate | None:
    """Variance rates ``(n_t, K)`` of each dimension across the basis of ``space``; None where nothing is left over.

    Args:
        noise: isotropic.
        space: in whose coordinates the rest of the noise acts.
        dimensions: p.

    >>> across_space(Noise(True, lambda t: np.full((len(t), 2), 0.5)), Space(None, np.eye(3)[:, :2]), 3)(np.zeros(1))
    array([[0.25, 0.25]])
    """
    if space.basis is None or space.basis.shape[1] == dimensions:
        return None
    return lambda t: np.asarray(noise.at(t) ** 2)


def colour(root: Tensor, white: Tensor) -> Tensor:
    """Σ_k^½ B_k ``(S, K, p)`` from a root ``(K,)`` or ``(K, p, p)`` and ``white (S, K, p)``.

    >>> colour(torch.tensor([1.0, 2.0]), torch.ones(1, 2, 1)).flatten()
    tensor([1., 2.])
    """
    return root.unsqueeze(-1) * white if root.ndim == 1 else torch.einsum("kab,skb->ska", root, white)
