"""Labels that contradict at once what was learnt, and are learnt anew. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from le_callback.alerts.accuracy import HEAD, NEAREST_MEAN, Counts, counts
from le_callback.alerts.alert import Alert
from le_callback.alerts.margins import Margins
from le_callback.alerts.rule import Rule
from le_callback.records import WindowRecord
from le_callback.values import NAN, Array

_FADING = 0.7  # of samples from one window to the next
_DIP = {NEAREST_MEAN: 0.75, HEAD: 0.85}  # share of the accuracies before to which both must fall
_BACK = {NEAREST_MEAN: 0.88, HEAD: 0.92}  # and that both must reach again
_LONGEST = 8  # windows of a dip
_DENIED = (0.3, 0.05)  # of the usual margin that its low quantile must fall by, and below zero, if accuracies fall so
_GREW = 0.3  # of the log scale of the features: a network that diverged, and no other labels
_FALLEN = 0.3  # by which the accuracy of a class fell, to be named


@dataclass(frozen=True)
class Course:
    """What ``LabelsChanged`` remembers.

    Attributes:
        windows: with samples.
        tried: (2, K) faded samples by nearest class mean and by the head, before the dip.
        hits: (2, K) of which rightly classified.
        scale: log scale of the features before the dip.
        margins: of the head, before the dip.
        dip: windows since accuracies fell; 0 where they did not.
        lowest: (2, K) lowest accuracies of the classes in the dip.
        lows: lowest accuracies over all classes in the dip, of both measures.
        bounds: lowest of what these surely are below: four standard errors above each.

    >>> Course().dip
    0
    """

    windows: int = 0
    tried: Array = field(default_factory=lambda: np.zeros((2, 0)))
    hits: Array = field(default_factory=lambda: np.zeros((2, 0)))
    scale: float = NAN
    margins: Margins = field(default_factory=Margins)
    dip: int = 0
    lowest: Array = field(default_factory=lambda: np.zeros((2, 0)))
    lows: tuple[float, float] = (1.0, 1.0)
    bounds: tuple[float, float] = (1.0, 1.0)

    @property
    def rates(self) -> tuple[float, float]:
        """Accuracies before the dip, by nearest class mean and by the head; NaN before the first window."""
        if not self.tried.any():
            return NAN, NAN
        near, head = (self.hits.sum(1) / np.maximum(self.tried.sum(1), 1e-9)).tolist()
        return near, head


@dataclass(frozen=True)
class LabelsChanged(Rule[Course]):
    """Accuracy falls at once, as labels contradict the head on samples that it was sure of, and is back soon after.

    A network that is given the same data under other labels learns them anew within some windows: the accuracy of the
    training says nothing of it a little later, and that of old data stays lost. So the alert comes when both accuracies
    are back. Labels that go on contradicting each other are told by ``SeparabilityLost`` and ``PairMerging``.

    Args:
        warm_up: windows before the first judgement.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    >>> from le_callback import SeparationMonitor
    >>> LabelsChanged()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    warm_up: int = 5
    name: str = "LabelsChanged"
    explained_by: tuple[str, ...] = ("NonFinite", "PairMerging", "SeparabilityLost", "FeatureCollapse")
    tells_end = False
    state_type = Course

    def __call__(self, record: WindowRecord, state: Course | None) -> tuple[Course | None, Alert | None]:
        """Accuracies of this window, and the alert in the one in which they are back."""
        found, scatter = counts(record), record.scatter.get("features")
        if not found or scatter is None or record.head is None:
            return state, None
        both = (found[NEAREST_MEAN], found[HEAD])
        before, scale = state or Course(), 0.5 * math.log(max(scatter.total, 1e-30))
        if before.tried.shape[1] != len(both[1].tried):
            before = Course()
        usual, now = before.rates, (both[0].rate, both[1].rate)
        after = replace(before, margins=before.margins.add(record.head))
        known = before.windows >= self.warm_up and usual[1] > 2 / len(both[1].tried)
        if before.dip:
            return self._in_dip(record.step, after, both, scale)
        deep = now[0] <= _DIP[NEAREST_MEAN] * usual[0] and now[1] < _BACK[HEAD] * usual[1]
        contradicted = after.margins.agreeing <= 1 or (deep and before.margins.denied(record.head, *_DENIED))
        fell = now[1] < _BACK[HEAD] * usual[1] or now[0] < _BACK[NEAREST_MEAN] * usual[0]
        if known and contradicted and fell and scale < before.scale + _GREW:
            return _dipped(_level(before), both), None
        return (after if known and contradicted else _with(after, both, scale)), None

    def _in_dip(
        self, step: int, course: Course, both: tuple[Counts, Counts], scale: float
    ) -> tuple[Course, Alert | None]:
        usual, now = course.rates, (both[0].rate, both[1].rate)
        if now[0] >= _BACK[NEAREST_MEAN] * usual[0] and now[1] >= _BACK[HEAD] * usual[1]:
            fell = [low <= _DIP[m] * u for m, low, u in zip(_DIP, course.lows, usual, strict=True)]
            surely = [bound <= u for bound, u in zip(course.bounds, usual, strict=True)]
            deep = all(fell) and all(surely)
            alert = self._alert(step, course, now[1]) if deep else None
            return _with(replace(course, dip=0, tried=0 * course.tried, hits=0 * course.hits), both, scale), alert
        if course.dip >= _LONGEST or scale > course.scale + _GREW:
            return _with(Course(windows=course.windows, margins=course.margins), both, scale), None
        return _dipped(course, both), None

    def _alert(self, step: int, course: Course, now: float) -> Alert:
        usual = (course.hits + 1) / (course.tried + 2)
        fallen = np.flatnonzero((course.lowest < usual - _FALLEN).any(0))
        classes = tuple(fallen.tolist()) if 2 * len(fallen) <= usual.shape[1] else ()
        low = course.lows[0]
        cause = (
            f"Labels contradicted what was learnt: accuracy by nearest class mean fell from {course.rates[0]:.1%} to"
            f" {low:.1%} at once, and {_windows(course.dip)} later the network had learnt the new labels."
        )
        advice = (
            "Check what builds the labels: are the classes in another order, do labels belong to other data? The"
            " network now classifies the old data wrongly."
        )
        return Alert(self.name, step, classes, cause, advice, low, _DIP[NEAREST_MEAN] * course.rates[0], math.nan)


def _windows(n: int) -> str:
    return "one window" if n == 1 else f"{n} windows"


def _with(course: Course, both: tuple[Counts, Counts], scale: float) -> Course:
    """Take a window without contradictions into what is usual."""
    tried, hits = np.array([c.tried for c in both]), np.array([c.hits for c in both])
    if course.tried.shape == tried.shape:
        tried, hits = _FADING * course.tried + tried, _FADING * course.hits + hits
    return replace(course, windows=course.windows + 1, tried=tried, hits=hits, scale=scale)


def _level(course: Course) -> Course:
    """Before the first window of a dip."""
    return replace(course, dip=0, lows=(1.0, 1.0), bounds=(1.0, 1.0), lowest=np.ones_like(course.tried))


def _dipped(course: Course, both: tuple[Counts, Counts]) -> Course:
    """Take in a window of the dip."""
    rates = np.array([(c.hits + 1) / (c.tried + 1) for c in both])
    near, head = both
    return replace(
        course,
        windows=course.windows + 1,
        dip=course.dip + 1,
        lowest=np.minimum(course.lowest, rates),
        lows=(min(course.lows[0], near.rate), min(course.lows[1], head.rate)),
        bounds=(min(course.bounds[0], _surely_below(near)), min(course.bounds[1], _surely_below(head))),
    )


def _surely_below(window: Counts) -> float:
    n = float(window.tried.sum())
    p = (window.rate * n + 1) / (n + 2)
    return p + 4 * math.sqrt(p * (1 - p) / n)
