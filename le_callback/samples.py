"""The most recent samples of a window, kept on the device for quantities that need directions known only at its end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_BYTES = 8 * 2**20
MAX_ROWS = 4096


@dataclass
class SampleBuffer:
    """A ring of samples: ``features (R, p)`` and ``labels (R,)``, −1 where a sample must not be used.

    Rows are overwritten in arrival order; ``filled`` and ``cursor`` are known on the host, so adding never
    synchronises.
    """

    features: Tensor
    labels: Tensor
    filled: int = 0
    cursor: int = 0

    @classmethod
    def like(cls, reference: Tensor) -> SampleBuffer:
        """An empty buffer for samples of the width, dtype and device of ``reference`` (K, p)."""
        width = reference.shape[1]
        rows = max(1, min(MAX_ROWS, MAX_BYTES // (width * reference.element_size())))
        features = reference.new_zeros(rows, width)
        return cls(features, torch.full((rows,), -1, dtype=torch.long, device=reference.device))

    def add(self, features: Tensor, target: Tensor, ignore_index: int | None = None) -> None:
        """Append samples (N, p) with labels (N,) or class weights (N, K), of which the heaviest class is kept."""
        rows = self.labels.shape[0]
        labels = target if target.ndim == 1 else target.argmax(1)
        if ignore_index is not None:
            labels = torch.where(labels == ignore_index, -1, labels)
        features, labels = features[-rows:], labels[-rows:]
        done = 0
        while done < len(labels):
            n = min(len(labels) - done, rows - self.cursor)
            self.features[self.cursor : self.cursor + n] = features[done : done + n]
            self.labels[self.cursor : self.cursor + n] = labels[done : done + n]
            self.cursor = (self.cursor + n) % rows
            self.filled = min(rows, self.filled + n)
            done += n

    def clear(self) -> None:
        """Forget all samples; the memory stays."""
        self.filled = self.cursor = 0

    def samples(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Usable samples ``(n, p)`` and their labels ``(n,)``; synchronises."""
        features, labels = self.features[: self.filled], self.labels[: self.filled]
        keep = (labels >= 0) & (labels < num_classes) & features.isfinite().all(1)
        return features[keep], labels[keep]
