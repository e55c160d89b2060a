"""Neural-collapse measures of class means: the angles of a simplex equiangular tight frame (ETF).

K classes, p feature dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from le_callback.records import EtfAngles

BLOCK = 256  # rows of the Gram matrix that are computed at once


def etf_angle(num_classes: int) -> float:
    """Angle between any two vectors of a simplex ETF: arccos(−1/(K−1)), in degrees.

    Raises:
        ValueError: if ``num_classes`` is below 2.

    >>> round(etf_angle(3), 6)
    120.0
    """
    if num_classes < 2:
        raise ValueError(
            f"Expected argument `num_classes` to be at least 2, but got {num_classes}: one class has no angle."
        )
    return math.degrees(math.acos(-1 / (num_classes - 1)))


def centre_of(means: Tensor) -> Tensor:
    """The mean (p,) of class means (K, p), of those without NaN where there are any.

    >>> centre_of(torch.tensor([[1.0], [torch.nan], [4.0]]))
    tensor([2.5000])
    """
    centre = means.mean(0)
    return means.nanmean(0) if bool(centre.isnan().any()) else centre  # which takes several times as long


def centred_gram(means: Tensor) -> Tensor:
    """Inner products ⟨m_k, m_l⟩ of class means (K, p) about their centre, m_k = X̄_k − avg_j X̄_j, (K, K).

    >>> centred_gram(torch.eye(2))
    tensor([[ 0.5000, -0.5000],
            [-0.5000,  0.5000]])
    """
    centred = means - centre_of(means)
    K = len(means)
    if K <= BLOCK:
        return centred @ centred.T
    gram = means.new_empty(K, K)
    for start in range(0, K, BLOCK):  # it is symmetric: half of it need not be computed
        block = slice(start, start + BLOCK)
        torch.mm(centred[block], centred[start:].T, out=gram[block, start:])
        gram[start + BLOCK :, block] = gram[block, start + BLOCK :].T
    return gram


def etf_angles(means: Tensor, classes: Sequence[int] | None = None, gram: Tensor | None = None) -> EtfAngles:
    """Angles between the class means about their centre, against those of a simplex ETF.

    With m_k = X̄_k − avg_j X̄_j: the angle of i and j is arccos(⟨m_i, m_j⟩/(‖m_i‖‖m_j‖)). For K = 3 the mean angle is
    120° or close to it whatever the shape: the deviation and the smallest angle carry the information
    (Papyan, Han, Donoho 2020, NC2).

    Args:
        means: (K, p) class means, finite.
        classes: names of the rows as class indices, 0..K−1 if left out.
        gram: their ``centred_gram``, if it is known.

    Raises:
        ValueError: for fewer than two rows.

    >>> angles = etf_angles(torch.eye(4))
    >>> round(angles.mean, 3), round(angles.deviation, 3), round(angles.norm_variation, 3)
    (109.471, 0.0, 0.0)
    """
    K, p = means.shape
    ideal = etf_angle(K)
    products = centred_gram(means) if gram is None else gram
    norms = products.diagonal().sqrt()
    cosines = (products / norms.unsqueeze(1) / norms).clamp_(-1, 1)
    rows, columns = torch.triu_indices(K, K, offset=1, device=means.device)
    angles = cosines[rows, columns].acos().rad2deg()
    closest = int(angles.argmin())
    names = tuple(range(K)) if classes is None else tuple(classes)
    return EtfAngles(
        mean=float(angles.mean()),
        deviation=float((angles - ideal).square().mean().sqrt()),
        smallest=float(angles[closest]),
        pair=(names[int(rows[closest])], names[int(columns[closest])]),
        ideal=ideal,
        norm_variation=float(norms.std(correction=0) / norms.mean()),
        attainable=p + 1 >= K,
        cosines=cosines.fill_diagonal_(1.0).cpu().double().numpy(),
        classes=names,
    )
