"""Classes that cannot be told apart any more, or never could. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from le_callback.alerts.accuracy import NEAREST_MEAN, AccuracyState, counts
from le_callback.alerts.alert import Alert
from le_callback.alerts.rule import Rule, require_share
from le_callback.records import WindowRecord

_LEFT_CHANCE = 0.05  # above chance


@dataclass(frozen=True)
class SeparabilityLost(Rule[AccuracyState]):
    """Both accuracies are significantly below ``keep`` of their own best above chance, or never left chance.

    Args:
        level: probability of an alarm in a whole run in which neither falls below that.
        keep: share of the best accuracy above chance that may not be lost.
        warm_up: windows before the first judgement.
        leave_chance_by: window by which the accuracy must have left chance.
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
    leave_chance_by: int = 400
    name: str = "SeparabilityLost"
    explained_by: tuple[str, ...] = ("NonFinite", "FeatureCollapse", "PairMerging")
    state_type = AccuracyState

    def __post_init__(self) -> None:
        require_share("level", self.level)
        require_share("keep", self.keep)

    def __call__(self, record: WindowRecord, state: AccuracyState | None) -> tuple[AccuracyState | None, Alert | None]:
        """Evidence of this window, and the alert while it suffices."""
        found = counts(record)
        if not found:
            return state, None
        after, floor = (state or AccuracyState()).add(found, self.keep, self.warm_up)
        value, chance = found[NEAREST_MEAN].rate, 1 / len(found[NEAREST_MEAN].tried)
        if after.log_sum >= -math.log(self.level):
            return after, self._lost(record.step, after, value, floor)
        if after.windows >= self.leave_chance_by and after.best < chance + _LEFT_CHANCE:
            return after, self._never_left(record.step, after.windows, value, chance)
        return after, None

    def _lost(self, step: int, state: AccuracyState, value: float, floor: float) -> Alert:
        cause = (
            f"Held-out nearest-class-mean accuracy fell to {value:.0%}; below {floor:.0%} it counts as lost"
            " against its best."
        )
        advice = "Check labels and data that came in since, and the learning rate; go back to a checkpoint before."
        return Alert(self.name, step, state.fallen_classes(), cause, advice, value, floor, self.level)

    def _never_left(self, step: int, windows: int, value: float, chance: float) -> Alert:
        cause = f"After {windows} windows no class is told apart: accuracy {value:.0%}, chance is {chance:.0%}."
        advice = "Check that labels belong to their inputs, then the learning rate and the initialisation."
        return Alert(self.name, step, (), cause, advice, value, chance + _LEFT_CHANCE, self.level)
