"""A class whose samples stay away, or are all one and the same. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from le_callback.alerts.alert import PLACEHOLDER, Alert
from le_callback.alerts.attendance import Attendance, log_variation, sampled
from le_callback.alerts.rule import Rule, require_share
from le_callback.records import WindowRecord
from le_callback.values import Array

_FLAT = 3  # windows in a row in which the samples of a class no longer vary
_FEW = 4  # classes
_BURSTY = 2.0  # chi-square of the class counts per degree of freedom from which data do not come mixed


@dataclass(frozen=True)
class ClassVanished(Rule[Attendance]):
    """A class without samples for much longer than its share explains, or whose inputs no longer vary.

    Samples of a class with share π stay away for N samples with probability at most exp(−πN). The alert needs half of
    that exponent to exceed log(K j(j+1)/level) after j windows with the class. Where the class counts of windows vary
    more than mixed samples would, as in sorted or sharded data, the class must have come back before, and the gap be
    ``bursts`` times the longest that ended: so one epoch is waited for. Classes that join later are told, too.

    Inputs no longer vary where the variance of the features within the class, over the square of its mean, falls at
    once, and far more than it ever varied, below what it was and below that of all other classes. A class that is
    mapped to zero is none.

    Args:
        level: probability of an alarm in a whole run in which samples come independently with half their share or more.
        bursts: gap over the longest gap before.
        warm_up: windows with samples before the first judgement.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` is not between 0 and 1.

    >>> from dataclasses import replace
    >>> from le_callback import SeparationMonitor
    >>> rule, record, state = ClassVanished(), SeparationMonitor(num_classes=2).close(50), None
    >>> for second in [20.0] * 6 + [0.0] * 3:
    ...     state, alert = rule(replace(record, class_samples=(20.0, second)), state)
    >>> alert.cause
    'No sample of class {classes} among the last 60; 30 were expected.'
    """

    level: float = 1e-3
    bursts: float = 4.0
    warm_up: int = 5
    name: str = "ClassVanished"
    explained_by: tuple[str, ...] = ("NonFinite", "LoaderStuck", "FeatureCollapse")
    tells_new_classes = True
    state_type = Attendance

    def __post_init__(self) -> None:
        require_share("level", self.level)

    def __call__(self, record: WindowRecord, state: Attendance | None) -> tuple[Attendance | None, Alert | None]:
        """Counts of this window, and the alert while a class stays away."""
        if (counts := sampled(record)) is None:
            return state, None
        before = state if state and len(state.total) == len(counts) else Attendance.empty(len(counts))
        after = before.add(counts).varied(log_variation(record))
        if after.windows <= self.warm_up:
            return after, None
        gone = self._gone(after)
        after = replace(after, gone=np.maximum(after.gone, gone))
        return after, self._away(record.step, after, gone) or self._flat(record.step, after, np.flatnonzero(counts))

    def _gone(self, counted: Attendance) -> NDArray[np.bool_]:
        """Which classes stay away for longer than their share explains."""
        expected, seen = counted.missed(), np.maximum(counted.seen, 1)
        needed: Array = np.log(len(seen) * seen * (seen + 1) / self.level)
        # of few classes one that is gone makes all others uneven: what was known while all were there decides
        few = len(seen) <= _FEW and math.isfinite(counted.calm)
        waited = counted.gap >= self.bursts * counted.longest
        if (counted.calm if few else counted.bursts.factor) > _BURSTY:
            waited &= counted.longest > 0
        gone: NDArray[np.bool_] = (counted.seen > 0) & (0.5 * expected >= needed) & waited
        return gone

    def _away(self, step: int, counted: Attendance, gone: NDArray[np.bool_]) -> Alert | None:
        if not gone.any():
            return None
        expected = counted.missed()
        classes = tuple(np.flatnonzero(gone).tolist())
        worst = int(np.argmax(np.where(gone, expected, -1)))
        cause = (
            f"No sample of {_noun(classes)} {PLACEHOLDER} among the last {counted.gap[worst]:,.0f};"
            f" {expected[worst]:,.0f} were expected."
        )
        advice = "Check the sampler and the files of this class."
        return Alert(self.name, step, classes, cause, advice, 0.0, float(expected[worst]), self.level)

    def _flat(self, step: int, counted: Attendance, present: NDArray[np.intp]) -> Alert | None:
        flat = counted.flat >= _FLAT
        if not flat.any() or flat[present].all():
            return None
        classes = tuple(np.flatnonzero(flat).tolist())
        before = np.nanmin(np.array(counted.variation)[:, classes])
        cause = (
            f"The inputs of {_noun(classes)} {PLACEHOLDER} have seemed all the same for {_FLAT} windows: their features"
            " hardly vary any more, while those of other classes do."
        )
        advice = "Check the files and the preprocessing of this class."
        return Alert(self.name, step, classes, cause, advice, 0.0, math.exp(before), math.nan)


def _noun(classes: tuple[int, ...]) -> str:
    return "class" if len(classes) == 1 else "classes"
