"""How many directions samples spread over, within their classes and altogether.

N samples, p feature dimensions. All is read from the inner products of a few samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import WIDE_NUMBERS, products
from le_callback.moments.sums import accumulation_dtype
from le_callback.values import Tag

MIN_SAMPLES, MAX_SAMPLES, SAMPLES_PER_CLASS = 128, 256, 4


class Spread(NamedTuple):
    """Numbers of directions, between 1 and p.

    Attributes:
        rank: of the samples, whatever their labels: (tr C)²/tr C² of their covariance C; 0 for samples at a point.
        dimensions: of the scatter within classes: (tr Σ)²/tr Σ², corrected for the number of samples.

    >>> round(sample_spread(torch.eye(4), torch.tensor([0, 0, 1, 1]), 2).rank, 6)
    3.0
    """

    rank: float
    dimensions: float


def sample_spread(features: Tensor, labels: Tensor, num_classes: int) -> Spread:
    """Both numbers from an evenly spaced choice of 128 to 256 samples; synchronises.

    Args:
        features: (N, p), N ≥ 1.
        labels: (N,) class indices.
        num_classes: K, of which the number of samples depends.

    >>> x = torch.arange(20.0).unsqueeze(1) * torch.ones(1, 5)
    >>> sample_spread(x, torch.arange(20) % 2, 2)
    Spread(rank=1.0..., dimensions=1.05...)
    """
    most = min(MAX_SAMPLES, max(MIN_SAMPLES, SAMPLES_PER_CLASS * num_classes))
    every = -(-len(labels) // most)
    x, y = features[::every], labels[::every]
    x = x - x.mean(0)
    x = x.double() if x.numel() <= WIDE_NUMBERS else x
    present, y, count = torch.unique(y, return_inverse=True, return_counts=True)
    n, p = x.shape
    own = x.new_zeros(len(present), p).index_add_(0, y, x) / count.unsqueeze(1)
    inner, repeated = x, count.index_select(0, y) > 1
    if not bool(repeated.all()):  # a single sample does not deviate from its own mean
        inner, y = inner[repeated], y[repeated]
    inner = inner - own.index_select(0, y)
    inner_trace, inner_squares = _traces(inner, features.dtype)
    # of the sum W + B of scatters: tr W² + 2 tr WB + tr B², of which all are positive
    own.mul_(count.to(x.dtype).sqrt().unsqueeze(1))
    outer_trace, outer_squares = _traces(own, features.dtype)
    both = float((inner @ own.T).square_().sum())
    trace, squares = inner_trace + outer_trace, inner_squares + 2 * both + outer_squares
    rank = trace**2 / squares if squares > 0 else 0.0
    return Spread(rank, _dimensions(inner_trace, inner_squares, n - len(present), p))


def _traces(x: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """Traces of the scatter xᵀx of rows (n, p), and of its square: of products as exact as samples of ``dtype`` are."""
    trace = float(x.square().sum())
    if not trace > 0:
        return trace, 0.0
    # of n ≤ p rows the products of rows have the same trace and norm as those of dimensions; positive terms only
    unit = (x / trace**0.5).to(accumulation_dtype(dtype))
    gram = products(unit) if len(x) <= x.shape[1] else unit.T @ unit
    return trace, float(gram.square_().sum()) * trace**2


def _dimensions(trace: float, squares: float, dof: int, p: int) -> float:
    """(tr Σ)²/tr Σ² from the traces of the scatter and of its square, which holds (tr Σ)²/dof by chance."""
    if dof < 2:
        return float(p)
    trace, squares = trace / dof, squares / dof**2
    squares -= trace**2 / dof
    return min(max(trace**2 / squares, 1.0), float(p)) if squares > 0 else float(p)


def _of_window(window: SourceWindow) -> Spread | None:
    return sample_spread(window.features, window.labels, window.num_classes) if len(window.labels) else None


MEASURE = Measure(
    "spread",
    _of_window,
    (
        Tag(
            name="separation/{source}/effective_rank",
            label="effective rank",
            unit="directions",
            meaning="Number of directions that the samples of a window spread over, whatever their labels.",
            look_for="a sudden fall: features that collapse; in neural collapse it tends to K − 1",
            better="neither",
            chart="spread",
            read=lambda found: found.rank,
        ),
    ),
)
