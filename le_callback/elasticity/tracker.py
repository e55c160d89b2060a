"""Coefficients of one model while it trains: which windows are joined, and what α, β, γ, A, B, G follow.

With κ and δ the rates of the common and the difference path (see ``class_growth``), and ρ their coupling:

    I-model      γ = δ,                   β = κ − ρδ,              α = β + γ,
    directions   γ = Kκ + (1 − Kρ)δ,      β = −(K − 1)(κ − ρδ),    α = β + γ.

Time is the midpoint of a window, in optimizer steps.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from le_callback.elasticity.class_growth import Growth, Join
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.cumulative import Cumulative
from le_callback.elasticity.growth_path import GrowthPath
from le_callback.elasticity.mode_readings import MODES, Mode, ModeReading
from le_callback.elasticity.path_correlation import PathCorrelation
from le_callback.elasticity.rate_filters import PathReading, RateFilters
from le_callback.elasticity.rate_index import local_tail_index
from le_callback.elasticity.tail_index import RECENT, recent_index
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.values import NAN, BoundedSeries, Estimate, Source

_BALANCED = 1e-6  # of Kρ from 1
_REFRESHED = 17 / 16  # times as many points, after which a local tail index is taken anew


class CoefficientTracker:
    """α, β, γ of one model, one window after the other, in constant work per window.

    Args:
        model: a similarity model, ``"I"`` or ``"L"``.
        num_classes: K.
        source: of the class means; None: features of training batches.
        threshold: identifiability, raw² over noise².
        persistence: consecutive identifiable windows that fix the reference time.
        confidence: coverage of the intervals.

    Raises:
        TypeError: for a ``model`` that is none.
        ValueError: settings out of range, or a model without two modes.

    Source: Zhang, Wang, Su 2021, section 2, by the norms of the modes.
    """

    def __init__(
        self,
        model: LEModel | str,
        num_classes: int,
        source: Source | None = None,
        threshold: float = 3.0,
        persistence: int = 3,
        confidence: float = 0.95,
    ) -> None:
        self.model = as_model(model)
        require(persistence >= 3, "persistence", persistence, "at least 3 windows")
        require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
        self.model.mode_weights(num_classes)
        self.num_classes = num_classes
        self.source = source or Source("features")
        self.threshold = threshold
        self.confidence = confidence
        self.paths: dict[Mode, GrowthPath] = {
            "common": GrowthPath(persistence),
            "difference": GrowthPath(persistence, 1 / num_classes),
        }
        self._correlation = PathCorrelation()
        self._growth = {name: Cumulative() for name in ("A", "B", "G")}
        self._series = {name: _Series() for name in ("A", "B", "G")}

    @property
    def gamma_mode(self) -> Mode:
        """The path that γ depends on."""
        return "common" if self.model.has_directions else "difference"

    def local_index(self, which: str = "G") -> Estimate:
        """Local tail index now of γ ~ t^(−r), of α for ``"A"``, of |β| for ``"B"``: from the growth of the integral.

        Taken anew after every window at first, later once there are one sixteenth more of them.
        """
        return self._series[which].local_index(self.confidence, either_sign=which == "B")

    def joins(self, readings: Mapping[Mode, ModeReading], means: ClassReading) -> dict[Mode, Join]:
        """The pairs of windows whose growth ``take_in`` needs for this window."""
        found: dict[Mode, Join] = {}
        for mode, path in self.paths.items():
            if path.last is not None and readings[mode].identifiable(self.threshold):
                found[mode] = Join(mode, path.last, means, self.model.has_directions, path.past)
        return found

    def take_in(
        self,
        time: float,
        readings: Mapping[Mode, ModeReading],
        means: ClassReading,
        growths: Mapping[Mode, Growth],
    ) -> dict[Mode, PathReading]:
        """Take in one window; returns what it adds to the paths.

        Args:
            time: of the window.
            readings: of its modes.
            means: its coordinates.
            growths: of ``joins``.
        """
        found: dict[Mode, PathReading] = {}
        for mode in MODES:
            visible = readings[mode].identifiable(self.threshold)
            reading = self.paths[mode].add(time, means, visible, growths.get(mode))
            if reading is not None:
                found[mode] = reading
        return found

    def weights(self) -> dict[str, tuple[float, float]]:
        """Weights of the growth of the common and the difference path in α, β and γ."""
        K, rho = self.num_classes, self.paths["common"].coupling
        rho = rho if abs(1 - K * rho) > _BALANCED else 1 / K
        beta = (1.0 - K, (K - 1) * rho * K) if self.model.has_directions else (1.0, -rho * K)
        gamma = (float(K), (1 - K * rho) * K) if self.model.has_directions else (0.0, float(K))
        return {"A": (beta[0] + gamma[0], beta[1] + gamma[1]), "B": beta, "G": gamma}

    def record(
        self,
        time: float,
        readings: Mapping[Mode, ModeReading],
        rates: Mapping[Mode, Estimate],
        filters: RateFilters,
        first: int,
    ) -> WindowCoefficients:
        """What is known now.

        Args:
            time: of the window.
            readings: of the window.
            rates: of the paths that were joined.
            filters: of all paths.
            first: channel of this tracker's common path; the difference path follows.
        """
        paths, weights = [self.paths[mode] for mode in MODES], self.weights()
        known = {mode: rates[mode] for mode in rates if self.paths[mode].known}
        if all(path.time == time for path in paths):
            self._correlation.add(float(filters.errors[first]), float(filters.errors[first + 1]))
        correlation = self._correlation.value
        growth, tails = dict[str, Estimate](), dict[str, Estimate]()
        for name, cumulative in self._growth.items():
            w = weights[name]
            began = cumulative.add(time, paths, w, filters, first)
            series = self._series[name]
            if began:
                series.clear()
            if math.isfinite(cumulative.value):
                process = sum(x**2 * p.noise for x, p in zip(w, paths, strict=True) if x)
                series.add(time, cumulative.value, cumulative.noise, process)
            ready = all(p.known for x, p in zip(w, paths, strict=True) if x)
            half = cumulative.half_width(self.confidence, correlation) if ready else NAN
            value = cumulative.value
            growth[name] = Estimate(value, value - half, value + half) if ready else Estimate.unknown()
            tails[name] = series.finite_index(half, either_sign=name == "B")
        reference = {
            name: c.reference if math.isfinite(growth[name].value) else NAN for name, c in self._growth.items()
        }
        return WindowCoefficients(
            model=self.model.name,
            source=self.source,
            time=time,
            amplitude_common=self._amplitude(readings["common"]),
            amplitude_difference=self._amplitude(readings["difference"]),
            A=growth["A"],
            B=growth["B"],
            G=growth["G"],
            alpha=combined(weights["A"], known, correlation),
            beta=combined(weights["B"], known, correlation),
            gamma=combined(weights["G"], known, correlation),
            tail_A=tails["A"],
            tail_B=tails["B"],
            tail_gamma=tails["G"],
            reference_time=reference["A"],
            gamma_reference_time=reference["G"],
            status=self._status(readings),
        )

    def _amplitude(self, reading: ModeReading) -> float:
        return math.exp(reading.log_amplitude()) if reading.identifiable(self.threshold) else NAN

    def _status(self, readings: Mapping[Mode, ModeReading]) -> str:
        hidden = [mode for mode in MODES if not readings[mode].identifiable(self.threshold)]
        if hidden:
            return f"not identifiable: the {' and the '.join(hidden)} mode is within the sampling noise"
        waiting = [mode for mode in MODES if not self.paths[mode].known]
        if waiting:
            need = self.paths[waiting[0]].persistence
            return f"waiting: the {' and the '.join(waiting)} mode must stay identifiable for {need} windows"
        apart = [mode for mode in MODES if not self.paths[mode].joined]
        if apart:
            return f"not identifiable: the {' and the '.join(apart)} mode changed its sign, or other classes were seen"
        return "ok"

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next window depends on, as tensors, plain lists and numbers."""
        paths = {mode: path.state_dict() for mode, path in self.paths.items()}
        if self.paths["common"].last is self.paths["difference"].last:
            paths["difference"]["last"] = paths["common"]["last"]  # one copy in a checkpoint
        return {
            "paths": paths,
            "growth": {name: growth.state_dict() for name, growth in self._growth.items()},
            "series": {name: series.state_dict() for name, series in self._series.items()},
            "correlation": self._correlation.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        for mode in MODES:
            self.paths[mode].load_state_dict(state["paths"][mode])
        self._correlation.load_state_dict(state["correlation"])
        for name in self._growth:
            self._growth[name].load_state_dict(state["growth"][name])
            self._series[name].load_state_dict(state["series"][name])


def combined(weights: tuple[float, float], rates: Mapping[Mode, Estimate], correlation: float = 0.0) -> Estimate:
    """Weighted sum of estimates of the common and the difference path; unknown where one is missing.

    Lower and upper half widths add up as standard deviations of this correlation do.

    >>> combined((2.0, 0.0), {"common": Estimate(1.0, 0.5, 2.0)})
    Estimate(value=2.0, low=1.0, high=4.0)
    """
    value, down, up = 0.0, list[float](), list[float]()
    for weight, mode in zip(weights, MODES, strict=True):
        if weight:
            if mode not in rates or math.isnan(weight):
                return Estimate.unknown()
            e = rates[mode]
            ends = sorted((weight * (e.value - e.low), weight * (e.value - e.high)))
            value += weight * e.value
            down.append(math.copysign(ends[1], weight))
            up.append(math.copysign(ends[0], weight))
    return Estimate(value, value - _length(down, correlation), value + _length(up, correlation))


def _length(parts: Sequence[float], correlation: float) -> float:
    """Standard deviation of the sum of one or two parts, given by theirs with the sign of their weights."""
    return math.sqrt(sum(x * x for x in parts) + (2 * correlation * parts[0] * parts[1] if len(parts) == 2 else 0.0))


class _Series:
    """A growth over the run, its sampling variance and how much it wanders, for tail indices."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._points: BoundedSeries[tuple[float, float, float]] = BoundedSeries()
        self._index, self._indexed = Estimate.unknown(), 0  # the local one, and of how many points it is

    def add(self, time: float, growth: float, noise: float, process: float) -> None:
        self._points.add(time, (growth, noise, process))

    def finite_index(self, half_width: float, either_sign: bool = False) -> Estimate:
        times, values = self._points.times, self._points.values
        late = bisect_left(times, (1 - RECENT) * times[-1]) if times else 0
        growth = [v[0] for v in values[late:]]
        return recent_index(times[late:], growth, RECENT, either_sign=either_sign, half_width=half_width)

    def local_index(self, confidence: float, either_sign: bool = False) -> Estimate:
        if self._points.added and self._points.added >= _REFRESHED * self._indexed:
            self._index, self._indexed = self._local_index(confidence, either_sign), self._points.added
        return self._index

    def _local_index(self, confidence: float, either_sign: bool) -> Estimate:
        growth, noise, process = np.fromiter(chain.from_iterable(self._points.values), np.float64).reshape(-1, 3).T
        if either_sign and len(growth) and growth[-1] < growth[0]:
            growth = -growth
        return local_tail_index(self._points.times, growth, noise, process, confidence)

    def state_dict(self) -> dict[str, Any]:
        index = self._index
        return {
            "points": self._points.state_dict(),
            "index": (index.value, index.low, index.high),
            "indexed": self._indexed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._points = BoundedSeries(**state["points"])
        self._index, self._indexed = Estimate(*state["index"]), state["indexed"]
