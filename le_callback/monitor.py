"""The engine: batches of features and logits in, one record a window out. Knows no Trainer.

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from le_callback.elasticity.live import LayerReading, LiveCoefficients
from le_callback.errors import require
from le_callback.measures import MEASURES
from le_callback.measures.base import Part, SourceWindow
from le_callback.moments.following import HEAD, Following, followed_classes
from le_callback.moments.statistics import ClassStatistics
from le_callback.moments.window import ClassWindow
from le_callback.probe.follower import NoProbe, ProbeFollower
from le_callback.recorder import TrajectoryRecorder
from le_callback.records import PRIMARY_MODEL, WindowRecord
from le_callback.similarity import IModel, LEModel, LModel
from le_callback.values import Source
from le_callback.verdict import Judge

MODELS: tuple[tuple[LEModel, str], ...] = ((IModel(), "features"), (IModel(), "logits"), (LModel(), "logits"))


@dataclass(frozen=True)
class MonitorSettings:
    """What the estimates depend on.

    Attributes:
        ignore_index: integer label that is left out.
        smoothing: windows of the local fit whose slope is α, β, γ.
        identifiability: a mode is identifiable while its squared amplitude exceeds this many times its sampling noise.
        confidence: coverage of the intervals.
        probe: whether ``add_probe`` will be called.
        matrix_classes: of the LE matrix that a probe measures; None takes all, if these are at most 64.
        time_unit: of the times that ``update`` and ``add_probe`` are given.

    >>> MonitorSettings(smoothing=21).confidence
    0.95
    """

    ignore_index: int | None = -100
    smoothing: int = 11
    identifiability: float = 3.0
    confidence: float = 0.95
    probe: bool = False
    matrix_classes: tuple[int, ...] | None = None
    time_unit: str = "step"


class SeparationMonitor:
    """Follows class means, local elasticity and separability of a stream of batches.

    Of more than 2,048 classes, or where K·(p + K) is above 2²⁴, at most 512 are followed, see ``moments.following``.

    Args:
        num_classes: K.
        settings: what the estimates depend on.

    Raises:
        ValueError: if ``num_classes`` is below 2.

    >>> monitor = SeparationMonitor(num_classes=2)
    >>> x = torch.tensor([[0.0, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.2]])
    >>> monitor.update(features=x, logits=x, target=torch.tensor([0, 0, 1, 1]))
    >>> record = monitor.close(step=1)
    >>> round(record.etf["features"].mean)
    180
    """

    def __init__(self, num_classes: int, settings: MonitorSettings | None = None) -> None:
        require(num_classes >= 2, "num_classes", num_classes, "at least 2")
        self.num_classes = num_classes
        self.settings = s = settings or MonitorSettings()
        self.start_step = 0
        self.windows = 0
        self.skipped: Counter[str] = Counter()
        self.window: ClassWindow | None = None
        self._part: Following | None = None
        self.recorder = TrajectoryRecorder()
        self.judge = Judge(s.confidence)
        self._time_sum, self._timed = 0.0, 0
        fits: dict[str, Any] = {"smoothing": s.smoothing, "threshold": s.identifiability, "confidence": s.confidence}
        self.coefficients = LiveCoefficients([(m, Source(layer)) for m, layer in MODELS], num_classes, **fits)
        self.probe: ProbeFollower | NoProbe = NoProbe()
        if s.probe:
            self.probe = ProbeFollower(MODELS, num_classes, s.matrix_classes, **fits)

    @property
    def has_samples(self) -> bool:
        """Whether the open window was updated."""
        return self.window is not None and not self.window.empty

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that are followed, in the order of the rows of means: all K, or some of very many."""
        return tuple(range(self.num_classes)) if self._part is None else self._part.classes

    def fits(self, *, features: Tensor, logits: Tensor, num_classes: int) -> bool:
        """Whether batches like this one, of ``num_classes`` classes, continue what was seen so far."""
        return num_classes == self.num_classes and (self.window is None or self._accepts(features, logits))

    def _accepts(self, features: Tensor, logits: Tensor) -> bool:
        assert self.window is not None
        if self._part is None:
            return self.window.accepts({"features": features, "logits": logits})
        return logits.shape[1] == self.num_classes and self.window.accepts({"features": features})

    def update(self, *, features: Tensor, logits: Tensor, target: Tensor, time: float | None = None) -> None:
        """Add a batch: ``features`` (N, p), ``logits`` (N, K), ``target`` (N,) labels or (N, K) class weights.

        ``time`` is when the batch passed the model, before its optimizer step; a window's time is the mean over its
        batches, or the middle of its steps where none is given. A batch of another width than the first is left out
        and counted.
        """
        if time is not None:
            self._time_sum, self._timed = self._time_sum + time, self._timed + 1
        if self.window is None:
            self._part = self._following(followed_classes(self.num_classes, features.shape[1]))
        elif not self._accepts(features, logits):
            self.skip("changed_width")
            return
        batch, count, counted = {"features": features, "logits": logits}, None, 0
        K, ignored = self.num_classes, self.settings.ignore_index
        if (part := self._part) is not None:
            count, counted = part.count(target), K
            batch, target = part.select(features, logits, target)
            K, ignored = len(part.classes), part.ignore_index
        if self.window is None:
            self.window = ClassWindow.for_batch(batch, K, ignored, counted=counted)
        if count is not None:
            self.window.counts.add_(count)
        self.window.update(batch, target)

    def _following(self, classes: Sequence[int] | None) -> Following | None:
        return None if classes is None else Following(self.num_classes, classes, self.settings.ignore_index)

    def skip(self, key: str, count: int = 1) -> None:
        """Count something that was left out, by its key in ``notices.SKIPPED``."""
        self.skipped[key] += count

    def close(self, step: int) -> WindowRecord:
        """Evaluate the window that ends with optimizer step ``step`` and open the next; synchronises."""
        time = self._window_time(step)
        sources = _read(self.window, self._part) if self.window else {}
        for layer, source in sources.items():
            self.recorder.add(Source(layer), time, source.statistics)
        measures = _measure(sources)
        coefficients = self.coefficients.add(time, _readings(sources, measures))
        probe = self.probe.findings()
        weight = None
        if self.window is not None:
            weight = sources["features"].statistics.weight if self._part is None else self.window.counts
        record = WindowRecord(
            step=step,
            window=(self.start_step, step),
            samples=0.0 if weight is None else float(weight.sum()),
            class_samples=() if weight is None else tuple(weight.tolist()),
            missing_classes=self._count(weight),
            measures=measures,
            coefficients=coefficients | dict(probe.coefficients),
            step_response=probe.step_response,
            response_matrix=probe.response_matrix,
            skipped=dict(self.skipped),
            time_unit=self.settings.time_unit,
        )
        index = self.coefficients.trackers[PRIMARY_MODEL].local_index()
        record = replace(record, regime=self.judge.add(record, index))
        if self.window:
            self.window.advance()
        self.start_step = step
        self.windows += 1
        self._time_sum, self._timed = 0.0, 0
        return record

    def _window_time(self, step: int) -> float:
        # features of the i-th step are those before its update, hence the −1
        return self._time_sum / self._timed if self._timed else max(0.0, (self.start_step + step - 1) / 2)

    def _count(self, weight: Tensor | None) -> tuple[int, ...]:
        """Book what the window's counters say; returns the classes without samples."""
        if weight is None or self.window is None:
            return tuple(range(self.num_classes))
        moments = self.window.moments["features"]
        counters = {"nonfinite_features": moments.nonfinite, "unknown_labels": moments.mislabelled}
        if "logits" in self.window.moments:
            counters["nonfinite_logits"] = self.window.moments["logits"].nonfinite - moments.nonfinite
        for key, counter in counters.items():
            if (count := int(counter)) > 0:
                self.skip(key, count)
        return tuple((weight <= 0).nonzero().flatten().tolist())

    def add_probe(self, time: float, statistics: Mapping[str, ClassStatistics]) -> None:
        """Take in a reading of the probe at ``time``, by layer; the next record holds its coefficients."""
        for layer, moments in statistics.items():
            self.recorder.add(Source(layer, probe=True), time, moments)
        self.probe.add(time, statistics)

    def add_step(self, composition: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Take in one optimizer step: class weights (K,) of its batch, probe means (K, p) before and after it."""
        self.probe.add_step(composition, before, after)

    def state_dict(self) -> dict[str, Any]:
        """The whole state as CPU tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "num_classes": self.num_classes,
            "start_step": self.start_step,
            "windows": self.windows,
            "skipped": dict(self.skipped),
            "coefficients": self.coefficients.state_dict(),
            "window": self.window.state_dict() if self.window else None,
            "followed": None if self._part is None else list(self._part.classes),
            "window_time": (self._time_sum, self._timed),
            "trajectory": self.recorder.state_dict(),
            "verdict": self.judge.state_dict(),
            "probe": self.probe.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Continue where ``state_dict`` was taken, with tensors on ``device``. A probe may have come or gone.

        Raises:
            ValueError: if the state belongs to another number of classes.
        """
        K = state["num_classes"]
        require(K == self.num_classes, "state", f"one of {K} classes", f"a state of {self.num_classes} classes")
        self.start_step, self.windows = state["start_step"], state["windows"]
        self.skipped = Counter(state["skipped"])
        self.coefficients.load_state_dict(state["coefficients"])
        self._time_sum, self._timed = state["window_time"]
        self.recorder.load_state_dict(state["trajectory"])
        self.judge.load_state_dict(state["verdict"])
        self.probe.load_state_dict(state["probe"])
        window = state["window"]
        self._part = self._following(state["followed"])
        ignored = self.settings.ignore_index if self._part is None else self._part.ignore_index
        self.window = ClassWindow.from_state(window, ignored, device) if window else None


def _read(window: ClassWindow, following: Following | None) -> dict[str, SourceWindow]:
    """What the window holds, by layer."""
    part = None
    if following is not None:
        part = Part(following.num_classes, following.classes, *window.samples(HEAD))
    return {
        layer: SourceWindow(layer, window.statistics(layer), *window.samples(layer), window.previous_means(layer), part)
        for layer in ("features", "logits")
    }


def _measure(sources: Mapping[str, SourceWindow]) -> dict[str, dict[str, Any]]:
    """All measures of the sources in which at least two classes were seen, by name and layer."""
    found: dict[str, dict[str, Any]] = {measure.name: {} for measure in MEASURES}
    for measure in MEASURES:
        for layer in measure.layers:
            source = sources.get(layer)
            if source is not None and len(source.classes) >= 2:
                value = measure.compute(source)
                if value is not None:
                    found[measure.name][layer] = value
    return found


def _readings(sources: Mapping[str, SourceWindow], measures: Mapping[str, Any]) -> dict[str, LayerReading]:
    """What the coefficient trackers need of each layer."""
    spread = measures["spread"]
    return {
        layer: LayerReading(
            source.statistics,
            (source.samples, source.sample_labels),
            spread[layer].dimensions if layer in spread else None,
        )
        for layer, source in sources.items()
    }
