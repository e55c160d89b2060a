"""Means and within-class variances from the sums of class moments. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from le_callback.moments.sums import MomentState, pieces


class ClassStatistics(NamedTuple):
    """Moments of every class. Rows of classes without samples are NaN where ``seen`` is False.

    Attributes:
        seen: (K,) bool.
        weight: (K,) samples, or the sum of their weights.
        mean: (K, p) X̄_k.
        variance: (K,) tr Σ_k, unbiased; pooled where a class has a single sample.
        mean_noise: (K,) tr Σ_k/n_k, the expected squared error of the mean.

    >>> from le_callback.moments import ClassMoments
    >>> moments = ClassMoments(num_classes=2, num_features=1)(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    >>> moments.seen, moments.variance[0], moments.mean_noise[0]
    (tensor([ True, False]), tensor(2.), tensor(1.))
    """

    seen: Tensor
    weight: Tensor
    mean: Tensor
    variance: Tensor
    mean_noise: Tensor


def class_statistics(state: MomentState, mean: Tensor | None = None) -> ClassStatistics:
    """Means, within-class variances and the noise of the means.

    With W = Σw and degrees of freedom W − Σw²/W (n − 1 for integer labels):
    tr Σ_k = (Σ w‖x − r‖² − ‖Σ w(x − r)‖²/W) / dof, noise of the mean = tr Σ_k · Σw²/W².

    Args:
        state: the sums.
        mean: (K, p) where the means are written; may be the ``total`` of the state, which is lost then.

    >>> from le_callback.moments.sums import empty_moments, update_moments
    >>> state = empty_moments(torch.zeros(2, 1))
    >>> update_moments(state, torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]))
    >>> class_statistics(state).mean.flatten()
    tensor([2., 7.])
    """
    seen = state.weight > 0
    weight = torch.where(seen, state.weight, torch.nan)
    mean = state.reference.new_empty(state.reference.shape) if mean is None else mean
    squares = torch.empty_like(state.scatter)
    for rows in pieces(*mean.shape):
        total = state.total[rows]
        offset = total / weight[rows].unsqueeze(1)
        squares[rows] = (state.scatter[rows] - (total * offset).sum(1)).clamp(min=0)
        torch.add(state.reference[rows], offset, out=mean[rows])
    dof = weight - state.weight_sq / weight
    has_spread = dof > 1e-3
    pooled = torch.where(has_spread, squares, 0).sum() / torch.where(has_spread, dof, 0).sum()
    variance = torch.where(has_spread, squares / dof.clamp(min=1e-3), torch.where(seen, pooled, torch.nan))
    return ClassStatistics(
        seen=seen,
        weight=state.weight,
        mean=mean,
        variance=variance,
        mean_noise=variance * state.weight_sq / weight.square(),
    )


def along_direction(coordinates: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unbiased variance (K,) of one coordinate (N,) in each class; pooled for a class of one sample, NaN for none.

    >>> along_direction(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 0, 1]), 3)
    tensor([2., 2., nan])
    """
    zeros = coordinates.new_zeros(num_classes)
    count = zeros.index_add(0, labels, torch.ones_like(coordinates))
    mean = zeros.index_add(0, labels, coordinates) / count
    squares = zeros.index_add(0, labels, (coordinates - mean[labels]).square_())
    dof = count - 1
    pooled = squares.sum() / dof.clamp(min=0).sum()
    return torch.where(dof > 0, squares / dof, torch.where(count > 0, pooled, torch.nan))


def widened(x: Tensor, most: int = 2**20) -> Tensor:
    """Double precision on the host where that is cheap; tensors of more than ``most`` numbers stay where they are.

    >>> widened(torch.zeros(2)).dtype, widened(torch.zeros(2), most=1).dtype
    (torch.float64, torch.float32)
    """
    return x.cpu().double() if x.numel() <= most else x
