"""The nearest pairs of many class means, without looking at all pairs. K classes, p feature dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR_PAIRS = 32  # nearest pairs that are found
_LISTED = 256  # classes of a list, about
_LISTS = 3  # that a class stands in
_LONGEST = 1024
_ROWS = 1024  # classes that are put into lists at once


def nearest_of(cosines: Tensor, first: Tensor, second: Tensor, top: int = NEAR_PAIRS) -> tuple[Tensor, Tensor]:
    """The ``top`` pairs of largest cosine, the nearest first: (T, 2) classes and (T,) cosines.

    Args:
        cosines: (n,); NaN stands behind all others.
        first: (n,) class.
        second: (n,) the other class.
        top: T at most.

    >>> nearest_of(torch.tensor([0.1, 0.9]), torch.tensor([0, 0]), torch.tensor([1, 2]), 1)
    (tensor([[0, 2]]), tensor([0.9000]))
    """
    values, places = cosines.nan_to_num(nan=-2.0).topk(min(top, len(cosines)))
    return torch.stack([first[places], second[places]], dim=1), values


def near_pairs(means: Tensor, norms: Tensor, top: int = NEAR_PAIRS, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Near pairs of rows by their angle, from lists around random rows: most of the nearest, not surely all.

    About K/85 rows are drawn, each row is put into the lists of the three that it is nearest to, and all pairs of a
    list are looked at: some 400 K pairs instead of K²/2. Of planted pairs among 5,000 random rows in 64 dimensions it
    finds 99, 93 and 82 % at cosines of 0.9, 0.8 and 0.7. The same rows are drawn in every window.

    Args:
        means: (K, p) rows.
        norms: (K,) their lengths.
        top: pairs that are wanted.
        seed: of the draw, which touches no other random state.

    Returns:
        (T, 2) rows, smaller index first, the nearest pair first; (T,) cosines; how many pairs were looked at.

    >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> near_pairs(rows, rows.norm(dim=1), 1)[0]
    tensor([[0, 2]])
    """
    K, device = len(means), means.device
    lists = max(_LISTS, -(-_LISTS * K // _LISTED))
    drawn = torch.randperm(K, generator=torch.Generator().manual_seed(seed))[:lists].to(device)
    centres = (means[drawn] / norms[drawn].unsqueeze(1)).nan_to_num()
    nearest = torch.cat(
        [
            ((rows / lengths.unsqueeze(1)).nan_to_num() @ centres.T).topk(_LISTS, dim=1).indices
            for rows, lengths in zip(torch.split(means, _ROWS), torch.split(norms, _ROWS), strict=True)
        ]
    )
    order = nearest.flatten().argsort(stable=True)
    members = order // _LISTS
    sizes = torch.bincount(nearest.flatten(), minlength=lists).tolist()
    found = (torch.zeros(0, 2, dtype=torch.long, device=device), means.new_zeros(0))
    looked_at = 0
    for whole in torch.split(members, sizes):
        for listed in torch.split(whole, _LONGEST):
            pairs, cosines = _of_list(means[listed] / norms[listed].unsqueeze(1), listed, top)
            looked_at += len(listed) * (len(listed) - 1) // 2
            found = torch.cat([found[0], pairs]), torch.cat([found[1], cosines])
            if len(found[1]) > 64 * top:
                found = _best(*found, top)
    return *_best(*found, top), looked_at


def _of_list(rows: Tensor, listed: Tensor, top: int) -> tuple[Tensor, Tensor]:
    n, place = len(listed), torch.arange(len(listed), device=listed.device)
    cosines = (rows @ rows.T).masked_fill_(place.unsqueeze(1) >= place, -2.0).nan_to_num_(nan=-2.0)
    values, places = cosines.flatten().topk(min(top, n * n))
    pairs = torch.stack([listed[places // n], listed[places % n]], dim=1).sort(dim=1).values
    known = values > -1.5
    return pairs[known], values[known]


def _best(pairs: Tensor, cosines: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The nearest, each once: a pair may stand in two lists."""
    pairs, place = torch.unique(pairs, dim=0, return_inverse=True)
    values = cosines.new_full((len(pairs),), -2.0).scatter_reduce_(0, place, cosines, "amax")
    order = values.argsort(descending=True)[:top]
    return pairs[order], values[order]
