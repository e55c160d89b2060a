"""Frozen records that pass between the stages. Plain numbers: nothing here keeps a graph or a device alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.probe.response_matrix import ResponseMatrix
from le_callback.probe.step_response import StepResponse
from le_callback.values import NAN, Estimate


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
    coefficients: Mapping[str, WindowCoefficients]
    step_response: Mapping[str, StepResponse]  # by source; empty without a probe
    response_matrix: Mapping[str, ResponseMatrix]  # by source; empty without a probe
    skipped: Mapping[str, int]  # reason → count since the start of the run
    time_unit: str  # of every time and of every "per" in the coefficients
    class_samples: tuple[float, ...] = ()  # (K,) of the window
    class_separation: Mapping[str, ClassSeparation] = field(default_factory=dict)
    head: HeadSeparation | None = None
    linearisation: Linearisation | None = None
    regime: Regime | None = None  # of the I-model of the logits
