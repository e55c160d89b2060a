"""Measured separability: do a window's samples lie apart by class?

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from le_callback.records import NAN, Separation
from le_callback.separability import worst_pairs


def nearest_mean_accuracy(features: Tensor, labels: Tensor, means: Tensor) -> float:
    """Share of samples whose nearest class mean is that of their label.

    Held out if ``means`` comes from other samples, such as those of the window before.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p); rows with NaN are no candidates.

    >>> nearest_mean_accuracy(torch.tensor([[0.1], [0.9]]), torch.tensor([0, 1]), torch.tensor([[0.0], [1.0]]))
    1.0
    """
    if len(labels) == 0 or bool(means.isnan().any(1).all()):
        return NAN
    centre = means.nanmean(0)
    candidates = means - centre
    # ‖x − m‖² up to the term ‖x‖², which no comparison needs
    scores = candidates.square().sum(1) - 2 * (features - centre) @ candidates.T
    return int((scores.nan_to_num(nan=torch.inf).argmin(1) == labels).sum()) / len(labels)


def pair_discriminability(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Distance of two class means over the within-class deviation along it, for every pair (K, K).

    D_kl = ‖d‖/σ with d = X̄_k − X̄_l and σ² the variance of ⟨x, d⟩/‖d‖ pooled over both classes (each about its own
    sample mean, n_k + n_l − 2 degrees of freedom). NaN on the diagonal and where there are too few samples.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p).

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> pair_discriminability(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0], [10.0]]))[0, 1].item()
    7.07...
    """
    K = means.shape[0]
    count = torch.zeros(K, dtype=features.dtype, device=features.device)
    count.index_add_(0, labels, torch.ones_like(labels, dtype=features.dtype))
    centre = means.nanmean(0)
    x, centred = features - centre, means - centre
    own_mean = torch.zeros_like(means).index_add_(0, labels, x) / count.clamp(min=1).unsqueeze(1)
    projections = (x - own_mean[labels]) @ centred.T  # (N, K)
    along = (projections.gather(1, labels.unsqueeze(1)) - projections).square()  # ⟨x − m_k, X̄_k − X̄_l⟩²
    squares = torch.zeros(K, K, dtype=features.dtype, device=features.device).index_add_(0, labels, along)
    dof = count.unsqueeze(0) + count.unsqueeze(1) - 2
    variance = (squares + squares.T) / dof.clamp(min=1)
    # in single precision the product form that cdist takes cancels for close means
    wide = centred.cpu().double()  # on the host: not every device has double precision
    distance_sq = torch.cdist(wide, wide).square().to(features.dtype).to(features.device)
    sampled = count > 0
    usable = (dof >= 1) & sampled.unsqueeze(0) & sampled.unsqueeze(1)
    usable &= ~torch.eye(K, dtype=torch.bool, device=features.device)
    return torch.where(usable, distance_sq / variance.sqrt(), torch.nan)


def measure_separation(
    features: Tensor,
    labels: Tensor,
    means: Tensor,
    previous_means: Tensor | None,
    classes: Sequence[int] | None = None,
) -> Separation:
    """Both measures of one window.

    Args:
        features: (N, p) samples of the window.
        labels: (N,) rows of ``means``.
        means: (K, p) class means of the window.
        previous_means: (K, p) class means that classify the samples; ``None`` if there are none yet.
        classes: names of the rows as class indices, 0..K−1 if left out.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> m = torch.tensor([[0.0], [10.0]])
    >>> measure_separation(x, torch.tensor([0, 0, 1, 1]), m, m).pair
    (0, 1)
    """
    pairs = pair_discriminability(features, labels, means)
    names = range(len(means)) if classes is None else classes
    known = ~pairs.isnan()
    found = bool(known.any())
    first, second = known.nonzero()[pairs[known].argmin()].tolist() if found else (0, 0)
    return Separation(
        nearest_mean_accuracy=NAN
        if previous_means is None
        else nearest_mean_accuracy(features, labels, previous_means),
        discriminability=float(pairs[first, second]) if found else NAN,
        pair=(names[first], names[second]) if found else None,
        samples=len(labels),
        worst=worst_pairs(pairs, names),
    )
