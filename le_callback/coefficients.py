"""Online local-elasticity coefficients of one run from the growth of its two modes, window by window.

u, v are the log growths of the common and the difference mode since the reference time; A, B and γ are linear in them
(see ``models``). Time is the midpoint of a window, in optimizer steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from le_callback.growth import local_slope
from le_callback.models import LEModel, ModeWeights
from le_callback.records import NAN, Coefficients, Estimate

Mode = Literal["common", "difference"]
MODES: tuple[Mode, Mode] = ("common", "difference")


@dataclass(frozen=True)
class ModeReading:
    """Squared amplitude of a mode in one window, how much of it is sampling noise, and its sign where it has one."""

    squared: float
    noise: float
    sign: float = 1.0

    def identifiable(self, threshold: float) -> bool:
        """Whether the amplitude stands out of the sampling noise: raw² > threshold · noise."""
        return math.isfinite(self.squared) and self.squared > max(threshold * self.noise, 0.0) and self.noise >= 0

    def log_amplitude(self) -> float:
        """Log amplitude corrected for the noise: ½ log(raw² − noise)."""
        excess = self.squared - self.noise
        return 0.5 * math.log(excess) if excess > 0 else NAN


def read_modes(model: LEModel, means: Tensor, mean_noise: Tensor, num_classes: int) -> dict[Mode, ModeReading]:
    """Squared amplitudes of both modes and their expected sampling noise.

    With z_k the coordinates of the seen classes and s_k the noise of each: common ‖z̄‖² with noise Σ s_k/K², difference
    Σ_k ‖z_k − z̄‖² with noise (K−1)/K · Σ s_k. Where only K′ of K classes were seen, the difference mode is scaled by
    (K−1)/(K′−1), so that windows with different classes can be compared.

    Args:
        model: gives the coordinates.
        means: (K, p), NaN rows where a class was not seen.
        mean_noise: (K,) expected squared error of each class's coordinates.
        num_classes: K.

    >>> from le_callback.models import IModel
    >>> import torch
    >>> modes = read_modes(IModel(), torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0]), 2)
    >>> modes["common"].squared, modes["difference"].squared
    (4.0, 2.0)
    """
    z = model.coordinates(means)
    seen = z.isfinite().all(-1)
    z, noise = z[seen], mean_noise[seen]
    n = len(z)
    if n < 2:
        return {"common": ModeReading(NAN, NAN), "difference": ModeReading(NAN, NAN)}
    common = z.mean(0)
    scale = (num_classes - 1) / (n - 1)
    total_noise = float(noise.sum())
    return {
        "common": ModeReading(
            squared=float(common.square().sum()),
            noise=total_noise / n**2,
            sign=float(common.sign()) if z.shape[1] == 1 else 1.0,
        ),
        "difference": ModeReading(
            squared=float((z - common).square().sum()) * scale,
            noise=total_noise * (n - 1) / n * scale,
        ),
    }


@dataclass
class ModeHistory:
    """Finds the reference time of one mode and turns amplitudes into log growth since then.

    The reference is the first of ``persistence`` consecutive identifiable windows of equal sign: with a handful of
    degrees of freedom, single windows exceed any threshold by chance.
    """

    threshold: float
    persistence: int
    run: list[tuple[float, float, float]] = field(default_factory=list)  # time, log amplitude, sign
    reference: tuple[float, float, float] | None = None

    def add(self, time: float, reading: ModeReading) -> list[tuple[float, float]]:
        """Points (time, log growth) that this window adds: none, one, or the whole run that confirms the reference."""
        if not reading.identifiable(self.threshold):
            self.run = []
            return []
        point = (time, reading.log_amplitude(), reading.sign)
        if self.reference is not None:
            _, level, sign = self.reference
            return [(time, point[1] - level)] if reading.sign == sign else []
        if self.run and self.run[-1][2] != reading.sign:
            self.run = []
        self.run.append(point)
        if len(self.run) < self.persistence:
            return []
        self.reference = self.run[0]
        level = self.reference[1]
        points = [(t, value - level) for t, value, _ in self.run]
        self.run = []
        return points


@dataclass
class BoundedSeries:
    """Points (time, value) of a run of any length: every ``stride``-th is kept, and the stride doubles when full."""

    capacity: int = 4096
    stride: int = 1
    added: int = 0
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        """Append a point; thin when full."""
        if self.added % self.stride == 0:
            self.times.append(time)
            self.values.append(value)
        self.added += 1
        if len(self.times) >= self.capacity:
            self.times, self.values = self.times[::2], self.values[::2]
            self.stride *= 2


def tail_index(series: BoundedSeries, tail: float = 0.1, either_sign: bool = False) -> float:
    """Tail index of a coefficient from its cumulative: 1 − avg over the last tenth of log A(t)/log(1 + t).

    If α ~ t^(−r) with r < 1 then A ~ t^(1−r) and the index tends to r; below 1 classes separate (paper, section 3).
    It is a finite-time index: it depends on the reference time of A and on the unit of t (optimizer steps).

    Args:
        series: the cumulative coefficient.
        tail: share of the time from the last point backwards that is averaged over.
        either_sign: take the magnitude of a cumulative that is negative throughout the tail, as B usually is.

    Returns:
        The index, NaN where the cumulative does not keep its sign throughout the tail.

    >>> s = BoundedSeries(times=[98.0, 99.0], values=[10.0, 10.0])
    >>> round(tail_index(s), 6)
    0.499...
    """
    if not series.times:
        return NAN
    times, values = np.asarray(series.times), np.asarray(series.values)
    late = (times >= (1 - tail) * times[-1]) & (times > 0)
    if either_sign and (values[late] < 0).all():
        values = -values
    if not late.any() or (values[late] <= 0).any():
        return NAN
    return float(1 - np.mean(np.log(values[late]) / np.log1p(times[late])))


@dataclass
class CoefficientTracker:
    """α, β, γ of one model from its mode amplitudes, one window after the other, in constant work per window.

    Args:
        model: its mode weights turn log growths into A, B and γ.
        num_classes: K.
        smoothing: windows of the local fit whose slope is α, β, γ.
        order: degree of the local fit.
        threshold: identifiability, raw² over noise².
        persistence: consecutive identifiable windows that fix the reference time.
        confidence: coverage of the intervals.
    """

    model: LEModel
    num_classes: int
    smoothing: int = 11
    order: int = 2
    threshold: float = 3.0
    persistence: int = 3
    confidence: float = 0.95

    def __post_init__(self) -> None:
        self._weights: ModeWeights = self.model.mode_weights(self.num_classes)
        self._modes: dict[Mode, ModeHistory] = {m: ModeHistory(self.threshold, self.persistence) for m in MODES}
        self._growth: dict[Mode, deque[tuple[float, float]]] = {m: deque(maxlen=self.smoothing) for m in MODES}
        self._both: deque[tuple[float, float, float]] = deque(maxlen=self.smoothing)  # time, A, B
        self._origin: tuple[float, float, float] | None = None  # time, u, v where A = B = 0
        self._series: dict[str, BoundedSeries] = {name: BoundedSeries() for name in ("A", "B", "gamma")}
        self._window_times: deque[float] = deque(maxlen=self.smoothing)

    def add(self, time: float, readings: Mapping[Mode, ModeReading]) -> Coefficients:
        """Take in one window and say what is known now."""
        self._window_times.append(time)
        new = {mode: self._modes[mode].add(time, readings[mode]) for mode in MODES}
        for mode in MODES:
            self._growth[mode].extend(new[mode])
        self._extend_gamma(new)
        self._extend_both(new)
        return self._record(time, readings)

    def _extend_gamma(self, new: Mapping[Mode, list[tuple[float, float]]]) -> None:
        for t, growth in new[self._gamma_mode]:
            self._series["gamma"].add(t, self._weights.gamma_weight * growth)

    def _extend_both(self, new: Mapping[Mode, list[tuple[float, float]]]) -> None:
        if any(self._modes[mode].reference is None for mode in MODES):
            return
        fresh = {t for mode in MODES for t, _ in new[mode]}
        common, difference = dict(self._growth["common"]), dict(self._growth["difference"])
        w = self._weights
        for t in sorted(fresh & common.keys() & difference.keys()):
            self._origin = self._origin or (t, common[t], difference[t])
            u, v = common[t] - self._origin[1], difference[t] - self._origin[2]
            A, B = w.common_in_A * u + w.difference_in_A * v, w.common_in_B * u + w.difference_in_B * v
            self._both.append((t, A, B))
            self._series["A"].add(t, A)
            self._series["B"].add(t, B)

    def _record(self, time: float, readings: Mapping[Mode, ModeReading]) -> Coefficients:
        oldest = self._window_times[0]
        both = [row for row in self._both if row[0] >= oldest]
        gamma_points = [(t, self._weights.gamma_weight * g) for t, g in self._growth[self._gamma_mode] if t >= oldest]
        current = bool(both) and both[-1][0] == time
        gamma_current = bool(gamma_points) and gamma_points[-1][0] == time
        gamma_reference = self._modes[self._gamma_mode].reference
        return Coefficients(
            time=time,
            amplitude_common=self._amplitude(readings["common"]),
            amplitude_difference=self._amplitude(readings["difference"]),
            A=both[-1][1] if current else NAN,
            B=both[-1][2] if current else NAN,
            alpha=self._slope([(t, A) for t, A, _ in both]) if current else Estimate.unknown(),
            beta=self._slope([(t, B) for t, _, B in both]) if current else Estimate.unknown(),
            gamma=self._slope(gamma_points) if gamma_current else Estimate.unknown(),
            tail_A=tail_index(self._series["A"]),
            tail_B=tail_index(self._series["B"], either_sign=True),
            tail_gamma=tail_index(self._series["gamma"]),
            reference_time=self._origin[0] if self._origin else NAN,
            gamma_reference_time=gamma_reference[0] if gamma_reference else NAN,
            status=self._status(readings),
        )

    @property
    def _gamma_mode(self) -> Mode:
        return "common" if self._weights.gamma_mode == "common" else "difference"

    def _amplitude(self, reading: ModeReading) -> float:
        return math.exp(reading.log_amplitude()) if reading.identifiable(self.threshold) else NAN

    def _slope(self, points: list[tuple[float, float]]) -> Estimate:
        times, values = np.asarray(points).T
        return local_slope(times, values, at=float(times[-1]), order=self.order, confidence=self.confidence)

    def _status(self, readings: Mapping[Mode, ModeReading]) -> str:
        hidden = [mode for mode in MODES if not readings[mode].identifiable(self.threshold)]
        if hidden:
            return f"not identifiable: the {' and the '.join(hidden)} mode is within the sampling noise"
        waiting = [mode for mode in MODES if self._modes[mode].reference is None]
        if waiting:
            return (
                f"waiting: the {' and the '.join(waiting)} mode must stay identifiable for {self.persistence} windows"
            )
        if self._both and len(self._both) < self.order + 2:
            return f"waiting: the local fit needs {self.order + 2} windows"
        flipped = [
            mode for mode in MODES if not self._growth[mode] or self._growth[mode][-1][0] != self._window_times[-1]
        ]
        if flipped:
            return f"not identifiable: the {' and the '.join(flipped)} mode changed its sign"
        return "ok"

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next ``add`` depends on, as plain lists and numbers."""
        return {
            "modes": {m: {"run": [list(r) for r in h.run], "reference": h.reference} for m, h in self._modes.items()},
            "growth": {m: [list(p) for p in points] for m, points in self._growth.items()},
            "both": [list(row) for row in self._both],
            "origin": self._origin,
            "series": {
                name: {"stride": s.stride, "added": s.added, "times": list(s.times), "values": list(s.values)}
                for name, s in self._series.items()
            },
            "window_times": list(self._window_times),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        for mode in MODES:
            saved = state["modes"][mode]
            self._modes[mode].run = [(t, a, s) for t, a, s in saved["run"]]
            self._modes[mode].reference = tuple(saved["reference"]) if saved["reference"] else None
            self._growth[mode] = deque(((t, g) for t, g in state["growth"][mode]), maxlen=self.smoothing)
        self._both = deque(((t, a, b) for t, a, b in state["both"]), maxlen=self.smoothing)
        self._origin = tuple(state["origin"]) if state["origin"] else None
        self._series = {name: BoundedSeries(**saved) for name, saved in state["series"].items()}
        self._window_times = deque(state["window_times"], maxlen=self.smoothing)
