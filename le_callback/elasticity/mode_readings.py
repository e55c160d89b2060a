"""The two modes of the class means in one window, and which windows of a mode can be used.

``ModeReading`` is what a window shows of a mode, ``ModePoint`` the log amplitude that follows from it, ``ModeHistory``
finds the window from which on a mode stands out of the sampling noise.

Legend: K classes, p feature dimensions, q coordinates a class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from le_callback.elasticity.amplitudes import ModeSeries
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


@dataclass(frozen=True)
class ModePoint:
    """One window in which a mode stands out of the sampling noise.

    Attributes:
        time: middle of the window.
        log_amplitude: ½ log amplitude².
        noise: sampling variance of the log amplitude.
        scale: amplitude².
        sign: of the amplitude.

    >>> ModePoint.of(5.0, ModeReading(squared=1.25, noise=0.25)).scale
    1.0
    """

    time: float
    log_amplitude: float
    noise: float
    scale: float
    sign: float

    @classmethod
    def of(cls, time: float, reading: ModeReading) -> ModePoint:
        """From a reading; the variance of a log norm under noise s² spread over n directions is s²/(n · amplitude²)."""
        scale = reading.squared - reading.noise
        noise = reading.noise / (reading.dimensions * scale)
        return cls(time, reading.log_amplitude(), noise, scale, reading.sign)


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
    z = as_model(model).coordinates(means)
    seen = z.isfinite().all(-1)
    noise = mean_noise[seen]
    if not bool(seen.all()):
        z = z[seen]
    n = len(z)
    if n < 2:
        return {"common": ModeReading(NAN, NAN), "difference": ModeReading(NAN, NAN)}
    common = z.mean(0)
    scale = (num_classes - 1) / (n - 1)
    spread = min(z.shape[1], dimensions or z.shape[1])
    total_noise = float(noise.sum())
    return {
        "common": ModeReading(
            squared=float(common.square().sum()),
            noise=total_noise / n**2,
            sign=float(common.sign()) if z.shape[1] == 1 else 1.0,
            dimensions=spread,
        ),
        "difference": ModeReading(
            squared=float((z - common).square_().sum()) * scale,
            noise=total_noise * (n - 1) / n * scale,
            dimensions=spread * (n - 1),
        ),
    }


@dataclass
class ModeHistory:
    """Finds the reference time of one mode and keeps its identifiable windows since then.

    The reference is the first of ``persistence`` consecutive identifiable windows of equal sign: with a handful of
    degrees of freedom, single windows exceed any threshold by chance.

    Attributes:
        threshold: identifiability, raw² over noise².
        persistence: consecutive identifiable windows that fix the reference.
        run: the identifiable windows so far, while there is no reference.
        reference: the first window of the run that was long enough.

    >>> history = ModeHistory(threshold=3.0, persistence=2)
    >>> [len(history.add(t, ModeReading(squared, 1.0))) for t, squared in enumerate((2.0, 9.0, 9.0, 9.0))]
    [0, 0, 2, 1]
    """

    threshold: float
    persistence: int
    run: list[ModePoint] = field(default_factory=list)
    reference: ModePoint | None = None

    def add(self, time: float, reading: ModeReading) -> list[ModePoint]:
        """Points that this window adds: none, one, or the whole run that confirms the reference."""
        if not reading.identifiable(self.threshold):
            self.run = []
            return []
        point = ModePoint.of(time, reading)
        if self.reference is not None:
            return [point] if point.sign == self.reference.sign else []
        if self.run and self.run[-1].sign != point.sign:
            self.run = []
        self.run.append(point)
        if len(self.run) < self.persistence:
            return []
        self.reference, points, self.run = self.run[0], self.run, []
        return points

    def state_dict(self) -> dict[str, Any]:
        """The run and the reference, as plain lists and numbers."""
        return {
            "run": [list(astuple(p)) for p in self.run],
            "reference": self.reference and list(astuple(self.reference)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.run = [ModePoint(*p) for p in state["run"]]
        self.reference = ModePoint(*state["reference"]) if state["reference"] else None


def mode_series(points: Sequence[ModePoint]) -> ModeSeries:
    """Points of one mode as arrays.

    >>> mode_series([ModePoint(0.0, 1.5, 0.1, 20.0, 1.0)]).log_amplitude
    array([1.5])
    """
    level, noise, scale = np.array([[p.log_amplitude, p.noise, p.scale] for p in points]).T
    return ModeSeries(level, noise, scale, np.ones(len(points), dtype=bool))
