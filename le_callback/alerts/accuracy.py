"""Rules on the measured accuracy of a window: held-out nearest class mean, and the head's own.

K classes. Both must have fallen: class means of the window before are out of date while features move fast, and the
head alone may only be out of tune.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from le_callback.alerts.alert import Alert, State
from le_callback.alerts.evidence import accumulate, rate_evidence
from le_callback.records import WindowRecord
from le_callback.regime import is_converged
from le_callback.values import Array

Counts = Mapping[str, tuple[Array, Array]]  # (K,) tried, (K,) hits, by measure
_FADING = 0.7  # of counts from one window to the next
_MOST = 4.0  # nats of a window: a loss must last for some of them
_SEPARABLE = 0.2  # share of the way from chance to certainty from which there is something to lose


def counts(record: WindowRecord) -> Counts:
    """Samples tried and hits of every class, by measure; empty where either is missing."""
    measured, head = record.class_separation.get("features"), record.head
    if measured is None or head is None or measured.tried.sum() == 0:
        return {}
    K = len(head.tried)
    tried, hits = np.zeros(K), np.zeros(K)
    tried[list(measured.classes)], hits[list(measured.classes)] = measured.tried, measured.hits
    return {"nearest_mean": (tried, hits), "head": (head.tried, head.hits)}


@dataclass(frozen=True)
class AccuracyTrack:
    """Recent and best accuracy of each class by one measure; ``best`` is a lower bound over all samples."""

    tried: Array
    hits: Array
    best: float
    rates: Array  # (K,) of the classes when it was best

    def add(self, tried: Array, hits: Array) -> AccuracyTrack:
        """Take in a window."""
        recent, right = _FADING * self.tried + tried, _FADING * self.hits + hits
        total = recent.sum()
        rate = (right.sum() + 0.5) / (total + 1)
        bound = rate - 2 * math.sqrt(rate * (1 - rate) / total)
        if bound <= self.best:
            return AccuracyTrack(recent, right, self.best, self.rates)
        # classes with few samples borrow from all
        return AccuracyTrack(recent, right, bound, (right + 2 * rate) / (recent + 2))

    def expected(self, tried: Array) -> float:
        """Accuracy at its best for classes in these proportions, lowered by what is uncertain of it."""
        overall = float(self.rates @ self.tried / max(self.tried.sum(), 1e-9))
        return float(self.rates @ tried / tried.sum()) + min(self.best - overall, 0.0)


def accuracy_evidence(
    counts: Counts, state: Mapping[str, Any], keep: float, most: float
) -> tuple[float, dict[str, Any], tuple[float, float]]:
    """Log e-value that both accuracies are below ``keep`` of their best above chance, and the next tracks.

    Also returns the accuracy by nearest class mean, and the one below which it counts as lost.
    """
    evidence, tracks, shown = most, {}, (math.nan, math.nan)
    for name, (tried, hits) in counts.items():
        K = len(tried)
        saved = state.get(name)
        track = AccuracyTrack(*saved) if saved else AccuracyTrack(np.zeros(K), np.zeros(K), 0.0, np.zeros(K))
        chance = 1 / K
        floor = 0.0
        if track.best > chance + _SEPARABLE * (1 - chance):
            floor = chance + keep * (track.expected(tried) - chance)
        evidence = min(evidence, rate_evidence(hits.sum(), tried.sum(), floor, 100.0, most) if floor > chance else 0.0)
        if name == "nearest_mean":
            shown = (float(hits.sum() / tried.sum()), floor)
        after = track.add(tried, hits)
        tracks[name] = [after.tried, after.hits, after.best, after.rates]
    return evidence, tracks, shown


@dataclass(frozen=True)
class SeparabilityLost:
    """Both accuracies are significantly below ``keep`` of their own best above chance, or never left chance.

    Args:
        level: probability of an alarm in a whole run in which neither falls below that.
        keep: share of the best accuracy above chance that may not be lost.
        warm_up: windows before the first judgement.
        leave_chance_by: window by which the accuracy must have left chance.
    """

    level: float = 1e-3
    keep: float = 0.75
    warm_up: int = 5
    leave_chance_by: int = 400
    name: str = "SeparabilityLost"
    explained_by: tuple[str, ...] = ("NonFinite", "FeatureCollapse", "PairMerging")

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """Evidence of this window, and the alert while it suffices."""
        state = state or {"windows": 0, "log_sum": -math.inf, "tracks": {}}
        found = counts(record)
        if not found:
            return state, None
        windows = state["windows"] + 1
        log_e, tracks, (value, floor) = accuracy_evidence(found, state["tracks"], self.keep, most=_MOST)
        log_sum = -math.inf
        if windows > self.warm_up:
            log_sum = float(accumulate(np.array(state["log_sum"]), np.array(log_e), windows))
        after = {"windows": windows, "log_sum": log_sum, "tracks": tracks}
        K = len(found["head"][0])
        if log_sum >= -math.log(self.level):
            cause = (
                f"Held-out nearest-class-mean accuracy fell to {value:.0%}; below {floor:.0%} it counts as lost"
                " against its best."
            )
            advice = "Check labels and data that came in since, and the learning rate; go back to a checkpoint before."
            return after, Alert(self.name, record.step, _fallen(found, tracks), cause, advice, value, floor, self.level)
        best = max(track[2] for track in tracks.values())
        if windows >= self.leave_chance_by and best < 1 / K + 0.05:
            cause = f"After {windows} windows no class is told apart: accuracy {value:.0%}, chance is {1 / K:.0%}."
            advice = "Check that labels belong to their inputs, then the learning rate and the initialisation."
            return after, Alert(self.name, record.step, (), cause, advice, value, 1 / K + 0.05, self.level)
        return after, None


@dataclass(frozen=True)
class ElasticityLost:
    """γ is below zero with its whole interval while the classes are not separated, and accuracy falls with it.

    The local fit of γ runs below zero for some windows when growth stops at once, so the measured side must confirm.

    Args:
        level: probability of an alarm in a whole run in which neither accuracy falls below ``keep``.
        keep: share of the best accuracy above chance that counts as confirmed when lost.
        patience: windows in a row with γ below zero.
        warm_up: windows before the first judgement.
    """

    level: float = 1e-3
    keep: float = 0.85
    patience: int = 3
    warm_up: int = 5
    name: str = "ElasticityLost"
    explained_by: tuple[str, ...] = ("NonFinite", "FeatureCollapse", "PairMerging", "SeparabilityLost")

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """Evidence of this window, and the alert while γ is negative and it suffices."""
        state = state or {"windows": 0, "log_sum": -math.inf, "tracks": {}, "negative": 0}
        found = counts(record)
        if not found:
            return state, None
        windows = state["windows"] + 1
        log_e, tracks, (value, _) = accuracy_evidence(found, state["tracks"], self.keep, most=_MOST)
        log_sum = -math.inf
        if windows > self.warm_up:
            log_sum = float(accumulate(np.array(state["log_sum"]), np.array(log_e), windows))
        known = [c.gamma.high for c in record.coefficients.values() if math.isfinite(c.gamma.high)]
        highest = max(known, default=math.nan)
        negative = state["negative"] + 1 if highest < 0 else 0
        after = {"windows": windows, "log_sum": log_sum, "tracks": tracks, "negative": negative}
        if is_converged(record) or negative < self.patience or log_sum < -math.log(self.level):
            return after, None
        cause = (
            f"Local elasticity γ is below zero (upper bound {highest:.2g} per {record.time_unit}) and accuracy falls"
            f" with it, to {value:.0%}: the classes draw together."
        )
        advice = "Check labels and the learning rate; a gap that shrinks for long ends in classes that cannot be told."
        return after, Alert(self.name, record.step, _fallen(found, tracks), cause, advice, highest, 0.0, self.level)


def _fallen(found: Counts, tracks: Mapping[str, Any]) -> tuple[int, ...]:
    """The classes whose accuracy fell most, if they are fewer than half; empty where it concerns the most."""
    recent_tried, recent_hits, _, best = tracks["head"]
    recent = (recent_hits + 1) / (recent_tried + 2)
    fallen = np.flatnonzero(recent < best - 0.2)
    return tuple(fallen.tolist()) if len(fallen) <= len(best) / 2 else ()
