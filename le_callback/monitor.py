"""The engine: batches of features and logits in, one record a window out. Knows no Trainer.

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from le_callback.elasticity.mode_readings import Mode, ModeReading, read_modes
from le_callback.elasticity.tail_index import local_tail_index
from le_callback.elasticity.tracker import CoefficientTracker, add_together
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.measures.neural_collapse import centred_gram, etf_angles
from le_callback.measures.separability import linearisation, measure_classes, measure_head
from le_callback.measures.separation import measure_separation
from le_callback.measures.spread import Spread, sample_spread
from le_callback.moments.sums import ClassStatistics, along_direction
from le_callback.moments.window import ClassWindow
from le_callback.probe.response_matrix import ResponseMatrixTracker, matrix_classes
from le_callback.probe.step_response import StepResponseTracker
from le_callback.recorder import TrajectoryRecorder
from le_callback.records import ClassSeparation, EtfAngles, Regime, Separation, WindowRecord
from le_callback.regime import is_converged, judge_regime
from le_callback.similarity import IModel, LEModel, LModel
from le_callback.values import NAN, Source

MODELS: tuple[tuple[LEModel, str], ...] = ((IModel(), "features"), (IModel(), "logits"), (LModel(), "logits"))
PRIMARY_MODEL = "I_logits"  # of the verdict, and of γ in the progress bar
MAX_PAIRED_CLASSES = 1024  # pairwise quantities of more classes are taken on an evenly spaced subset


@dataclass(frozen=True)
class MonitorSettings:
    """What the estimates depend on. See ``LECallback`` for the meaning."""

    ignore_index: int | None = -100
    smoothing: int = 11
    identifiability: float = 3.0
    confidence: float = 0.95
    probe: bool = False  # whether ``add_probe`` will be called
    matrix_classes: tuple[int, ...] | None = None  # of the LE matrix; None takes all, if these are at most 64
    time_unit: str = "step"  # of the times that ``update`` and ``add_probe`` are given


class SeparationMonitor:
    """Follows class means, local elasticity and separability of a stream of batches.

    Args:
        num_classes: K.
        settings: what the estimates depend on.

    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[0.0, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.2]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> record = monitor.close(step=1)
    >>> round(record.etf["features"].mean)
    180
    """

    def __init__(self, num_classes: int, settings: MonitorSettings | None = None) -> None:
        if num_classes < 2:
            raise ValueError(f"Expected argument `num_classes` to be at least 2, but got {num_classes}.")
        self.num_classes = num_classes
        self.settings = settings or MonitorSettings()
        self.start_step = 0
        self.windows = 0
        self.skipped: Counter[str] = Counter()
        self.window: ClassWindow | None = None
        self.recorder = TrajectoryRecorder()
        self._time_sum, self._timed = 0.0, 0
        s = self.settings
        self.trackers = {
            f"{model.name}_{source}": CoefficientTracker(
                model, num_classes, source, s.smoothing, threshold=s.identifiability, confidence=s.confidence
            )
            for model, source in _models(s.probe)
        }
        sources = ("features", "logits") if s.probe else ()
        self.step_response = {name: StepResponseTracker(4 * s.smoothing, s.confidence) for name in sources}
        classes = matrix_classes(s.matrix_classes, num_classes)
        self.matrix = {name: ResponseMatrixTracker(name, classes, num_classes) for name in sources if classes}
        self._probe_coefficients = {
            key: WindowCoefficients.unknown(tracker.model.name, tracker.source, NAN, "the probe was not read yet")
            for key, tracker in self.trackers.items()
            if tracker.source.probe
        }

    @property
    def has_samples(self) -> bool:
        """Whether the open window was updated."""
        return self.window is not None and not self.window.empty

    def fits(self, *, features: Tensor, logits: Tensor, num_classes: int) -> bool:
        """Whether batches like this one, of ``num_classes`` classes, continue what was seen so far."""
        batch = {"features": features, "logits": logits}
        return num_classes == self.num_classes and (self.window is None or self.window.accepts(batch))

    def update(self, *, features: Tensor, logits: Tensor, target: Tensor, time: float | None = None) -> None:
        """Add a batch: ``features`` (N, p), ``logits`` (N, K), ``target`` (N,) labels or (N, K) class weights.

        ``time`` is when the batch passed the model, before its optimizer step; a window's time is the mean over its
        batches, or the middle of its steps where none is given. A batch of another width than the first is left out
        and counted.
        """
        if time is not None:
            self._time_sum, self._timed = self._time_sum + time, self._timed + 1
        batch = {"features": features, "logits": logits}
        if self.window is None:
            self.window = ClassWindow.for_batch(batch, self.num_classes, self.settings.ignore_index)
        if self.window.accepts(batch):
            self.window.update(batch, target)
        else:
            self.skip("batches whose feature width changed")

    def skip(self, reason: str, count: int = 1) -> None:
        """Count something that was left out; ``reason`` completes the sentence 'skipped 3 …'."""
        self.skipped[reason] += count

    def close(self, step: int) -> WindowRecord:
        """Evaluate the window that ends with optimizer step ``step`` and open the next; synchronises."""
        time = self._window_time(step)
        statistics = {name: self.window.statistics(name) for name in self.window.moments} if self.window else {}
        etf: dict[str, EtfAngles] = {}
        separation: dict[str, Separation] = {}
        classes: dict[str, ClassSeparation] = {}
        spread: dict[str, Spread] = {}
        head = None
        for name, moments in statistics.items():
            self.recorder.add(Source(name), time, moments)
            paired = _paired_classes(moments.seen)
            if len(paired) >= 2:
                means = _wide(moments.mean[paired], 2**18)
                gram = centred_gram(means)
                etf[name] = etf_angles(means, paired.tolist(), gram)
                features, labels, chosen, previous = self._rows(name, moments, paired)
                if len(labels):
                    spread[name] = sample_spread(features, labels, self.num_classes)
                rank = spread[name].rank if name in spread else NAN
                classes[name] = measure_classes(features, labels, chosen, previous, paired.tolist(), rank)
                separation[name] = measure_separation(features, labels, chosen.mean, classes[name], gram)
                if name == "logits" and self.window:
                    head = measure_head(*self.window.samples(name), self.num_classes, paired.tolist())
        coefficients = self._coefficients(time, self._readings(False, statistics, spread))
        record = WindowRecord(
            step=step,
            window=(self.start_step, step),
            samples=float(statistics["features"].weight.sum()) if statistics else 0.0,
            missing_classes=self._count(statistics.get("features")),
            etf=etf,
            separation=separation,
            coefficients=coefficients | self._probe_coefficients,
            step_response={name: tracker.estimate() for name, tracker in self.step_response.items()},
            response_matrix={name: tracker.estimate() for name, tracker in self.matrix.items()},
            skipped=dict(self.skipped),
            time_unit=self.settings.time_unit,
            class_samples=tuple(statistics["features"].weight.tolist()) if statistics else (),
            class_separation=classes,
            head=head,
            linearisation=linearisation(statistics["logits"].mean) if "logits" in etf else None,
        )
        record = replace(record, regime=self._regime(record))
        if self.window:
            self.window.advance()
        self.start_step = step
        self.windows += 1
        self._time_sum, self._timed = 0.0, 0
        return record

    def _regime(self, record: WindowRecord) -> Regime:
        growth = self.trackers[PRIMARY_MODEL].growth
        index = local_tail_index(growth.times, growth.values, self.settings.confidence)
        now = record.coefficients[PRIMARY_MODEL]
        return judge_regime(now.gamma, now.time, index, is_converged(record))

    def _window_time(self, step: int) -> float:
        # features of the i-th step are those before its update, hence the −1
        return self._time_sum / self._timed if self._timed else max(0.0, (self.start_step + step - 1) / 2)

    def _count(self, statistics: ClassStatistics | None) -> tuple[int, ...]:
        """Book what the window's counters say; returns the classes without samples."""
        if statistics is None:
            return tuple(range(self.num_classes))
        assert self.window is not None
        moments = self.window.moments["features"]
        for reason, counter in (
            ("samples with features that are not finite", moments.nonfinite),
            ("samples with a label outside the classes", moments.mislabelled),
        ):
            if (count := int(counter)) > 0:
                self.skip(reason, count)
        return tuple((~statistics.seen).nonzero().flatten().tolist())

    def add_probe(self, time: float, statistics: Mapping[str, ClassStatistics]) -> None:
        """Take in a reading of the probe at ``time``; the next record holds its coefficients."""
        for source, moments in statistics.items():
            self.recorder.add(Source(source, probe=True), time, moments)
        self._probe_coefficients = self._coefficients(time, self._readings(True, statistics, {}))

    def add_step(self, composition: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Take in one optimizer step: class weights (K,) of its batch, probe means (K, p) before and after it."""
        total = composition.sum()
        if not bool(total > 0):
            return
        for source in self.step_response.keys() & before.keys() & after.keys():
            step = composition / total, before[source], after[source]
            self.step_response[source].add(*step)
            if source in self.matrix:
                self.matrix[source].add(*step)

    def _readings(
        self,
        probe: bool,
        statistics: Mapping[str, ClassStatistics],
        spread: Mapping[str, Spread],
    ) -> dict[str, dict[Mode, ModeReading] | None]:
        """What each model's modes are in this window or reading; ``None`` where the model is not defined."""
        readings: dict[str, dict[Mode, ModeReading] | None] = {}
        for key, tracker in self.trackers.items():
            if tracker.source.probe is not probe:
                continue
            model, source = tracker.model, tracker.source.layer
            moments = statistics.get(source)
            if moments is None or moments.mean.shape[1] < model.min_dimensions(self.num_classes):
                readings[key] = None
                continue
            noise, dimensions = moments.mean_noise, None
            if model.class_directions(self.num_classes) is None:
                dimensions = spread[source].dimensions if source in spread else None
            elif self.window is not None and not probe:
                samples, labels = self.window.samples(source)
                along = model.sample_coordinates(samples, labels).squeeze(1)
                per_sample = noise / moments.variance  # Σw²/W²
                noise = along_direction(along, labels, self.num_classes) * per_sample
            readings[key] = read_modes(model, _wide(moments.mean), _wide(noise), self.num_classes, dimensions)
        return readings

    def _coefficients(
        self, time: float, readings: Mapping[str, dict[Mode, ModeReading] | None]
    ) -> dict[str, WindowCoefficients]:
        known = {key: reading for key, reading in readings.items() if reading is not None}
        found = add_together({key: self.trackers[key] for key in known}, time, known)
        return {key: found[key] if key in found else self._undefined(self.trackers[key], time) for key in readings}

    def _undefined(self, tracker: CoefficientTracker, time: float) -> WindowCoefficients:
        status = f"needs at least {tracker.model.min_dimensions(self.num_classes)} dimensions"
        return WindowCoefficients.unknown(tracker.model.name, tracker.source, time, status)

    def _rows(
        self, source: str, statistics: ClassStatistics, paired: Tensor
    ) -> tuple[Tensor, Tensor, ClassStatistics, Tensor | None]:
        """Samples, their rows among the ``paired`` classes, statistics of these, and their means before this window."""
        assert self.window is not None
        features, labels = self.window.samples(source)
        previous = self.window.previous_means(source)
        if len(paired) < self.num_classes:
            position = torch.full((self.num_classes,), -1, dtype=torch.long, device=labels.device)
            position[paired] = torch.arange(len(paired), device=labels.device)
            labels = position[labels]
            features, labels = features[labels >= 0], labels[labels >= 0]
            statistics = ClassStatistics(*(field[paired] for field in statistics))
            previous = None if previous is None else previous[paired]
        return features, labels, statistics, previous

    def state_dict(self) -> dict[str, Any]:
        """The whole state as CPU tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "num_classes": self.num_classes,
            "start_step": self.start_step,
            "windows": self.windows,
            "skipped": dict(self.skipped),
            "trackers": {name: tracker.state_dict() for name, tracker in self.trackers.items()},
            "window": self.window.state_dict() if self.window else None,
            "window_time": (self._time_sum, self._timed),
            "trajectory": self.recorder.state_dict(),
            "step_response": {name: tracker.state_dict() for name, tracker in self.step_response.items()},
            "response_matrix": {name: tracker.state_dict() for name, tracker in self.matrix.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Continue where ``state_dict`` was taken, with tensors on ``device``.

        Raises:
            ValueError: if the state belongs to another number of classes.
        """
        if state["num_classes"] != self.num_classes:
            raise ValueError(f"Expected a state of {self.num_classes} classes, but got one of {state['num_classes']}.")
        self.start_step, self.windows = state["start_step"], state["windows"]
        self.skipped = Counter(state["skipped"])
        for name in self.trackers.keys() & state["trackers"].keys():  # a probe may have come or gone
            self.trackers[name].load_state_dict(state["trackers"][name])
        self._time_sum, self._timed = state["window_time"]
        self.recorder.load_state_dict(state["trajectory"])
        for name in self.step_response.keys() & state["step_response"].keys():
            self.step_response[name].load_state_dict(state["step_response"][name])
        for name in self.matrix.keys() & state["response_matrix"].keys():
            self.matrix[name].load_state_dict(state["response_matrix"][name])
        window = state["window"]
        self.window = ClassWindow.from_state(window, self.settings.ignore_index, device) if window else None


def _models(probe: bool) -> list[tuple[LEModel, Source]]:
    """Model and source of every tracker."""
    return [(model, Source(layer, p)) for p in ([False, True] if probe else [False]) for model, layer in MODELS]


def _paired_classes(seen: Tensor) -> Tensor:
    classes = seen.nonzero().flatten()
    stride = -(-len(classes) // MAX_PAIRED_CLASSES)
    return classes[:: max(1, stride)]


def _wide(x: Tensor, most: int = 2**20) -> Tensor:
    """Double precision on the host where that is cheap; tensors of more than ``most`` numbers stay where they are."""
    return x.cpu().double() if x.numel() <= most else x
