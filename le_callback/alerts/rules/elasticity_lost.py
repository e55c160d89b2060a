"""Local elasticity below zero: classes draw each other together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from le_callback.alerts.accuracy import NEAREST_MEAN, AccuracyState, counts
from le_callback.alerts.alert import Alert
from le_callback.alerts.rule import Rule, require_share
from le_callback.records import WindowRecord


@dataclass(frozen=True)
class ElasticityState:
    """What ``ElasticityLost`` remembers.

    Attributes:
        accuracy: of both measures.
        negative: windows in a row with γ below zero.

    >>> ElasticityState().negative
    0
    """

    accuracy: AccuracyState = field(default_factory=AccuracyState)
    negative: int = 0


@dataclass(frozen=True)
class ElasticityLost(Rule[ElasticityState]):
    """γ is below zero with its whole interval while the classes are not separated, and accuracy falls with it.

    The local fit of γ runs below zero for some windows when growth stops at once, so the measured side must confirm.

    Args:
        level: probability of an alarm in a whole run in which neither accuracy falls below ``keep``.
        keep: share of the best accuracy above chance that counts as confirmed when lost.
        patience: windows in a row with γ below zero.
        warm_up: windows before the first judgement.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` or ``keep`` is not between 0 and 1.

    >>> from le_callback import SeparationMonitor
    >>> ElasticityLost()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    level: float = 1e-3
    keep: float = 0.85
    patience: int = 3
    warm_up: int = 5
    name: str = "ElasticityLost"
    explained_by: tuple[str, ...] = ("NonFinite", "LabelsChanged", "FeatureCollapse", "PairMerging", "SeparabilityLost")
    state_type = ElasticityState

    def __post_init__(self) -> None:
        require_share("level", self.level)
        require_share("keep", self.keep)

    def __call__(
        self, record: WindowRecord, state: ElasticityState | None
    ) -> tuple[ElasticityState | None, Alert | None]:
        """Evidence of this window, and the alert while γ is negative and it suffices."""
        found = counts(record)
        if not found:
            return state, None
        before = state or ElasticityState()
        accuracy, _ = before.accuracy.add(found, self.keep, self.warm_up, -math.log(self.level))
        highest = _upper_bound(record)
        after = ElasticityState(accuracy, before.negative + 1 if highest < 0 else 0)
        confirmed = accuracy.falling and accuracy.log_sum >= -math.log(self.level)
        if not confirmed or after.negative < self.patience or _is_separated(record):
            return after, None
        cause = (
            f"Local elasticity γ is below zero (upper bound {highest:.2g} per {record.time_unit}) and accuracy falls"
            f" with it, to {found[NEAREST_MEAN].rate:.1%}: the classes draw together."
        )
        advice = (
            "Check labels and the learning rate; a gap that shrinks for long ends in classes that cannot be told apart."
        )
        classes = accuracy.fallen_classes()
        return after, Alert(self.name, record.step, classes, cause, advice, highest, 0.0, self.level)


def _upper_bound(record: WindowRecord) -> float:
    """Highest upper bound of γ by any model; NaN where none is known."""
    known = [c.gamma.high for c in record.coefficients.values() if math.isfinite(c.gamma.high)]
    return max(known, default=math.nan)


def _is_separated(record: WindowRecord) -> bool:
    return record.regime is not None and record.regime.name == "separated"
