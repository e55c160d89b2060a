"""How near the class means are to a simplex equiangular tight frame (ETF), the end of neural collapse.

K classes, p feature dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from le_callback.errors import require
from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.pair_cosines import PairCosines, pair_cosines
from le_callback.values import NAN, Array, Tag

SHOWN_ALL = 256  # classes of which all cosines are kept
SHOWN = 40  # classes of which the cosines are kept where there are more: those of the nearest pairs


@dataclass(frozen=True)
class EtfAngles:
    """Class means about their centre beside a simplex ETF. Angles in degrees.

    Attributes:
        mean: angle, of all pairs.
        deviation: root mean square of angle − ideal over all pairs.
        smallest: angle of the closest pair.
        pair: its classes.
        ideal: arccos(−1/(K−1)).
        norm_variation: standard deviation over mean of the norms; equinorm: 0.
        attainable: a simplex ETF of K classes needs K ≤ p + 1.
        cosines: ``(C, C)`` of ``classes``.
        classes: the classes of its rows: all K of at most 256, else those of the nearest pairs, at most 40.
        error: ‖G/‖G‖ − (I − 11ᵀ/K)/√(K−1)‖_F with G the products of all pairs; ETF: 0.
        uniformity: log mean exp(−2‖û_k − û_l‖²) of the unit means, less that of a simplex ETF; ETF: 0.
        excess: root mean square of the cosines over the least that K vectors in p dimensions can have,
            √((K−d)/(d(K−1))) with d = min(p, K−1) (Welch 1974); 1 at best, also where K > p + 1.
        least_deviation: of K vectors of equal norms in p dimensions, to first order; 0 if attainable.
        near: the nearest pairs, at most 32, as (class, class, angle), the nearest first.
        looked_at: pairs among which the nearest were searched: all, or those of near neighbours.
        pairs: K(K−1)/2.

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
    cosines: Array
    classes: tuple[int, ...]
    error: float
    uniformity: float
    excess: float
    least_deviation: float
    near: tuple[tuple[int, int, float], ...]
    looked_at: int
    pairs: int


def etf_angle(num_classes: int) -> float:
    """Angle between any two vectors of a simplex ETF: arccos(−1/(K−1)), in degrees.

    Raises:
        ValueError: if ``num_classes`` is below 2.

    >>> round(etf_angle(3), 6)
    120.0
    """
    require(num_classes >= 2, "num_classes", num_classes, "at least 2", "One class has no angle.")
    return math.degrees(math.acos(-1 / (num_classes - 1)))


def etf_angles(means: Tensor, classes: Sequence[int] | None = None) -> EtfAngles:
    """Angles between the class means about their centre, against those of a simplex ETF.

    With m_k = X̄_k − avg_j X̄_j: the angle of i and j is arccos(⟨m_i, m_j⟩/(‖m_i‖‖m_j‖)). For K = 3 the mean angle is
    120° or close to it whatever the shape: the deviation and the smallest angle carry the information
    (Papyan, Han, Donoho 2020, NC2). Of more than 2,048 classes the nearest pair is searched among near neighbours, and
    mean, deviation and uniformity are exact up to the third power of the cosines, the rest taken from a million pairs.

    Args:
        means: (K, p) class means, finite.
        classes: names of the rows as class indices, 0..K−1 if left out.

    Raises:
        ValueError: for fewer than two rows.

    Source: error Zhu et al. 2021; uniformity Wang, Isola 2020.

    >>> angles = etf_angles(torch.eye(4))
    >>> round(angles.mean, 3), round(angles.deviation, 3), round(angles.norm_variation, 3)
    (109.471, 0.0, 0.0)
    """
    etf_angle(len(means))
    geometry = MeanGeometry(means)
    return read_angles(geometry, pair_cosines(geometry), classes)


def read_angles(geometry: MeanGeometry, pairs: PairCosines, classes: Sequence[int] | None = None) -> EtfAngles:
    """``etf_angles`` of class means of which the pairs were read.

    >>> geometry = MeanGeometry(torch.eye(2))
    >>> read_angles(geometry, pair_cosines(geometry)).pair
    (0, 1)
    """
    K, p = geometry.num_classes, geometry.num_features
    names: Sequence[int] = range(K) if classes is None else classes
    near = _angles_of(geometry, pairs.near)
    shown = range(K) if K <= SHOWN_ALL else sorted(list(dict.fromkeys(k for a, b, _ in near for k in (a, b)))[:SHOWN])
    smallest = near[0]
    d = min(p, K - 1)
    least_sq = (K - d) / (d * (K - 1))
    spread = math.sqrt(max(least_sq - 1 / (K - 1) ** 2, 0.0)) if p + 1 < K else 0.0
    ideal = etf_angle(K)
    norms = geometry.norms.double() if geometry.norms.device.type == "cpu" else geometry.norms
    return EtfAngles(
        mean=pairs.angle,
        deviation=pairs.deviation,
        smallest=smallest[2],
        pair=(names[smallest[0]], names[smallest[1]]),
        ideal=ideal,
        norm_variation=float(norms.std(correction=0) / norms.mean()),
        attainable=p + 1 >= K,
        cosines=_cosines(geometry, list(shown)),
        classes=tuple(names[k] for k in shown),
        error=etf_error(geometry),
        uniformity=pairs.uniformity,
        excess=math.sqrt(max(pairs.square, 0.0) / least_sq) if pairs.square == pairs.square else NAN,
        least_deviation=math.degrees(spread / math.sin(math.radians(ideal))) if spread else 0.0,
        near=tuple((names[a], names[b], angle) for a, b, angle in near),
        looked_at=pairs.looked_at,
        pairs=K * (K - 1) // 2,
    )


def etf_error(geometry: MeanGeometry) -> float:
    """‖G/‖G‖_F − (I − 11ᵀ/K)/√(K−1)‖_F with G = M Mᵀ of the means about their centre (Zhu et al. 2021).

    NaN where neither classes nor dimensions are few enough for their products.

    >>> etf_error(MeanGeometry(torch.eye(3, dtype=torch.float64))) < 1e-12
    True
    """
    q = geometry.eigenvalue_variation
    return math.sqrt(max(-2 * math.expm1(-0.5 * math.log1p(q)), 0.0)) if q == q else NAN


def _angles_of(geometry: MeanGeometry, pairs: Tensor) -> list[tuple[int, int, float]]:
    """The angle of pairs (T, 2) from the chords of their unit vectors, which loses no digits, the nearest first."""
    first, second = (_unit(geometry, rows) for rows in pairs.unbind(1))
    chord, across = (torch.linalg.vector_norm(first + sign * second, dim=1) for sign in (-1, 1))
    angles = (2 * torch.atan2(chord, across)).rad2deg().tolist()
    found = [(a, b, angle) for (a, b), angle in zip(pairs.tolist(), angles, strict=True)]
    return sorted(found, key=lambda pair: pair[2]) if all(angle == angle for *_, angle in found) else found


def _unit(geometry: MeanGeometry, rows: Tensor) -> Tensor:
    x = geometry.centred[rows]
    x = x.double() if x.device.type == "cpu" else x
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return unit


def _cosines(geometry: MeanGeometry, shown: list[int]) -> Array:
    unit = _unit(geometry, torch.tensor(shown, device=geometry.centred.device))
    found: Array = (unit @ unit.T).clamp_(-1, 1).fill_diagonal_(1.0).cpu().double().numpy()
    return found


def _of_window(window: SourceWindow) -> EtfAngles:
    return read_angles(window.geometry, window.pairs, window.classes)


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
            look_for=(
                "far below the ideal: these two classes look alike; the heatmap and the table name them. Classes with"
                " far fewer samples than others draw together, down to 0° (minority collapse)"
            ),
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
        Tag(
            name="collapse/{source}/etf_error",
            label="distance from an ETF (NC2)",
            unit="",
            meaning="‖G/‖G‖ − (I − 11ᵀ/K)/√(K−1)‖ with G the inner products of all class means about their centre.",
            look_for="falls to 0 in neural collapse; cannot where K > p + 1",
            better="lower",
            chart="collapse",
            read=lambda etf: etf.error,
        ),
        Tag(
            name="collapse/{source}/uniformity",
            label="uniformity gap (NC2)",
            unit="",
            meaning="log mean exp(−2‖û−v̂‖²) over all pairs of unit class means, less its value in a simplex ETF.",
            look_for="0 in an ETF; grows where classes crowd together",
            better="lower",
            chart="collapse",
            read=lambda etf: etf.uniformity,
        ),
        Tag(
            name="collapse/{source}/cosine_excess",
            label="cosines over their bound (NC2)",
            unit="",
            meaning=(
                "Root mean square cosine of all pairs over the least that K vectors in p dimensions can have (Welch):"
                " that of a simplex ETF if K ≤ p + 1."
            ),
            look_for="1: as far apart as so many classes can be in p dimensions, also where no simplex ETF exists",
            better="lower",
            chart="collapse",
            read=lambda etf: etf.excess,
        ),
    ),
    of_all=True,
)
