"""Samples of several sources in a ring of fixed size, written by steps and read in pieces.

R samples are kept, p feature dimensions, N samples of a batch. Positions are known on the host: nothing synchronises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

RING_BYTES = 8 * 2**20  # of each source
ROWS_PER_CLASS, MIN_ROWS, MAX_ROWS = 4, 1024, 4096  # that are kept
RING_ROWS = 2048  # read at once
MAX_PLACES = 256

Place = tuple[Tensor, dict[str, Tensor]]


class SampleRing:
    """The last samples and their labels, and which of them were not read yet.

    Args:
        like: tensors (…, p) by source: they fix widths, dtypes and device.
        num_classes: K, as more are kept of more classes.

    Attributes:
        capacity: R, the number of samples that are kept, of the rows of the ring.
        filled: rows that hold a sample.
        cursor: row of the next sample.
        unread: first row that was not read.

    >>> ring = SampleRing({"x": torch.zeros(1, 2)}, num_classes=3)
    >>> ring.write({"x": torch.ones(4, 2)}, torch.tensor([0, 1, 2, 0]), 0)
    4
    >>> ring.last(2)[0]
    tensor([2, 0])
    """

    def __init__(self, like: Mapping[str, Tensor], num_classes: int) -> None:
        row_bytes = max(x.shape[1] * x.element_size() for x in like.values())
        most = max(1, RING_BYTES // row_bytes)
        self.capacity = min(most, MAX_ROWS, max(MIN_ROWS, ROWS_PER_CLASS * num_classes))
        self._size = max(self.capacity, min(RING_ROWS, most))
        self.rows = {name: x.new_zeros(self._size, x.shape[1]) for name, x in like.items()}
        self.labels = torch.full((self._size,), -1, dtype=torch.long, device=next(iter(like.values())).device)
        self._widths = {name: x.shape[1] for name, x in like.items()}
        self.filled = self.cursor = self.unread = 0
        self._places: dict[tuple[int, int], Place] = {}

    @property
    def full(self) -> bool:
        """Whether ``read`` has to follow before the next ``write``."""
        return self.cursor == self._size

    def accepts(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether a batch has the widths of the ring."""
        for name, x in batch.items():  # noqa: SIM110 -- a generator takes twice as long
            if x.shape[1] != self._widths[name]:
                return False
        return True

    def write(self, batch: Mapping[str, Tensor], labels: Tensor, done: int) -> int:
        """Copy samples, those before ``done`` left out, up to the end of the ring; returns how many."""
        start, n = self.cursor, labels.shape[0]  # ``len`` of a tensor is slow
        stop = min(start + n - done, self._size)
        take = stop - start
        self.cursor = stop
        if stop > self.filled:
            self.filled = stop
        whole = take == n
        own_labels, own_rows = self._place(start, stop)
        own_labels.copy_(labels if whole else labels[done : done + take])
        for name, x in batch.items():
            x = x.detach() if x.requires_grad else x
            own_rows[name].copy_(x if whole else x[done : done + take])
        return take

    def _place(self, start: int, stop: int) -> Place:
        """Labels and rows of the ring, kept: making a view takes as long as copying a small batch."""
        place = self._places.get((start, stop))
        if place is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            place = self.labels[start:stop], {name: rows[start:stop] for name, rows in self.rows.items()}
            self._places[start, stop] = place
        return place

    def read(self) -> Place | None:
        """Labels (n,) and samples (n, p) that were not read yet; None where there are none."""
        start, stop = self.unread, self.cursor
        self.skip()
        if start == stop:
            return None
        return self.labels[start:stop], {name: rows[start:stop] for name, rows in self.rows.items()}

    def skip(self) -> None:
        """Leave what was not read yet."""
        self.cursor %= self._size
        self.unread = self.cursor

    def last(self, n: int, *sources: str) -> Place:
        """Labels of the last samples, at most n, and the samples by source, of all or of those that are named."""
        start = self.cursor - min(n, self.filled)

        def copied(x: Tensor) -> Tensor:  # pieces that lie side by side: a gather takes several times as long
            if start >= 0:
                return x[start : self.cursor].clone()
            return torch.cat([x[self.filled + start : self.filled], x[: self.cursor]])

        return copied(self.labels), {name: copied(self.rows[name]) for name in sources or self.rows}

    def held(self, source: str) -> tuple[Tensor, Tensor]:
        """Labels and samples of all rows that are held, in the order of the ring; no copies."""
        return self.labels[: self.filled], self.rows[source][: self.filled]

    def replace(self, labels: Tensor, samples: Mapping[str, Tensor]) -> None:
        """Hold other samples, at most R, all of them read."""
        self.labels[: len(labels)] = labels
        for name, x in samples.items():
            self.rows[name][: len(labels)] = x
        self.filled = self.cursor = len(labels)
        self.skip()

    def clear(self) -> None:
        """Hold nothing."""
        self.filled = self.cursor = self.unread = 0

    def state_dict(self) -> dict[str, Any]:
        """CPU tensors and plain values."""
        return {
            "rows": {name: rows[: self.filled].cpu().clone() for name, rows in self.rows.items()},
            "labels": self.labels[: self.filled].cpu().clone(),
            "filled": self.filled,
            "cursor": self.cursor,
            "unread": self.unread,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what ``state_dict`` was taken of."""
        self.replace(state["labels"], state["rows"])
        self.filled, self.cursor, self.unread = state["filled"], state["cursor"], state["unread"]
