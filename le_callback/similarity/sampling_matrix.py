"""The sampling matrix P: who is trained, and how often. T times, K classes."""

from __future__ import annotations

import torch
from torch import Tensor

from le_callback.errors import require


def sampling_matrix(num_classes: int, priors: Tensor | None = None) -> Tensor:
    """Sampling matrix P ``(K, K)`` or, for priors that change with time, ``(T, K, K)``; float64.

    Args:
        num_classes: K.
        priors: None (balanced, 1/K everywhere); class frequencies or counts ``(K,)``, giving P_ij = π_j; the same per
            time ``(T, K)`` with T ≠ K; or any matrix ``(K, K)`` or ``(T, K, K)``, taken as it is.

    Raises:
        ValueError: a shape other than these, or entries that are negative or not finite, or that sum to zero.

    Source: Zhang, Wang, Su 2021, section 2: M = (E ⊗ P) ∘ H.

    >>> sampling_matrix(2, torch.tensor([30.0, 10.0]))
    tensor([[0.7500, 0.2500],
            [0.7500, 0.2500]], dtype=torch.float64)
    """
    K = num_classes
    if priors is None:
        return torch.full((K, K), 1 / K, dtype=torch.float64)
    priors = priors.to(torch.float64)
    usable = bool(torch.isfinite(priors).all()) and not bool((priors < 0).any())
    require(usable, "priors", priors, "finite and not negative: class frequencies, counts or a sampling matrix")
    if priors.ndim >= 2 and priors.shape[-2:] == (K, K):
        return priors
    shapes = f"({K},), (T, {K}), ({K}, {K}) or (T, {K}, {K})"
    fits = priors.ndim in (1, 2) and priors.shape[-1] == K
    require(fits, "priors", tuple(priors.shape), f"of shape {shapes}, one frequency for each of the {K} classes")
    total = priors.sum(-1, keepdim=True)
    require(not bool((total == 0).any()), "priors", priors, "such that some class is sampled at every time")
    return (priors / total).unsqueeze(-2).expand(*priors.shape[:-1], K, K)
