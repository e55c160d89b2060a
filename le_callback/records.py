"""All that one window says, as it passes between the stages.

Plain numbers: nothing here keeps a graph or a device alive.

The records of measures, coefficients and probe readings stand beside what makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.measures import (
    Collapse,
    Discriminability,
    EffectiveTraining,
    EtfAngles,
    HeadMargin,
    NearestMean,
    Scatter,
    Spread,
)
from le_callback.probe.response_matrix import ResponseMatrix
from le_callback.probe.step_response import StepResponse
from le_callback.values import Estimate

PRIMARY_MODEL = "I_logits"  # of the verdict, and of γ in the progress bar


Verdict = Literal["at chance", "separating", "stalled", "losing", "separated", "cannot tell"]
"""What is measured: nothing told apart yet; a gap that grows, rests or falls; nothing left to separate; too little."""
Side = Literal["slower", "like", "faster", "negative", "open"]
"""γ against 1/t: decays more slowly, alike or faster; is below zero; or is not known well enough."""


@dataclass(frozen=True)
class Regime:
    """What is measured of the separation of the classes now, and what the theorem says to it.

    Attributes:
        name: the verdict.
        reason: a sentence with what it rests on.
        rate: growth of the discriminability of the worst pairs, in deviations per 1,000 units of time (per unit, if
            that is not the optimizer step); NaN where it is not known.
        side: γ against 1/t, as far as it is known.
        theorem: a sentence on that, and on whether both agree.
        t_gamma: t·γ: grows while separating, falls while not.
        index: local tail index r of γ ~ t^(−r), critical at 1.

    Source: Zhang, Wang, Su 2021, section 3.
    """

    name: Verdict
    reason: str
    rate: Estimate
    side: Side
    theorem: str
    t_gamma: float
    index: Estimate


@dataclass(frozen=True)
class WindowRecord:
    """All that one window says. Sources are ``features`` (what enters the head) and ``logits`` (what leaves it).

    Attributes:
        step: optimizer step at its end.
        window: optimizer steps (after, up to).
        samples: number of samples, or the sum of their weights.
        class_samples: (K,) of each class.
        missing_classes: without samples.
        measures: records by name of the measure and source, see ``le_callback.measures``.
        coefficients: by model and source: ``I_features``, ``I_logits``, ``L_logits``, and with a probe
            ``I_probe_features``, ….
        step_response: by source; empty without a probe.
        response_matrix: by source; empty without a probe.
        skipped: what was left out since the start of the run: how many, by the keys of ``notices.SKIPPED``.
        time_unit: of every time and of every "per" in the coefficients.
        regime: the verdict, and the theorem's side by the I-model of the logits.
        alerts: whether the alert of each rule stands; empty where no rules are asked.

    >>> from le_callback import SeparationMonitor
    >>> SeparationMonitor(num_classes=2).close(step=9).missing_classes
    (0, 1)
    """

    step: int
    window: tuple[int, int]
    samples: float
    class_samples: tuple[float, ...]
    missing_classes: tuple[int, ...]
    measures: Mapping[str, Mapping[str, Any]]
    coefficients: Mapping[str, WindowCoefficients]
    step_response: Mapping[str, StepResponse]
    response_matrix: Mapping[str, ResponseMatrix]
    skipped: Mapping[str, int]
    time_unit: str
    regime: Regime | None = None
    alerts: Mapping[str, bool] = field(default_factory=dict)

    @property
    def primary(self) -> WindowCoefficients:
        """The coefficients that the verdict is about: the I-model of the logits of training batches."""
        return self.coefficients[PRIMARY_MODEL]

    @property
    def etf(self) -> Mapping[str, EtfAngles]:
        """Angles of the class means, by source."""
        return self.measures.get("etf", {})

    @property
    def collapse(self) -> Collapse | None:
        """How far neural collapse of the features has gone; None where fewer than two classes were seen."""
        return self.measures.get("collapse", {}).get("features")

    @property
    def nearest_mean(self) -> Mapping[str, NearestMean]:
        """Held-out accuracy of the nearest class mean, by source."""
        return self.measures.get("nearest_mean", {})

    @property
    def discriminability(self) -> Mapping[str, Discriminability]:
        """Of every pair of classes, by source."""
        return self.measures.get("discriminability", {})

    @property
    def scatter(self) -> Mapping[str, Scatter]:
        """Of classes and samples, by source."""
        return self.measures.get("scatter", {})

    @property
    def spread(self) -> Mapping[str, Spread]:
        """Numbers of directions, by source."""
        return self.measures.get("spread", {})

    @property
    def head(self) -> HeadMargin | None:
        """Margins of the classifier head; None where there are no samples, or fewer logits than classes."""
        return self.measures.get("head", {}).get("logits")

    @property
    def effective_training(self) -> EffectiveTraining | None:
        """How far training still pulls on the class means."""
        return self.measures.get("effective_training", {}).get("logits")
