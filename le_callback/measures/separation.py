"""Measured separability: do a window's samples lie apart by class?

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from le_callback.measures.neural_collapse import centre_of, centred_gram
from le_callback.measures.separability import worst_pairs
from le_callback.records import ClassSeparation, Separation
from le_callback.values import NAN

WIDE_NUMBERS = 2**18  # distances of means of up to so many numbers are taken in double precision
CANCELLED = 1 / 64  # of ‖X̄_k‖² + ‖X̄_l‖²: below, 2⟨X̄_k, X̄_l⟩ takes too many digits away
MAX_CLOSE_PAIRS = 8  # a class, that are taken one by one


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
    centre = centre_of(means)
    candidates = means - centre
    # ‖x − m‖² up to the term ‖x‖², which no comparison needs
    scores = torch.addmm(candidates.square().sum(1), features - centre, candidates.T, alpha=-2)
    return int((scores.nan_to_num_(nan=torch.inf).argmin(1) == labels).sum()) / len(labels)


def squared_distances(means: Tensor, gram: Tensor | None = None) -> Tensor:
    """Squared distances of class means ``(K, K)``, to single precision also where means are close.

    Args:
        means: (K, p); rows with NaN have no distances.
        gram: their inner products about a common centre (K, K), if they are known: of use for many classes.

    >>> squared_distances(torch.tensor([[1.0, 0.0], [4.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]])
    """
    if means.numel() > WIDE_NUMBERS:
        products = centred_gram(means) if gram is None else gram.to(means)
        squares = products.diagonal()
        total = squares.unsqueeze(0) + squares.unsqueeze(1)
        distances = torch.add(total, products, alpha=-2).clamp_(min=0)
        # where the terms cancel, rounding would be left: these pairs are taken one by one
        close = (distances < CANCELLED * total).triu_(1)
        first, second = close.nonzero().unbind(1)
        if len(first) <= MAX_CLOSE_PAIRS * len(means):
            exact = torch.cat(
                [
                    (means[a] - means[b]).square_().sum(1)
                    for a, b in zip(*(torch.split(t, 1024) for t in (first, second)), strict=True)
                ]
            )
            distances[first, second] = distances[second, first] = exact
            return distances
    # in single precision the product form that cdist takes cancels for close means
    wide = (means - centre_of(means)).cpu().double()  # on the host: not every device has double precision
    return torch.cdist(wide, wide).square().to(means.dtype).to(means.device)


def pair_discriminability(features: Tensor, labels: Tensor, means: Tensor, gram: Tensor | None = None) -> Tensor:
    """Distance of two class means over the within-class deviation along it, for every pair (K, K).

    D_kl = ‖d‖/σ with d = X̄_k − X̄_l and σ² the variance of ⟨x, d⟩/‖d‖ pooled over both classes (each about its own
    sample mean, n_k + n_l − 2 degrees of freedom). NaN on the diagonal and where there are too few samples.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p).
        gram: inner products of the means about a common centre (K, K), if they are known.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> pair_discriminability(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0], [10.0]]))[0, 1].item()
    7.07...
    """
    K = means.shape[0]
    count = torch.zeros(K, dtype=features.dtype, device=features.device)
    count.index_add_(0, labels, torch.ones_like(labels, dtype=features.dtype))
    repeated = count.index_select(0, labels) > 1  # a single sample has no deviation from its own mean
    if not bool(repeated.all()):
        features, labels = features[repeated], labels[repeated]
    sampled = (count > 0).nonzero().flatten()
    squares = _squares_along(features, torch.searchsorted(sampled, labels), means[sampled])
    count = count[sampled]
    dof = count.unsqueeze(0) + count.unsqueeze(1) - 2
    variance = (squares + squares.T) / dof.clamp(min=1)
    rows = sampled.unsqueeze(1), sampled
    distance_sq = squared_distances(means, gram)[rows]
    usable = (dof >= 1).fill_diagonal_(False)
    pairs = features.new_full((K, K), torch.nan)
    pairs[rows] = torch.where(usable, distance_sq / variance.sqrt(), torch.nan)
    return pairs


def _squares_along(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Σ over the samples of k of ⟨x − m_k, X̄_k − X̄_l⟩², with m_k their own mean, (K, K)."""
    K = len(means)
    own = means.index_select(0, labels)
    along = torch.sub(features, own, out=own) @ (means - centre_of(means)).T  # (N, K)
    along = along - along.gather(1, labels.unsqueeze(1))
    count = torch.bincount(labels, minlength=K).clamp_(min=1).unsqueeze(1)
    own_mean = along.new_zeros(K, K).index_add_(0, labels, along) / count
    along = along.sub_(own_mean.index_select(0, labels)).square_()
    return torch.zeros_like(own_mean).index_add_(0, labels, along)


def measure_separation(
    features: Tensor,
    labels: Tensor,
    means: Tensor,
    measured: ClassSeparation,
    gram: Tensor | None = None,
) -> Separation:
    """The worst pairs of a window, and its held-out accuracy.

    Discriminability is that along the difference of the means of the window before, which does not depend on the
    samples. In the first window, where there is none, it is that along the difference of their own.

    Args:
        features: (N, p) samples of the window.
        labels: (N,) rows of ``means``.
        means: (K, p) class means of the window.
        measured: what was measured of each class and pair.
        gram: inner products of the means about their centre (K, K), if they are known.
    """
    known = bool(measured.tried.any())
    pairs = torch.from_numpy(measured.pairs) if known else pair_discriminability(features, labels, means, gram)
    worst = worst_pairs(pairs, measured.classes)
    first, second, smallest = worst[0] if worst else (0, 0, NAN)
    return Separation(
        nearest_mean_accuracy=float(measured.hits.sum() / measured.tried.sum()) if known else NAN,
        discriminability=smallest,
        pair=(first, second) if worst else None,
        samples=len(labels),
        worst=worst,
    )
