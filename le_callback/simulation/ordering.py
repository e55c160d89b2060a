"""One direction along which all classes are in order at once.

Legend: K classes, p dimensions, m_k class means, ν unit vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from le_callback.elasticity.inputs import as_array
from le_callback.errors import require
from le_callback.measures.common_margin import likely_orders, margin_in_order
from le_callback.values import Array

_ALL_ORDERS = 6  # classes up to which every order is tried
_STARTS = 32
_EXCHANGED = 8  # of the likeliest orders


@dataclass(frozen=True)
class CommonDirection:
    """One ν for all classes, as eq. 8 of the paper asks for: it does not depend on the pair.

    Attributes:
        direction: ν ``(p,)``, of length 1.
        order: classes by ⟨ν, m_k⟩, smallest first.
        margin: smallest gap of two classes along ν, in units of the features; 0 where some class means are equal.
        closest: the pair of that gap.

    >>> CommonDirection(np.array([1.0]), (0, 1), 2.0, (0, 1)).margin
    2.0
    """

    direction: Array
    order: tuple[int, ...]
    margin: float
    closest: tuple[int, int]


def common_direction(means: Any, *, deviation: Any = None) -> CommonDirection:
    """The direction with the largest smallest margin, max_ν min_{k≠l} ``|⟨ν, m_k − m_l⟩|`` over ‖ν‖ = 1.

    In a given order the best ν is, as for a support vector machine with a hard margin, the point of least norm in the
    convex hull of the differences of neighbours. Up to six classes all orders are tried. For more, orders are taken
    from the principal axes of the means, 32 fixed random directions, and those that exchanges of classes lead to as if
    their places were evenly spaced; then neighbours are exchanged as long as this helps: the margin found is then a
    lower bound.

    Args:
        means: class means ``(K, p)``.
        deviation: within-class deviation of each dimension ``(p,)``: the margin then counts in deviations, and ν acts
            on features divided by them.

    Raises:
        ValueError: other shapes, fewer than two classes, values that are not finite, deviations that are not positive.

    Source: Zhang, Wang, Su 2021, eq. 8 and the note after it.

    >>> found = common_direction([[0.0, 0.0], [4.0, 0.0], [2.0, 1.0]])
    >>> found.order, round(found.margin, 3)
    ((0, 2, 1), 2.0)
    """
    X = as_array(means)
    require(X.ndim == 2 and len(X) >= 2, "means", X.shape, "of shape (K, p) with K ≥ 2")
    require(bool(np.isfinite(X).all()), "means", X, "finite")
    if deviation is not None:
        scale = as_array(deviation)
        usable = scale.shape == X.shape[1:] and bool((np.isfinite(scale) & (scale > 0)).all())
        require(usable, "deviation", scale, f"positive and of shape {X.shape[1:]}")
        X = X / scale
    K = len(X)
    _, _, axes = np.linalg.svd(X - X.mean(0), full_matrices=False)
    reduced = X @ axes.T  # all differences lie in here
    best: tuple[float, tuple[int, ...], Array] = (-1.0, tuple(range(K)), np.eye(len(axes))[0])
    for order in _orders(reduced):
        best = max(best, (*_margin(reduced, order),), key=lambda found: found[0])
    if K > _ALL_ORDERS:
        best = _exchanged(reduced, best)
    margin, order, nu = best
    gaps = np.diff((reduced @ nu)[list(order)])
    k = int(gaps.argmin())
    low, high = sorted((order[k], order[k + 1]))
    return CommonDirection(nu @ axes, order, margin, (low, high))


def _orders(X: Array) -> Iterable[tuple[int, ...]]:
    """Orders to try, each once; an order and its reverse are the same."""
    K, r = X.shape
    if K <= _ALL_ORDERS:
        return [order for order in permutations(range(K)) if order[0] < order[-1]]
    directions = np.concatenate([np.eye(r), np.random.default_rng(0).standard_normal((_STARTS, r))])
    drawn = (tuple(np.argsort(X @ d, kind="stable").tolist()) for d in directions)
    return dict.fromkeys([*likely_orders(X, _EXCHANGED), *drawn])


def _margin(X: Array, order: tuple[int, ...]) -> tuple[float, tuple[int, ...], Array]:
    """``margin_in_order`` with the order."""
    margin, nu = margin_in_order(X, order)
    return margin, order, nu


def _exchanged(X: Array, best: tuple[float, tuple[int, ...], Array]) -> tuple[float, tuple[int, ...], Array]:
    """The best order that exchanging neighbours leads to."""
    while True:
        order = best[1]
        tried = []
        for k in range(len(order) - 1):
            other = list(order)
            other[k], other[k + 1] = other[k + 1], other[k]
            tried.append(_margin(X, tuple(other)))
        better = max(tried, key=lambda found: found[0])
        if better[0] <= best[0] * (1 + 1e-9):
            return best
        best = better
