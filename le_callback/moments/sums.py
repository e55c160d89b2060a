"""Streaming class moments: update, merge, compute. No host synchronisation in the update.

K classes, p feature dimensions, N samples of an update. All sums are about a reference mean a class (the means of the
last window), so that the scatter of collapsed classes does not cancel in single precision. Classes without samples are
masked, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


@dataclass(frozen=True)
class MomentState:
    """Sums of weighted samples about a reference; the tensors are updated in place.

    A sample i has weight w_ik in class k: 1 or 0 for integer labels, the label itself for soft labels.
    """

    reference: Tensor  # (K, p) r_k
    weight: Tensor  # (K,) Σ_i w_ik
    weight_sq: Tensor  # (K,) Σ_i w_ik²
    sums: Tensor  # (K + 3, p) Σ_i w_ik (x_i − r_k); the last rows take the samples left out and are never read
    scatter: Tensor  # (K,) Σ_i w_ik ‖x_i − r_k‖²
    nonfinite: Tensor  # () samples left out because a feature was NaN, infinite or too large to square
    mislabelled: Tensor  # () samples left out because the label was outside 0..K−1

    @property
    def total(self) -> Tensor:
        """Σ_i w_ik (x_i − r_k), (K, p)."""
        return self.sums[:-SPARE_ROWS]


class ClassStatistics(NamedTuple):
    """Moments of every class. Rows of classes without samples are NaN where ``seen`` is False."""

    seen: Tensor  # (K,) bool
    weight: Tensor  # (K,) samples (sum of weights)
    mean: Tensor  # (K, p) X̄_k
    variance: Tensor  # (K,) tr Σ_k, unbiased; pooled where a class has a single sample
    mean_noise: Tensor  # (K,) tr Σ_k / n_k, the expected squared error of the mean


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
    >>> class_statistics(state).mean.flatten()
    tensor([2., 7.])
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
    K = state.weight.shape[0]
    squared = torch.linalg.vector_norm(deviations, dim=1).square_()
    row = torch.where(squared < torch.inf, rows.row, rows.otherwise)  # NaN compares false
    # summed apart first: adding one by one, single precision would stand still at 2²⁴ samples of a class
    counted, scatter = squared.new_zeros(2, K + SPARE_ROWS).unbind()
    counted.index_add_(0, row, torch.ones_like(squared))
    scatter.index_add_(0, row, squared)
    weight, nonfinite, mislabelled, _ = counted.split_with_sizes((K, 1, 1, 1))
    state.weight.add_(weight)
    state.weight_sq.add_(weight)
    state.scatter.add_(scatter[:K])
    state.sums.index_add_(0, row, deviations)
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
    >>> class_statistics(merge_moments(a, b)).mean.item()
    2.0
    """
    shift = second.reference - first.reference
    weight = second.weight.unsqueeze(1)
    return replace(
        first,
        weight=first.weight + second.weight,
        weight_sq=first.weight_sq + second.weight_sq,
        sums=torch.cat([first.total + second.total + weight * shift, first.sums[-SPARE_ROWS:]]),
        scatter=first.scatter
        + second.scatter
        + 2 * (second.total * shift).sum(1)
        + second.weight * shift.square().sum(1),
        nonfinite=first.nonfinite + second.nonfinite,
        mislabelled=first.mislabelled + second.mislabelled,
    )


def class_statistics(state: MomentState) -> ClassStatistics:
    """Means, within-class variances and the noise of the means.

    With W = Σw and degrees of freedom W − Σw²/W (n − 1 for integer labels):
    tr Σ_k = (Σ w‖x − r‖² − ‖Σ w(x − r)‖²/W) / dof, noise of the mean = tr Σ_k · Σw²/W².
    """
    seen = state.weight > 0
    weight = torch.where(seen, state.weight, torch.nan)
    offset = state.total / weight.unsqueeze(1)
    squares = (state.scatter - (state.total * offset).sum(1)).clamp(min=0)
    dof = weight - state.weight_sq / weight
    has_spread = dof > 1e-3
    pooled = torch.where(has_spread, squares, 0).sum() / torch.where(has_spread, dof, 0).sum()
    variance = torch.where(has_spread, squares / dof.clamp(min=1e-3), torch.where(seen, pooled, torch.nan))
    return ClassStatistics(
        seen=seen,
        weight=state.weight,
        mean=state.reference + offset,
        variance=variance,
        mean_noise=variance * state.weight_sq / weight.square(),
    )


def next_reference(state: MomentState) -> Tensor:
    """The reference (K, p) for the next window: this window's means, the old reference for classes without samples."""
    seen = state.weight > 0
    offset = state.total / torch.where(seen, state.weight, 1).unsqueeze(1)
    return state.reference + offset


def along_direction(coordinates: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Unbiased variance (K,) of one coordinate (N,) in each class; pooled for a class of one sample, NaN for none.

    >>> along_direction(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 0, 1]), 3)
    tensor([2., 2., nan])
    """
    zeros = coordinates.new_zeros(num_classes)
    count = zeros.index_add(0, labels, torch.ones_like(coordinates))
    mean = zeros.index_add(0, labels, coordinates) / count
    squares = zeros.index_add(0, labels, (coordinates - mean[labels]).square_())
    dof = count - 1
    pooled = squares.sum() / dof.clamp(min=0).sum()
    return torch.where(dof > 0, squares / dof, torch.where(count > 0, pooled, torch.nan))


class ClassMoments(Metric):
    """Class means and within-class scatter as a torchmetrics metric.

    Args:
        num_classes: K.
        num_features: p.
        ignore_index: integer label that is left out.
        reference: (K, p) means to sum about, when they are known roughly; zero otherwise.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: if ``num_classes`` or ``num_features`` is not positive, or ``reference`` has another shape.

    >>> metric = ClassMoments(num_classes=2, num_features=1)
    >>> metric.update(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]))
    >>> metric.compute().mean.flatten()
    tensor([2., 7.])
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    reference: Tensor
    weight: Tensor
    weight_sq: Tensor
    sums: Tensor
    scatter: Tensor
    nonfinite: Tensor
    mislabelled: Tensor

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        ignore_index: int | None = None,
        reference: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in (("num_classes", num_classes), ("num_features", num_features)):
            if value < 1:
                raise ValueError(f"Expected argument `{argument}` to be a positive integer, but got {value}.")
        if reference is None:
            reference = torch.zeros(num_classes, num_features)
        elif reference.shape != (num_classes, num_features):
            raise ValueError(
                f"Expected argument `reference` to have shape ({num_classes}, {num_features}),"
                f" but got {tuple(reference.shape)}."
            )
        self.ignore_index = ignore_index
        reference = reference.to(accumulation_dtype(reference.dtype))
        self.register_buffer("reference", reference)
        for name, default in _sums(empty_moments(reference)).items():
            self.add_state(name, default, dist_reduce_fx="sum")

    def update(self, features: Tensor, target: Tensor) -> None:
        """Add samples: features ``(N, p)`` and labels ``(N,)`` or class weights ``(N, K)``."""
        update_moments(self._moments(), features, target, self.ignore_index)

    def compute(self) -> ClassStatistics:
        """The moments of all samples so far."""
        return class_statistics(self._moments())

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take in the samples of another metric or state; another metric may have another reference."""
        if isinstance(incoming_state, ClassMoments):
            incoming_state = _sums(merge_moments(empty_moments(self.reference), incoming_state._moments()))
        super().merge_state(incoming_state)

    def _moments(self) -> MomentState:
        return MomentState(**{field.name: getattr(self, field.name) for field in fields(MomentState)})


def _sums(state: MomentState) -> dict[str, Tensor]:
    return {f.name: getattr(state, f.name) for f in fields(state) if f.name != "reference"}
