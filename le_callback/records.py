"""Frozen records that pass between the stages. Plain numbers: nothing here keeps a graph or a device alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from le_callback.values import NAN, Estimate

PROBE = "probe_"  # before the name of a source whose samples are those of the probe


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), NAN)


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
    worst: tuple[tuple[int, int, float], ...] = ()  # the few pairs of smallest discriminability, the smallest first


@dataclass(frozen=True)
class ClassSeparation:
    """Separability of each class and pair in one window's features. Rows are ``classes``."""

    classes: tuple[int, ...]
    samples: NDArray[np.float64]  # (K,) that the rest is measured on
    tried: NDArray[np.float64]  # (K,) samples classified with the means of the window before
    hits: NDArray[np.float64]  # (K,) of which rightly
    pairs: NDArray[np.float64]  # (K, K) signed discriminability along the difference of the means before
    moved: NDArray[np.float64]  # (K,) distance of the mean from that before
    between: float  # tr Σ_B, mean squared distance of the class means from their centre
    radius: float  # mean distance of the class means from the mean of the samples
    scatter: float  # mean squared distance of the samples from their mean, whatever their labels
    effective_rank: float  # of the samples' covariance C, whatever their labels: (tr C)²/tr C²
    dead_units: float  # share of the dimensions that are the same for all samples

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Held-out nearest-class-mean accuracy of each class (K,), NaN where nothing was classified."""
        return _share(self.hits, self.tried)


@dataclass(frozen=True)
class HeadSeparation:
    """Margins of the classifier head in one window: the logit of the label minus the largest other."""

    margin: float  # mean
    margin_low: float  # 5 % quantile
    class_margin: NDArray[np.float64]  # (K,) means
    tried: NDArray[np.float64]  # (K,) samples
    hits: NDArray[np.float64]  # (K,) with a positive margin
    classes: tuple[int, ...]  # rows of ``pairs``
    pairs: NDArray[np.float64]  # signed discriminability of two classes by the difference of their logits

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of each class's samples that the head classified rightly when they were trained on (K,)."""
        return _share(self.hits, self.tried)


@dataclass(frozen=True)
class Linearisation:
    """Root mean squares over the classes of what training still pulls and of what a linear model leaves of it."""

    psi: float  # ‖e_k − softmax(X̄_k)‖, the effective training
    residue: float  # ‖Ψ_k + J_k X̄_k‖


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
class Regime:
    """Which side of the separation theorem a run is on now, and why."""

    name: Literal["separating", "critical", "not separating", "converged", "not identifiable"]
    reason: str
    t_gamma: float  # t·γ: grows while separating, falls while not
    index: Estimate  # local tail index of γ ~ t^(−r), critical at 1


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
    class_samples: tuple[float, ...] = ()  # (K,) of the window
    class_separation: Mapping[str, ClassSeparation] = field(default_factory=dict)
    head: HeadSeparation | None = None
    linearisation: Linearisation | None = None
    regime: Regime | None = None  # of the I-model of the logits
