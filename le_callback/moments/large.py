"""Large batches on the host, added to the sums as they are read from memory, as copying them first would cost more.

K classes, N samples of a batch. Of what ``sums.add_deviations`` does, only what needs the features is done in the step;
norms and labels are kept, and the samples counted for many steps together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from le_callback.moments.ring import SampleRing
from le_callback.moments.source_sums import SourceSums
from le_callback.moments.sums import class_rows, places

LARGE_BATCH = 2**18  # numbers of a batch from which on it is added at once
THINNING = 8  # rows of such a batch of which one is kept, once as many are kept as fit


class LargeBatches:
    """Adds large batches to sums.

    Args:
        references: (K, p) by source.
        ignore_index: integer label that is left out.

    Attributes:
        rows: N from which on a batch is large; no batch is on a device, where calls cost more than copies.

    >>> import torch
    >>> large, sums = LargeBatches({"x": torch.zeros(2, 2**17)}), {"x": SourceSums(torch.zeros(2, 2**17))}
    >>> large.rows
    2
    >>> large.add(sums, {"x": torch.ones(3, 2**17)}, torch.tensor([0, 1, 1]))
    >>> large.count(sums)
    >>> sums["x"].weight
    tensor([1., 2.])
    """

    def __init__(self, references: Mapping[str, Tensor], ignore_index: int | None = None) -> None:
        first = next(iter(references.values()))
        width = sum(reference.shape[1] for reference in references.values())
        self.rows = max(1, LARGE_BATCH // width) if first.device.type == "cpu" else sys.maxsize
        self._num_classes, self._ignored = first.shape[0], ignore_index
        self._like = {name: reference.new_zeros(1, 1) for name, reference in references.items()}
        self._norms: SampleRing | None = None  # of samples that are not counted yet
        self._thinned = 0  # batches

    def add(self, sums: Mapping[str, SourceSums], batch: Mapping[str, Tensor], labels: Tensor) -> None:
        """Add samples (N, p) by source, of integer labels (N,), without a host synchronisation."""
        norms = {}
        about_zero = [name for name, own in sums.items() if own.about_zero]
        if about_zero:
            into = places(labels, self._num_classes)
            norms = {name: sums[name].add_placed(batch[name].detach(), into) for name in about_zero}
            self._note(sums, norms, labels)
        if len(norms) < len(batch):
            rows = class_rows(labels, self._num_classes, self._ignored)
            for name in batch.keys() - norms.keys():
                sums[name].add(batch[name].detach().to(sums[name].reference.dtype), rows)

    def _note(self, sums: Mapping[str, SourceSums], norms: Mapping[str, Tensor], labels: Tensor) -> None:
        if self._norms is None:
            self._norms = SampleRing(self._like, num_classes=1)
        done, n = 0, labels.shape[0]
        while done < n:
            done += self._norms.write(norms, labels, done)
            if self._norms.full:
                self.count(sums)

    def count(self, sums: Mapping[str, SourceSums]) -> None:
        """Count the samples that were added."""
        piece = None if self._norms is None else self._norms.read()
        if piece is not None:
            labels, norms = piece
            for name, own in sums.items():
                if own.about_zero:
                    own.add_norms(norms[name], labels, self._ignored)

    def thinned(
        self, batch: Mapping[str, Tensor], labels: Tensor, ring: SampleRing
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What ``ring`` shall keep of a batch: all of it until it holds as many as it can, then one row of eight."""
        if ring.filled < ring.capacity:
            return dict(batch), labels
        rows = slice(self._thinned % THINNING, None, THINNING)
        self._thinned += 1
        return {name: x[rows] for name, x in batch.items()}, labels[rows]

    def clear(self) -> None:
        """Forget what is not counted."""
        if self._norms is not None:
            self._norms.clear()

    def state_dict(self) -> dict[str, Any]:
        """CPU tensors and plain values."""
        return {"thinned": self._thinned, "norms": None if self._norms is None else self._norms.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._thinned = state["thinned"]
        if state["norms"] is not None:
            self._norms = SampleRing(self._like, num_classes=1)
            self._norms.load_state_dict(state["norms"])
