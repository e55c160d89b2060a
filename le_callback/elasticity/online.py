"""Online local-elasticity coefficients of one run from the growth of its two modes, window by window.

u, v are the log growths of the common and the difference mode since the reference time; A, B and γ are linear in them
(see ``models``). Time is the midpoint of a window, in optimizer steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from le_callback.elasticity.amplitudes import ModeSeries
from le_callback.elasticity.local_fits import LocalFit, ProcessMemory, solve
from le_callback.elasticity.rates import mode_channels, mode_functionals
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.similarity import LEModel, ModeWeights
from le_callback.values import NAN, BoundedSeries, Estimate, Source

Mode = Literal["common", "difference"]
MODES: tuple[Mode, Mode] = ("common", "difference")


@dataclass(frozen=True)
class ModeReading:
    """Squared amplitude of a mode in one window, how much of it is sampling noise, and its sign where it has one.

    ``dimensions`` is the number of directions that the sampling noise spreads over.
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
    """One window of a mode: ½ log amplitude², its sampling variance, amplitude² and sign."""

    time: float
    log_amplitude: float
    noise: float
    scale: float
    sign: float

    @classmethod
    def of(cls, time: float, reading: ModeReading) -> ModePoint:
        """The variance of a log norm under noise s² spread over n directions is s²/(n · amplitude²)."""
        scale = reading.squared - reading.noise
        noise = reading.noise / (reading.dimensions * scale)
        return cls(time, reading.log_amplitude(), noise, scale, reading.sign)


def read_modes(
    model: LEModel, means: Tensor, mean_noise: Tensor, num_classes: int, dimensions: float | None = None
) -> dict[Mode, ModeReading]:
    """Squared amplitudes of both modes and their expected sampling noise.

    With z_k the coordinates of the seen classes and s_k the noise of each: common ‖z̄‖² with noise Σ s_k/K², difference
    Σ_k ‖z_k − z̄‖² with noise (K−1)/K · Σ s_k. Where only K′ of K classes were seen, the difference mode is scaled by
    (K−1)/(K′−1), so that windows with different classes can be compared.

    Args:
        model: gives the coordinates.
        means: (K, p), NaN rows where a class was not seen.
        mean_noise: (K,) expected squared error of each class's coordinates.
        num_classes: K.
        dimensions: directions that the noise of one class spreads over, at most the number of its coordinates.

    >>> from le_callback.similarity import IModel
    >>> import torch
    >>> modes = read_modes(IModel(), torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0]), 2)
    >>> modes["common"].squared, modes["difference"].squared
    (4.0, 2.0)
    """
    z = model.coordinates(means)
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


def tail_index(series: BoundedSeries[float], tail: float = 0.1, either_sign: bool = False) -> float:
    """Tail index of a coefficient from its cumulative: 1 − avg over the last tenth of log A(t)/log(1 + t).

    If α ~ t^(−r) with r < 1 then A ~ t^(1−r) and the index tends to r; below 1 classes separate (paper, section 3).
    It is a finite-time index: it depends on the reference time of A and on the unit of t (optimizer steps).

    Args:
        series: the cumulative coefficient.
        tail: share of the time from the last point backwards that is averaged over.
        either_sign: take the magnitude of a cumulative that is negative throughout the tail, as B usually is.

    Returns:
        The index; infinite where the cumulative is not positive throughout the tail (no growth since the reference
        time, which is above any critical value), NaN where nothing is known or B changes its sign.

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
    if not late.any():
        return NAN
    if (values[late] <= 0).any():
        return NAN if either_sign else math.inf
    return float(1 - np.mean(np.log(values[late]) / np.log1p(times[late])))


@dataclass
class CoefficientTracker:
    """α, β, γ of one model from its mode amplitudes, one window after the other, in constant work per window.

    Args:
        model: its mode weights turn log growths into A, B and γ.
        num_classes: K.
        source: of the class means.
        smoothing: windows of the local fit that gives α, β, γ.
        order: functions of time in the local fit, see ``growth.rate_basis``.
        threshold: identifiability, raw² over noise².
        persistence: consecutive identifiable windows that fix the reference time.
        confidence: coverage of the intervals.
    """

    model: LEModel
    num_classes: int
    source: Source = field(default_factory=lambda: Source("features"))
    smoothing: int = 11
    order: int = 2
    threshold: float = 3.0
    persistence: int = 3
    confidence: float = 0.95

    def __post_init__(self) -> None:
        self._weights: ModeWeights = self.model.mode_weights(self.num_classes)
        self._gamma_mode: Mode = "common" if self._weights.gamma_mode == "common" else "difference"
        self._modes: dict[Mode, ModeHistory] = {m: ModeHistory(self.threshold, self.persistence) for m in MODES}
        self._points: dict[Mode, deque[ModePoint]] = {m: deque(maxlen=self.smoothing) for m in MODES}
        self._memory: dict[str, ProcessMemory] = {"both": ProcessMemory(), "gamma": ProcessMemory()}
        self._origin: tuple[float, float, float] | None = None  # time and log amplitudes where A = B = 0
        self._series: dict[str, BoundedSeries[float]] = {name: BoundedSeries() for name in ("A", "B", "gamma")}
        self._window_times: deque[float] = deque(maxlen=self.smoothing)

    @property
    def growth(self) -> BoundedSeries[float]:
        """G = ∫γ since the reference time of its mode, at the windows in which it was identifiable."""
        return self._series["gamma"]

    def add(self, time: float, readings: Mapping[Mode, ModeReading]) -> WindowCoefficients:
        """Take in one window and say what is known now."""
        return add_together({"": self}, time, {"": readings})[""]

    def follow(self, time: float, readings: Mapping[Mode, ModeReading]) -> tuple[float, float] | None:
        """Take in one window; returns A and B, where both are known."""
        self._window_times.append(time)
        new = {mode: self._modes[mode].add(time, readings[mode]) for mode in MODES}
        for mode in MODES:
            self._points[mode].extend(new[mode])
        reference = self._modes[self._gamma_mode].reference
        for point in new[self._gamma_mode]:
            assert reference is not None
            growth = point.log_amplitude - reference.log_amplitude
            self._series["gamma"].add(point.time, self._weights.gamma_weight * growth)
        return self._cumulate({p.time for points in new.values() for p in points})

    def _cumulate(self, fresh: set[float]) -> tuple[float, float] | None:
        """Extend A and B by the fresh times at which both modes are known; returns the last."""
        if any(self._modes[mode].reference is None for mode in MODES):
            return None
        common, difference = ({p.time: p.log_amplitude for p in self._points[mode]} for mode in MODES)
        w, last = self._weights, None
        for t in sorted(fresh & common.keys() & difference.keys()):
            self._origin = self._origin or (t, common[t], difference[t])
            u, v = common[t] - self._origin[1], difference[t] - self._origin[2]
            last = (w.common_in_A * u + w.difference_in_A * v, w.common_in_B * u + w.difference_in_B * v)
            self._series["A"].add(t, last[0])
            self._series["B"].add(t, last[1])
        return last

    def question(self) -> LocalFit | None:
        """The local fit that α, β, γ are to be read from now, or γ alone; ``None`` where there are too few windows."""
        gamma = np.zeros((1, self.order))
        gamma[0, 0] = self._weights.gamma_weight
        for kind, modes, functionals in (
            ("both", MODES, mode_functionals(self._weights, self.order)),
            ("gamma", (self._gamma_mode,), gamma),
        ):
            points = [{p.time: p for p in self._points[mode] if p.time >= self._window_times[0]} for mode in modes]
            shared = sorted(set.intersection(*(set(p) for p in points)))
            if len(shared) >= self.order + 3 and shared[-1] == self._window_times[-1]:
                series = [_series([p[t] for t in shared]) for p in points]
                channels = mode_channels(np.array(shared), series, shared[-1], self.order)
                memory = self._memory[kind]
                if whole := len(shared) == self.smoothing and shared[0] >= memory.until:
                    memory.until = shared[-1]
                return LocalFit(channels, functionals, memory, whole, self.confidence)
        return None

    def record(
        self,
        time: float,
        readings: Mapping[Mode, ModeReading],
        cumulative: tuple[float, float] | None,
        rates: Sequence[Estimate],
    ) -> WindowCoefficients:
        """What is known now, with the answer to ``question``: α, β, γ, or γ alone, or nothing."""
        alpha = beta = gamma = Estimate.unknown()
        if len(rates) == 3:
            alpha, beta, gamma = rates
        elif rates:
            gamma = rates[0]
        gamma_reference = self._modes[self._gamma_mode].reference
        return WindowCoefficients(
            model=self.model.name,
            source=self.source,
            time=time,
            amplitude_common=self._amplitude(readings["common"]),
            amplitude_difference=self._amplitude(readings["difference"]),
            A=cumulative[0] if cumulative else NAN,
            B=cumulative[1] if cumulative else NAN,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            tail_A=tail_index(self._series["A"]),
            tail_B=tail_index(self._series["B"], either_sign=True),
            tail_gamma=tail_index(self._series["gamma"]),
            reference_time=self._origin[0] if self._origin else NAN,
            gamma_reference_time=gamma_reference.time if gamma_reference else NAN,
            status=self._status(readings),
        )

    def _amplitude(self, reading: ModeReading) -> float:
        return math.exp(reading.log_amplitude()) if reading.identifiable(self.threshold) else NAN

    def _status(self, readings: Mapping[Mode, ModeReading]) -> str:
        hidden = [mode for mode in MODES if not readings[mode].identifiable(self.threshold)]
        if hidden:
            return f"not identifiable: the {' and the '.join(hidden)} mode is within the sampling noise"
        waiting = [mode for mode in MODES if self._modes[mode].reference is None]
        if waiting:
            return (
                f"waiting: the {' and the '.join(waiting)} mode must stay identifiable for {self.persistence} windows"
            )
        now = self._window_times[-1]
        flipped = [mode for mode in MODES if not self._points[mode] or self._points[mode][-1].time != now]
        if flipped:
            return f"not identifiable: the {' and the '.join(flipped)} mode changed its sign"
        if min(len(points) for points in self._points.values()) < self.order + 3:
            return f"waiting: the local fit needs {self.order + 3} windows"
        return "ok"

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next ``add`` depends on, as plain lists and numbers."""
        return {
            "modes": {
                m: {"run": [_listed(p) for p in h.run], "reference": h.reference and _listed(h.reference)}
                for m, h in self._modes.items()
            },
            "points": {m: [_listed(p) for p in points] for m, points in self._points.items()},
            "memory": {kind: memory.state() for kind, memory in self._memory.items()},
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
            self._modes[mode].run = [ModePoint(*p) for p in saved["run"]]
            self._modes[mode].reference = ModePoint(*saved["reference"]) if saved["reference"] else None
            self._points[mode] = deque((ModePoint(*p) for p in state["points"][mode]), maxlen=self.smoothing)
        self._memory = {kind: ProcessMemory.from_state(saved) for kind, saved in state["memory"].items()}
        self._origin = tuple(state["origin"]) if state["origin"] else None
        self._series = {name: BoundedSeries(**saved) for name, saved in state["series"].items()}
        self._window_times = deque(state["window_times"], maxlen=self.smoothing)


def add_together(
    trackers: Mapping[str, CoefficientTracker], time: float, readings: Mapping[str, Mapping[Mode, ModeReading]]
) -> dict[str, WindowCoefficients]:
    """One window for each of several trackers: local fits of the same shape are solved in one go."""
    cumulative = {key: tracker.follow(time, readings[key]) for key, tracker in trackers.items()}
    questions = {key: question for key, tracker in trackers.items() if (question := tracker.question()) is not None}
    rates = solve(questions)
    return {
        key: tracker.record(time, readings[key], cumulative[key], rates.get(key, ()))
        for key, tracker in trackers.items()
    }


def _listed(point: ModePoint) -> list[float]:
    return [point.time, point.log_amplitude, point.noise, point.scale, point.sign]


def _series(points: list[ModePoint]) -> ModeSeries:
    level, noise, scale = np.array([[p.log_amplitude, p.noise, p.scale] for p in points]).T
    return ModeSeries(level, noise, scale, np.ones(len(points), dtype=bool))
