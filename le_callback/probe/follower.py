"""What the readings of a probe say, reading after reading: coefficients, step responses and the LE matrix.

K classes, p feature dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from le_callback.elasticity.live import LayerReading, LiveCoefficients
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.moments.following import followed_classes
from le_callback.moments.statistics import ClassStatistics
from le_callback.probe.response_matrix import ResponseMatrix, ResponseMatrixTracker, matrix_classes
from le_callback.probe.step_response import StepResponse, StepResponseTracker
from le_callback.similarity import LEModel
from le_callback.values import Source

LAYERS = ("features", "logits")


class ProbeFindings(NamedTuple):
    """What is known of the probe at the end of a window; all empty without one.

    Attributes:
        coefficients: by model and source.
        step_response: by layer.
        response_matrix: by layer.
    """

    coefficients: Mapping[str, WindowCoefficients]
    step_response: Mapping[str, StepResponse]
    response_matrix: Mapping[str, ResponseMatrix]


class NoProbe:
    """Nothing is read."""

    def add(
        self, time: float, statistics: Mapping[str, ClassStatistics], trained: tuple[Tensor, float] | None = None
    ) -> None:
        """Refuse: there is nothing to follow a probe with.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("The monitor was made without a probe: pass `MonitorSettings(probe=True)`.")

    def add_step(self, composition: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Nothing to follow."""

    def findings(self) -> ProbeFindings:
        """Nothing."""
        return ProbeFindings({}, {}, {})

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What a probe left is dropped."""


class ProbeFollower:
    """Follows the readings of a probe.

    Args:
        models: similarity models and the layers they are read from.
        num_classes: K.
        chosen: classes of the LE matrix; None takes all, if these are at most 64.
        smoothing, threshold, confidence: as ``LiveCoefficients`` takes them.
    """

    def __init__(
        self,
        models: Sequence[tuple[LEModel, str]],
        num_classes: int,
        chosen: Sequence[int] | None = None,
        *,
        smoothing: int,
        threshold: float,
        confidence: float,
    ) -> None:
        followed = [(model, Source(layer, probe=True)) for model, layer in models]
        settings: dict[str, Any] = {"smoothing": smoothing, "threshold": threshold, "confidence": confidence}
        self._live = LiveCoefficients(followed, num_classes, **settings)
        self._coefficients = self._live.unread("the probe was not read yet")
        self.step_response = {layer: StepResponseTracker(4 * smoothing, confidence, num_classes) for layer in LAYERS}
        classes = matrix_classes(chosen, num_classes)
        layers = LAYERS if classes else ()
        self.response_matrix = {layer: ResponseMatrixTracker(layer, classes, num_classes) for layer in layers}

    def add(
        self, time: float, statistics: Mapping[str, ClassStatistics], trained: tuple[Tensor, float] | None = None
    ) -> None:
        """Take in a reading at ``time``, by layer; ``trained``: samples trained on since the last, by class and all."""
        layers = {layer: LayerReading(s) for layer, s in statistics.items()}
        self._coefficients = self._live.add(time, layers, trained)

    def add_step(self, composition: Tensor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Take in one optimizer step: class weights (K,) of its batch, probe means (K, p) before and after it.

        Means of the followed classes alone give no LE matrix: what the others pull is not known.
        """
        total = composition.sum()
        if not bool(total > 0):
            return
        share, K = composition / total, len(composition)
        part = followed_classes(K, before["features"].shape[1]) if "features" in before else None
        if part is not None:
            share = share[list(part)]
        for layer in self.step_response.keys() & before.keys() & after.keys():
            step = share, before[layer], after[layer]
            self.step_response[layer].add(*step)
            if layer in self.response_matrix and part is None:
                self.response_matrix[layer].add(*step)

    def findings(self) -> ProbeFindings:
        """What is known now."""
        return ProbeFindings(
            self._coefficients,
            {layer: tracker.estimate() for layer, tracker in self.step_response.items()},
            {layer: tracker.estimate() for layer, tracker in self.response_matrix.items()},
        )

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "coefficients": self._live.state_dict(),
            "step_response": {layer: tracker.state_dict() for layer, tracker in self.step_response.items()},
            "response_matrix": {layer: tracker.state_dict() for layer, tracker in self.response_matrix.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; nothing where that was without a probe."""
        if state:
            self._live.load_state_dict(state["coefficients"])
            for layer, tracker in self.step_response.items():
                tracker.load_state_dict(state["step_response"][layer])
            for layer in self.response_matrix.keys() & state["response_matrix"].keys():
                self.response_matrix[layer].load_state_dict(state["response_matrix"][layer])
