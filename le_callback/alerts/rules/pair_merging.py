"""A pair of classes that draws together. K classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from le_callback.alerts.alert import Alert
from le_callback.alerts.evidence import pair_evidence
from le_callback.alerts.pairs import PairState, PairTrack
from le_callback.alerts.rule import Rule, require_share
from le_callback.errors import require
from le_callback.measures import Discriminability, HeadMargin, NearestMean
from le_callback.records import WindowRecord
from le_callback.values import Array

_MOST = 6.0  # nats of a window
_CLEAR = 1.0  # nats of a window from which a pair counts as falling in it
_MOST_TOLD = 6  # pairs


class Now(NamedTuple):
    """What one window says of the followed pairs.

    Attributes:
        log_e: (C, C) evidence.
        D: (C, C) discriminability in the features; NaN where unknown.
    """

    log_e: Array
    D: Array

    @classmethod
    def placed(cls, rows: Sequence[int], size: int, log_e: Array, D: Array) -> Now:
        """Of ``size`` classes, of which those in ``rows`` are there."""
        whole = cls(np.zeros((size, size)), np.full((size, size), np.nan))
        whole.log_e[np.ix_(rows, rows)], whole.D[np.ix_(rows, rows)] = log_e, D
        return whole


@dataclass(frozen=True)
class PairMerging(Rule[PairState]):
    """The discriminability of one pair, in the features and by the head, collapsed from what it was.

    Tested against min(``drop`` · best, ``overlap``): a pair that has come apart overlaps again. If many pairs fall at
    once it is no matter of pairs, and ``SeparabilityLost`` speaks. All that merge are told, those that follow, too.

    Args:
        level: probability of an alarm in a whole run in which no pair falls below that.
        drop: share of its best discriminability.
        overlap: discriminability below which two classes overlap (1.5: nearest mean is right in 77 %).
        apart: lower bound of the discriminability from which a pair is followed.
        many: share of all pairs that is no longer a matter of pairs.
        warm_up: windows before the first judgement.
        most_classes: of more classes this many are followed: an evenly spaced choice of those that came first.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` or ``drop`` is not between 0 and 1, or ``most_classes`` below 2.

    >>> from le_callback import SeparationMonitor
    >>> PairMerging()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    level: float = 1e-3
    drop: float = 0.5
    overlap: float = 1.5
    apart: float = 2.0
    many: float = 0.25
    warm_up: int = 5
    most_classes: int = 256
    name: str = "PairMerging"
    explained_by: tuple[str, ...] = ("NonFinite", "LabelsChanged", "FeatureCollapse", "SeparabilityLost")
    tells_new_classes = True
    state_type = PairState

    def __post_init__(self) -> None:
        require_share("level", self.level)
        require_share("drop", self.drop)
        require(self.most_classes >= 2, "most_classes", self.most_classes, "at least 2")

    def __call__(self, record: WindowRecord, state: PairState | None) -> tuple[PairState | None, Alert | None]:
        """Evidence of this window, and the alert of all pairs for which it suffices."""
        pairs, nearest, head = record.discriminability.get("features"), record.nearest_mean.get("features"), record.head
        if pairs is None or nearest is None or head is None or not pairs.held_out or head.classes != pairs.classes:
            return state, None
        K = len(head.tried)
        before = state if state and state.num_classes == K else PairState.empty(K, self.most_classes)
        after, now = self._next(before.joined(pairs.classes, self.most_classes), pairs, nearest, head)
        return after, self._alert(record.step, after, now)

    def _next(
        self, before: PairState, pairs: Discriminability, nearest: NearestMean, head: HeadMargin
    ) -> tuple[PairState, Now]:
        followed = {k: row for row, k in enumerate(before.classes)}
        here = [i for i, k in enumerate(pairs.classes) if k in followed]
        classes = [pairs.classes[i] for i in here]
        rows, among = [followed[k] for k in classes], np.ix_(here, here)
        features, head_now = before.features.only(rows), before.head.only(rows)
        in_features = pairs.pairs[among], nearest.tried[here]
        by_head = head.pairs[among], head.tried[classes]
        log_e = np.minimum(self._evidence(features, *in_features), self._evidence(head_now, *by_head))
        after = replace(
            before.accumulated(rows, log_e, self.warm_up, self._needed(before)),
            features=before.features.replaced(rows, features.add(*in_features)),
            head=before.head.replaced(rows, head_now.add(*by_head)),
        )
        return after, Now.placed(rows, len(before.classes), log_e, in_features[0])

    def _needed(self, state: PairState) -> float:
        most = max(len(state.classes), min(state.num_classes, self.most_classes))  # some may join yet
        return math.log(max(most * (most - 1) / 2, 1) / self.level)

    def _evidence(self, track: PairTrack, D: Array, samples: Array) -> Array:
        floor = np.where(track.best >= self.apart, np.minimum(self.drop * track.best, self.overlap), np.nan)
        return pair_evidence(D, samples, floor, most=_MOST)

    def _alert(self, step: int, state: PairState, now: Now) -> Alert | None:
        C = len(state.classes)
        if C < 3:
            return None
        upper = np.triu(np.ones((C, C), dtype=bool), 1)
        falling = int((upper & ((state.log_sum >= 0) | (now.log_e >= _CLEAR))).sum())
        many = falling > 1 and falling > self.many * C * (C - 1) / 2
        merging = upper & (state.log_sum >= self._needed(state)) & (now.log_e > 0)
        if many or not merging.any():
            return None
        worst_first = sorted(np.argwhere(merging).tolist(), key=lambda pair: -state.log_sum[tuple(pair)])
        told, classes = [], []
        for first, second in worst_first:
            names = []
            for row in (first, second):
                if row not in classes:
                    classes.append(row)
                names.append(f"{{class {classes.index(row)}}}")
            recent, best = round(float(now.D[first, second]), 1) + 0.0, float(state.features.best[first, second])
            told.append(f"{names[0]} and {names[1]} (discriminability {recent:.1f}, down from {best:.1f})")
        more = f" and {len(told) - _MOST_TOLD} more pairs" if len(told) > _MOST_TOLD else ""
        cause = f"Classes are drawing together: {', '.join(told[:_MOST_TOLD])}{more}."
        advice = "Look at samples and labels of these classes that came in since: are they mixed up or relabelled?"
        recent, best = (float(x[tuple(worst_first[0])]) for x in (now.D, state.features.best))
        floor = min(self.drop * best, self.overlap)
        whose = tuple(state.classes[row] for row in classes)
        return Alert(self.name, step, whose, cause, advice, recent, floor, self.level)
