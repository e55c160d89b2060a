"""How likely n samples a class are separable along a line, from simulated samples or from a Gaussian law.

Legend: S simulated paths, K classes, p feature dimensions, n samples a class.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor

_NODES = 2001
_REACH = 12.0  # standard deviations on both sides


def simulated_separation_probability(samples: Tensor, n: int, direction: Tensor | None = None) -> Tensor:
    """Share of draws of n samples a class that a threshold along a line separates, for every pair of classes.

    A draw takes the samples of each class from n paths, each path in one draw; S mod n paths are left over. The
    threshold may lie anywhere: the largest sample of one class lies below the smallest of the other. Standard error of
    a value P:
    (P(1 − P)/⌊S/n⌋)^½.

    Args:
        samples: ``(S, ..., K, p)``, as ``simulate_sde`` returns them.
        n: samples a class.
        direction: ν ``(p,)``, the same for all pairs, for which either class may be the upper one. None: for each
            pair the difference of its means over all paths, class k above class l.

    Returns:
        ``(..., K, K)``, NaN on the diagonal.

    Raises:
        ValueError: other shapes, fewer than n paths, or samples that are not finite.

    Source: the event whose probability the paper bounds by Gaussian tails (eq. 8).

    >>> x = torch.tensor([[[0.0], [1.0]], [[0.2], [0.9]], [[2.0], [0.5]], [[0.1], [0.3]]])  # 4 paths of 2 classes
    >>> simulated_separation_probability(x, 2, torch.ones(1))[0, 1].item()
    0.5
    """
    if samples.ndim < 3 or samples.shape[-2] < 2:
        raise ValueError(f"Expected argument `samples` to have shape (S, ..., K, p), but got {tuple(samples.shape)}.")
    _check_n(n)
    if len(samples) < n:
        raise ValueError(f"Expected argument `samples` to hold at least n = {n} paths, but got {len(samples)}.")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("Expected argument `samples` to be finite, but it holds NaN or infinity.")
    draws = len(samples) // n
    groups = samples[: draws * n].unflatten(0, (draws, n))  # type: ignore[no-untyped-call]
    K = samples.shape[-2]
    if direction is not None:
        along = groups @ _direction(direction, samples.shape[-1]).to(groups)  # (draws, n, ..., K)
        least, most = along.amin(1), along.amax(1)
        above = least.unsqueeze(-1) > most.unsqueeze(-2)  # k above l
        found = (above | above.transpose(-1, -2)).double().mean(0)
    else:
        means = samples.mean(0)
        centred = groups - means.mean(-2, keepdim=True)
        projections = centred @ (means - means.mean(-2, keepdim=True)).transpose(-1, -2)  # ⟨x_k, X̄_l⟩ (…, K, K)
        own = projections.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        upper = (own - projections).amin(1)  # ⟨x_k, X̄_k − X̄_l⟩, smallest over the draw
        lower = (projections.transpose(-1, -2) - own.transpose(-1, -2)).amax(1)  # ⟨x_l, X̄_k − X̄_l⟩, largest
        found = (upper > lower).double().mean(0)
    result: Tensor = found.masked_fill(torch.eye(K, dtype=torch.bool, device=found.device), torch.nan)
    return result


def gaussian_separation_probability(
    means: Tensor, covariances: Tensor, n: int, direction: Tensor | None = None
) -> Tensor:
    """Probability that a threshold along a line separates n Gaussian samples a class, for every pair of classes.

    P(min_i ⟨ν, x_i⟩ > max_j ⟨ν, z_j⟩) = ∫ d[Φ((s − m_l)/σ_l)ⁿ] (1 − Φ((s − m_k)/σ_k))ⁿ, by numerical integration, with
    m and σ² the mean and variance along ν. A threshold fixed half-way gives a lower bound, Φ(gap/2σ)²ⁿ for equal σ.

    Args:
        means: ``(..., K, p)``.
        covariances: of single samples, ``(..., K, p, p)``.
        n: samples a class.
        direction: as in ``simulated_separation_probability``.

    Returns:
        ``(..., K, K)``, NaN on the diagonal; float64.

    Raises:
        ValueError: other shapes, values that are not finite.

    Source: the event whose probability the paper bounds by Gaussian tails (eq. 8); here without the bound.

    >>> m, C = torch.tensor([[0.0], [2.0]]), torch.ones(2, 1, 1)
    >>> round(gaussian_separation_probability(m, C, 1)[0, 1].item(), 3)  # Φ(2/√2)
    0.921
    """
    p = means.shape[-1]
    if means.ndim < 2 or means.shape[-2] < 2 or covariances.shape != (*means.shape, p):
        raise ValueError(
            f"Expected arguments `means` and `covariances` to have shapes (..., K, p) and (..., K, p, p), but got "
            f"{tuple(means.shape)} and {tuple(covariances.shape)}."
        )
    _check_n(n)
    if not bool(torch.isfinite(means).all() and torch.isfinite(covariances).all()):
        raise ValueError("Expected arguments `means` and `covariances` to be finite, but they hold NaN or infinity.")
    m, C = means.double().cpu(), covariances.double().cpu()
    if direction is None:
        nu = m.unsqueeze(-2) - m.unsqueeze(-3)  # (..., K, K, p): X̄_k − X̄_l
    else:
        nu = _direction(direction, p).double().cpu().expand(*m.shape[:-1], m.shape[-2], p)
    gap = ((m.unsqueeze(-2) - m.unsqueeze(-3)) * nu).sum(-1)
    upper = torch.einsum("...klp,...kpq,...klq->...kl", nu, C, nu).clamp(min=0).sqrt()
    lower = torch.einsum("...klp,...lpq,...klq->...kl", nu, C, nu).clamp(min=0).sqrt()
    found = _ordered(gap.numpy(), upper.numpy(), lower.numpy(), n)
    if direction is not None:
        found = np.minimum(found + np.swapaxes(found, -1, -2), 1.0)  # either may be the upper one
    K = m.shape[-2]
    return torch.from_numpy(np.where(np.eye(K, dtype=bool), np.nan, found))


def _ordered(
    gap: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    upper: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    lower: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    n: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """P(min of n from N(gap, upper²) > max of n from N(0, lower²)); without noise the sign of the gap decides."""
    s = np.linspace(-_REACH, _REACH, _NODES)
    share = np.diff(np.exp(n * log_ndtr(s)))  # of the maximum, in units of ``lower``
    middle = (s[1:] + s[:-1]) / 2
    threshold = lower[..., None] * middle
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (gap[..., None] - threshold) / upper[..., None]
    z = np.where(np.isnan(z), -np.inf, z)
    return np.asarray((np.exp(n * log_ndtr(z)) * share).sum(-1))


def _check_n(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"Expected argument `n` to be a whole number ≥ 1, but got {n!r}.")


def _direction(direction: Tensor, p: int) -> Tensor:
    if direction.shape != (p,) or not bool(torch.isfinite(direction).all()) or not bool(direction.any()):
        raise ValueError(
            f"Expected argument `direction` to have shape ({p},), finite and not zero, but got shape "
            f"{tuple(direction.shape)}."
        )
    return direction
