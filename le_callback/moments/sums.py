"""Streaming sums of class moments: update and merge. No host synchronisation in the update.

K classes, p feature dimensions, N samples of an update. All sums are about a reference mean a class (the means of the
last window), so that the scatter of collapsed classes does not cancel in single precision. Classes without samples are
masked, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

_PIECE = 2**20  # numbers
_LARGEST = {dtype: 0.999 * torch.finfo(dtype).max ** 0.5 for dtype in (torch.float32, torch.float64)}  # finite squares


@dataclass(frozen=True)
class MomentState:
    """Sums of weighted samples about a reference; the tensors are updated in place.

    A sample i has weight w_ik in class k: 1 or 0 for integer labels, the label itself for soft labels.

    Attributes:
        reference: (K, p) r_k.
        weight: (K,) Σ_i w_ik.
        weight_sq: (K,) Σ_i w_ik².
        sums: (K + 3, p) Σ_i w_ik (x_i − r_k); the last rows take the samples left out and are never read.
        scatter: (K,) Σ_i w_ik ‖x_i − r_k‖².
        nonfinite: () samples left out because a feature was NaN, infinite or too large to square.
        mislabelled: () samples left out because the label was outside 0..K−1.
    """

    reference: Tensor
    weight: Tensor
    weight_sq: Tensor
    sums: Tensor
    scatter: Tensor
    nonfinite: Tensor
    mislabelled: Tensor

    @property
    def total(self) -> Tensor:
        """Σ_i w_ik (x_i − r_k), (K, p)."""
        return self.sums[:-SPARE_ROWS]


def empty_moments(reference: Tensor) -> MomentState:
    """A state without samples about ``reference`` (K, p), whose dtype and device it takes.

    >>> empty_moments(torch.zeros(3, 5)).total.shape
    torch.Size([3, 5])
    """
    per_class = reference.new_zeros(reference.shape[0])
    return MomentState(
        reference=reference,
        weight=per_class,
        weight_sq=per_class.clone(),
        sums=reference.new_zeros(reference.shape[0] + SPARE_ROWS, reference.shape[1]),
        scatter=per_class.clone(),
        nonfinite=reference.new_zeros(()),
        mislabelled=reference.new_zeros(()),
    )


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Double precision stays, everything else is accumulated in single precision."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def initial_reference(features: Tensor, num_classes: int) -> Tensor:
    """The mean of the finite rows of a first batch (N, p), once for every class (K, p)."""
    x = features.to(accumulation_dtype(features.dtype))
    finite = x.isfinite().all(1, keepdim=True)
    mean = torch.where(finite, x, 0).sum(0) / finite.sum().clamp(min=1)
    return mean.expand(num_classes, -1).clone()


def update_moments(state: MomentState, features: Tensor, target: Tensor, ignore_index: int | None = None) -> None:
    """Add samples to ``state`` in place, without a host synchronisation.

    Args:
        state: what to add to.
        features: (N, p), any floating dtype.
        target: integer labels (N,) or class weights (N, K): one-hot, smoothed or mixed.
        ignore_index: integer label to leave out silently. Other labels outside 0..K−1 are left out and counted, as
            are samples with a feature that is not finite.

    >>> state = empty_moments(torch.zeros(2, 1))
    >>> update_moments(state, torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]))
    >>> state.weight, state.total.flatten()
    (tensor([2., 1.]), tensor([4., 7.]))
    """
    x = features.to(state.sums.dtype)
    if target.ndim == 1:
        rows = class_rows(target, state.weight.shape[0], ignore_index)
        add_deviations(state, x - state.reference.index_select(0, rows.reference), rows)
    else:
        _add_weighted(state, x, target.to(state.sums.dtype))


SPARE_ROWS = 3  # of the sums, behind those of the classes, for what is left out:
NONFINITE, MISLABELLED, IGNORED = range(SPARE_ROWS)


class ClassRows(NamedTuple):
    """Where samples with integer labels belong."""

    reference: Tensor  # (N,) the class about whose reference a sample is taken, within 0..K−1 for every label
    row: Tensor  # (N,) the row of the sums: the class, from K on for samples that are left out because of their label
    otherwise: Tensor  # (N,) the row if the features are not finite


def class_rows(labels: Tensor, num_classes: int, ignore_index: int | None = None) -> ClassRows:
    """Read integer labels (N,), without a host synchronisation.

    >>> class_rows(torch.tensor([1, -100, 5]), 2, ignore_index=-100).row
    tensor([1, 4, 3])
    """
    labels = labels.long()
    reference = labels.clamp(0, num_classes - 1)
    row = labels.masked_fill(reference != labels, num_classes + MISLABELLED)
    if ignore_index is not None:
        row.masked_fill_(labels == ignore_index, num_classes + IGNORED)
    return ClassRows(reference, row, row.clamp(min=num_classes + NONFINITE))


def add_deviations(state: MomentState, deviations: Tensor, rows: ClassRows) -> None:
    """Add samples in place that are given by their deviations x_i − r_k from the reference of their class, (N, p).

    Samples left out are summed apart, in rows that nobody reads: clearing them would cost more than all the sums.
    """
    squared = torch.linalg.vector_norm(deviations, dim=1).square_()
    row = torch.where(squared < torch.inf, rows.row, rows.otherwise)  # NaN compares false
    _count(state, squared, row)
    state.sums.index_add_(0, row, deviations)


def add_placed(state: MomentState, deviations: Tensor, places: Tensor) -> Tensor:
    """Add the deviations (N, p) of large batches alone, in few calls, at their ``places``; what ``add_norms`` needs.

    Returns:
        (N, 1) norms of the deviations.
    """
    norms: Tensor = torch.linalg.vector_norm(deviations, dim=1, keepdim=True)
    usable = norms.squeeze(1) < _LARGEST[norms.dtype]  # NaN compares false
    state.sums.index_add_(0, torch.where(usable, places, state.weight.shape[0]), deviations)
    return norms


def add_norms(state: MomentState, norms: Tensor, labels: Tensor, ignore_index: int | None = None) -> None:
    """Count and add the squares of samples that ``add_placed`` has added, by their norms (N, 1) and labels (N,).

    >>> state, labels = empty_moments(torch.zeros(2, 1)), torch.tensor([1, -100, 1])
    >>> norms = add_placed(state, torch.tensor([[2.0], [3.0], [torch.nan]]), places(labels, 2))
    >>> add_norms(state, norms, labels, ignore_index=-100)
    >>> state.total.flatten(), state.weight, state.scatter, state.nonfinite
    (tensor([0., 2.]), tensor([0., 1.]), tensor([0., 4.]), tensor(1.))
    """
    K = state.weight.shape[0]
    rows, norms = class_rows(labels, K, ignore_index), norms.squeeze(1)
    _count(state, norms.square(), torch.where(norms < _LARGEST[norms.dtype], rows.row, rows.otherwise))
    if ignore_index is not None and 0 <= ignore_index < K:
        state.total[ignore_index].zero_()


def places(labels: Tensor, num_classes: int) -> Tensor:
    """Rows of the sums (N,) for integer labels (N,): their class, or some row that nobody reads.

    >>> places(torch.tensor([1, -100, 5]), 2)
    tensor([1, 2, 2])
    """
    return labels.long().clamp(-1, num_classes).remainder_(num_classes + 1)


def _count(state: MomentState, squared: Tensor, row: Tensor) -> None:
    K = state.weight.shape[0]
    # summed apart first: adding one by one, single precision would stand still at 2²⁴ samples of a class
    counted, scatter = squared.new_zeros(2, K + SPARE_ROWS).unbind()
    counted.index_add_(0, row, torch.ones_like(squared))
    scatter.index_add_(0, row, squared)
    weight, nonfinite, mislabelled, _ = counted.split_with_sizes((K, 1, 1, 1))
    state.weight.add_(weight)
    state.weight_sq.add_(weight)
    state.scatter.add_(scatter[:K])
    state.nonfinite.add_(nonfinite.squeeze())
    state.mislabelled.add_(mislabelled.squeeze())


def usable_rows(deviations: Tensor) -> Tensor:
    """Which rows of (N, p) ``add_deviations`` does not leave out: those whose squares do not overflow, (N,).

    >>> usable_rows(torch.tensor([[1.0], [torch.inf], [1e20]]))
    tensor([ True, False, False])
    """
    squared = torch.linalg.vector_norm(deviations, dim=1).square_()
    return torch.isfinite(squared)


def _add_weighted(state: MomentState, x: Tensor, weights: Tensor) -> None:
    """Each sample is taken about the reference of its heaviest class, where its distance is exact even when tiny."""
    usable = weights.isfinite().all(1) & (weights >= 0).all(1)
    centre = state.reference.mean(0)
    centred = x - centre
    finite = centred.square().sum(1).isfinite()
    centred = centred.masked_fill(~finite.unsqueeze(1), 0)
    keep = usable & finite
    weights = torch.where(keep.unsqueeze(1), weights, 0)
    own = weights.argmax(1, keepdim=True)
    reference = state.reference - centre
    exact = (centred - reference.index_select(0, own.squeeze(1))).square().sum(1, keepdim=True)
    distances = (centred.square().sum(1, keepdim=True) - 2 * centred @ reference.T + reference.square().sum(1)).clamp(
        min=0
    )
    distances = distances.scatter(1, own, exact)
    mass = weights.sum(0)
    state.weight.add_(mass)
    state.weight_sq.add_(weights.square().sum(0))
    state.total.add_(weights.T @ centred - mass.unsqueeze(1) * reference)
    state.scatter.add_((weights * distances).sum(0))
    state.nonfinite.add_((usable & ~finite).sum())
    state.mislabelled.add_((~usable).sum())


def merge_moments(first: MomentState, second: MomentState) -> MomentState:
    """The state of all samples of both, about the reference of the first (Chan, Golub, LeVeque 1979).

    >>> a, b = empty_moments(torch.zeros(1, 1)), empty_moments(torch.full((1, 1), 5.0))
    >>> update_moments(a, torch.tensor([[1.0]]), torch.tensor([0]))
    >>> update_moments(b, torch.tensor([[3.0]]), torch.tensor([0]))
    >>> merge_moments(a, b).total.item() / 2
    2.0
    """
    kept = ("sums", "weight", "weight_sq", "scatter", "nonfinite", "mislabelled")
    merged = replace(first, **{name: getattr(first, name).clone() for name in kept})
    add_moments(merged, second)
    return merged


def add_moments(state: MomentState, other: MomentState) -> None:
    """Add the samples of another state in place, which may be about other references; by pieces, without a copy.

    >>> a, b = empty_moments(torch.zeros(1, 1)), empty_moments(torch.full((1, 1), 5.0))
    >>> update_moments(b, torch.tensor([[3.0]]), torch.tensor([0]))
    >>> add_moments(a, b)
    >>> a.total, a.scatter
    (tensor([[3.]]), tensor([9.]))
    """
    for rows in pieces(*state.reference.shape):
        shift = other.reference[rows] - state.reference[rows]
        total, weight = other.total[rows], other.weight[rows]
        state.scatter[rows] += other.scatter[rows] + 2 * (total * shift).sum(1) + weight * shift.square().sum(1)
        state.total[rows].add_(total).add_(shift.mul_(weight.unsqueeze(1)))
    for name in ("weight", "weight_sq", "nonfinite", "mislabelled"):
        getattr(state, name).add_(getattr(other, name))


def move_references(state: MomentState) -> MomentState:
    """Take the means as references, in place, and forget the samples; classes without samples keep the old reference.

    What counts the samples is not touched but replaced: it may be in use as part of statistics.

    >>> state = empty_moments(torch.zeros(2, 1))
    >>> update_moments(state, torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    >>> state = move_references(state)
    >>> state.reference.flatten(), state.weight
    (tensor([2., 0.]), tensor([0., 0.]))
    """
    weight = torch.where(state.weight > 0, state.weight, 1).unsqueeze(1)
    for rows in pieces(*state.reference.shape):
        state.reference[rows].add_(state.total[rows] / weight[rows])
    return emptied(state)


def emptied(state: MomentState) -> MomentState:
    """The state without its samples, about the same references; its sums are cleared in place.

    >>> state = empty_moments(torch.zeros(1, 1))
    >>> update_moments(state, torch.tensor([[3.0]]), torch.tensor([0]))
    >>> emptied(state).total
    tensor([[0.]])
    """
    counters = ("weight", "weight_sq", "scatter", "nonfinite", "mislabelled")
    state.sums.zero_()
    return replace(state, **{name: torch.zeros_like(getattr(state, name)) for name in counters})


def pieces(rows: int, width: int) -> list[slice]:
    """Rows of a table that are worked on at once, so that temporary results of very many classes stay small.

    >>> pieces(10, 4), len(pieces(33_278, 200))
    ([slice(0, 10, None)], 7)
    """
    most = max(1, _PIECE // max(1, width))
    return [slice(start, min(start + most, rows)) for start in range(0, rows, most)]
