"""The samples of one window: recent rows kept for its end, all of them added to class moments in large pieces.

K classes, N samples of a batch, R samples that are kept, in a ring of at least as many rows. A step copies its samples
into the ring as they are; they are summed when the ring is full, so that small kernels run once for many steps.
Positions are known on the host, so nothing synchronises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from le_callback.moments.following import heaviest
from le_callback.moments.source_sums import SourceSums
from le_callback.moments.statistics import ClassStatistics
from le_callback.moments.sums import MomentState, class_rows, initial_reference, usable_rows

RING_BYTES = 8 * 2**20  # of each source
ROWS_PER_CLASS, MIN_ROWS, MAX_ROWS = 4, 1024, 4096  # that are kept
RING_ROWS = 2048  # summed at once
MAX_PLACES = 256


_ADDITIVE = ("total", "weight", "weight_sq", "scatter", "nonfinite", "mislabelled")
_COUNTS = "counts"


class ClassWindow:
    """Class moments of several feature sources with common labels, and the window's most recent samples.

    Args:
        references: the means (K, p) to sum about, by source. They fix widths, dtypes and device.
        ignore_index: integer label that is left out.
        counted: number of classes whose samples are ``counts``, where the window follows a part of them; else 0.

    Attributes:
        capacity: R, the number of samples that are kept.

    >>> x = torch.tensor([[0.0], [2.0], [9.0]])
    >>> window = ClassWindow.for_batch({"features": x}, num_classes=2)
    >>> window.update({"features": x}, torch.tensor([0, 0, 1]))
    >>> window.statistics("features").mean.flatten()
    tensor([1., 9.])
    """

    def __init__(self, references: Mapping[str, Tensor], ignore_index: int | None = None, *, counted: int = 0) -> None:
        first = next(iter(references.values()))
        self.counts = torch.zeros(counted, device=first.device)
        self.num_classes = first.shape[0]
        self.ignore_index = ignore_index
        self._ever_seen = torch.zeros(self.num_classes, dtype=torch.bool, device=first.device)
        self._sums = {name: SourceSums(reference) for name, reference in references.items()}
        row_bytes = max(r.shape[1] * r.element_size() for r in references.values())
        wanted = min(MAX_ROWS, max(MIN_ROWS, ROWS_PER_CLASS * self.num_classes))
        most = max(1, RING_BYTES // row_bytes)
        self.capacity = min(wanted, most)
        self._capacity = max(self.capacity, min(RING_ROWS, most))
        self._rows = {name: r.new_zeros(self._capacity, r.shape[1]) for name, r in references.items()}
        self._labels = torch.full((self._capacity,), -1, dtype=torch.long, device=first.device)
        self._places: dict[tuple[int, int], tuple[Tensor, dict[str, Tensor]]] = {}
        self._filled = self._cursor = self._accumulated = 0
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}  # what ``samples`` found, until the window changes
        self._advanced = False

    @classmethod
    def for_batch(
        cls, batch: Mapping[str, Tensor], num_classes: int, ignore_index: int | None = None, *, counted: int = 0
    ) -> ClassWindow:
        """An empty window for samples like those of a first batch, (N, p) by source."""
        references = {name: initial_reference(x, num_classes) for name, x in batch.items()}
        return cls(references, ignore_index, counted=counted)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], ignore_index: int | None = None, device: torch.device | str = "cpu"
    ) -> ClassWindow:
        """The window that ``state_dict`` was taken of, on ``device``."""
        sums = {name: SourceSums.from_state(saved, device) for name, saved in state["sums"].items()}
        counts = state["counts"].to(device, copy=True)
        window = cls({name: s.reference for name, s in sums.items()}, ignore_index, counted=len(counts))
        window._sums, window.counts = sums, counts
        window._advanced, window._ever_seen = state["advanced"], state["ever_seen"].to(device, copy=True)
        window._filled, window._cursor = state["filled"], state["cursor"]
        window._accumulated = state["accumulated"]
        window._labels[: window._filled] = state["labels"].to(device)
        for name, rows in state["rows"].items():
            window._rows[name][: window._filled] = rows.to(device)
        return window

    @property
    def empty(self) -> bool:
        """Whether no batch was added since the window was opened."""
        return self._filled == 0

    def accepts(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether a batch has the widths of the first."""
        return all(x.shape[1] == self._rows[name].shape[1] for name, x in batch.items())

    def update(self, batch: Mapping[str, Tensor], target: Tensor) -> None:
        """Add samples, without a host synchronisation.

        Args:
            batch: (N, p) by source.
            target: integer labels (N,) or class weights (N, K).
        """
        self._kept.clear()
        if target.ndim == 1:
            self._write(batch, target)
            return
        # weights are not kept, so these samples are added at once
        self._accumulate(self._cursor)
        for name, x in batch.items():
            self._sums[name].add_weighted(x.detach(), target)
        self._write(batch, heaviest(target), added=True)

    def _write(self, batch: Mapping[str, Tensor], labels: Tensor, *, added: bool = False) -> None:
        """Copy samples into the ring, in as many turns as it takes; ``added``: the sums hold them already."""
        done, n = 0, len(labels)
        while done < n:
            start = self._cursor
            take = min(n - done, self._capacity - start)
            self._cursor = stop = start + take
            whole = take == n
            own_labels, own_rows = self._place(start, stop)
            own_labels.copy_(labels if whole else labels[done : done + take])
            for name, x in batch.items():
                x = x.detach()
                own_rows[name].copy_(x if whole else x[done : done + take])
            done += take
            self._filled = max(self._filled, stop)
            if added:
                self._accumulated = stop
            if stop == self._capacity:
                self._accumulate(stop)
                self._cursor = self._accumulated = 0

    def _place(self, start: int, stop: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Labels and rows of the ring, kept: making a view takes as long as copying a small batch."""
        place = self._places.get((start, stop))
        if place is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            place = self._labels[start:stop], {name: rows[start:stop] for name, rows in self._rows.items()}
            self._places[start, stop] = place
        return place

    def _accumulate(self, stop: int) -> None:
        """Add the rows up to ``stop`` that the sums do not hold yet."""
        if stop > self._accumulated:
            piece = slice(self._accumulated, stop)
            rows = class_rows(self._labels[piece], self.num_classes, self.ignore_index)
            for name, sums in self._sums.items():
                sums.add(self._rows[name][piece], rows)
        self._accumulated = stop

    @property
    def moments(self) -> dict[str, MomentState]:
        """The sums of all rows that were added to them, by source."""
        return {name: sums.state for name, sums in self._sums.items()}

    def statistics(self, source: str) -> ClassStatistics:
        """Class moments of all samples of the window."""
        self._accumulate(self._cursor)
        sums = self._sums[source]
        samples = self.samples(source) if sums.about_zero else ()
        return ClassStatistics(*map(_readable, sums.statistics(*samples)))

    def samples(self, source: str) -> tuple[Tensor, Tensor]:
        """The last samples of the window, at most R: ``(n, p)`` and their labels ``(n,)``; synchronises."""
        if source not in self._kept:
            order = self._last(self.capacity)
            x, labels = self._rows[source][order], self._labels[order]
            keep = class_rows(labels, self.num_classes, self.ignore_index).row < self.num_classes
            keep &= usable_rows(x)
            found = (x, labels) if bool(keep.all()) else (x[keep], labels[keep])
            self._kept[source] = _readable(found[0]), _readable(found[1])
        return self._kept[source]

    def previous_means(self, source: str) -> Tensor | None:
        """The last known class means (K, p) from before this window, NaN rows for classes never seen.

        ``None`` in the first window.
        """
        if not self._advanced:
            return None
        return _readable(torch.where(self._ever_seen.unsqueeze(1), self._sums[source].reference, torch.nan))

    def advance(self) -> None:
        """Open the next window about the means of this one."""
        self._accumulate(self._cursor)
        self._kept.clear()
        self._advanced = self._advanced or not self.empty
        self._ever_seen |= next(iter(self._sums.values())).state.weight > 0
        for sums in self._sums.values():
            sums.advance()
        self.counts.zero_()
        self._filled = self._cursor = self._accumulated = 0

    def signature(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of every source: windows of the same signature can be pooled."""
        return {name: (tuple(s.reference.shape), str(s.reference.dtype)) for name, s in self._sums.items()}

    def rebase(self, references: Mapping[str, Tensor]) -> None:
        """Take all sums about other references (K, p), by source."""
        self._accumulate(self._cursor)
        self._kept.clear()
        for name, reference in references.items():
            self._sums[name].rebase(reference)

    def sums(self) -> dict[str, Tensor]:
        """The additive parts of the moments of all samples, as ``<source>.<field>``."""
        self._accumulate(self._cursor)
        sums = {f"{name}.{field}": getattr(m, field) for name, m in self.moments.items() for field in _ADDITIVE}
        return sums | {_COUNTS: self.counts}

    def latest(self, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Labels of the last samples, at most n, and the samples, by source."""
        order = self._last(n)
        return self._labels[order], {name: rows[order] for name, rows in self._rows.items()}

    def _last(self, n: int) -> Tensor:
        """Places in the ring of the last samples, at most n."""
        order = torch.arange(self._cursor - min(n, self._filled), self._cursor, device=self._labels.device)
        return order % max(self._filled, 1)

    def replace(self, sums: Mapping[str, Tensor], labels: Tensor, samples: Mapping[str, Tensor]) -> None:
        """Make this the window of other samples about the same references: their ``sums``, and at most R of them."""
        self._kept.clear()
        for name, own in self._sums.items():
            own.replace({field: sums[f"{name}.{field}"] for field in _ADDITIVE})
            self._rows[name][: len(labels)] = samples[name]
        self.counts.copy_(sums[_COUNTS])
        self._labels[: len(labels)] = labels
        self._filled = len(labels)
        self._cursor = self._accumulated = len(labels) % self._capacity

    def clear(self) -> None:
        """Forget the samples of the open window."""
        self._kept.clear()
        for sums in self._sums.values():
            sums.clear()
        self.counts.zero_()
        self._filled = self._cursor = self._accumulated = 0

    def state_dict(self) -> dict[str, Any]:
        """CPU tensors and plain values. Pending rows stay pending, so that sums are rounded as without a stop."""
        return {
            "sums": {name: sums.state_dict() for name, sums in self._sums.items()},
            "rows": {name: rows[: self._filled].cpu().clone() for name, rows in self._rows.items()},
            "labels": self._labels[: self._filled].cpu().clone(),
            "filled": self._filled,
            "cursor": self._cursor,
            "accumulated": self._accumulated,
            "advanced": self._advanced,
            "ever_seen": self._ever_seen.cpu().clone(),
            "counts": self.counts.cpu().clone(),
        }


def _readable(x: Tensor) -> Tensor:
    """On the host where the device has no double precision, in which a window is evaluated."""
    return x.cpu() if x.device.type == "mps" else x
