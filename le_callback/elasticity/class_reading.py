"""Class means of one window in the coordinates of a similarity model.

K classes, p feature dimensions, q coordinates a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.similarity import LEModel
from le_callback.values import Array

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassReading:
    """Coordinates of the class means in one window.

    Attributes:
        z: ``(K, q)``; rows of classes not seen are 0.
        noise: expected squared error of each row ``(K,)``, 0 where not seen.
        seen: ``(K,)``.
        dimensions: directions that the noise of a class spreads over.
        averaged: whether means are averages over a window, not those of one moment.
    """

    z: Array
    noise: Array
    seen: Flags
    dimensions: float
    averaged: bool = True

    @classmethod
    def of(
        cls, model: LEModel, means: Tensor, noise: Tensor, dimensions: float | None = None, *, averaged: bool = True
    ) -> ClassReading:
        """From class means ``(K, p)``, NaN where not seen, and the noise of each class's coordinates ``(K,)``.

        >>> from le_callback.similarity import IModel
        >>> nan = float("nan")
        >>> ClassReading.of(IModel(), torch.tensor([[1.0], [nan]]), torch.tensor([0.1, nan])).seen
        array([ True, False])
        """
        z = model.coordinates(means).cpu().numpy()
        s = noise.cpu().numpy()
        seen = np.isfinite(z).all(1) & np.isfinite(s)
        if not seen.all():
            z, s = np.where(seen[:, None], z, 0.0), np.where(seen, s, 0.0)
        return cls(z, s, seen, min(z.shape[1], dimensions or z.shape[1]), averaged)

    def state(self) -> list[Any]:
        """Tensors and numbers."""
        return [*(torch.from_numpy(x) for x in (self.z, self.noise, self.seen)), self.dimensions, self.averaged]

    @classmethod
    def from_state(cls, state: list[Any]) -> ClassReading:
        """The reading that ``state`` was taken of."""
        z, noise, seen, *rest = state
        return cls(z.numpy(), noise.numpy(), seen.numpy(), *rest)
