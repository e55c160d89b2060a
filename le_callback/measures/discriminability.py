"""How far apart two classes are over their width, for every pair. K classes, p feature dimensions, N samples.

D_kl is the distance of two class means over the within-class deviation along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import centre_of, projections_on, squared_distances
from le_callback.measures.nearest_mean import on_host
from le_callback.values import NAN, Array, Tag


@dataclass(frozen=True)
class Discriminability:
    """Discriminability of pairs of classes in one window.

    Attributes:
        classes: (C,) of the rows: the K compared, or an evenly spaced choice of at most 256.
        samples: (C,) that it is measured on.
        pairs: (C, C) D_kl, signed where held out; NaN on the diagonal and where unknown.
        held_out: whether D is along the difference of the means of the window before, which does not depend on the
            samples; in the first window, where there is none, it is along the difference of their own.
        worst: the few pairs of smallest D as (class, class, D), the smallest first: of ``pairs`` and of the 32 pairs of
            all classes whose means are nearest by angle.

    >>> from le_callback import SeparationMonitor
    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 5.0], [11.0, 5.0]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> monitor.close(step=1).discriminability["features"].pair
    (0, 1)
    """

    classes: tuple[int, ...]
    samples: Array
    pairs: Array
    held_out: bool
    worst: tuple[tuple[int, int, float], ...]

    @property
    def smallest(self) -> float:
        """D of the worst pair; NaN where unknown."""
        return self.worst[0][2] if self.worst else NAN

    @property
    def pair(self) -> tuple[int, int] | None:
        """The classes of the worst pair."""
        return self.worst[0][:2] if self.worst else None


def pair_discriminability(features: Tensor, labels: Tensor, means: Tensor, gram: Tensor | None = None) -> Tensor:
    """Distance of two class means over the within-class deviation along it, for every pair (K, K).

    D_kl = ‖d‖/σ with d = X̄_k − X̄_l and σ² the variance of ⟨x, d⟩/‖d‖ pooled over both classes (each about its own
    sample mean, n_k + n_l − 2 degrees of freedom). NaN on the diagonal and where there are too few samples.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p).
        gram: inner products of the means about a common centre (K, K), if they are known.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> pair_discriminability(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0], [10.0]]))[0, 1].item()
    7.07...
    """
    K = means.shape[0]
    count = torch.zeros(K, dtype=features.dtype, device=features.device)
    count.index_add_(0, labels, torch.ones_like(labels, dtype=features.dtype))
    repeated = count.index_select(0, labels) > 1  # a single sample has no deviation from its own mean
    if not bool(repeated.all()):
        features, labels = features[repeated], labels[repeated]
    sampled = (count > 0).nonzero().flatten()
    squares = _squares_along(features, torch.searchsorted(sampled, labels), means[sampled])
    count = count[sampled]
    dof = count.unsqueeze(0) + count.unsqueeze(1) - 2
    variance = (squares + squares.T) / dof.clamp(min=1)
    rows = sampled.unsqueeze(1), sampled
    distance_sq = squared_distances(means, gram)[rows]
    usable = (dof >= 1).fill_diagonal_(False)
    pairs = features.new_full((K, K), torch.nan)
    pairs[rows] = torch.where(usable, distance_sq / variance.sqrt(), torch.nan)
    return pairs


def held_out_discriminability(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Signed discriminability of every pair (K, K) along the difference of means of *other* samples.

    D_kl = (⟨x̄_k − x̄_l, d⟩)/σ with d = m_k − m_l from ``means``, x̄ the means of the samples and σ² the variance of
    ⟨x, d⟩ pooled over both classes. Since d does not depend on the samples, D_kl/√(1/n_k + 1/n_l) is a t
    statistic with n_k + n_l − 2 degrees of freedom: unlike the distance of two sample means, it is about zero for equal
    classes, however few samples and however many dimensions. NaN on the diagonal and where there are too few samples
    or no mean.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p) from other samples, NaN rows where unknown.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> held_out_discriminability(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0], [4.0]]))[0, 1].item()
    7.07...
    """
    return score_discriminability(projections_on(features, means)[0], labels)


def score_discriminability(scores: Tensor, labels: Tensor) -> Tensor:
    """Signed discriminability of every pair (K, K) by the difference of their scores, such as logits.

    With s = z_k − z_l: (mean of s over class k − mean of s over class l)/deviation of s within both.

    Args:
        scores: (N, K), one column a class.
        labels: (N,) class indices.

    >>> z = torch.tensor([[1.0, -1.0], [3.0, -3.0], [-1.0, 1.0], [-3.0, 3.0]])
    >>> score_discriminability(z, torch.tensor([0, 0, 1, 1]))[0, 1].item()
    2.82...
    """
    K = scores.shape[1]
    z = scores.double() if scores.numel() <= 2**20 else scores
    counts = torch.bincount(labels, minlength=K).to(z.dtype)
    table = _summed(z, labels) / counts.clamp(min=1).unsqueeze(1)
    residual = z - table.index_select(0, labels)
    squares = _summed(residual.gather(1, labels.unsqueeze(1)).sub(residual).square_(), labels)
    counts = torch.where(counts > 0, counts, -torch.inf)  # no samples: no degrees of freedom with any other class
    dof = (counts - 2).unsqueeze(1) + counts
    deviation = (squares + squares.T).div_(dof.clamp(min=1)).sqrt_()
    lead = table.diagonal().unsqueeze(1) - table  # mean over class k of s = z_k − z_l
    distance = lead + lead.T  # 0 on the diagonal
    return (distance / deviation).masked_fill_((dof < 1).logical_or_(distance == 0), torch.nan)


def _summed(x: Tensor, labels: Tensor) -> Tensor:
    """Sums of rows (N, K) by their labels (K, K)."""
    K = x.shape[1]
    if x.stride(0) == 1 < x.stride(1):  # the columns lie side by side, as of ``projections_on``
        return x.new_zeros(K, K).index_add_(1, labels, x.T).T
    return x.new_zeros(K, K).index_add_(0, labels, x)


def worst_pairs(pairs: Tensor, classes: Sequence[int], top: int = 3) -> tuple[tuple[int, int, float], ...]:
    """The ``top`` pairs of smallest discriminability as (class, class, D), the smallest first.

    >>> worst_pairs(torch.tensor([[torch.nan, 5.0, 2.0], [5.0, torch.nan, 1.0], [2.0, 1.0, torch.nan]]), "abc", 2)
    (('b', 'c', 1.0), ('a', 'c', 2.0))
    """
    K = len(pairs)
    usable = ~pairs.isnan() & torch.ones_like(pairs, dtype=torch.bool).triu_(1)
    largest = torch.finfo(pairs.dtype).max  # also for pairs that are infinitely far apart: they are known
    upper = torch.where(usable, pairs.clamp(max=largest), torch.inf).flatten()
    places = upper.topk(min(top, upper.numel()), largest=False).indices
    values, known = pairs.flatten()[places], usable.flatten()[places]
    return tuple(
        (classes[i // K], classes[i % K], v)
        for i, v, ok in zip(places.tolist(), values.tolist(), known.tolist(), strict=True)
        if ok
    )


def _squares_along(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Σ over the samples of k of ⟨x − m_k, X̄_k − X̄_l⟩², with m_k their own mean, (K, K)."""
    K = len(means)
    own = means.index_select(0, labels)
    along = torch.sub(features, own, out=own) @ (means - centre_of(means)).T  # (N, K)
    along = along - along.gather(1, labels.unsqueeze(1))
    count = torch.bincount(labels, minlength=K).clamp_(min=1).unsqueeze(1)
    own_mean = along.new_zeros(K, K).index_add_(0, labels, along) / count
    along = along.sub_(own_mean.index_select(0, labels)).square_()
    return torch.zeros_like(own_mean).index_add_(0, labels, along)


def near_discriminability(features: Tensor, labels: Tensor, means: Tensor, near: Tensor) -> Tensor:
    """``held_out_discriminability`` of some pairs (T,).

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p) from other samples, NaN rows where unknown.
        near: (T, 2) pairs of classes.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> means = torch.tensor([[1.0], [4.0]])
    >>> near_discriminability(x, torch.tensor([0, 0, 1, 1]), means, torch.tensor([[0, 1]]))
    tensor([7.0711])
    """
    pair, place = torch.nonzero(labels.unsqueeze(0) == near.T.reshape(-1, 1), as_tuple=True)
    T, wide = len(near), features.dtype == torch.float64 or features.device.type == "cpu"
    first, second = means[near[:, 0]], means[near[:, 1]]
    d = first - second
    along = ((features[place] - first[pair % T]) * d[pair % T]).sum(1)
    along = along.double() if wide else along
    count = torch.bincount(pair, minlength=2 * T).to(along.dtype)
    mean = along.new_zeros(2 * T).index_add_(0, pair, along) / count
    squares = along.new_zeros(2 * T).index_add_(0, pair, (along - mean[pair]).square_())
    dof = count[:T] + count[T:] - 2
    gap, deviation = mean[:T] - mean[T:], ((squares[:T] + squares[T:]) / dof.clamp(min=1)).sqrt()
    return torch.where((dof >= 1) & (gap != 0), gap / deviation, torch.nan).to(features.dtype)


def _of_window(window: SourceWindow) -> Discriminability:
    x, y, places = window.features, window.labels, window.paired
    means, previous = window.compared.mean, window.previous
    if len(places) < len(means):
        position = torch.full((len(means),), -1, dtype=torch.long, device=y.device)
        position[places] = torch.arange(len(places), device=y.device)
        kept = (position[y] >= 0).nonzero().flatten()
        x, y, means = x.index_select(0, kept), position[y[kept]], means.index_select(0, places)
        previous = None if previous is None else previous.index_select(0, places)
    held_out = window.projections is not None
    if window.projections is not None and len(window.projections[0]) == len(y) and len(places) == len(window.rows):
        pairs = score_discriminability(window.projections[0], y)  # all samples were compared with all means already
    elif previous is not None and held_out:
        pairs = held_out_discriminability(x, y, previous)
    else:
        pairs = pair_discriminability(x, y, means)
    classes = window.names(window.rows[places])
    found = on_host(pairs)
    worst = worst_pairs(torch.from_numpy(found), classes)
    if held_out and len(places) < len(window.rows):
        worst = _nearest_too(window, worst)
    samples = on_host(torch.bincount(y, minlength=len(classes)))
    return Discriminability(classes, samples, found, held_out, worst)


def _nearest_too(window: SourceWindow, worst: tuple[tuple[int, int, float], ...]) -> tuple[tuple[int, int, float], ...]:
    """The worst of these pairs and of the nearest of all classes."""
    assert window.previous is not None
    near = window.pairs.near.to(window.labels.device)
    found = near_discriminability(window.features, window.labels, window.previous, near).tolist()
    named = ((window.classes[a], window.classes[b], D) for (a, b), D in zip(near.tolist(), found, strict=True))
    known = {(a, b): D for a, b, D in (*worst, *named) if D == D}
    return tuple((a, b, D) for (a, b), D in sorted(known.items(), key=lambda pair: pair[1])[: len(worst) or 3])


MEASURE = Measure(
    "discriminability",
    _of_window,
    (
        Tag(
            name="separation/{source}/discriminability_min",
            label="smallest discriminability",
            unit="deviations",
            meaning=(
                "Smallest over pairs of the gap of two classes over their within-class deviation, along the difference"
                " of their means in the window before (in the first window: of their own)."
            ),
            look_for="below 2 the pair overlaps, below 0 it has changed sides",
            better="higher",
            chart="discriminability",
            read=lambda found: found.smallest,
            essential=True,
            row="smallest discriminability",
            classes=lambda found: found.pair,
        ),
    ),
)
