"""Numbers that are not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

from le_callback.alerts.alert import Alert
from le_callback.alerts.rule import Rule
from le_callback.records import WindowRecord

_NONFINITE = "nonfinite_features"


@dataclass(frozen=True)
class Skipped:
    """What ``NonFinite`` remembers.

    Attributes:
        count: samples left out so far because their features are not finite.

    >>> Skipped(3).count
    3
    """

    count: int


@dataclass(frozen=True)
class NonFinite(Rule[Skipped]):
    """Features that are NaN, infinite or too large to square. A fact, told with the first window that has any.

    Args:
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    >>> from dataclasses import replace
    >>> from le_callback import SeparationMonitor
    >>> record = SeparationMonitor(num_classes=2).close(50)
    >>> broken = replace(record, skipped={"nonfinite_features": 3})
    >>> NonFinite()(broken, None)[1].cause
    '3 samples since step 0 have features that are not finite.'
    """

    name: str = "NonFinite"
    explained_by: tuple[str, ...] = ()
    state_type = Skipped

    def __call__(self, record: WindowRecord, state: Skipped | None) -> tuple[Skipped, Alert | None]:
        """The alert of each window with such samples."""
        before = state.count if state else 0
        count = int(record.skipped.get(_NONFINITE, 0))
        after = Skipped(count)
        if count <= before:
            return after, None
        cause = f"{count - before} samples since step {record.window[0]} have features that are not finite."
        advice = "Stop, go back to a checkpoint before, lower the learning rate or clip gradients; check the inputs."
        return after, Alert(self.name, record.step, (), cause, advice, count - before, 0, math.nan)
