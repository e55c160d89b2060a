"""The engine: batches of features and logits in, one record a window out. Knows no Trainer.

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.elasticity.live import LayerReading, LiveCoefficients
from le_callback.errors import require
from le_callback.measures import MEASURES
from le_callback.measures.base import Part, SourceWindow
from le_callback.measures.head_weights import HeadWeights, read_head
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
        smoothing: windows after which a change of the rates is as likely as not, before anything was seen.
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

    Of more than 1,024 classes, or where K·(p + K) is above 2²⁴, at most 512 are followed, see ``moments.following``;
    angles and collapse of the features are still measured on all of them.

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
        self.every: ClassWindow | None = None  # the features of all classes, where only a part is followed
        self.recorder = TrajectoryRecorder()
        self.judge = Judge(s.confidence)
        self._time_sum, self._timed = 0.0, 0
        self._trained: tuple[Tensor, float] | None = None  # samples in windows closed since the last probe reading
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
    def open_windows(self) -> tuple[ClassWindow, ...]:
        """What holds the samples since the last record: one window, two where a part of all classes is followed."""
        return tuple(window for window in (self.window, self.every) if window is not None)

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that are followed, in the order of the rows of means: all K, or some of very many."""
        return tuple(range(self.num_classes)) if self._part is None else self._part.classes

    def fits(self, *, features: Tensor, logits: Tensor, num_classes: int) -> bool:
        """Whether batches like this one, of ``num_classes`` classes, continue what was seen so far."""
        return num_classes == self.num_classes and (
            self.window is None or self._accepts({"features": features, "logits": logits})
        )

    def _accepts(self, batch: Mapping[str, Tensor]) -> bool:
        assert self.window is not None
        if self._part is None:
            return self.window.ring.accepts(batch)
        return batch["logits"].shape[1] == self.num_classes and self.window.accepts({"features": batch["features"]})

    def update(self, *, features: Tensor, logits: Tensor, target: Tensor, time: float | None = None) -> None:
        """Add a batch: ``features`` (N, p), ``logits`` (N, K), ``target`` (N,) labels or (N, K) class weights.

        ``time`` is when the batch passed the model, before its optimizer step; a window's time is the mean over its
        batches, or the middle of its steps where none is given. A batch of another width than the first is left out
        and counted.
        """
        if time is not None:
            self._time_sum += time
            self._timed += 1
        if self.window is None:
            classes = followed_classes(self.num_classes, features.shape[1])
            self._part = _following(self.num_classes, classes, self.settings.ignore_index)
        batch = {"features": features, "logits": logits}
        if self.window is not None and not self._accepts(batch):
            self.skip("changed_width")
        elif self._part is not None:
            self._update_part(self._part, features, logits, target)
        else:
            if self.window is None:
                self.window = ClassWindow.for_batch(batch, self.num_classes, self.settings.ignore_index)
            self.window.update(batch, target)

    def _update_part(self, part: Following, features: Tensor, logits: Tensor, target: Tensor) -> None:
        """Add a batch where a part of the classes is followed."""
        K = self.num_classes
        if self.every is None:
            self.every = ClassWindow.for_batch({"features": features}, K, self.settings.ignore_index, in_place=True)
        self.every.update({"features": features}, target)
        count = part.count(target)
        batch, target = part.select(features, logits, target)
        if self.window is None:
            self.window = ClassWindow.for_batch(batch, len(part.classes), part.ignore_index, counted=K)
        self.window.counts.add_(count)
        self.window.update(batch, target)

    def known_means(self) -> Tensor | None:
        """The class means of the features in the windows that were closed (K, p), NaN where unknown; None before."""
        window = self.every or self.window
        return None if window is None else window.previous_means("features")

    def skip(self, key: str, count: int = 1) -> None:
        """Count something that was left out, by its key in ``notices.SKIPPED``."""
        self.skipped[key] += count

    def close(self, step: int, head: nn.Module | None = None) -> WindowRecord:
        """Evaluate the window that ends with optimizer step ``step`` and open the next; synchronises.

        ``head`` is the classifier, whose weights are compared with the class means where they can be read; of weights
        that are split over processes all of them have to call this.
        """
        time = self._window_time(step)
        sources, everything = self._read(head)
        for layer, source in sources.items():
            self.recorder.add(Source(layer), time, source.statistics)
        measures = _measure(sources, everything)
        weight = self._weight()
        trained = self._followed(weight)
        self._trained = _added(self._trained, trained)
        coefficients = self.coefficients.add(time, _readings(sources, measures), trained)
        probe = self.probe.findings()
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
        for window in self.open_windows:
            window.advance()
        self.start_step = step
        self.windows += 1
        self._time_sum, self._timed = 0.0, 0
        return record

    def _window_time(self, step: int) -> float:
        # features of the i-th step are those before its update, hence the −1
        return self._time_sum / self._timed if self._timed else max(0.0, (self.start_step + step - 1) / 2)

    def _weight(self) -> Tensor | None:
        """Samples of each of the K classes in the open window."""
        if self.window is None:
            return None
        return self.window.moments["features"].weight if self._part is None else self.window.counts

    def _followed(self, weight: Tensor | None) -> tuple[Tensor, float] | None:
        """Samples of each class that is followed, and of all."""
        if weight is None:
            return None
        own = weight if self._part is None else weight[list(self._part.classes)]
        return own.double().cpu(), float(weight.sum())

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
        """Take in a reading of the probe at ``time``, by layer; the next record holds its coefficients.

        Classes pull as often as they are trained on, whatever the probe is made of: since the last reading, as far as
        windows were closed.
        """
        for layer, moments in statistics.items():
            self.recorder.add(Source(layer, probe=True), time, moments)
        self.probe.add(time, statistics, self._trained or self._followed(self._weight()))
        self._trained = None

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
            "every": self.every.state_dict() if self.every else None,
            "followed": None if self._part is None else list(self._part.classes),
            "window_time": (self._time_sum, self._timed),
            "trained": self._trained,
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
        self._trained = state["trained"]
        self.recorder.load_state_dict(state["trajectory"])
        self.judge.load_state_dict(state["verdict"])
        self.probe.load_state_dict(state["probe"])
        window = state["window"]
        self._part = _following(K, state["followed"], self.settings.ignore_index)
        ignored = self.settings.ignore_index if self._part is None else self._part.ignore_index
        self.window = ClassWindow.from_state(window, ignored, device) if window else None
        every = state["every"]
        ignored = self.settings.ignore_index
        self.every = ClassWindow.from_state(every, ignored, device, in_place=True) if every else None

    def _read(self, head: nn.Module | None) -> tuple[dict[str, SourceWindow], dict[str, SourceWindow]]:
        """What the open windows hold, by layer: of the classes that are followed, and of all."""
        window, following = self.window, self._part
        if window is None:
            return {}, {}
        part = None
        if following is not None:
            part = Part(following.num_classes, following.classes, *window.samples(HEAD))
        sources = {layer: _source(window, layer, part) for layer in ("features", "logits")}
        x = sources["features"].samples
        weights = read_head(head, self.num_classes, x.shape[1], x.device)
        if self.every is not None:
            return sources, {"features": _source(self.every, "features", None, weights)}
        features, logits = sources["features"], sources["logits"]
        same = torch.equal(features.sample_labels, logits.sample_labels)
        features = replace(features, outputs=logits.samples if same else None, head=weights)
        return sources | {"features": features}, {}


def _following(num_classes: int, classes: Sequence[int] | None, ignore_index: int | None) -> Following | None:
    return None if classes is None else Following(num_classes, classes, ignore_index)


def _source(window: ClassWindow, layer: str, part: Part | None, head: HeadWeights | None = None) -> SourceWindow:
    moments, samples = window.statistics(layer), window.samples(layer)
    return SourceWindow(layer, moments, *samples, window.previous_means(layer), part, head=head)


def _added(first: tuple[Tensor, float] | None, second: tuple[Tensor, float] | None) -> tuple[Tensor, float] | None:
    if first is None or second is None:
        return first or second
    return first[0] + second[0], first[1] + second[1]


def _measure(sources: Mapping[str, SourceWindow], everything: Mapping[str, SourceWindow]) -> dict[str, dict[str, Any]]:
    """All measures of the sources in which at least two classes were seen, by name and layer.

    Args:
        sources: of the classes that are followed.
        everything: of all classes, where that is more.
    """
    found: dict[str, dict[str, Any]] = {measure.name: {} for measure in MEASURES}
    for measure in MEASURES:
        for layer in measure.layers:
            source = everything.get(layer, sources.get(layer)) if measure.of_all else sources.get(layer)
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
