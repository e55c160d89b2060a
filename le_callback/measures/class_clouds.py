"""Class means and covariances in a few coordinates of the logits, for pictures. K classes, p logits, N samples, q ≤ p.

The coordinates are the same in every window of a run, so that pictures of two windows compare: the logits themselves
where there are few, else projections on q fixed random directions (orthonormal, from a generator of their own).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import squared_distances
from le_callback.measures.nearest_mean import on_host
from le_callback.values import NAN, Array

MOST_EXACT, PROJECTED = 12, 8


@dataclass(frozen=True)
class ClassClouds:
    """Where the classes lie and how wide they are.

    Attributes:
        classes: (K,) of the rows.
        means: (K, q) class means.
        covariances: (K, q, q) of the window's most recent samples; NaN for classes with fewer than two.
        smallest_gap, largest_gap: distance of the nearest and of the farthest two class means in all p dimensions,
            sampling noise removed: (‖X̄ₖ − X̄ₗ‖² − noise)^½; NaN where the noise is larger.

    >>> from le_callback import SeparationMonitor
    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 5.0], [11.0, 5.0]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> monitor.close(step=1).measures["class_clouds"]["logits"].means
    array([[ 0.,  0.],
           [10.,  5.]])
    """

    classes: tuple[int, ...]
    means: Array
    covariances: Array
    smallest_gap: float
    largest_gap: float


@lru_cache(maxsize=4)
def fixed_directions(width: int) -> Tensor | None:
    """(p, q) orthonormal columns, the same for every run of this width; None where all coordinates are kept.

    >>> fixed_directions(10) is None, fixed_directions(100).shape
    (True, torch.Size([100, 8]))
    """
    if width <= MOST_EXACT:
        return None
    generator = torch.Generator().manual_seed(width)
    directions: Tensor = torch.linalg.qr(torch.randn(width, PROJECTED, generator=generator)).Q
    return directions


def covariances(x: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unbiased covariance (K, q, q) of the samples (N, q) of each class; NaN with fewer than two.

    >>> covariances(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]), 2).flatten()
    tensor([2., nan])
    """
    q = x.shape[1]
    count = torch.bincount(labels, minlength=num_classes).to(x.dtype)
    mean = x.new_zeros(num_classes, q).index_add_(0, labels, x) / count.clamp(min=1).unsqueeze(1)
    deviation = x - mean.index_select(0, labels)
    outer = (deviation.unsqueeze(2) * deviation.unsqueeze(1)).flatten(1)
    total = x.new_zeros(num_classes, q * q).index_add_(0, labels, outer)
    known = (count > 1).view(-1, 1, 1)
    dof = (count - 1).clamp(min=1).view(-1, 1, 1)
    return torch.where(known, total.view(num_classes, q, q) / dof, torch.nan)


def _of_window(window: SourceWindow) -> ClassClouds:
    statistics, samples = window.compared, window.features
    directions = fixed_directions(samples.shape[1])
    means = statistics.mean
    if directions is not None:
        directions = directions.to(samples)
        means, samples = means.to(samples) @ directions, samples @ directions
    smallest, largest = _gaps(window)
    spread = covariances(samples.float(), window.labels, len(window.classes))
    return ClassClouds(window.classes, on_host(means), on_host(spread), smallest, largest)


def _gaps(window: SourceWindow) -> tuple[float, float]:
    """Of the nearest and the farthest two class means, of those whose pairs are kept, sampling noise removed."""
    wide, geometry = window.wide_means, window.geometry
    places = window.paired.to(wide.device)
    products = geometry.gram[places.unsqueeze(1), places] * geometry.scale**2 if geometry.exact else None
    distances = squared_distances(wide[places], products)
    noise = window.compared.mean_noise[window.paired].to(distances)
    squared = distances - noise.unsqueeze(0) - noise.unsqueeze(1)
    K = len(squared)
    rows, columns = torch.triu_indices(K, K, offset=1, device=squared.device)
    pairs = squared[rows, columns]
    ends = torch.stack([pairs.min(), pairs.max()]).tolist()
    low, high = (end**0.5 if end > 0 else NAN for end in ends)
    return low, high


MEASURE = Measure("class_clouds", _of_window, layers=("logits",))
