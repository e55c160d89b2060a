"""The samples of one window: recent rows kept for its end, all of them added to class moments in large pieces.

K classes, N samples of a batch, R samples that are kept, in a ring of at least as many rows. A step copies its samples
into the ring as they are; they are summed when the ring is full, so that small kernels run once for many steps. Large
batches on the host are summed at once, see ``large``.
Positions are known on the host, so nothing synchronises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from le_callback.moments.following import heaviest
from le_callback.moments.large import LargeBatches
from le_callback.moments.ring import SampleRing
from le_callback.moments.source_sums import SourceSums
from le_callback.moments.statistics import ClassStatistics
from le_callback.moments.sums import MomentState, class_rows, initial_reference, usable_rows

_ADDITIVE = ("total", "weight", "weight_sq", "scatter", "nonfinite", "mislabelled")
_COUNTS = "counts"


class ClassWindow:
    """Class moments of several feature sources with common labels, and the window's most recent samples.

    Args:
        references: the means (K, p) to sum about, by source. They fix widths, dtypes and device.
        ignore_index: integer label that is left out.
        counted: number of classes whose samples are ``counts``, where the window follows a part of them; else 0.
        in_place: for very many classes: statistics hold until the next ``update`` or ``advance``, see ``SourceSums``.

    Attributes:
        ring: the last samples.

    >>> x = torch.tensor([[0.0], [2.0], [9.0]])
    >>> window = ClassWindow.for_batch({"features": x}, num_classes=2)
    >>> window.update({"features": x}, torch.tensor([0, 0, 1]))
    >>> window.statistics("features").mean.flatten()
    tensor([1., 9.])
    """

    def __init__(
        self,
        references: Mapping[str, Tensor],
        ignore_index: int | None = None,
        *,
        counted: int = 0,
        in_place: bool = False,
    ) -> None:
        first = next(iter(references.values()))
        self.counts = torch.zeros(counted, device=first.device)
        self.num_classes = first.shape[0]
        self.ignore_index = ignore_index
        self._ever_seen = torch.zeros(self.num_classes, dtype=torch.bool, device=first.device)
        self._sums = {name: SourceSums(reference, in_place=in_place) for name, reference in references.items()}
        self.ring = SampleRing(references, self.num_classes)
        self._large = LargeBatches(references, ignore_index)
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}  # what ``samples`` found, until the window changes
        self._advanced = False

    @classmethod
    def for_batch(
        cls,
        batch: Mapping[str, Tensor],
        num_classes: int,
        ignore_index: int | None = None,
        *,
        counted: int = 0,
        in_place: bool = False,
    ) -> ClassWindow:
        """An empty window for samples like those of a first batch, (N, p) by source."""
        references = {name: initial_reference(x, num_classes) for name, x in batch.items()}
        return cls(references, ignore_index, counted=counted, in_place=in_place)

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        ignore_index: int | None = None,
        device: torch.device | str = "cpu",
        *,
        in_place: bool = False,
    ) -> ClassWindow:
        """The window that ``state_dict`` was taken of, on ``device``."""
        sums = {name: SourceSums.from_state(saved, device, in_place=in_place) for name, saved in state["sums"].items()}
        counts = state["counts"].to(device, copy=True)
        window = cls({name: s.reference for name, s in sums.items()}, ignore_index, counted=len(counts))
        window._sums, window.counts = sums, counts
        window._advanced, window._ever_seen = state["advanced"], state["ever_seen"].to(device, copy=True)
        window.ring.load_state_dict(state["ring"])
        window._large.load_state_dict(state["large"])
        return window

    @property
    def empty(self) -> bool:
        """Whether no batch was added since the window was opened."""
        return self.ring.filled == 0

    def accepts(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether a batch has the widths of the first."""
        return self.ring.accepts(batch)

    def update(self, batch: Mapping[str, Tensor], target: Tensor) -> None:
        """Add samples, without a host synchronisation.

        Args:
            batch: (N, p) by source.
            target: integer labels (N,) or class weights (N, K).
        """
        self._kept.clear()
        if target.ndim == 1:
            if target.shape[0] < self._large.rows:
                self._write(batch, target)
                return
            self._accumulate(counted=False)
            self._large.add(self._sums, batch, target)
            self._write(*self._large.thinned(batch, target, self.ring), added=True)
            return
        # weights are not kept, so these samples are added at once
        self._accumulate()
        for name, x in batch.items():
            self._sums[name].add_weighted(x.detach(), target)
        self._write(batch, heaviest(target), added=True)

    def _write(self, batch: Mapping[str, Tensor], labels: Tensor, *, added: bool = False) -> None:
        """Copy samples into the ring, in as many turns as it takes; ``added``: the sums hold them already."""
        done, n, ring = 0, labels.shape[0], self.ring
        while done < n:
            done += ring.write(batch, labels, done)
            if added:
                ring.skip()
            elif ring.full:
                self._accumulate(counted=False)

    def _accumulate(self, *, counted: bool = True) -> None:
        """Add the samples that the sums do not hold yet; ``counted``: those of large batches are counted, too."""
        piece = self.ring.read()
        if piece is not None or counted:
            self._large.count(self._sums)
        if piece is not None:
            labels, samples = piece
            rows = class_rows(labels, self.num_classes, self.ignore_index)
            for name, sums in self._sums.items():
                sums.add(samples[name], rows)

    @property
    def moments(self) -> dict[str, MomentState]:
        """The sums of all rows that were added to them, by source."""
        return {name: sums.state for name, sums in self._sums.items()}

    def statistics(self, source: str) -> ClassStatistics:
        """Class moments of all samples of the window."""
        self._accumulate()
        sums = self._sums[source]
        samples = self.samples(source) if sums.about_zero else ()
        return ClassStatistics(*map(_readable, sums.statistics(*samples)))

    def samples(self, source: str) -> tuple[Tensor, Tensor]:
        """The last samples of the window, at most R: ``(n, p)`` and their labels ``(n,)``; synchronises.

        Of large batches all are taken until R are held, then one row of eight, other rows each time. They hold until
        the window is updated.
        """
        if source not in self._kept:
            if self.ring.filled <= self.ring.capacity:
                labels, x = self.ring.held(source)
            else:
                labels, samples = self.ring.last(self.ring.capacity, source)
                x = samples[source]
            keep = class_rows(labels, self.num_classes, self.ignore_index).row < self.num_classes
            keep &= usable_rows(x)
            found = (x, labels) if bool(keep.all()) else (x[keep], labels[keep])
            self._kept[source] = _readable(found[0]), _readable(found[1])
        return self._kept[source]

    def previous_means(self, source: str) -> Tensor | None:
        """The last known class means (K, p) from before this window, NaN rows for classes never seen.

        ``None`` in the first window. What is returned holds until ``advance``.
        """
        if not self._advanced:
            return None
        if bool(self._ever_seen.all()):
            return _readable(self._sums[source].reference)
        return _readable(torch.where(self._ever_seen.unsqueeze(1), self._sums[source].reference, torch.nan))

    def advance(self) -> None:
        """Open the next window about the means of this one."""
        self._accumulate()
        self._kept.clear()
        self._advanced = self._advanced or not self.empty
        self._ever_seen |= next(iter(self._sums.values())).weight > 0
        for sums in self._sums.values():
            sums.advance()
        self.counts.zero_()
        self.ring.clear()
        self._large.clear()

    def signature(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of every source: windows of the same signature can be pooled."""
        return {name: (tuple(s.reference.shape), str(s.reference.dtype)) for name, s in self._sums.items()}

    def rebase(self, references: Mapping[str, Tensor]) -> None:
        """Take all sums about other references (K, p), by source."""
        self._accumulate()
        self._kept.clear()
        for name, reference in references.items():
            self._sums[name].rebase(reference)

    def sums(self) -> dict[str, Tensor]:
        """The additive parts of the moments of all samples, as ``<source>.<field>``."""
        self._accumulate()
        sums = {f"{name}.{field}": getattr(m, field) for name, m in self.moments.items() for field in _ADDITIVE}
        return sums | {_COUNTS: self.counts}

    def replace(self, sums: Mapping[str, Tensor], labels: Tensor, samples: Mapping[str, Tensor]) -> None:
        """Make this the window of other samples about the same references: their ``sums``, and at most R of them."""
        self._kept.clear()
        for name, own in self._sums.items():
            own.replace({field: sums[f"{name}.{field}"] for field in _ADDITIVE})
        self.counts.copy_(sums[_COUNTS])
        self.ring.replace(labels, samples)
        self._large.clear()

    def clear(self) -> None:
        """Forget the samples of the open window."""
        self._kept.clear()
        for sums in self._sums.values():
            sums.clear()
        self.counts.zero_()
        self.ring.clear()
        self._large.clear()

    def state_dict(self) -> dict[str, Any]:
        """CPU tensors and plain values. Pending rows stay pending, so that sums are rounded as without a stop."""
        return {
            "sums": {name: sums.state_dict() for name, sums in self._sums.items()},
            "ring": self.ring.state_dict(),
            "large": self._large.state_dict(),
            "advanced": self._advanced,
            "ever_seen": self._ever_seen.cpu().clone(),
            "counts": self.counts.cpu().clone(),
        }


def _readable(x: Tensor) -> Tensor:
    """On the host where the device has no double precision, in which a window is evaluated."""
    return x.cpu() if x.device.type == "mps" else x
