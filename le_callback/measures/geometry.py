"""Distances and products of class means that several measures share. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from le_callback.moments.sums import pieces

BLOCK = 128  # rows of the Gram matrix that are computed at once
WIDE_NUMBERS = 2**18  # distances of means of up to so many numbers are taken in double precision
FEW_NUMBERS = 2**14  # … also where their products are known
CANCELLED = 1 / 64  # of ‖X̄_k‖² + ‖X̄_l‖²: below, 2⟨X̄_k, X̄_l⟩ takes too many digits away
MAX_CLOSE_PAIRS = 8  # a class, that are taken one by one
AT_ONCE = 2**16  # numbers that the cache holds
DISTANCES = 2**20  # of samples from means that are held at once


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
    return products(means - centre_of(means))


def products(x: Tensor) -> Tensor:
    """Inner products of rows (K, p), (K, K).

    >>> products(torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    K = len(x)
    if K <= BLOCK:
        return x @ x.T
    gram = x.new_empty(K, K)
    for start in range(0, K, BLOCK):  # it is symmetric: half of it need not be computed
        block = slice(start, start + BLOCK)
        torch.mm(x[block], x[start:].T, out=gram[block, start:])
    return mirrored(gram)


def mirrored(gram: Tensor) -> Tensor:
    """A symmetric matrix (K, K) of which blocks below the diagonal were left out; they are filled in place.

    >>> mirrored(torch.tensor([[1.0, 2.0], [2.0, 1.0]])).shape
    torch.Size([2, 2])
    """
    for start in range(0, len(gram), BLOCK):
        stop = start + BLOCK
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram


def squared_distances(means: Tensor, gram: Tensor | None = None) -> Tensor:
    """Squared distances of class means ``(K, K)``, to single precision also where means are close.

    Args:
        means: (K, p); rows with NaN have no distances.
        gram: their inner products about a common centre (K, K), if they are known: of use for many classes.

    >>> squared_distances(torch.tensor([[1.0, 0.0], [4.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]])
    """
    if means.numel() > (WIDE_NUMBERS if gram is None else FEW_NUMBERS):
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


def in_cache(x: Tensor, least: int = 1) -> Iterator[slice]:
    """Some rows of (N, p) after the other, as many as the cache holds, at least ``least``.

    >>> [rows.stop for rows in in_cache(torch.zeros(5, 2**15))]
    [2, 4, 6]
    """
    step = max(least, AT_ONCE // x.shape[1])
    return (slice(start, start + step) for start in range(0, len(x), step))


def lengths(x: Tensor, origin: Tensor | None = None) -> Tensor:
    """Norms (N,) of rows (N, p), or of their differences from others (N, p) or from one (p,): no copy of many rows.

    >>> lengths(torch.tensor([[3.0, 5.0], [0.0, 1.0]]), torch.tensor([0.0, 1.0]))
    tensor([5., 0.])
    """
    if origin is None:
        found: Tensor = torch.linalg.vector_norm(x, dim=1)
        return found
    found = x.new_empty(len(x))
    for rows in in_cache(x):
        torch.linalg.vector_norm(x[rows] - (origin[rows] if origin.ndim > 1 else origin), dim=1, out=found[rows])
    return found


def projections_on(features: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """⟨x − c, m_k − c⟩ (N, K) and ‖m_k − c‖² (K,) about the centre c of the known means.

    Args:
        features: (N, p).
        means: (K, p); rows with NaN give NaN.

    >>> projections_on(torch.tensor([[3.0]]), torch.tensor([[0.0], [2.0]]))
    (tensor([[-2.,  2.]]), tensor([1., 1.]))
    """
    parts, centre = pieces(*means.shape), means.mean(0)
    if bool(centre.isnan().any()):
        unknown = means.sum(1).isnan()
        totals = [torch.where(unknown[rows].unsqueeze(1), 0, means[rows]).sum(0) for rows in parts]  # no copy of many
        centre = torch.stack(totals).sum(0) / (~unknown).sum()
    found, squared = features.new_empty(len(means), len(features)), features.new_empty(len(means))
    for rows in parts:
        candidates = (means[rows] - centre).to(features.dtype)
        for some in in_cache(features, least=len(candidates)):  # the faster order for few classes
            torch.mm(candidates, (features[some] - centre).T, out=found[rows, some])
        squared[rows] = torch.linalg.vector_norm(candidates, dim=1).square_()
    return found.T, squared


def nearest_by(products: Tensor, squared: Tensor) -> Tensor:
    """The row (N,) of the nearest mean of each sample, from ``projections_on``; rows with NaN are no candidates.

    >>> nearest_by(*projections_on(torch.tensor([[3.0], [0.5]]), torch.tensor([[0.0], [2.0]])))
    tensor([1, 0])
    """
    found = []
    for few in torch.split(products, max(1, DISTANCES // max(1, products.shape[1]))):
        # ‖x − m‖² up to ‖x‖²; candidates down the columns, as ``projections_on`` lays them
        distances = torch.add(squared.unsqueeze(1), few.T, alpha=-2)
        found.append(distances.nan_to_num_(nan=torch.inf).min(0).indices)
    return torch.cat(found)
