"""Neural collapse beyond the angles: width of the classes, the head beside the means, ranks. NC1, NC3, NC4, NC5.

K classes, p feature dimensions, N samples. Means are the class means about their centre, m_k = X̄_k − avg_j X̄_j; the
scatter between classes is Σ_B = avg_k m_k m_kᵀ; that within them, Σ_W, is pooled: the sum over all samples of
(x − X̄_k)(x − X̄_k)ᵀ over its N − K degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import in_cache
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.pair_cosines import PairCosines
from le_callback.measures.span import Span
from le_callback.moments.statistics import ClassStatistics
from le_callback.values import NAN, Tag

_PROJECTED_WORK = 2**27  # multiplications for the samples whose deviations are projected
_LEAST_PROJECTED = 64
_PROJECTED_NUMBERS = 2**18  # of their features
_MOST_RANKED = 256  # the smaller of K and p up to which eigenvalues are taken at a log step
_CANCELLED = 0.1  # a squared difference below which its terms take too many digits away


@dataclass(frozen=True)
class Collapse:
    """How far neural collapse has gone in one window.

    Attributes:
        num_classes: K that are compared.
        within: NC1, tr(Σ_W Σ_B⁺)/K; 0 where the classes are points.
        samples: that ``within`` is read on; the other attributes on all of the window.
        trace_ratio: tr Σ_W/tr Σ_B.
        distance: mean over pairs of (tr Σ_k + tr Σ_l)/(2‖X̄_k − X̄_l‖²), the class-distance normalized variance.
        duality: NC3, ‖W/‖W‖ − M/‖M‖‖_F of head and means, 0 to 2; NaN where the head's weights cannot be read.
        duality_cosine: mean cosine of w_k and m_k; 1 where they are dual.
        agreement: NC4, share of samples for which the head says the class of the nearest class mean of the window
            before; NaN in the first.
        judged: samples of ``agreement``.
        rank: (tr Σ_B)²/tr Σ_B², directions that the means spread over; K − 1 in a simplex ETF.
        stable_rank: tr Σ_B/λ_max(Σ_B); NaN where both K and p are above 256.

    >>> from le_callback import SeparationMonitor
    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 5.0], [11.0, 5.0]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> round(monitor.close(step=1).collapse.trace_ratio, 3)
    0.064
    """

    num_classes: int
    within: float
    samples: int
    trace_ratio: float
    distance: float
    duality: float
    duality_cosine: float
    agreement: float
    judged: int
    rank: float
    stable_rank: float


def within_variance(statistics: ClassStatistics) -> tuple[float, float]:
    """Tr Σ_W, pooled over all samples, and its degrees of freedom; NaN where no class has two samples.

    >>> from le_callback.moments import ClassMoments
    >>> x, y = torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    >>> within_variance(ClassMoments(num_classes=2, num_features=1)(x, y))
    (2.0, 2.0)
    """
    freedom = (1 - lone_share(statistics)) * statistics.weight
    known = statistics.seen & (freedom > 1e-3)
    variance, freedom = statistics.variance[known], freedom[known]
    total = float(freedom.sum())
    return (float((variance * freedom).sum()) / total, total) if total > 0 else (NAN, 0.0)


def lone_share(statistics: ClassStatistics) -> Tensor:
    """Σw²/W² of each class (K,): 1/n for integer labels, 1 for a single sample.

    >>> from le_callback.moments import ClassMoments
    >>> lone_share(ClassMoments(num_classes=2, num_features=1)(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1])))
    tensor([0.3333, 1.0000])
    """
    share = statistics.mean_noise / statistics.variance
    return torch.where(share.isfinite(), share, 1 / statistics.weight)  # no width: it does not count


def self_duality(means: Tensor, weights: Tensor) -> tuple[float, float]:
    """NC3 of a head and class means, both about their centre: ‖W/‖W‖_F − M/‖M‖_F‖_F and the mean cosine of their rows.

    A vector common to all rows of a head changes no softmax, hence the centre.

    Args:
        means: (K, p).
        weights: (K, p) rows of the same classes.

    Source: Papyan, Han, Donoho 2020 (without the centre, and squared there).

    >>> difference, cosine = self_duality(torch.eye(3), 5 * torch.eye(3) + 1)
    >>> difference < 1e-6, round(cosine, 6)
    (True, 1.0)
    """
    return _duality(MeanGeometry(means), weights.to(means))


def _duality(geometry: MeanGeometry, weights: Tensor) -> tuple[float, float]:
    means, lengths, centre = geometry.centred, geometry.norms, weights.mean(0)
    norms, products = torch.empty_like(lengths), torch.empty_like(lengths)
    for rows in in_cache(means):
        w = weights[rows] - centre
        norms[rows] = torch.linalg.vector_norm(w, dim=1)
        products[rows] = w.mul_(means[rows]).sum(1)
    first, second = (float(torch.linalg.vector_norm(x)) for x in (lengths, norms))
    if not first * second > 0:
        return NAN, NAN
    squared = 2 - 2 * float(products.sum()) / (first * second)
    if squared < _CANCELLED:
        squared = sum(
            float((means[rows] / first).sub_((weights[rows] - centre).div_(second)).square_().sum())
            for rows in in_cache(means)
        )
    return math.sqrt(squared), float((products / lengths / norms).mean())


@dataclass(frozen=True)
class Prediction:
    """What the proposition of the LE-SDE says of the class means: γ > 0 and B < 0 lead to an ETF.

    Attributes:
        tends: 1 where γ > 0 and B < 0, else 0; NaN where one of them is unknown.
        growth: log of the L-model's common over its difference mode: the part of the means that is an ETF over the part
            that is none. Under the LE-ODE it grows by −B/(K−1).

    Source: Zhang, Wang, Su 2021, proposition on neural collapse.

    >>> predict(0.1, -3.0, common=2.0, difference=2.0)
    Prediction(tends=1.0, growth=0.0)
    """

    tends: float
    growth: float


def predict(gamma: float, B: float, common: float, difference: float) -> Prediction:
    """The proposition of the L-model, see ``Prediction``.

    Args:
        gamma: γ.
        B: ∫β.
        common: amplitude of the common mode; NaN where it is unknown.
        difference: amplitude of the difference mode; NaN where it is unknown.

    >>> predict(0.1, 3.0, 1.0, 1.0).tends
    0.0
    """
    known = gamma == gamma and B == B
    modes = common > 0 and difference > 0
    return Prediction(float(gamma > 0 and B < 0) if known else NAN, math.log(common / difference) if modes else NAN)


def orthogonality(means: Tensor, other: Tensor) -> float:
    """NC5: mean over the classes of ``|cos(X̄_k, μ)|`` with μ the mean of out-of-distribution samples; about the origin.

    Args:
        means: (K, p) class means.
        other: (p,) μ.

    Source: Ben Ammar et al. 2024 (NECO).

    >>> orthogonality(torch.eye(2, 3), torch.tensor([0.0, 0.0, 2.0]))
    0.0
    """
    return float(torch.cosine_similarity(means, other.to(means).unsqueeze(0), dim=1, eps=0.0).abs().mean())


def stable_rank(geometry: MeanGeometry) -> float:
    """Tr Σ_B/λ_max(Σ_B) of class means; NaN where neither classes nor dimensions are few enough for their products.

    >>> round(stable_rank(MeanGeometry(torch.eye(3, dtype=torch.float64))), 6)
    2.0
    """
    if not (geometry.by_dimension or geometry.exact):
        return NAN
    products = geometry.second if geometry.by_dimension else geometry.gram
    largest = float(torch.linalg.eigvalsh(products)[-1])
    return float(products.trace()) / largest if largest > 0 else NAN


def _within(window: SourceWindow) -> tuple[float, int]:
    """NC1 from the deviations of the samples that are kept, and how many these are.

    Every deviation d from the mean of its own class counts 1 − 1/n_k degrees of freedom: Σ dᵀΣ_B⁺d/K over their sum is
    tr(Σ_W Σ_B⁺)/K if all samples of the window are kept, and else its estimate from these.
    """
    freedom = (1 - lone_share(window.compared)).index_select(0, window.labels)
    x, y, means = window.features, window.labels, window.compared.mean
    if not bool((free := freedom > 1e-3).all()):
        x, y, freedom = x[free], y[free], freedom[free]
    K, p = means.shape
    most = max(_LEAST_PROJECTED, min(_PROJECTED_WORK // (K * p), _PROJECTED_NUMBERS // p))
    every = max(1, -(-len(y) // most))
    x, y, freedom = x[::every], y[::every], freedom[::every]
    span = Span.of(window.geometry) if len(y) else None
    if span is None:
        return NAN, 0
    pieces = in_cache(x, least=_LEAST_PROJECTED)
    projected = [span.projected(x[rows] - means.index_select(0, y[rows])) for rows in pieces]
    total = float(span.solved(torch.cat(projected, dim=1)).square_().sum())
    return total / float(freedom.sum()), len(y)


class MeanCollapse(NamedTuple):
    """What class means and widths say of neural collapse; as the attributes of ``Collapse``."""

    trace_ratio: float
    distance: float
    duality: float
    duality_cosine: float
    rank: float
    stable_rank: float


def mean_collapse(
    geometry: MeanGeometry,
    pairs: PairCosines,
    statistics: ClassStatistics,
    weight: Tensor | None = None,
    *,
    ranked: bool = True,
) -> MeanCollapse:
    """Of a window as of all samples of a pass.

    Args:
        geometry: of K class means.
        pairs: of them.
        statistics: of the same classes.
        weight: of the head, its (K, p) rows of these classes; None where it cannot be read.
        ranked: whether to take the largest eigenvalue for the stable rank.

    >>> from le_callback.measures.pair_cosines import pair_cosines
    >>> from le_callback.moments import ClassMoments
    >>> x, y = torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    >>> moments = ClassMoments(num_classes=2, num_features=1)(x, y)
    >>> geometry = MeanGeometry(moments.mean)
    >>> round(mean_collapse(geometry, pair_cosines(geometry), moments).trace_ratio, 3)
    0.08
    """
    K = geometry.num_classes
    between = float(geometry.norms.square().sum()) * geometry.scale**2 / K
    duality = (NAN, NAN) if weight is None else _duality(geometry, weight.to(geometry.centred))
    return MeanCollapse(
        trace_ratio=within_variance(statistics)[0] / between if between > 0 else NAN,
        distance=pairs.distance,
        duality=duality[0],
        duality_cosine=duality[1],
        rank=(K - 1) / (1 + geometry.eigenvalue_variation),
        stable_rank=stable_rank(geometry) if ranked else NAN,
    )


def agreement(nearest: Tensor, said: Tensor) -> float:
    """NC4: share of samples for which the class of the nearest mean (N,) is that which the head says (N,).

    >>> agreement(torch.tensor([0, 1]), torch.tensor([0, 2]))
    0.5
    """
    return float((nearest == said).double().mean())


def _of_window(window: SourceWindow) -> Collapse:
    geometry = window.geometry
    K = geometry.num_classes
    within, samples = _within(window)
    weight = None if window.head is None else window.head.weight
    if weight is not None and len(weight) > K:
        weight = weight[window.rows]
    ranked = min(window.wide_means.shape) <= _MOST_RANKED
    of_means = mean_collapse(geometry, window.pairs, window.compared, weight, ranked=ranked)
    agreed, judged = NAN, 0
    if window.nearest is not None and window.said is not None:
        agreed, judged = agreement(window.rows[window.nearest], window.said), len(window.nearest)
    return Collapse(
        num_classes=K, within=within, samples=samples, agreement=agreed, judged=judged, **of_means._asdict()
    )


MEASURE = Measure(
    "collapse",
    _of_window,
    (
        Tag(
            name="collapse/{source}/within",
            label="within over between (NC1)",
            unit="",
            meaning=(
                "tr(Σ_W Σ_B⁺)/K: width of the classes over the spread of their means, along the directions that the"
                " means span."
            ),
            look_for=(
                "falls to 0 in neural collapse, long after the error is 0; with n samples of a class in a window it"
                " cannot show more than about n"
            ),
            better="lower",
            chart="collapse",
            read=lambda found: found.within,
            essential=True,
        ),
        Tag(
            name="collapse/{source}/trace_ratio",
            label="tr Σ_W/tr Σ_B (NC1)",
            unit="",
            meaning="tr Σ_W/tr Σ_B: width over spread in all directions.",
            look_for="falls to 0 in neural collapse",
            better="lower",
            chart="collapse",
            read=lambda found: found.trace_ratio,
        ),
        Tag(
            name="collapse/{source}/cdnv",
            label="class-distance normalized variance (NC1)",
            unit="",
            meaning="(tr Σ_k + tr Σ_l)/(2‖X̄ₖ−X̄ₗ‖²), mean over all pairs.",
            look_for="falls to 0 in neural collapse; one close pair holds it up",
            better="lower",
            chart="collapse",
            read=lambda found: found.distance,
        ),
        Tag(
            name="collapse/{source}/self_duality",
            label="head against means (NC3)",
            unit="",
            meaning="‖W/‖W‖ − M/‖M‖‖ of the head's weights and the class means, both about their centre.",
            look_for="falls to 0 in neural collapse: the head's rows become the class means",
            better="lower",
            chart="collapse",
            read=lambda found: found.duality,
        ),
        Tag(
            name="collapse/{source}/self_duality_cosine",
            label="cosine of head and means (NC3)",
            unit="",
            meaning="Mean cosine of a class's row of the head and its mean, both about their centre.",
            look_for="rises to 1 in neural collapse",
            better="higher",
            chart="collapse",
            read=lambda found: found.duality_cosine,
        ),
        Tag(
            name="collapse/{source}/head_agreement",
            label="head and nearest mean agree (NC4)",
            unit="",
            meaning="Share of samples for which the head, with its bias, says the class of the nearest class mean.",
            look_for="rises to 1 in neural collapse",
            better="higher",
            chart="collapse",
            read=lambda found: found.agreement,
        ),
        Tag(
            name="collapse/{source}/mean_rank",
            label="effective rank of the class means",
            unit="directions",
            meaning="(tr Σ_B)²/tr Σ_B²: number of directions that the class means spread over.",
            look_for="K − 1 in a simplex ETF; less where some classes share directions",
            better="higher",
            chart="collapse",
            read=lambda found: found.rank,
        ),
        Tag(
            name="collapse/{source}/mean_stable_rank",
            label="stable rank of the class means",
            unit="directions",
            meaning="tr Σ_B over its largest eigenvalue; unknown where both K and p are above 256.",
            look_for="K − 1 in a simplex ETF; 1 where one direction outweighs all others",
            better="higher",
            chart="collapse",
            read=lambda found: found.stable_rank,
        ),
    ),
    layers=("features",),
    of_all=True,
)
