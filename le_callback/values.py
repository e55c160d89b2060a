"""Plain values that all rooms share: arrays, numbers with intervals, names of sources, series of bounded length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NAN = math.nan


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval.

    Attributes:
        value: the estimate; NaN where nothing can be estimated.
        low, high: ends of the interval.

    >>> Estimate(0.2, 0.1, 0.3).low
    0.1
    """

    value: float
    low: float
    high: float

    @classmethod
    def unknown(cls) -> Estimate:
        """What is reported where nothing can be estimated."""
        return cls(NAN, NAN, NAN)
