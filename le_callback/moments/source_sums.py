"""The sums of one source of a window, about references or about zero. K classes, p feature dimensions, n samples.

Sums about zero need no deviations, which saves half of the work, but Σ‖x‖² − n‖mean‖² cancels in single precision where
classes are collapsed. So they are taken only in a window after one that shows that there is nothing to lose. They are
moved to the references now and then, before their own rounding counts, and where a window is read.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import (
    ClassRows,
    MomentState,
    add_deviations,
    add_moments,
    add_norms,
    add_placed,
    emptied,
    empty_moments,
    merge_moments,
    move_references,
    pieces,
    update_moments,
)

SPREAD_ABOUT_ZERO = 1e-3  # tr Σ_k over ‖mean_k‖² from which on sums about zero lose at most 0.1 % of tr Σ_k
SPREAD_LOST = 3e-5  # below which they have lost 2 % and more: more than an estimate from the samples that are kept
SAMPLES_ABOUT_ZERO = 256  # of each class, and
FEWEST_ABOUT_ZERO = 2**14  # of all, before sums about zero are moved to the references
MOST_ABOUT_ZERO = 2**22  # numbers K·p up to which they are taken: they need as much memory again


class SourceSums:
    """Sums of the samples of a window about ``reference`` (K, p), the class means of the window before.

    Args:
        reference: fixes width, dtype and device; ``advance`` changes it in place.
        in_place: whether means are made in the place of the sums, where these are too large for a copy. They hold until
            the sums are used again.

    >>> from le_callback.moments.sums import class_rows
    >>> sums = SourceSums(torch.zeros(2, 1))
    >>> sums.add(torch.tensor([[1.0], [3.0], [7.0]]), class_rows(torch.tensor([0, 0, 1]), 2))
    >>> sums.statistics().mean.flatten()
    tensor([2., 7.])
    """

    def __init__(self, reference: Tensor, *, in_place: bool = False) -> None:
        self.about_zero = False
        self._in_place = in_place
        self._made: ClassStatistics | None = None  # whose means lie in the place of the sums
        self._state = empty_moments(reference)
        self._plain: MomentState | None = None
        self._added = 0  # samples about zero that the state does not hold yet
        self._variance: Tensor | None = None  # of the last statistics

    @property
    def reference(self) -> Tensor:
        """What the sums are about (K, p)."""
        return self._state.reference

    @property
    def state(self) -> MomentState:
        """All sums so far, about the references."""
        self._reopen()
        if self._added and self._plain is not None:
            add_moments(self._state, self._plain)
            self._plain, self._added = emptied(self._plain), 0
        return self._state

    @property
    def weight(self) -> Tensor:
        """Samples of each class (K,)."""
        return self._state.weight if self._made is not None else self.state.weight

    def _reopen(self) -> None:
        """Sums in the place of the means, where these were not the last to be read."""
        if self._made is not None:
            mean, seen, weight = self._made.mean, self._made.seen.unsqueeze(1), self._made.weight.unsqueeze(1)
            for rows in pieces(*mean.shape):
                mean[rows] = torch.where(seen[rows], (mean[rows] - self.reference[rows]) * weight[rows], 0)
            self._made = None

    def add(self, samples: Tensor, rows: ClassRows) -> None:
        """Add ``samples`` (n, p) that belong to ``rows``."""
        self._reopen()
        if self.about_zero:
            add_deviations(self._about_zero(), samples, rows)
            self._added += len(samples)
            self._move()
        else:
            deviations = self.reference.index_select(0, rows.reference)
            add_deviations(self._state, torch.sub(samples, deviations, out=deviations), rows)

    def _about_zero(self) -> MomentState:
        if self._plain is None:
            self._plain = _about_zero(self.reference)
        return self._plain

    def _move(self) -> None:
        if self._added >= max(FEWEST_ABOUT_ZERO, SAMPLES_ABOUT_ZERO * len(self.reference)):
            _ = self.state

    def add_placed(self, samples: Tensor, places: Tensor) -> Tensor:
        """Add ``samples`` (n, p) about zero at ``places``, as ``sums.add_placed``; ``add_norms`` has to follow."""
        self._added += samples.shape[0]
        return add_placed(self._about_zero(), samples.to(self.reference.dtype), places)

    def add_norms(self, norms: Tensor, labels: Tensor, ignore_index: int | None) -> None:
        """Count what ``add_placed`` has added."""
        add_norms(self._about_zero(), norms, labels, ignore_index)
        self._move()

    def add_weighted(self, samples: Tensor, weights: Tensor) -> None:
        """Add ``samples`` (n, p) with class weights (n, K)."""
        self._reopen()
        update_moments(self._state, samples, weights)

    def statistics(self, samples: Tensor | None = None, labels: Tensor | None = None) -> ClassStatistics:
        """Class moments; ``samples`` (n, p) of the window and their ``labels`` stand in where rounding took tr Σ_k."""
        if self._in_place:
            if self._made is None:
                self._made = class_statistics(self.state, self.state.total)
            return self._made
        found = class_statistics(self.state)
        if self.about_zero and samples is not None and labels is not None:
            found = self._restored(found, samples, labels)
        self._variance = found.variance
        return found

    def _restored(self, found: ClassStatistics, samples: Tensor, labels: Tensor) -> ClassStatistics:
        spread = found.variance / torch.linalg.vector_norm(found.mean, dim=1).square_()
        if not bool((spread < SPREAD_ABOUT_ZERO).any()):
            return found
        own = empty_moments(found.mean.nan_to_num())
        update_moments(own, samples, labels)
        lost = (spread < SPREAD_LOST) | ((spread < SPREAD_ABOUT_ZERO) & (own.weight == self.state.weight))
        variance = torch.where(lost & (own.weight > 1), class_statistics(own).variance, found.variance)
        noise = variance * self.state.weight_sq / self.state.weight.square()
        return found._replace(variance=variance, mean_noise=torch.where(found.seen, noise, torch.nan))

    def advance(self) -> None:
        """Begin the next window about the means of this one; about zero, if the last statistics allow it."""
        if self._made is not None:
            mean, seen = self._made.mean, self._made.seen.unsqueeze(1)
            for rows in pieces(*mean.shape):
                self.reference[rows] = torch.where(seen[rows], mean[rows], self.reference[rows])
            self.clear()
        else:
            self._state = move_references(self.state)
        variance, self._variance = self._variance, None
        self.about_zero = variance is not None and self._may_be_about_zero(variance)

    def _may_be_about_zero(self, variance: Tensor) -> bool:
        if self.reference.numel() > MOST_ABOUT_ZERO:
            return False
        least = SPREAD_ABOUT_ZERO * self.reference.square().sum(1)
        return bool((variance.isnan() | (variance >= least)).all())

    def clear(self) -> None:
        """Forget all samples."""
        self._made = None
        self._state = emptied(self._state)
        if self._added and self._plain is not None:
            self._plain, self._added = emptied(self._plain), 0

    def rebase(self, reference: Tensor) -> None:
        """Take all sums about another ``reference`` (K, p)."""
        self._state = merge_moments(empty_moments(reference), self.state)

    def replace(self, sums: dict[str, Tensor]) -> None:
        """Take other sums about the same reference, by the names of ``MomentState``; ``total`` stands for ``sums``."""
        self.clear()
        self._state.total.copy_(sums["total"])
        for name in sums.keys() - {"total"}:
            getattr(self._state, name).copy_(sums[name])

    def state_dict(self) -> dict[str, Any]:
        """CPU tensors and plain values. What is summed about zero stays so, to be rounded as without a stop."""
        self._reopen()
        return {
            "state": _saved(self._state, "reference"),
            "plain": _saved(self._plain) if self._added and self._plain is not None else None,
            "added": self._added,
            "about_zero": self.about_zero,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str, *, in_place: bool = False) -> SourceSums:
        """The sums that ``state_dict`` was taken of, on ``device``."""
        kept = {name: x.to(device, copy=True) for name, x in state["state"].items()}
        found = cls(kept["reference"], in_place=in_place)
        found._state = MomentState(**kept)
        found.about_zero, found._added = state["about_zero"], state["added"]
        if state["plain"] is not None:
            plain = {name: x.to(device, copy=True) for name, x in state["plain"].items()}
            found._plain = MomentState(reference=_about_zero(found.reference).reference, **plain)
        return found


def _about_zero(reference: Tensor) -> MomentState:
    return empty_moments(reference.new_zeros(1, 1).expand(*reference.shape))


def _saved(state: MomentState, *also: str) -> dict[str, Tensor]:
    names = [f.name for f in fields(MomentState) if f.name != "reference" or f.name in also]
    return {name: getattr(state, name).cpu().clone() for name in names}
