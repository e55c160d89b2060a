"""How likely n samples a class are separable along a line, from simulated samples or from a Gaussian law.

Legend: S simulated paths, K classes, p feature dimensions, n samples a class.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_ndtr, ndtri_exp
from torch import Tensor

from le_callback.errors import require
from le_callback.simulation.inputs import check_count
from le_callback.values import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(256)
_LOG_ODDS = 40.0  # range of integration on both sides: what lies beyond has a probability of 1e-17


def simulated_separation_probability(samples: Tensor, n: int, direction: Tensor | None = None) -> Tensor:
    """Share of draws of n samples a class that a threshold along a line separates, for every pair of classes.

    A draw takes the samples of each class from n paths, each path in one draw; S mod n paths are left over. The
    threshold may lie anywhere: the largest sample of one class lies below the smallest of the other. Standard error of
    a value P: (P(1 − P)/⌊S/n⌋)^½.

    Args:
        samples: ``(S, ..., K, p)``, as ``simulate_sde`` returns them.
        n: samples a class.
        direction: ν ``(p,)``, the same for all pairs, for which either class may be the upper one. None: for each
            pair the difference of its means over all paths, class k above class l.

    Returns:
        ``(..., K, K)``, NaN on the diagonal.

    Raises:
        ValueError: other shapes, fewer than n paths, or samples that are not finite.

    Source: the event whose probability the paper bounds by Gaussian tails (Zhang, Wang, Su 2021, eq. 8).

    >>> x = torch.tensor([[[0.0], [1.0]], [[0.2], [0.9]], [[2.0], [0.5]], [[0.1], [0.3]]])  # 4 paths of 2 classes
    >>> simulated_separation_probability(x, 2, torch.ones(1))[0, 1].item()
    0.5
    """
    shape = tuple(samples.shape)
    require(samples.ndim >= 3 and shape[-2] >= 2, "samples", shape, "of shape (S, ..., K, p) with K ≥ 2")
    n = check_count(n, "n")
    require(len(samples) >= n, "samples", len(samples), f"at least n = {n} paths")
    require(bool(torch.isfinite(samples).all()), "samples", samples, "finite")
    draws = len(samples) // n
    groups = samples[: draws * n].unflatten(0, (draws, n))  # type: ignore[no-untyped-call]
    if direction is None:
        found = _separated_by_means(groups, samples.mean(0))
    else:
        found = _separated_along(groups, _line(direction, shape[-1]).to(groups))
    result: Tensor = found.masked_fill(torch.eye(shape[-2], dtype=torch.bool, device=found.device), torch.nan)
    return result


def _separated_along(groups: Tensor, line: Tensor) -> Tensor:
    """Share ``(..., K, K)`` of the draws ``(draws, n, ..., K, p)`` that are separable along one line for all pairs."""
    along = groups @ line  # (draws, n, ..., K)
    least, most = along.amin(1), along.amax(1)
    above = least.unsqueeze(-1) > most.unsqueeze(-2)  # k above l
    return (above | above.transpose(-1, -2)).double().mean(0)


def _separated_by_means(groups: Tensor, means: Tensor) -> Tensor:
    """As ``_separated_along``, along the difference of the two means ``(..., K, p)``, the first class above."""
    centred = groups - means.mean(-2, keepdim=True)
    projections = centred @ (means - means.mean(-2, keepdim=True)).transpose(-1, -2)  # ⟨x_k, X̄_l⟩ (…, K, K)
    own = projections.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    upper = (own - projections).amin(1)  # ⟨x_k, X̄_k − X̄_l⟩, smallest over the draw
    lower = (projections.transpose(-1, -2) - own.transpose(-1, -2)).amax(1)  # ⟨x_l, X̄_k − X̄_l⟩, largest
    return (upper > lower).double().mean(0)


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

    Source: the event whose probability the paper bounds by Gaussian tails (Zhang, Wang, Su 2021, eq. 8); here without
    the bound.

    >>> m, C = torch.tensor([[0.0], [2.0]]), torch.ones(2, 1, 1)
    >>> round(gaussian_separation_probability(m, C, 1)[0, 1].item(), 3)  # Φ(2/√2)
    0.921
    """
    shape = tuple(means.shape)
    require(means.ndim >= 2 and shape[-2] >= 2, "means", shape, "of shape (..., K, p) with K ≥ 2")
    expected = (*shape, shape[-1])
    require(covariances.shape == expected, "covariances", tuple(covariances.shape), f"of shape {expected}")
    n = check_count(n, "n")
    require(bool(torch.isfinite(means).all()), "means", means, "finite")
    require(bool(torch.isfinite(covariances).all()), "covariances", covariances, "finite")
    m, C = means.double().cpu(), covariances.double().cpu()
    K, p = shape[-2:]
    if direction is None:
        nu = m.unsqueeze(-2) - m.unsqueeze(-3)  # (..., K, K, p): X̄_k − X̄_l
    else:
        nu = _line(direction, p).double().cpu().expand(*m.shape[:-1], K, p)
    gap = ((m.unsqueeze(-2) - m.unsqueeze(-3)) * nu).sum(-1)
    upper = torch.einsum("...klp,...kpq,...klq->...kl", nu, C, nu).clamp(min=0).sqrt()
    lower = torch.einsum("...klp,...lpq,...klq->...kl", nu, C, nu).clamp(min=0).sqrt()
    found = _ordered(gap.numpy(), upper.numpy(), lower.numpy(), n)
    if direction is not None:
        found = np.minimum(found + np.swapaxes(found, -1, -2), 1.0)  # either may be the upper one
    return torch.from_numpy(np.where(np.eye(K, dtype=bool), np.nan, found))


def _ordered(gap: Array, upper: Array, lower: Array, n: int) -> Array:
    """P(min of n from N(gap, upper²) > max of n from N(0, lower²)); without noise the sign of the gap decides.

    Mirrored at zero, the minimum of the one is the maximum of the other: the two deviations may change places. The
    integral runs over the extreme of the class with the smaller one, in which the other factor is the smoother.
    """
    narrow, wide = np.minimum(upper, lower)[..., None], np.maximum(upper, lower)[..., None]
    s, share = _maximum(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (gap[..., None] - narrow * s) / wide
    z = np.where(np.isnan(z), -np.inf, z)
    return np.clip(np.exp(n * log_ndtr(z)) @ share, 0.0, 1.0)


def _maximum(n: int) -> tuple[Array, Array]:
    """Nodes and weights of the largest of n standard normal numbers, with the distribution F = Φⁿ.

    Gauss–Legendre in the log odds log F/(1 − F), where the extremes of the maximum are resolved for any n.
    """
    odds = _LOG_ODDS * _NODES
    log_F, log_rest = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    log_Phi = log_F / n
    above = log_Phi > np.log(0.5)  # there by the upper tail, for precision
    log_tail = np.log(-np.expm1(np.where(above, log_Phi, -1.0)))
    s = np.where(above, -ndtri_exp(log_tail), ndtri_exp(np.where(above, -1.0, log_Phi)))
    return s, _LOG_ODDS * _WEIGHTS * np.exp(log_F + log_rest)


def _line(direction: Tensor, p: int) -> Tensor:
    shape = tuple(direction.shape)
    require(shape == (p,), "direction", shape, f"of shape ({p},)")
    usable = bool(torch.isfinite(direction).all()) and bool(direction.any())
    require(usable, "direction", direction, "finite and not zero")
    return direction
