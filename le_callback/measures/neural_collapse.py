"""How near the class means are to a simplex equiangular tight frame (ETF), the end of neural collapse.

K classes, p feature dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.errors import require
from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import centred_gram
from le_callback.values import Tag


@dataclass(frozen=True)
class EtfAngles:
    """Pairwise angles of centred class means, in degrees.

    Attributes:
        mean: of all pairs.
        deviation: root mean square of angle − ideal over all pairs.
        smallest: the closest pair.
        pair: its classes.
        ideal: arccos(−1/(K−1)).
        norm_variation: standard deviation over mean of the norms; equinorm: 0.
        attainable: a simplex ETF of K classes needs K ≤ p + 1.
        cosines: ``(K, K)``.
        classes: the classes of the rows: those seen in the window.

    >>> etf_angles(torch.eye(3)).attainable
    True
    """

    mean: float
    deviation: float
    smallest: float
    pair: tuple[int, int]
    ideal: float
    norm_variation: float
    attainable: bool
    cosines: NDArray[np.float64]
    classes: tuple[int, ...]


def etf_angle(num_classes: int) -> float:
    """Angle between any two vectors of a simplex ETF: arccos(−1/(K−1)), in degrees.

    Raises:
        ValueError: if ``num_classes`` is below 2.

    >>> round(etf_angle(3), 6)
    120.0
    """
    require(num_classes >= 2, "num_classes", num_classes, "at least 2", "One class has no angle.")
    return math.degrees(math.acos(-1 / (num_classes - 1)))


def etf_angles(means: Tensor, classes: Sequence[int] | None = None, gram: Tensor | None = None) -> EtfAngles:
    """Angles between the class means about their centre, against those of a simplex ETF.

    With m_k = X̄_k − avg_j X̄_j: the angle of i and j is arccos(⟨m_i, m_j⟩/(‖m_i‖‖m_j‖)). For K = 3 the mean angle is
    120° or close to it whatever the shape: the deviation and the smallest angle carry the information
    (Papyan, Han, Donoho 2020, NC2).

    Args:
        means: (K, p) class means, finite.
        classes: names of the rows as class indices, 0..K−1 if left out.
        gram: their ``centred_gram``, if it is known.

    Raises:
        ValueError: for fewer than two rows.

    >>> angles = etf_angles(torch.eye(4))
    >>> round(angles.mean, 3), round(angles.deviation, 3), round(angles.norm_variation, 3)
    (109.471, 0.0, 0.0)
    """
    K, p = means.shape
    ideal = etf_angle(K)
    products = centred_gram(means) if gram is None else gram
    norms = products.diagonal().sqrt()
    cosines = (products / norms.unsqueeze(1) / norms).clamp_(-1, 1)
    rows, columns = torch.triu_indices(K, K, offset=1, device=means.device)
    angles = cosines[rows, columns].acos().rad2deg()
    closest = int(angles.argmin())
    names = tuple(range(K)) if classes is None else tuple(classes)
    return EtfAngles(
        mean=float(angles.mean()),
        deviation=float((angles - ideal).square().mean().sqrt()),
        smallest=float(angles[closest]),
        pair=(names[int(rows[closest])], names[int(columns[closest])]),
        ideal=ideal,
        norm_variation=float(norms.std(correction=0) / norms.mean()),
        attainable=p + 1 >= K,
        cosines=cosines.fill_diagonal_(1.0).cpu().double().numpy(),
        classes=names,
    )


def _of_window(window: SourceWindow) -> EtfAngles:
    return etf_angles(window.wide_means, window.classes, window.gram)


MEASURE = Measure(
    "etf",
    _of_window,
    (
        Tag(
            name="etf/{source}/angle_mean_deg",
            label="mean angle",
            unit="°",
            meaning="Mean angle between two class means about their centre.",
            look_for="says nothing alone: for K = 3 it is always near 120°",
            better="neither",
            chart="angles",
            read=lambda etf: etf.mean,
            row="ETF angle (ideal {ideal:.1f}°)",
        ),
        Tag(
            name="etf/{source}/angle_deviation_deg",
            label="deviation from the ETF",
            unit="°",
            meaning="Root mean square over all pairs of their angle minus that of a simplex ETF.",
            look_for="0° is a simplex ETF (neural collapse)",
            better="lower",
            chart="angles",
            read=lambda etf: etf.deviation,
            essential=True,
            row="deviation from it",
        ),
        Tag(
            name="etf/{source}/angle_smallest_deg",
            label="smallest angle",
            unit="°",
            meaning="Angle of the closest pair of class means.",
            look_for="far below the ideal: these two classes look alike; the heatmap and the table name them",
            better="higher",
            chart="angles",
            read=lambda etf: etf.smallest,
            row="smallest angle",
            classes=lambda etf: etf.pair,
        ),
        Tag(
            name="etf/{source}/norm_variation",
            label="variation of norms",
            unit="",
            meaning="Standard deviation over mean of the distances of the class means from their centre.",
            look_for="0 in an ETF; large where some classes are told apart better than others",
            better="lower",
            chart="norms",
            read=lambda etf: etf.norm_variation,
            row="variation of norms",
        ),
    ),
)
