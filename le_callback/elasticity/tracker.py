"""Coefficients of a run while it trains: one window of class means after the other.

u, v are the log growths of the common and the difference mode since the reference time; A, B and γ are linear in them
(see ``similarity.ModeWeights``). Time is the midpoint of a window, in optimizer steps.

The way of a window: ``mode_readings.read_modes`` → ``CoefficientTracker.take_in`` (A, B) → ``next_fit`` and
``local_fits.solve`` (α, β, γ) → ``record``. ``add_together`` goes that way with several trackers at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from le_callback.elasticity.local_fits import LocalFit, ProcessMemory, solve
from le_callback.elasticity.mode_readings import MODES, Mode, ModeHistory, ModePoint, ModeReading, mode_series
from le_callback.elasticity.rate_index import local_tail_index
from le_callback.elasticity.rates import mode_channels, mode_functionals
from le_callback.elasticity.tail_index import recent_index
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.values import NAN, BoundedSeries, Estimate, Source


class CoefficientTracker:
    """α, β, γ of one model from its mode amplitudes, one window after the other, in constant work per window.

    Args:
        model: its mode weights turn log growths into A, B and γ; a similarity model, ``"I"`` or ``"L"``.
        num_classes: K.
        source: of the class means; None: features of training batches.
        smoothing: windows of the local fit that gives α, β, γ; it needs at least order + 3.
        order: functions of time in the local fit, see ``growth.rate_basis``.
        threshold: identifiability, raw² over noise².
        persistence: consecutive identifiable windows that fix the reference time.
        confidence: coverage of the intervals.

    Raises:
        TypeError: for a ``model`` that is none.
        ValueError: settings out of range, or a model without two modes.

    Source: Zhang, Wang, Su 2021, eq. 19, by the norms of the modes.

    >>> tracker = CoefficientTracker("I", num_classes=2)
    >>> for t in range(8):
    ...     amplitude = np.exp(0.1 * t)
    ...     reading = ModeReading(squared=amplitude**2, noise=0.0)
    ...     found = tracker.add(float(t), {"common": reading, "difference": reading})
    >>> round(found.A, 6), round(found.alpha.value, 6), found.status
    (1.4, 0.2, 'ok')
    """

    def __init__(
        self,
        model: LEModel | str,
        num_classes: int,
        source: Source | None = None,
        smoothing: int = 11,
        order: int = 2,
        threshold: float = 3.0,
        persistence: int = 3,
        confidence: float = 0.95,
    ) -> None:
        self.model = as_model(model)
        require(order >= 1, "order", order, "at least 1")
        require(smoothing >= 1, "smoothing", smoothing, "at least 1 window")
        require(persistence >= 1, "persistence", persistence, "at least 1 window")
        require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
        self.num_classes = num_classes
        self.source = source or Source("features")
        self.smoothing = smoothing
        self.order = order
        self.threshold = threshold
        self.persistence = persistence
        self.confidence = confidence
        self._weights = self.model.mode_weights(num_classes)
        self._gamma_mode: Mode = "common" if self._weights.gamma_mode == "common" else "difference"
        self._modes: dict[Mode, ModeHistory] = {m: ModeHistory(threshold, persistence) for m in MODES}
        self._points: dict[Mode, deque[ModePoint]] = {m: deque(maxlen=smoothing) for m in MODES}
        self._memory: dict[str, ProcessMemory] = {"both": ProcessMemory(), "gamma": ProcessMemory()}
        self._origin: tuple[float, float, float] | None = None  # time and log amplitudes where A = B = 0
        self._series: dict[str, BoundedSeries[float]] = {name: BoundedSeries() for name in ("A", "B", "gamma")}
        self._wander: BoundedSeries[tuple[float, float]] = BoundedSeries()  # sampling variance of G, 1/amplitude²
        self._window_times: deque[float] = deque(maxlen=smoothing)

    def local_index(self) -> Estimate:
        """Local tail index of γ ~ t^(−r) now, from its growth since the reference time of its mode."""
        growth, wander = self._series["gamma"], np.array(self._wander.values).reshape(-1, 2)
        return local_tail_index(growth.times, growth.values, wander[:, 0], wander[:, 1], self.confidence)

    def add(self, time: float, readings: Mapping[Mode, ModeReading]) -> WindowCoefficients:
        """Take in one window and say what is known now."""
        return add_together({"": self}, time, {"": readings})[""]

    def take_in(self, time: float, readings: Mapping[Mode, ModeReading]) -> tuple[float, float] | None:
        """Take in one window; returns A and B, where both are known."""
        self._window_times.append(time)
        new = {mode: self._modes[mode].add(time, readings[mode]) for mode in MODES}
        for mode in MODES:
            self._points[mode].extend(new[mode])
        reference = self._modes[self._gamma_mode].reference
        for point in new[self._gamma_mode]:
            assert reference is not None
            growth = point.log_amplitude - reference.log_amplitude
            weight = self._weights.gamma_weight
            self._series["gamma"].add(point.time, weight * growth)
            self._wander.add(point.time, (weight**2 * point.noise, 1 / point.scale))
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

    def next_fit(self) -> LocalFit | None:
        """The local fit that gives α, β, γ at the last window, or γ alone; None where there are too few windows."""
        gamma = np.zeros((1, self.order))
        gamma[0, 0] = self._weights.gamma_weight
        for kind, modes, functionals in (
            ("both", MODES, mode_functionals(self._weights, self.order)),
            ("gamma", (self._gamma_mode,), gamma),
        ):
            points = [{p.time: p for p in self._points[mode] if p.time >= self._window_times[0]} for mode in modes]
            shared = sorted(set.intersection(*(set(p) for p in points)))
            if len(shared) >= self.order + 3 and shared[-1] == self._window_times[-1]:
                series = [mode_series([p[t] for t in shared]) for p in points]
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
        """What is known now.

        Args:
            time: of the window.
            readings: of the window.
            cumulative: what ``take_in`` returned.
            rates: the solution of ``next_fit``: α, β, γ, or γ alone, or nothing.
        """
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
            tail_A=self._tail("A"),
            tail_B=self._tail("B", either_sign=True),
            tail_gamma=self._tail("gamma"),
            reference_time=self._origin[0] if self._origin else NAN,
            gamma_reference_time=gamma_reference.time if gamma_reference else NAN,
            status=self._status(readings),
        )

    def _tail(self, name: str, either_sign: bool = False) -> float:
        return recent_index(self._series[name].times, self._series[name].values, either_sign=either_sign)

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
            "modes": {mode: history.state_dict() for mode, history in self._modes.items()},
            "points": {mode: [list(astuple(p)) for p in points] for mode, points in self._points.items()},
            "memory": {kind: memory.state() for kind, memory in self._memory.items()},
            "origin": self._origin,
            "series": {name: series.state_dict() for name, series in self._series.items()},
            "wander": self._wander.state_dict(),
            "window_times": list(self._window_times),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        for mode in MODES:
            self._modes[mode].load_state_dict(state["modes"][mode])
            self._points[mode] = deque((ModePoint(*p) for p in state["points"][mode]), maxlen=self.smoothing)
        self._memory = {kind: ProcessMemory.from_state(saved) for kind, saved in state["memory"].items()}
        self._origin = tuple(state["origin"]) if state["origin"] else None
        self._series = {name: BoundedSeries(**saved) for name, saved in state["series"].items()}
        self._wander = BoundedSeries(**state["wander"])
        self._window_times = deque(state["window_times"], maxlen=self.smoothing)


def add_together(
    trackers: Mapping[str, CoefficientTracker], time: float, readings: Mapping[str, Mapping[Mode, ModeReading]]
) -> dict[str, WindowCoefficients]:
    """Take in one window with several trackers and say what each knows now, as ``CoefficientTracker.add`` does for one.

    Local fits of the same shape are solved in one go, which takes little longer than one of them.

    Args:
        trackers: by any key.
        time: midpoint of the window.
        readings: of the window, for each tracker.

    Returns:
        A record for each tracker.

    >>> readings = {"common": ModeReading(4.0, 1.0), "difference": ModeReading(1.0, 1.0)}
    >>> found = add_together({"I": CoefficientTracker("I", 2)}, 0.0, {"I": readings})
    >>> found["I"].status
    'not identifiable: the difference mode is within the sampling noise'
    """
    cumulative = {key: tracker.take_in(time, readings[key]) for key, tracker in trackers.items()}
    fits = {key: tracker.next_fit() for key, tracker in trackers.items()}
    rates = solve({key: fit for key, fit in fits.items() if fit is not None})
    return {
        key: tracker.record(time, readings[key], cumulative[key], rates.get(key, ()))
        for key, tracker in trackers.items()
    }
