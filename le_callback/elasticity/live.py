"""Live coefficients of several models and sources, window after window.

K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from le_callback.elasticity.mode_readings import Mode, ModeReading, read_modes
from le_callback.elasticity.tracker import CoefficientTracker, add_together
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.moments.statistics import ClassStatistics, along_direction, widened
from le_callback.similarity import LEModel
from le_callback.values import NAN, Source


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
        settings: those of ``CoefficientTracker``.

    >>> import torch
    >>> from le_callback.moments import ClassMoments
    >>> from le_callback.similarity import IModel
    >>> live = LiveCoefficients([(IModel(), Source("logits"))], num_classes=2)
    >>> moments = ClassMoments(num_classes=2, num_features=2)(torch.eye(2), torch.tensor([0, 1]))
    >>> live.add(0.5, {"logits": LayerReading(moments)})["I_logits"].time
    0.5
    """

    def __init__(self, followed: Sequence[tuple[LEModel, Source]], num_classes: int, **settings: Any) -> None:
        self.num_classes = num_classes
        self.trackers = {
            f"{model.name}_{source}": CoefficientTracker(model, num_classes, source, **settings)
            for model, source in followed
        }

    def unread(self, status: str) -> dict[str, WindowCoefficients]:
        """Unknown coefficients by model and source, with the reason."""
        return {key: self._unknown(tracker, NAN, status) for key, tracker in self.trackers.items()}

    def add(self, time: float, layers: Mapping[str, LayerReading]) -> dict[str, WindowCoefficients]:
        """Take in what the layers say at ``time``; returns what is known now, by model and source."""
        known: dict[str, dict[Mode, ModeReading]] = {}
        for key, tracker in self.trackers.items():
            reading = self._read(tracker.model, layers.get(tracker.source.layer))
            if reading is not None:
                known[key] = reading
        found = add_together({key: self.trackers[key] for key in known}, time, known)
        return {key: found[key] if key in found else self._undefined(t, time) for key, t in self.trackers.items()}

    def _read(self, model: LEModel, layer: LayerReading | None) -> dict[Mode, ModeReading] | None:
        """The modes of the model; None where it is not defined."""
        K = self.num_classes
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
        means = widened(moments.mean)
        return read_modes(model, means, widened(noise).to(means.device), K, dimensions)

    def _undefined(self, tracker: CoefficientTracker, time: float) -> WindowCoefficients:
        status = f"needs at least {tracker.model.min_dimensions(self.num_classes)} dimensions"
        return self._unknown(tracker, time, status)

    @staticmethod
    def _unknown(tracker: CoefficientTracker, time: float, status: str) -> WindowCoefficients:
        return WindowCoefficients.unknown(tracker.model.name, tracker.source, time, status)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: tracker.state_dict() for key, tracker in self.trackers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; what is followed now and was not then starts anew."""
        for key in self.trackers.keys() & state.keys():
            self.trackers[key].load_state_dict(state[key])
