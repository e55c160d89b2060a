"""The two modes of the class means in one window, and whether they stand out of the sampling noise.

Legend: K classes, p feature dimensions, q coordinates a class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from le_callback.elasticity.class_reading import ClassReading
from le_callback.similarity import LEModel, as_model
from le_callback.values import NAN

Mode = Literal["common", "difference"]
"""The two growth modes of class means under balanced sampling."""
MODES: tuple[Mode, Mode] = ("common", "difference")


@dataclass(frozen=True)
class ModeReading:
    """What one window shows of a mode.

    Attributes:
        squared: squared amplitude, sampling noise included.
        noise: how much of it is sampling noise, on average.
        sign: 1 or −1; always 1 where the mode has more than one coordinate.
        dimensions: number of directions that the sampling noise spreads over.

    >>> round(ModeReading(squared=1.0, noise=0.19).log_amplitude(), 4)
    -0.1054
    """

    squared: float
    noise: float
    sign: float = 1.0
    dimensions: float = 1.0

    def identifiable(self, threshold: float) -> bool:
        """Whether the amplitude stands out of the sampling noise: raw² > threshold · noise."""
        return math.isfinite(self.squared) and self.squared > max(threshold * self.noise, 0.0) and self.noise >= 0

    def log_amplitude(self) -> float:
        """Log amplitude corrected for the noise: ½ log(raw² − noise)."""
        excess = self.squared - self.noise
        return 0.5 * math.log(excess) if excess > 0 else NAN


def read_modes(
    model: LEModel | str, means: Tensor, mean_noise: Tensor, num_classes: int, dimensions: float | None = None
) -> dict[Mode, ModeReading]:
    """Squared amplitudes of both modes and their expected sampling noise.

    With z_k the coordinates of the seen classes and s_k the noise of each: common ‖z̄‖² with noise Σ s_k/K², difference
    Σ_k ‖z_k − z̄‖² with noise (K−1)/K · Σ s_k. Where only K′ of K classes were seen, the difference mode is scaled by
    (K−1)/(K′−1), so that windows with different classes can be compared.

    Args:
        model: gives the coordinates; a similarity model, ``"I"`` or ``"L"``.
        means: (K, p), NaN rows where a class was not seen.
        mean_noise: (K,) expected squared error of each class's coordinates.
        num_classes: K.
        dimensions: directions that the noise of one class spreads over, at most the number of its coordinates.

    Returns:
        A reading for each mode, NaN with fewer than two seen classes.

    Raises:
        TypeError: for a ``model`` that is none.

    >>> import torch
    >>> modes = read_modes("I", torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0]), 2)
    >>> modes["common"].squared, modes["difference"].squared
    (4.0, 2.0)
    """
    return modes_of(ClassReading.of(as_model(model), means, mean_noise, dimensions), num_classes)


def modes_of(reading: ClassReading, num_classes: int) -> dict[Mode, ModeReading]:
    """As ``read_modes``, from coordinates.

    >>> one = ClassReading(np.array([[1.0], [3.0]]), np.zeros(2), np.ones(2, dtype=bool), 1)
    >>> modes_of(one, 2)["difference"].squared
    2.0
    """
    z, noise = reading.z, float(reading.noise.sum())
    if not reading.seen.all():
        z = z[reading.seen]
    n, q = z.shape
    if n < 2:
        return {"common": ModeReading(NAN, NAN), "difference": ModeReading(NAN, NAN)}
    common = z.mean(0)
    scale = (num_classes - 1) / (n - 1)
    apart = (z - common).ravel()
    return {
        "common": ModeReading(
            squared=float(common @ common),
            noise=noise / n**2,
            sign=float(np.sign(common[0])) if q == 1 else 1.0,
            dimensions=reading.dimensions,
        ),
        "difference": ModeReading(
            squared=float(apart @ apart) * scale,
            noise=noise * (n - 1) / n * scale,
            dimensions=reading.dimensions * (n - 1),
        ),
    }
