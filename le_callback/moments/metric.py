"""Class moments as a torchmetrics metric. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from le_callback.errors import require
from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import MomentState, accumulation_dtype, empty_moments, merge_moments, update_moments


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
            require(value >= 1, argument, value, "a positive integer")
        if reference is None:
            reference = torch.zeros(num_classes, num_features)
        shape = (num_classes, num_features)
        require(tuple(reference.shape) == shape, "reference", tuple(reference.shape), f"of shape {shape}")
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
