"""Classes that cannot be told apart any more, or never could. K classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from le_callback.alerts.accuracy import NEAREST_MEAN, AccuracyState, Counts, counts
from le_callback.alerts.alert import Alert
from le_callback.alerts.rule import Rule, require_share
from le_callback.records import WindowRecord
from le_callback.verdict.chance import ABOVE, Tally, above_chance

_ALIKE = 0.45  # of their length: features that vary by less are nearly the same


@dataclass(frozen=True)
class Departure:
    """Whether classes were ever told apart better than by a guess.

    Attributes:
        left: whether they were.
        totals: all samples so far, by measure, until then.

    >>> import numpy as np
    >>> Departure().add({"head": Counts(np.array([9.0, 9.0]), np.array([9.0, 9.0]))}).left
    True
    """

    left: bool = False
    totals: Mapping[str, Counts] = field(default_factory=dict)

    def add(self, found: Mapping[str, Counts]) -> Departure:
        """Take in a window: its samples by themselves, and all so far."""
        if self.left:
            return self
        totals = {}
        for measure, window in found.items():
            old = self.totals.get(measure)
            totals[measure] = window if old is None else Counts(old.tried + window.tried, old.hits + window.hits)
        apart = any(above_chance(Tally(*c)) > ABOVE for c in (*found.values(), *totals.values()))
        return Departure(True) if apart else replace(self, totals=totals)


@dataclass(frozen=True)
class LossState:
    """What ``SeparabilityLost`` remembers.

    Attributes:
        accuracy: of both measures.
        departure: from chance.

    >>> LossState().departure.left
    False
    """

    accuracy: AccuracyState = field(default_factory=AccuracyState)
    departure: Departure = field(default_factory=Departure)


@dataclass(frozen=True)
class SeparabilityLost(Rule[LossState]):
    """Both accuracies are significantly below ``keep`` of their own best above chance, or never left chance.

    Chance is left when the mean accuracy over the classes, of one window or of all so far, is 3.5 standard errors above
    1/K, which no guess exceeds whatever the class frequencies.

    Args:
        level: probability of an alarm in a whole run in which neither falls below that.
        keep: share of the best accuracy above chance that may not be lost.
        warm_up: windows before the first judgement.
        leave_chance_by: optimizer steps by which the accuracy must have left chance.
        leave_chance_samples: samples of each class, at the mean, that must have been seen by then.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` or ``keep`` is not between 0 and 1.

    >>> from le_callback import SeparationMonitor
    >>> SeparabilityLost()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    level: float = 1e-3
    keep: float = 0.75
    warm_up: int = 5
    leave_chance_by: int = 20_000
    leave_chance_samples: int = 1_000
    name: str = "SeparabilityLost"
    explained_by: tuple[str, ...] = ("NonFinite", "LabelsChanged", "FeatureCollapse", "PairMerging")
    state_type = LossState

    def __post_init__(self) -> None:
        require_share("level", self.level)
        require_share("keep", self.keep)

    def __call__(self, record: WindowRecord, state: LossState | None) -> tuple[LossState | None, Alert | None]:
        """Evidence of this window, and the alert while it suffices."""
        found = counts(record)
        if not found:
            return state, None
        before, needed = state or LossState(), -math.log(self.level)
        accuracy, floor = before.accuracy.add(found, self.keep, self.warm_up, needed)
        after = LossState(accuracy, before.departure.add(found))
        if accuracy.log_sum >= needed and accuracy.falling:
            alike = _alike(record)
            return after, self._lost(record.step, accuracy, found[NEAREST_MEAN].rate, floor, alike)
        if not after.departure.left and record.step >= self.leave_chance_by:
            return after, self._never_left(record.step, after.departure)
        return after, None

    def _lost(self, step: int, state: AccuracyState, value: float, floor: float, alike: float) -> Alert:
        cause = (
            f"Held-out accuracy by nearest class mean fell to {value:.1%}; measured against its best, it counts as lost"
            f" below {floor:.1%}."
        )
        advice = "Check labels and data that came in since, and the learning rate; go back to an earlier checkpoint."
        if alike < _ALIKE:
            cause = (
                f"{cause} The features of all samples are nearly the same: they vary by {alike:.0%} of their length."
            )
            advice = f"Check whether the inputs still differ from each other, then {advice[6:]}"
        return Alert(self.name, step, state.fallen_classes(), cause, advice, value, floor, self.level)

    def _never_left(self, step: int, departure: Departure) -> Alert | None:
        total = departure.totals[NEAREST_MEAN]
        K, samples = len(total.tried), float(total.tried.sum())
        if samples < self.leave_chance_samples * K:
            return None
        seen = total.tried > 0
        value = float((total.hits[seen] / total.tried[seen]).mean())
        cause = (
            f"After {step:,} steps and {samples:,.0f} samples no class is told apart better than by a guess: mean"
            f" accuracy over the classes {value:.2%}, a guess reaches {1 / K:.2%}."
        )
        advice = "Check that labels belong to their inputs, then the learning rate and the initialisation."
        return Alert(self.name, step, (), cause, advice, value, 1 / K, math.nan)


def _alike(record: WindowRecord) -> float:
    """How much the features vary, whatever their labels, over the length of their class means."""
    found = record.scatter.get("features")
    length = 0.0 if found is None else float(np.median(found.size))
    return math.sqrt(found.total) / length if found is not None and length > 0 else math.inf
