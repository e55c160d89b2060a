"""Frozen records that pass between the stages. Plain numbers: nothing here keeps a graph or a device alive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAN = math.nan
PROBE = "probe_"  # before the name of a source whose samples are those of the probe


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def unknown(cls) -> Estimate:
        """What is reported where nothing can be estimated."""
        return cls(NAN, NAN, NAN)


@dataclass(frozen=True)
class EtfAngles:
    """Pairwise angles of centred class means, in degrees. ``pair`` are the classes of the smallest angle."""

    mean: float
    deviation: float  # root mean square of angle − ideal over all pairs
    smallest: float
    pair: tuple[int, int]
    ideal: float  # arccos(−1/(K−1))
    norm_variation: float  # standard deviation over mean of the norms (equinorm: 0)
    attainable: bool  # a simplex ETF of K classes needs K ≤ p + 1
    cosines: NDArray[np.float64]  # (K, K)
    classes: tuple[int, ...]  # the classes of the rows: those seen in the window


@dataclass(frozen=True)
class Separation:
    """Measured separability of a window's samples."""

    nearest_mean_accuracy: float  # samples classified with the means of the window before
    discriminability: float  # smallest over pairs: distance of the means over the deviation along it
    pair: tuple[int, int] | None  # the classes of the smallest
    samples: int


@dataclass(frozen=True)
class Coefficients:
    """Local-elasticity coefficients of one model at one window. The unit of time is that of the record."""

    time: float  # midpoint of the window
    amplitude_common: float
    amplitude_difference: float
    A: float
    B: float
    alpha: Estimate
    beta: Estimate
    gamma: Estimate
    tail_A: float
    tail_B: float
    tail_gamma: float
    reference_time: float  # of A, B: both modes identifiable from here on
    gamma_reference_time: float  # of the mode that γ depends on
    status: str

    @classmethod
    def unknown(cls, time: float, status: str) -> Coefficients:
        """What is reported where a model does not apply; ``status`` says why."""
        nothing = Estimate.unknown()
        return cls(time, NAN, NAN, NAN, NAN, nothing, nothing, nothing, NAN, NAN, NAN, NAN, NAN, status)


@dataclass(frozen=True)
class Influence:
    """Growth of a class's deviation in the probe by one optimizer step, per share of the batch. See ``influence``."""

    intra: Estimate  # by samples of the class itself
    inter: Estimate  # by samples of another class
    gamma: Estimate  # intra + (K−1)·inter
    steps: int  # observed


@dataclass(frozen=True)
class MeasuredMatrix:
    """The LE matrix E, per optimizer step, measured on a probe. See ``influence_matrix``."""

    classes: tuple[int, ...]  # of rows (who is changed) and columns (who is trained)
    E: NDArray[np.float64]  # (S, S)
    error: NDArray[np.float64]  # (S, S) standard errors
    steps: int  # observed
    status: str  # "ok", or what is missing and why

    @property
    def strongest_pair(self) -> tuple[int, int] | None:
        """The two classes that move each other most, by (E_ij + E_ji)/2; ``None`` where E is unknown."""
        mutual = np.tril(self.E + self.E.T, -1) + np.triu(np.full_like(self.E, -np.inf))
        if len(self.classes) < 2 or not np.isfinite(self.E).all():
            return None
        i, j = np.unravel_index(int(mutual.argmax()), mutual.shape)
        return self.classes[j], self.classes[i]


@dataclass(frozen=True)
class WindowRecord:
    """All that one window says. Keys: ``features``, ``logits``; models ``I_features``, ``I_logits``, ``L_logits``."""

    step: int
    window: tuple[int, int]  # optimizer steps (after, up to)
    samples: float
    missing_classes: tuple[int, ...]
    etf: Mapping[str, EtfAngles]
    separation: Mapping[str, Separation]
    coefficients: Mapping[str, Coefficients]
    influence: Mapping[str, Influence]  # by source; empty without a probe
    le_matrix: Mapping[str, MeasuredMatrix]  # by source; empty without a probe
    skipped: Mapping[str, int]  # reason → count since the start of the run
    time_unit: str  # of every time and of every "per" in the coefficients
