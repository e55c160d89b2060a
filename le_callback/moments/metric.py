"""Class moments as a torchmetrics metric. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from le_callback.errors import require
from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import MomentState, accumulation_dtype, empty_moments, merge_moments, update_moments

_BITS = 32
_instances = count()


class ClassMoments(Metric):
    """Class means and within-class scatter as a torchmetrics metric.

    A module's ``state_dict`` gets nothing of it unless ``persistent(True)`` asks for that. In a ``MetricCollection``
    it never shares the sums of another: sums that are equal after the first batch need not be so after the next.

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
    instance: Tensor

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
        self.register_buffer("reference", reference, persistent=False)
        for name, default in _sums(empty_moments(reference)).items():
            self.add_state(name, default, dist_reduce_fx="sum")
        # collections merge metrics whose states are equal: this one differs between any two
        number = next(_instances)
        bits = torch.tensor([float(number >> bit & 1) for bit in range(_BITS)])
        self.add_state("instance", bits, dist_reduce_fx="max")

    def update(self, features: Tensor, target: Tensor) -> None:
        """Add samples: features ``(N, p)`` and labels ``(N,)`` or class weights ``(N, K)``."""
        update_moments(self._moments(), features, target, self.ignore_index)

    def compute(self) -> ClassStatistics:
        """The moments of all samples so far."""
        return class_statistics(self._moments())

    def persistent(self, mode: bool = False) -> None:
        """Change whether a ``state_dict`` holds the sums, and the reference that they are about."""
        super().persistent(mode)
        if mode:
            self._non_persistent_buffers_set.discard("reference")
        else:
            self._non_persistent_buffers_set.add("reference")

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take in the samples of another metric or state; another metric may have another reference."""
        if isinstance(incoming_state, ClassMoments):
            incoming_state = _sums(merge_moments(empty_moments(self.reference), incoming_state._moments()))
        if isinstance(incoming_state, dict):
            incoming_state = incoming_state | {"instance": self.instance}
        super().merge_state(incoming_state)

    def _moments(self) -> MomentState:
        return MomentState(**{field.name: getattr(self, field.name) for field in fields(MomentState)})


def _sums(state: MomentState) -> dict[str, Tensor]:
    return {f.name: getattr(state, f.name) for f in fields(state) if f.name != "reference"}
