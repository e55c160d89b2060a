"""Neural collapse as torchmetrics metrics: exact, in one pass. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from le_callback.errors import require
from le_callback.measures.collapse import agreement, mean_collapse, orthogonality, within_variance
from le_callback.measures.geometry import nearest_by, projections_on
from le_callback.measures.head_weights import HeadWeights, read_head
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.neural_collapse import EtfAngles, read_angles
from le_callback.measures.pair_cosines import pair_cosines
from le_callback.measures.span import Span
from le_callback.moments import ClassMoments, ClassStatistics
from le_callback.values import NAN

_LEFT_OUT = -100
_KEY, _SAID, _ABOUT = range(3)  # columns of the samples that are kept


class ETFAngles(ClassMoments):
    """NC2, the class means beside a simplex ETF, as a torchmetrics metric.

    ``compute`` returns ``angle_mean``, ``angle_deviation`` and ``angle_smallest`` (degrees), ``norm_variation``,
    ``etf_error``, ``uniformity`` and ``cosine_excess``; what they are stands at ``EtfAngles``. NaN while fewer than two
    classes were seen. Sums are in double precision.

    Args:
        num_classes: K.
        num_features: p.
        classes: that are compared, at least two; all that were seen, if left out.
        ignore_index: integer label that is left out.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: for numbers or classes out of range.

    >>> metric = ETFAngles(num_classes=3, num_features=3)
    >>> metric.update(torch.eye(3), torch.arange(3))
    >>> round(metric.compute()["angle_deviation"].item(), 6)
    0.0
    """

    higher_is_better = None

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        classes: Sequence[int] | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        for argument, value in (("num_classes", num_classes), ("num_features", num_features)):
            require(value >= 1, argument, value, "a positive integer")
        reference = torch.zeros(num_classes, num_features, dtype=torch.float64)
        super().__init__(num_classes, num_features, ignore_index, reference, **kwargs)
        chosen = None if classes is None else sorted(set(classes))
        if chosen is not None:
            fits = len(chosen) >= 2 and 0 <= chosen[0] and chosen[-1] < num_classes
            require(fits, "classes", list(classes or ()), f"at least two of 0 to {num_classes - 1}")
        self.classes = chosen

    def update(self, features: Tensor, target: Tensor) -> None:
        """Add samples: features ``(N, p)`` and labels ``(N,)`` or class weights ``(N, K)``."""
        super().update(features, self._chosen(target))

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """All scalars."""
        angles = self.angles()
        return self._tensors({name: getattr(angles, field, NAN) for name, field in _ANGLES.items()})

    def angles(self) -> EtfAngles | None:
        """The angles with the classes of the nearest pairs; None while fewer than two classes were seen."""
        moments = super().compute()
        rows = moments.seen.nonzero().flatten()
        if len(rows) < 2:
            return None
        geometry = MeanGeometry(moments.mean[rows])
        return read_angles(geometry, pair_cosines(geometry), rows.tolist())

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw one or several values that ``compute`` or ``forward`` returned; the current ones if left out."""
        return self._plot(val, ax)

    def _chosen(self, target: Tensor) -> Tensor:
        """The target without the classes that are not compared."""
        if self.classes is None:
            return target
        chosen = torch.tensor(self.classes, device=target.device)
        if target.ndim > 1:
            kept = torch.zeros_like(target)
            kept[:, chosen] = target[:, chosen]
            return kept
        outside = ~torch.isin(target, chosen) & (target >= 0) & (target < len(self.weight))
        return target.masked_fill(outside, _LEFT_OUT if self.ignore_index is None else self.ignore_index)

    def _tensors(self, values: dict[str, float]) -> dict[str, Tensor]:
        return {name: self.weight.new_tensor(value) for name, value in values.items()}


_ANGLES = {
    "angle_mean": "mean",
    "angle_deviation": "deviation",
    "angle_smallest": "smallest",
    "norm_variation": "norm_variation",
    "etf_error": "error",
    "uniformity": "uniformity",
    "cosine_excess": "excess",
}


class NeuralCollapse(ETFAngles):
    """NC1 to NC5 of features and a linear head, in one pass over the data, as a torchmetrics metric.

    ``compute`` returns a dictionary of scalars, NaN where unknown:

    - ``nc1`` tr(Σ_W Σ_B⁺)/K, ``nc1_trace`` tr Σ_W/tr Σ_B, ``nc1_cdnv`` mean of (tr Σ_k + tr Σ_l)/(2‖X̄_k − X̄_l‖²),
      with Σ_B = avg_k m_k m_kᵀ of the class means about their centre, Σ_W pooled over all samples, N − K degrees of
      freedom, and tr Σ_k with n_k − 1;
    - ``nc2_…`` as in ``ETFAngles``;
    - ``nc3_duality`` ‖W/‖W‖ − M/‖M‖‖_F and ``nc3_cosine``, once ``set_head`` was called;
    - ``nc4`` share of samples for which the head says the class of the nearest class mean: by the ``logits`` given to
      ``update``, or by the head of ``set_head``. It is read on at most ``samples`` samples, chosen by a hash of their
      features, so that neither order nor processes matter;
    - ``nc5`` mean ``|cos|`` of class means and the mean of what ``update_out`` was given;
    - ``effective_rank`` (tr Σ_B)²/tr Σ_B² and ``stable_rank`` tr Σ_B/λ_max(Σ_B).

    It holds K·p + p² numbers in double precision and the samples in single precision; an update takes N·p²
    multiplications. A width of 1/300,000 of the features' distance from the origin is still told to five digits.

    Args:
        num_classes: K.
        num_features: p.
        classes: that are compared, at least two; all that were seen, if left out.
        ignore_index: integer label that is left out.
        samples: that are kept for ``nc4``.
        kwargs: those of ``torchmetrics.Metric``.

    Raises:
        ValueError: for numbers or classes out of range.

    >>> metric = NeuralCollapse(num_classes=2, num_features=1)
    >>> metric.set_head(nn.Linear(1, 2))
    >>> metric.update(torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
    >>> metric.compute()["nc1"]
    tensor(0.0400, dtype=torch.float64)
    """

    cross: Tensor
    kept: Tensor
    out_sum: Tensor
    out_count: Tensor

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        classes: Sequence[int] | None = None,
        ignore_index: int | None = None,
        samples: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, num_features, classes, ignore_index, **kwargs)
        require(samples >= 1, "samples", samples, "a positive integer")
        p = num_features
        self.add_state("cross", torch.zeros(p, p, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("out_sum", torch.zeros(p, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("out_count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("kept", torch.full((samples, _ABOUT + p), torch.inf), dist_reduce_fx=_first_by_key)
        self.head: HeadWeights | None = None

    def set_head(self, head: nn.Module | HeadWeights) -> None:
        """Take the weights of a head as they are now: for ``nc3``, and for ``nc4`` of the updates that follow.

        Raises:
            ValueError: if they cannot be read as (K, p).
        """
        found = head if isinstance(head, HeadWeights) else read_head(head, *self.reference.shape)
        expected = f"a linear layer of {self.reference.shape[1]} features and {self.reference.shape[0]} classes"
        require(found is not None, "head", type(head).__name__, expected)
        assert found is not None
        self.head = HeadWeights(found.weight.clone(), None if found.bias is None else found.bias.clone())
        self._computed = None

    def update(self, features: Tensor, target: Tensor, logits: Tensor | None = None) -> None:
        """Add samples: features ``(N, p)``, labels ``(N,)`` or class weights ``(N, K)``, ``logits`` of the head."""
        features, target = features.detach(), self._chosen(target)
        ClassMoments.update(self, features, target)
        x = features.to(self.cross.dtype)
        mass = self._mass(target) * x.square().sum(1).isfinite()
        x = x.masked_fill((mass == 0).unsqueeze(1), 0)
        self.cross.addmm_((x * mass.unsqueeze(1)).T, x)
        said = torch.full_like(mass, -1)
        if logits is not None:
            z = logits.detach()
            said = z.argmax(1) if z.shape[1] > 1 else z.squeeze(1) > 0
        elif self.head is not None:
            said = self.head.like(x).decisions(x)
        single = x.to(self.kept.dtype)
        key = _hash(single).masked_fill(mass == 0, torch.inf)
        rows = torch.cat([torch.stack([key, said.to(key)], dim=1), single], dim=1)
        self.kept = _first_by_key(torch.cat([self.kept, rows]).unsqueeze(0), len(self.kept))

    def update_out(self, features: Tensor) -> None:
        """Add out-of-distribution samples (N, p), for ``nc5``."""
        x = features.detach().to(self.out_sum)
        known = x.square().sum(1).isfinite()
        self.out_sum += x[known].sum(0)
        self.out_count += known.sum()
        self._computed = None

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """All scalars."""
        moments = ClassMoments.compute(self)
        rows = moments.seen.nonzero().flatten()
        found = dict.fromkeys(COLLAPSE_NAMES, NAN)
        if len(rows) >= 2:
            found |= self._read(ClassStatistics(*(part[rows] for part in moments)), rows)
        return self._tensors(found)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take in the samples of another metric or state."""
        if isinstance(incoming_state, NeuralCollapse):
            incoming_state = incoming_state.metric_state
        super().merge_state(incoming_state)

    def _mass(self, target: Tensor) -> Tensor:
        """How much each sample counts in all classes together (N,)."""
        if target.ndim > 1:
            weights = target.to(self.cross.dtype)
            usable = weights.isfinite().all(1) & (weights >= 0).all(1)
            return weights.sum(1).masked_fill(~usable, 0)
        known = (target >= 0) & (target < len(self.weight))
        if self.ignore_index is not None:
            known &= target != self.ignore_index
        return known.to(self.cross.dtype)

    def _read(self, moments: ClassStatistics, rows: Tensor) -> dict[str, float]:
        geometry = MeanGeometry(moments.mean)
        pairs = pair_cosines(geometry, moments.variance)
        angles = read_angles(geometry, pairs, rows.tolist())
        weight = None if self.head is None else self.head.weight[rows]
        of_means = mean_collapse(geometry, pairs, moments, weight)
        found = {f"nc2_{name}": getattr(angles, field) for name, field in _ANGLES.items()}
        found |= {name: getattr(of_means, field) for name, field in _OF_MEANS.items()}
        freedom = within_variance(moments)[1]
        if freedom > 0 and (span := Span.of(geometry)) is not None:
            total = self.sums[:-3][rows]
            scatter = self.cross - total.T @ (total / self.weight[rows].unsqueeze(1))
            found["nc1"] = float(span.apply(span.apply(scatter).T).trace()) / freedom
        if float(self.out_count) > 0:
            found["nc5"] = orthogonality(moments.mean, self.out_sum / self.out_count)
        kept = self.kept[self.kept[:, _KEY].isfinite()]
        if len(kept) and bool((kept[:, _SAID] >= 0).all()):
            nearest = rows[nearest_by(*projections_on(kept[:, _ABOUT:].to(moments.mean), moments.mean))]
            found["nc4"] = agreement(nearest, kept[:, _SAID])
        return found


_OF_MEANS = {
    "nc1_trace": "trace_ratio",
    "nc1_cdnv": "distance",
    "nc3_duality": "duality",
    "nc3_cosine": "duality_cosine",
    "effective_rank": "rank",
    "stable_rank": "stable_rank",
}

COLLAPSE_NAMES = (
    "nc1",
    "nc1_trace",
    "nc1_cdnv",
    *(f"nc2_{name}" for name in _ANGLES),
    "nc3_duality",
    "nc3_cosine",
    "nc4",
    "nc5",
    "effective_rank",
    "stable_rank",
)


def _hash(rows: Tensor) -> Tensor:
    """A number in [0, 1) of each row (N, p), the same wherever the row stands."""
    factors = torch.randint(2**62, (rows.shape[1],), generator=torch.Generator().manual_seed(0))
    bits = rows.float().contiguous().view(torch.int32).long()
    mixed = (bits * (2 * factors + 1).to(bits.device)).sum(1)
    mixed = (mixed ^ (mixed >> 29)) * 0x1F58476D1CE4E5B9
    return ((mixed >> 40) & 0xFFFFFF).to(rows.dtype) / 2**24


def _first_by_key(stacked: Tensor, most: int | None = None) -> Tensor:
    """The samples of smallest key of several sets of them (W, n, 2 + p), as many as one set holds."""
    rows = stacked.flatten(0, 1)
    return rows[rows[:, _KEY].topk(most or stacked.shape[1], largest=False).indices]
