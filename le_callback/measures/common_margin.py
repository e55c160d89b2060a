"""One direction along which all classes are in order at once, and how far apart neighbours are along it.

Legend: K classes, p feature dimensions, m_k class means about their centre, M the (K, p) matrix of them, ν a direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.values import NAN, Array, Tag

MOST_CLASSES = 16  # at a log step
_LINES = 64  # random directions that orders are taken from
_RIDGE = 1e-6  # of the largest eigenvalue of M Mᵀ


@dataclass(frozen=True)
class CommonMargin:
    """How well one direction ν tells all classes apart in one window.

    Attributes:
        margin: smallest gap of the means of two neighbours along ν, over the within-class deviation along it, pooled
            over all classes; below 0 where two classes have changed places since the window before. NaN where unknown.
        order: classes along ν, by the window before.
        closest: the two neighbours of that gap; None where it is unknown.
        status: empty, or why the margin is not known.

    >>> CommonMargin(2.0, (1, 0, 2), (0, 1), "").margin
    2.0
    """

    margin: float
    order: tuple[int, ...]
    closest: tuple[int, int] | None
    status: str


def margin_in_order(means: Array, order: tuple[int, ...]) -> tuple[float, Array]:
    """Largest smallest gap of neighbours in this order, over ‖ν‖ = 1, and its ν; 0 where no ν has this order.

    As for a support vector machine with a hard margin, ν is the point of least norm in the convex hull of the
    differences of neighbours, D: min ‖Dᵀλ‖ over λ ≥ 0, Σλ = 1, by non-negative least squares on [Dᵀ; 1] λ = [0; 1], D
    over its largest entry.

    Args:
        means: ``(K, p)``.
        order: of the K classes.

    >>> margin, nu = margin_in_order(np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 1.0]]), (0, 2, 1))
    >>> round(margin, 3), nu.round(3) + 0.0
    (1.342, array([0.894, 0.447]))
    """
    D = np.array([means[b] - means[a] for a, b in pairwise(order)])
    size = float(np.abs(D).max())
    none = np.eye(means.shape[1])[0]
    if size == 0:
        return 0.0, none
    weights, _ = nnls(np.vstack([D.T / size, np.ones(len(D))]), np.append(np.zeros(means.shape[1]), 1.0))
    point = D.T @ (weights / weights.sum())
    length = float(np.linalg.norm(point))
    if length <= 1e-9 * size:
        return 0.0, none
    nu = point / length
    return max(float((D @ nu).min()), 0.0), nu


def likely_orders(means: Array, count: int = 1) -> list[tuple[int, ...]]:
    """Orders with a large margin, found by exchanging classes; the best first, an order and its reverse count as one.

    Evenly spaced places c along a direction need ‖ν‖² = cᵀ (M Mᵀ)⁻¹ c for gaps of 1, where K ≤ p + 1: the order with
    the least is looked for. From those along the axes of the means and 64 fixed random directions, the best ``count``
    exchange the two classes that lessen it most as long as there are any.

    Args:
        means: ``(K, p)``.
        count: orders to start from.

    >>> likely_orders(np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 1.0]]))
    [(0, 2, 1)]
    """
    K = len(means)
    centred = means - means.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    largest = values[-1]
    if not largest > 0 or K == 2:
        return [tuple(range(K))]
    kept = values > 1e-9 * largest
    reduced = vectors[:, kept] * np.sqrt(values[kept])
    A = (vectors / (values.clip(0) + _RIDGE * largest)) @ vectors.T
    projected = np.concatenate([reduced, reduced @ _lines(reduced.shape[1])], axis=1)
    places = projected.argsort(0).argsort(0) - (K - 1) / 2
    needed = ((A @ places) * places).sum(0)
    found: dict[tuple[int, ...], float] = {}
    for s in np.argsort(needed, kind="stable")[:count]:
        c = _exchanged(A, places[:, s].copy())
        order = tuple(c.argsort().tolist())
        found[min(order, order[::-1])] = float(c @ A @ c)
    return sorted(found, key=lambda order: found[order])


def _exchanged(A: Array, c: Array) -> Array:
    """Places ``(K,)`` after the exchanges that lessen cᵀAc most."""
    i, j, square = _pairs(len(c))
    curvature = A[i, i] + A[j, j] - 2 * A[i, j]
    for _ in range(square):
        g, d = A @ c, c[j] - c[i]
        change = d * (2 * (g[i] - g[j]) + d * curvature)
        k = int(change.argmin())
        if change[k] >= -1e-9 * abs(c @ g):
            break
        c[i[k]], c[j[k]] = c[j[k]], c[i[k]]
    return c


@lru_cache(8)
def _pairs(num_classes: int) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    i, j = np.triu_indices(num_classes, 1)
    return i, j, num_classes**2


@lru_cache(8)
def _lines(dimensions: int) -> Array:
    """The same random directions ``(dimensions, 64)`` every time."""
    return np.random.default_rng(0).standard_normal((dimensions, _LINES))


def common_margin(
    features: Tensor,
    labels: Tensor,
    means: Tensor,
    previous: Tensor | None = None,
    names: tuple[int, ...] | None = None,
) -> CommonMargin | None:
    """Smallest gap of neighbours along one direction for all classes, in within-class deviations.

    ν and the order of the classes are taken from the means of the window before, so that neither depends on the samples
    (in the first window, from their own): the order that ``likely_orders`` finds and its best ν. In that order the gap
    of two neighbours is ⟨ν, X̄_l − X̄_k⟩/σ with σ² the variance of ⟨ν, x⟩ about the class means, pooled over all classes.

    Args:
        features: (N, p) samples.
        labels: (N,) their rows among the classes.
        means: (K, p) class means of the window.
        previous: (K, p) of the windows before; NaN rows where unknown.
        names: of the classes, 0 to K − 1 if left out.

    Returns:
        None where fewer than two classes are compared.

    Source: Zhang, Wang, Su 2021, eq. 8: ν does not depend on the class indices.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0], [19.0], [21.0]])
    >>> found = common_margin(x, torch.tensor([0, 0, 2, 2, 1, 1]), torch.tensor([[0.0], [20.0], [10.0]]))
    >>> round(found.margin, 3), found.order, found.closest  # gaps of 10, deviations of √2
    (7.071, (0, 2, 1), (0, 2))
    """
    K = len(means)
    if K < 2:
        return None
    names = tuple(range(K)) if names is None else names
    if K > MOST_CLASSES:
        return CommonMargin(NAN, (), None, f"looked for among at most {MOST_CLASSES} classes, not {K}")
    own = means.detach().double().cpu().numpy()
    before = own if previous is None else previous.detach().double().cpu().numpy()
    before = own if np.isnan(before).any() else before
    if not (np.isfinite(before).all() and np.isfinite(own).all()):
        return CommonMargin(NAN, (), None, "the class means are not finite")
    order = likely_orders(before)[0]
    _, nu = margin_in_order(before, order)
    along = features @ torch.from_numpy(nu).to(features)
    deviation = _deviation(along.double().cpu().numpy(), labels.cpu().numpy(), K)
    gaps = np.diff((own @ nu)[list(order)])
    k = int(gaps.argmin())
    named = tuple(names[c] for c in order)
    if not deviation > 0:
        return CommonMargin(NAN, named, None, "the samples have no deviation within the classes")
    low, high = sorted((named[k], named[k + 1]))
    return CommonMargin(float(gaps[k]) / deviation, named, (low, high), "")


def _deviation(along: Array, labels: Array, num_classes: int) -> float:
    """Within-class deviation of coordinates ``(N,)``, pooled over all classes; NaN without degrees of freedom."""
    counts = np.bincount(labels, minlength=num_classes)
    freedom = len(along) - int((counts > 0).sum())
    if freedom < 1:
        return NAN
    centres = np.bincount(labels, along, num_classes) / np.maximum(counts, 1)
    residual = along - centres[labels]
    return float(np.sqrt(residual @ residual / freedom))


def _of_window(window: SourceWindow) -> CommonMargin | None:
    return common_margin(window.features, window.labels, window.compared.mean, window.previous, window.classes)


MEASURE = Measure(
    "common_margin",
    _of_window,
    (
        Tag(
            name="separation/{source}/common_margin",
            label="margin along one direction",
            unit="deviations",
            meaning=(
                "Smallest gap of two neighbouring classes over their width, along the one direction that orders all"
                " classes best, as far as found; up to 16 classes."
            ),
            look_for="above 2 one number tells all classes apart; below 0 two have changed places",
            better="higher",
            chart="discriminability",
            read=lambda found: found.margin,
            classes=lambda found: found.closest,
        ),
    ),
    layers=("features",),
)
