"""Features or logits whose scale jumps, or goes on growing or shrinking exponentially."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from le_callback.alerts.alert import Alert
from le_callback.alerts.margins import Margins
from le_callback.alerts.rule import Rule
from le_callback.errors import require
from le_callback.records import WindowRecord

_KEPT = 7  # windows
_FADING = 0.02  # of the highest log scale before, a window
_SHRUNK = 3  # windows in a row in which features and margins must have fallen
_SMALLER, _LESS = 0.7, 0.4  # of the log scale of features, and the share of the margin that is left
_STEADY = 0.15  # of log scale from window to window
_KEPT_MARGINS = 10  # windows without contradictions
_LEARNT = 1.0  # logits of the mean margin of a head that has learnt something: before, scales may grow as they do
_CONFIDENT = 10.0  # logits of the mean margin from which there is no reason to grow


@dataclass(frozen=True)
class Scales:
    """Log root mean square distance from the mean in the last windows.

    Attributes:
        windows: so far.
        logs: of the last windows, by layer.
        peaks: highest log scale before these, which fades, by layer.
        margins: of the head in the last windows.
        high: scale that a jump started from, by layer; kept while it stands.
        low: log scale of the features and margin before both fell; None where they did not.
        shrunk: windows in a row in which both are down.
        contradictions: of the head by labels.

    >>> Scales().windows
    0
    """

    windows: int = 0
    logs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)
    margins: tuple[float, ...] = ()
    high: Mapping[str, float] = field(default_factory=dict)
    low: tuple[float, float] | None = None
    shrunk: int = 0
    contradictions: Margins = field(default_factory=Margins)


@dataclass(frozen=True)
class ScaleChanged(Rule[Scales]):
    """The scale of features or logits jumps up, or goes on changing by the same factor from window to window.

    Jump: by more than ``jump`` above all that was before, in each of two windows. Growth without an end: logits grow
    by more than ``steady`` over seven windows, in all but one, although their mean margin was above 10 in five: a
    softmax has no use for that. Decay: for three windows features are at half of their scale and margins at 40 %,
    while labels do not contradict the head.

    Args:
        jump: factor.
        steady: factor over seven windows.
        warm_up: windows before the first judgement.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if a factor is not above 1.

    >>> from le_callback import SeparationMonitor
    >>> ScaleChanged()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    jump: float = 10.0
    steady: float = 2.7
    warm_up: int = 6
    name: str = "ScaleChanged"
    explained_by: tuple[str, ...] = ("NonFinite", "FeatureCollapse", "LabelsChanged")
    state_type = Scales

    def __post_init__(self) -> None:
        for argument, factor in (("jump", self.jump), ("steady", self.steady)):
            require(factor > 1, argument, factor, "a factor above 1")

    def __call__(self, record: WindowRecord, state: Scales | None) -> tuple[Scales | None, Alert | None]:
        """Scales of this window, and the alert while one is off."""
        if not record.scatter or record.head is None:
            return state, None
        before = state or Scales()
        logs = {
            layer: (*before.logs.get(layer, ()), 0.5 * math.log(max(found.total, 1e-30)))[-_KEPT:]
            for layer, found in record.scatter.items()
        }
        after = replace(
            before,
            windows=before.windows + 1,
            logs=logs,
            peaks={
                layer: max(before.peaks.get(layer, -math.inf) - _FADING, before.logs.get(layer, (-math.inf,))[0])
                for layer in logs
            },
            margins=(*before.margins, record.head.margin)[-_KEPT:],
            contradictions=before.contradictions.add(record.head),
        )
        if after.windows <= self.warm_up:
            return after, None
        learnt = max(after.margins[:-2], default=0.0) > _LEARNT
        bases = {
            layer: self._base(before.high.get(layer), past, after.peaks[layer]) if learnt else None
            for layer, past in logs.items()
        }
        after = replace(after, high={layer: base for layer, base in bases.items() if base is not None})
        after = _followed_down(after)
        step = record.step
        return after, self._jumped(step, after) or self._steadily(step, after) or self._shrunk(step, after)

    def _base(self, old: float | None, logs: tuple[float, ...], peak: float) -> float | None:
        """The log scale that a jump started from, while it lasts."""
        needed = math.log(self.jump)
        if old is not None:
            return old if logs[-1] > old + needed / 2 else None
        base = max(*logs[:-2], peak)  # what only comes back is no jump
        return base if len(logs) >= 5 and min(logs[-2:]) >= base + needed else None

    def _jumped(self, step: int, scales: Scales) -> Alert | None:
        for layer, base in scales.high.items():
            now = math.exp(scales.logs[layer][-1])
            cause = f"The scale of the {layer} jumped from {math.exp(base):,.3g} to {now:,.3g}."
            advice = "Check whether the inputs are scaled as before, then the learning rate."
            return Alert(self.name, step, (), cause, advice, now, self.jump * math.exp(base), math.nan)
        return None

    def _steadily(self, step: int, scales: Scales) -> Alert | None:
        """Logits that grow without need, window after window."""
        logs = scales.logs.get("logits", ())
        steps = sorted(b - a for a, b in pairwise(logs))
        endless = len(steps) == _KEPT - 1 and steps[1] >= _STEADY and sum(steps) >= math.log(self.steady)
        if not endless or min(scales.margins[-5:]) < _CONFIDENT:
            return None
        now, was = math.exp(logs[-1]), math.exp(logs[0])
        cause = (
            f"The logits keep growing exponentially: their scale is {now:.3g}, up from {was:.3g} {_KEPT - 1} windows"
            " ago."
        )
        advice = "Check the learning rate and any factor on the logits."
        return Alert(self.name, step, (), cause, advice, now, was * self.steady, math.nan)

    def _shrunk(self, step: int, scales: Scales) -> Alert | None:
        """Features and margins that have fallen, while no label contradicts the head."""
        if scales.low is None or scales.shrunk < _SHRUNK:
            return None
        now, was = math.exp(scales.logs["features"][-1]), math.exp(scales.low[0])
        cause = (
            f"The features shrank: their scale fell from {was:.3g} to {now:.3g}, and the mean margin from"
            f" {scales.low[1]:.2g} to {scales.margins[-1]:.2g}."
        )
        advice = "Check weight decay and any factor on the features."
        return Alert(self.name, step, (), cause, advice, now, was * math.exp(-_SMALLER), math.nan)


def _followed_down(scales: Scales) -> Scales:
    """Counts the windows in which features and margin are below what they were."""
    features, margins = scales.logs.get("features", ()), scales.margins
    if scales.low is None:
        if len(features) < _KEPT or margins[-1] <= 0 or scales.contradictions.agreeing <= _KEPT_MARGINS:
            return scales
        high, most = sorted(features[:-1])[-2], sorted(margins[:-1])[-2]  # one odd window is no measure
        down = features[-1] < high - _SMALLER and margins[-1] < _LESS * most
        return replace(scales, low=(high, most) if down else None, shrunk=int(down))
    down = features[-1] < scales.low[0] - _SMALLER / 2 and margins[-1] < 1.5 * _LESS * scales.low[1]
    down = down and scales.contradictions.agreeing > scales.shrunk + 1
    return replace(scales, low=scales.low if down else None, shrunk=scales.shrunk + 1 if down else 0)
