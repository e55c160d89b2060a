"""Numbers that are not finite. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from le_callback.alerts.alert import PLACEHOLDER, Alert
from le_callback.alerts.rule import Rule
from le_callback.records import WindowRecord
from le_callback.values import Array

_SIDES = {"nonfinite_features": "features", "nonfinite_logits": "logits"}
_FADING = 0.9  # of samples from one window to the next
_CLEARLY = 3.0  # standard errors of what is missing of a class whose samples are those left out
_LEAST = 5.0  # samples that are expected of such a class


@dataclass(frozen=True)
class Skipped:
    """What ``NonFinite`` remembers.

    Attributes:
        features: samples left out so far because their features are not finite.
        logits: those whose logits are not, although their features are.
        usual: (K,) faded samples of the classes.

    >>> Skipped(3).features
    3
    """

    features: int = 0
    logits: int = 0
    usual: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class NonFinite(Rule[Skipped]):
    """Features or logits that are NaN, infinite or too large to square: a fact, told with the first window with any.

    The classes are named if what is missing of them, against their usual share, is what was left out.

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
        before = state or Skipped()
        features, logits = (int(record.skipped.get(key, 0)) for key in _SIDES)
        seen = np.asarray(record.class_samples, dtype=np.float64)
        usual = before.usual if len(before.usual) == len(seen) else np.zeros(len(seen))
        new = {"features": features - before.features, "logits": logits - before.logits}
        if max(new.values()) <= 0:
            return Skipped(features, logits, _FADING * usual + seen), None
        after = Skipped(features, logits, usual)
        layer = "features" if new["features"] > 0 else "logits"
        count = new[layer]
        classes = _missing(usual, seen, count) if layer == "features" else ()
        whose = f", all of them of {'class' if len(classes) == 1 else 'classes'} {PLACEHOLDER}" if classes else ""
        finite = ", although their features are: it is the head" if layer == "logits" else ""
        cause = f"{count} samples since step {record.window[0]:,} have {layer} that are not finite{finite}{whose}."
        advice = "Go back to an earlier checkpoint; lower the learning rate or clip gradients, and check the inputs."
        if classes:
            advice = "Check the inputs of this class." if len(classes) == 1 else "Check the inputs of these classes."
        return after, Alert(self.name, record.step, classes, cause, advice, count, 0, math.nan)


def _missing(usual: Array, seen: Array, left_out: int) -> tuple[int, ...]:
    """Classes of which far less is there than usual, if that explains what was left out."""
    if usual.sum() == 0:
        return ()
    expected = usual / usual.sum() * (seen.sum() + left_out)
    lost = expected - seen
    gone = (expected >= _LEAST) & (lost >= _CLEARLY * np.sqrt(np.maximum(expected, 1)))
    explained = abs(float(lost[gone].sum()) - left_out) <= 0.2 * left_out + 2 * math.sqrt(left_out)
    return tuple(np.flatnonzero(gone).tolist()) if explained and not gone.all() else ()
