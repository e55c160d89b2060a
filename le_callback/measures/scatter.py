"""How far classes and samples lie apart, and whether they move. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import WIDE_NUMBERS, lengths
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.nearest_mean import on_host
from le_callback.moments.statistics import ClassStatistics, widened
from le_callback.values import NAN, Array, Tag

_FIRST = 9  # samples that show most units to be alive


@dataclass(frozen=True)
class Scatter:
    """Scatter of one window's features.

    Attributes:
        classes: (K,) of the rows.
        between: tr Σ_B, mean squared distance of the class means from their centre.
        radius: mean distance of the class means from the mean of the samples.
        total: mean squared distance of the samples from their mean, whatever their labels.
        moved: (K,) distance of each mean from that of the window before; NaN where there is none.
        dead_units: share of the dimensions that are the same for all samples; NaN with fewer than two.
        variance: (K,) mean squared distance of the samples of each class from their mean.
        size: (K,) length of each class mean.

    >>> from le_callback import SeparationMonitor
    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 5.0], [11.0, 5.0]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> monitor.close(step=1).scatter["features"].dead_units
    0.0
    """

    classes: tuple[int, ...]
    between: float
    radius: float
    total: float
    moved: Array
    dead_units: float
    variance: Array
    size: Array


def total_scatter(statistics: ClassStatistics, geometry: MeanGeometry | None = None) -> tuple[float, float, float]:
    """Return tr Σ_B, the mean distance of class means and the mean square of samples from the mean of all samples.

    The last by the law of total variance: Σ_k W_k (s_k + ‖X̄_k − X̄‖²)/W with s_k the variance about X̄_k.

    Args:
        statistics: of the K classes, all of them seen.
        geometry: of their means, if it is known.

    >>> from le_callback.moments import ClassMoments
    >>> x, y = torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    >>> total_scatter(ClassMoments(num_classes=2, num_features=1)(x, y))
    (25.0, 5.0, 26.0)
    """
    geometry = geometry or MeanGeometry(widened(statistics.mean, WIDE_NUMBERS))
    centred, scale = geometry.centred, geometry.scale
    share = (statistics.weight / statistics.weight.sum()).to(centred)
    distances = lengths(centred, share @ centred)
    spread = (statistics.variance - statistics.mean_noise).to(centred).nan_to_num_(nan=0.0)
    far = share @ distances.square()
    found = torch.stack([geometry.norms.square().mean(), distances.mean(), far, share @ spread]).tolist()
    return found[0] * scale**2, found[1] * scale, found[2] * scale**2 + found[3]


def dead_units(features: Tensor) -> float:
    """Share of the dimensions of (N, p) that are the same for all samples; NaN with fewer than two.

    >>> dead_units(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    0.5
    """
    if len(features) < 2:
        return NAN
    p = features.shape[1]
    maybe = (features[1:_FIRST] == features[0]).all(0).nonzero().flatten()  # mostly a few, or none
    if len(maybe) < p // 4:
        features = features[:, maybe]
    return float((features == features[0]).all(0).sum()) / p if len(maybe) else 0.0


def _of_window(window: SourceWindow) -> Scatter:
    between, radius, total = total_scatter(window.compared, window.geometry)
    means = window.compared.mean
    if window.projections is not None and window.previous is not None:
        moved = lengths(means, window.previous)
    else:
        moved = torch.full((len(means),), torch.nan)
    variance, size = on_host(window.compared.variance), on_host(lengths(window.wide_means))
    dead = dead_units(window.features)
    return Scatter(window.classes, between, radius, total, on_host(moved), dead, variance, size)


MEASURE = Measure(
    "scatter",
    _of_window,
    (
        Tag(
            name="separation/{source}/dead_units",
            label="dead units",
            unit="",
            meaning="Share of the dimensions that are the same for all samples of a window.",
            look_for="a jump: ReLUs that died",
            better="lower",
            chart="spread",
            read=lambda found: found.dead_units,
        ),
    ),
)
