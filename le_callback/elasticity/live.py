"""Live coefficients of several models and sources, window after window.

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from torch import Tensor

from le_callback.elasticity.class_growth import growths
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.frequencies import ClassFrequencies
from le_callback.elasticity.mode_readings import MODES, Mode, ModeReading, modes_of
from le_callback.elasticity.rate_filters import PathReading, RateFilters
from le_callback.elasticity.tracker import CoefficientTracker
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.errors import require
from le_callback.moments.statistics import ClassStatistics, along_direction, widened
from le_callback.similarity import LEModel
from le_callback.values import NAN, Estimate, Source

WIDE = 2**18  # numbers up to which class means are read in double precision


@dataclass(frozen=True)
class LayerReading:
    """What one window, or one reading of the probe, says of a layer.

    Attributes:
        statistics: of the K classes.
        samples: (N, p) and their labels (N,), to read the noise along class directions; None where the means have none.
        dimensions: directions that the scatter within classes spreads over; None: all.
    """

    statistics: ClassStatistics
    samples: tuple[Tensor, Tensor] | None = None
    dimensions: float | None = None


class LiveCoefficients:
    """α, β, γ of several models and sources that are read at the same times.

    Args:
        followed: similarity models and the sources of their class means.
        num_classes: K.
        smoothing: windows after which a change of the rates is as likely as not, before anything was seen.
        settings: those of ``CoefficientTracker``.

    >>> import torch
    >>> from le_callback.moments import ClassMoments
    >>> from le_callback.similarity import IModel
    >>> live = LiveCoefficients([(IModel(), Source("logits"))], num_classes=2)
    >>> moments = ClassMoments(num_classes=2, num_features=2)(torch.eye(2), torch.tensor([0, 1]))
    >>> live.add(0.5, {"logits": LayerReading(moments)})["I_logits"].time
    0.5
    """

    def __init__(
        self, followed: Sequence[tuple[LEModel, Source]], num_classes: int, *, smoothing: int = 11, **settings: Any
    ) -> None:
        require(smoothing >= 1, "smoothing", smoothing, "at least 1 window")
        self.num_classes = num_classes
        self.trackers = {
            f"{model.name}_{source}": CoefficientTracker(model, num_classes, source, **settings)
            for model, source in followed
        }
        self.filters = RateFilters(2 * len(self.trackers), hazard=min(0.5, 0.5 / smoothing))
        self.frequencies = ClassFrequencies()

    def unread(self, status: str) -> dict[str, WindowCoefficients]:
        """Unknown coefficients by model and source, with the reason."""
        return {key: self._unknown(tracker, NAN, status) for key, tracker in self.trackers.items()}

    def add(
        self, time: float, layers: Mapping[str, LayerReading], drawn: tuple[Tensor, float] | None = None
    ) -> dict[str, WindowCoefficients]:
        """Take in what the layers say at ``time``; returns what is known now, by model and source.

        Args:
            time: of the window.
            layers: by name.
            drawn: samples of each row of the means that were trained on since the last window, and of all classes;
                None: the weights of the first layer.
        """
        if drawn is None and layers:
            weight = next(iter(layers.values())).statistics.weight
            drawn = weight, float(weight.sum())
        if drawn is not None:
            self.frequencies.add(drawn[0].double().cpu().numpy(), drawn[1])
        read = {key: self._read(tracker.model, tracker.source, layers) for key, tracker in self.trackers.items()}
        modes = {key: found[0] for key, found in read.items() if found is not None}
        new = self._joined(time, {key: found for key, found in read.items() if found is not None})
        rates = self._rates(new)
        said = {}
        for at, (key, tracker) in enumerate(self.trackers.items()):
            if key in modes:
                own = {mode: rates[2 * at + i] for i, mode in enumerate(MODES) if 2 * at + i in rates}
                said[key] = tracker.record(time, modes[key], own, self.filters, 2 * at)
            else:
                said[key] = self._undefined(tracker, time)
        return said

    def _joined(
        self, time: float, read: Mapping[str, tuple[dict[Mode, ModeReading], ClassReading]]
    ) -> dict[int, PathReading]:
        """What the window adds to the paths of each model, by channel."""
        joins = {
            (key, mode): join for key, found in read.items() for mode, join in self.trackers[key].joins(*found).items()
        }
        said = dict(zip(joins, growths(list(joins.values()), self.frequencies.now), strict=True))
        new: dict[int, PathReading] = {}
        for at, (key, tracker) in enumerate(self.trackers.items()):
            if key in read:
                grown = {mode: growth for (other, mode), growth in said.items() if other == key}
                for mode, reading in tracker.take_in(time, *read[key], grown).items():
                    new[2 * at + MODES.index(mode)] = reading
        return new

    def _rates(self, new: Mapping[int, PathReading]) -> dict[int, Estimate]:
        """Rates of the channels that were read."""
        if not new:
            return {}
        known = self.filters.update(new)
        tail = (1 - next(iter(self.trackers.values())).confidence) / 2
        mean, lasting = known.mean(), np.array([reading.lasting / reading.dt for reading in new.values()])
        low, high = known.quantiles(tail, 1 - tail)
        low, high = (
            mean - np.hypot(mean - low, ndtri(tail) * lasting),
            mean + np.hypot(high - mean, ndtri(tail) * lasting),
        )
        found = zip(new, mean, low, high, strict=True)
        return {channel: Estimate(float(m), float(a), float(b)) for channel, m, a, b in found}

    def _read(
        self, model: LEModel, source: Source, layers: Mapping[str, LayerReading]
    ) -> tuple[dict[Mode, ModeReading], ClassReading] | None:
        """The modes of the model and its coordinates; None where it is not defined."""
        K, layer, averaged = self.num_classes, layers.get(source.layer), not source.probe
        if layer is None or layer.statistics.mean.shape[1] < model.min_dimensions(K):
            return None
        moments = layer.statistics
        noise, dimensions = moments.mean_noise, layer.dimensions
        if model.has_directions:
            dimensions = None
            if layer.samples is not None:
                samples, labels = layer.samples
                along = model.sample_coordinates(samples, labels).squeeze(1)
                per_sample = noise / moments.variance  # Σw²/W²
                noise = along_direction(along, labels, K) * per_sample
        means = ClassReading.of(model, widened(moments.mean, WIDE), widened(noise), dimensions, averaged=averaged)
        return modes_of(means, K), means

    def _undefined(self, tracker: CoefficientTracker, time: float) -> WindowCoefficients:
        status = f"needs at least {tracker.model.min_dimensions(self.num_classes)} dimensions"
        return self._unknown(tracker, time, status)

    @staticmethod
    def _unknown(tracker: CoefficientTracker, time: float, status: str) -> WindowCoefficients:
        return WindowCoefficients.unknown(tracker.model.name, tracker.source, time, status)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "trackers": {key: tracker.state_dict() for key, tracker in self.trackers.items()},
            "filters": self.filters.state_dict(),
            "frequencies": self.frequencies.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; what is followed now and was not then starts anew."""
        there, here = list(state["trackers"]), list(self.trackers)
        for key in self.trackers.keys() & there:
            self.trackers[key].load_state_dict(state["trackers"][key])
        pairs = [(2 * here.index(k) + i, 2 * there.index(k) + i) for k in here if k in there for i in range(2)]
        self.filters.load_state_dict(state["filters"], pairs)
        self.frequencies.load_state_dict(state["frequencies"])
