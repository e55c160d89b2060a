"""What all pairs of class means say together: angles, uniformity, distances. K classes, p feature dimensions.

Of at most 2,048 classes all pairs are looked at. Of more, the first two moments of the cosines are exact, by products
of dimensions; what else a mean over the pairs holds is taken from a million drawn pairs, as a correction of its Taylor
polynomial in these moments; and the nearest pairs are searched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.near_pairs import NEAR_PAIRS, near_pairs, nearest_of

_BLOCK = 128  # rows of pairs that are read at once
_DRAWN_BLOCKS, _DRAWN_CLASSES = 32, 256  # 32 · 256 · 255/2 pairs
_CANCELLED = 1 / 64  # of ‖m_k‖² + ‖m_l‖²: below, 2⟨m_k, m_l⟩ takes too many digits away
_MOST_WORK = 2**36  # multiplications for the second moment


@dataclass(frozen=True)
class PairCosines:
    """Means over the pairs of class means about their centre.

    Attributes:
        angle: mean, degrees.
        deviation: root mean square of angle − arccos(−1/(K−1)), degrees.
        cosine: mean.
        square: mean squared cosine.
        uniformity: log mean exp(4(cos + 1/(K−1))): the Gaussian potential over that of a simplex ETF; 0 there.
        distance: mean of (s_k + s_l)/(2‖m_k − m_l‖²), the class-distance normalized variance; NaN without spreads.
        near: (T, 2) rows of the nearest pairs, the nearest first.
        looked_at: pairs among which the nearest was searched.
        drawn: pairs that the means are taken of, as far as they are not exact.

    >>> found = pair_cosines(MeanGeometry(torch.eye(3, dtype=torch.float64)))
    >>> round(found.angle, 6), found.looked_at
    (120.0, 3)
    """

    angle: float
    deviation: float
    cosine: float
    square: float
    uniformity: float
    distance: float
    near: Tensor
    looked_at: int
    drawn: int


@dataclass(frozen=True)
class _Tile:
    """Some pairs: products (n,) of classes (n,) and (n,), or (r, c) of rows and columns that lie side by side."""

    products: Tensor
    first: Tensor | slice
    second: Tensor | slice


def pair_cosines(geometry: MeanGeometry, spreads: Tensor | None = None) -> PairCosines:
    """Angles, uniformity and distances of all pairs; for more than 2,048 classes see the module.

    Args:
        geometry: of the class means.
        spreads: (K,) tr Σ_k of the classes, for ``distance``.

    Source: uniformity Wang, Isola 2020 (t = 2); distance Galanti, György, Hutter 2022.
    """
    K = geometry.num_classes
    reader, nearest = _Reader(geometry, spreads), _Nearest()
    for tile in _all_tiles(geometry) if geometry.exact else _drawn_tiles(geometry):
        cosines, largest = reader.add(tile)
        if geometry.exact:
            nearest.add(tile, cosines, largest)
    looked_at = drawn = reader.pairs
    if geometry.exact:
        pairs = nearest.pairs
    else:
        pairs, _, looked_at = near_pairs(geometry.centred, geometry.norms)
    x, square, angle, deviation, uniform, distance = reader.means(None if geometry.exact else _moments(geometry))
    ideal = -1 / (K - 1)
    return PairCosines(
        angle=math.degrees(math.acos(ideal) + angle),
        deviation=math.degrees(math.sqrt(max(deviation, 0.0)) if not math.isnan(deviation) else math.nan),
        cosine=ideal + x,
        square=square + 2 * ideal * x + ideal**2,
        uniformity=math.log1p(uniform) if not math.isnan(uniform) else math.nan,
        distance=distance,
        near=pairs,
        looked_at=looked_at,
        drawn=drawn,
    )


class _Reader:
    """Sums over pairs, tile by tile, with x = cos + 1/(K−1)."""

    def __init__(self, geometry: MeanGeometry, spreads: Tensor | None) -> None:
        self._geometry, norms = geometry, geometry.norms
        self._ideal = -1 / (geometry.num_classes - 1)
        self._unknown = norms.new_full((), torch.nan)
        # distances are those of the scaled means
        self._spreads = None if spreads is None else (spreads / geometry.scale**2 / 2).to(norms.dtype)
        self._squares = norms.square()
        self._sums: list[Tensor] = []
        self.pairs = 0

    def add(self, tile: _Tile) -> tuple[Tensor, Tensor]:
        """Add the pairs of a tile; their cosines, and the largest of each row."""
        first, second = _both(self._geometry.norms, tile)
        cosines = (tile.products / first).div_(second).clamp_(-1, 1)
        largest = cosines.amax(-1)
        x = cosines - self._ideal
        turn = cosines.acos().sub_(math.acos(self._ideal))
        flat, turned = x.view(-1), turn.view(-1)
        sums = [flat.sum(), flat.dot(flat), turned.sum(), turned.dot(turned), flat.mul_(4).expm1_().sum()]
        if self._spreads is None:
            sums.append(self._unknown)
        else:
            first, second = _both(self._spreads, tile)
            # two classes at one point without any spread: there is no distance to compare with
            sums.append(torch.add(first, second).div_(self._distances(tile, largest)).sum())
        self._sums += sums
        self.pairs += tile.products.numel()
        return cosines, largest

    def _distances(self, tile: _Tile, largest: Tensor) -> Tensor:
        """‖m_k − m_l‖²; of close means one by one, as their products would cancel."""
        total = torch.add(*_both(self._squares, tile))
        distances = torch.add(total, tile.products, alpha=-2).clamp_(min=0)
        # at least (1 − cos) of the total
        if tile.products.dtype == torch.float32 and not bool((largest < 1 - _CANCELLED).all()):
            close = distances < _CANCELLED * total
            index = torch.arange(self._geometry.num_classes, device=close.device)
            first, second = (t.expand_as(close)[close] for t in _both(index, tile))
            M = self._geometry.centred
            exact = [
                (M[a] - M[b]).square_().sum(1)
                for a, b in zip(torch.split(first, 1024), torch.split(second, 1024), strict=True)
            ]
            distances[close] = torch.cat(exact)
        return distances

    def means(self, moments: tuple[float, float] | None) -> list[float]:
        """Means over all pairs of x, x², turn, turn², exp(4x) − 1 and the distance.

        Args:
            moments: of x and x² over all pairs, where the tiles hold some pairs only.
        """
        total = torch.stack(self._sums).view(-1, 6).double().sum(0)
        found: list[float] = (total / max(self.pairs, 1)).tolist()
        if moments is None:
            return found
        sine_sq = 1 - self._ideal**2
        slopes = (1, 0), (0, 1), (-(sine_sq**-0.5), -self._ideal / (2 * sine_sq**1.5)), (0, 1 / sine_sq), (4, 8), (0, 0)
        x, square = moments[0] - found[0], moments[1] - found[1]
        return [mean + a * x + b * square for mean, (a, b) in zip(found, slopes, strict=True)]


def _both(values: Tensor, tile: _Tile) -> tuple[Tensor, Tensor]:
    """What belongs to the first and to the second class of the pairs, of values (K,)."""
    first, second = values[tile.first], values[tile.second]
    return (first, second) if tile.products.ndim == 1 else (first.unsqueeze(1), second)


class _Nearest:
    """The nearest pairs of all tiles."""

    def __init__(self) -> None:
        self._pairs: list[Tensor] = []
        self._values: list[Tensor] = []
        self._beaten = -torch.inf  # by as many pairs as are wanted

    @property
    def pairs(self) -> Tensor:
        """(T, 2), the nearest first."""
        return self._best()[0]

    def _best(self) -> tuple[Tensor, Tensor]:
        pairs = torch.cat(self._pairs)
        return nearest_of(torch.cat(self._values), pairs[:, 0], pairs[:, 1])

    def add(self, tile: _Tile, cosines: Tensor, largest: Tensor) -> None:
        """Look through the pairs of a tile, of which the largest cosines (r,) of each row are known."""
        if cosines.ndim == 1:
            assert isinstance(tile.first, Tensor)
            assert isinstance(tile.second, Tensor)
            if cosines.numel() <= NEAR_PAIRS or not bool(largest <= self._beaten):
                self._take(*nearest_of(cosines, tile.first, tile.second))
            return
        assert isinstance(tile.first, slice)
        assert isinstance(tile.second, slice)
        if bool((largest <= self._beaten).all()):
            return
        if bool(largest.isnan().any()):
            largest = cosines.nan_to_num(nan=-2.0).amax(1)
        # each of the n largest entries lies in one of the n rows of largest maximum
        rows = largest.topk(min(NEAR_PAIRS, len(cosines))).indices
        values, places = cosines[rows].flatten().nan_to_num_(nan=-2.0).topk(min(NEAR_PAIRS, cosines.numel()))
        columns = cosines.shape[1]
        found = torch.stack([rows[places // columns] + tile.first.start, places % columns + tile.second.start], dim=1)
        self._take(found, values)

    def _take(self, pairs: Tensor, values: Tensor) -> None:
        self._pairs.append(pairs)
        self._values.append(values)
        if len(self._values) > 1:
            best = self._best()
            self._pairs, self._values = [best[0]], [best[1]]
        if len(self._values[0]) == NEAR_PAIRS:
            self._beaten = float(self._values[0][-1])


@lru_cache(maxsize=8)
def _above_diagonal(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pairs of n classes."""
    rows, columns = torch.triu_indices(n, n, 1, device=device)
    return rows, columns


def _all_tiles(geometry: MeanGeometry) -> Iterator[_Tile]:
    """Every pair once."""
    K, gram = geometry.num_classes, geometry.gram
    for start in range(0, K, _BLOCK):
        stop = min(start + _BLOCK, K)
        rows, columns = (t + start if start else t for t in _above_diagonal(stop - start, gram.device))
        yield _Tile(gram[rows, columns], rows, columns)
        if stop < K:
            yield _Tile(gram[start:stop, stop:], slice(start, stop), slice(stop, K))


def _drawn_tiles(geometry: MeanGeometry) -> Iterator[_Tile]:
    """All pairs of some classes, of others, …: the same in every window."""
    K, generator, M = geometry.num_classes, torch.Generator().manual_seed(0), geometry.centred
    rows, columns = _above_diagonal(_DRAWN_CLASSES, M.device)
    for _ in range(_DRAWN_BLOCKS):
        classes = torch.randperm(K, generator=generator)[:_DRAWN_CLASSES].to(M.device)
        block = M[classes]
        yield _Tile((block @ block.T)[rows, columns], classes[rows], classes[columns])


def _moments(geometry: MeanGeometry) -> tuple[float, float] | None:
    """Means over all pairs of x = cos + 1/(K−1) and of x²; None where they would take too long."""
    K, p = geometry.num_classes, geometry.num_features
    if not geometry.by_dimension or K * p * p > _MOST_WORK:
        return None
    total = (geometry.centred.T @ (1 / geometry.norms)).double()
    pairs, ideal = K * (K - 1), -1 / (K - 1)
    x = (float(total.square().sum()) - K) / pairs - ideal
    # about K/p times the identity, the least that Σ cos² can be, so that little cancels
    second = geometry.unit_second.clone()
    second.diagonal().sub_(K / p)
    squares = (float(second.square().sum(dtype=torch.float64)) + K * K / p - K) / pairs
    return x, squares - 2 * ideal * (x + ideal) + ideal**2
