"""A pair of classes that draws together. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from le_callback.alerts.alert import Alert, State
from le_callback.alerts.evidence import accumulate, shift_evidence
from le_callback.records import WindowRecord
from le_callback.values import Array

_FADING = 0.7
_MOST_SAMPLES = 25.0  # of a class: samples of a window share one state of the network
_LARGE = 1e3  # stands for a pair without any deviation


def pair_evidence(D: Array, samples: Array, floor: Array, most: float) -> Array:
    """Log e-values (K, K) that the discriminability of a pair is below ``floor``.

    By the delta method D has variance 1/n_k + 1/n_l + D²/(2(n_k + n_l − 2)); the heavy tail of few degrees of freedom
    is mapped to that of a normal deviate.

    Args:
        D: (K, K) signed discriminabilities, NaN where unknown.
        samples: (K,) n.
        floor: (K, K), NaN where nothing is judged.
        most: nats of a window.
    """
    n = np.minimum(samples, _MOST_SAMPLES)
    dof = n[:, None] + n[None, :] - 2
    usable = (n[:, None] >= 2) & (n[None, :] >= 2) & (dof >= 4)
    n, dof = np.maximum(n, 1), np.maximum(dof, 1)
    error = np.sqrt(1 / n[:, None] + 1 / n[None, :] + floor**2 / (2 * dof))
    z = (np.clip(D, -_LARGE, _LARGE) - floor) / error
    z = z * (1 - 1 / (4 * dof)) / np.sqrt(1 + z**2 / (2 * dof))
    return shift_evidence(np.where(usable, z, np.nan), most)


@dataclass(frozen=True)
class PairMerging:
    """The discriminability of one pair, in the features and by the head, collapsed from what it was.

    Tested against min(``drop`` · best, ``overlap``): a pair that has come apart overlaps again. If many pairs fall at
    once it is no matter of a pair, and ``SeparabilityLost`` speaks.

    Args:
        level: probability of an alarm in a whole run in which no pair falls below that.
        drop: share of its best discriminability.
        overlap: discriminability below which two classes overlap (1.5: nearest mean is right in 77 %).
        apart: lower bound of the discriminability from which a pair is followed.
        many: share of all pairs that is no longer a matter of pairs.
        warm_up: windows before the first judgement.
        most_classes: pairs of more classes are followed on an evenly spaced subset.
    """

    level: float = 1e-3
    drop: float = 0.5
    overlap: float = 1.5
    apart: float = 2.0
    many: float = 0.25
    warm_up: int = 5
    most_classes: int = 256
    name: str = "PairMerging"
    explained_by: tuple[str, ...] = ("NonFinite", "FeatureCollapse", "SeparabilityLost")

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """Evidence of this window, and the alert of the worst pair while it suffices."""
        measured, head = record.class_separation.get("features"), record.head
        if measured is None or head is None or head.classes != measured.classes or measured.tried.sum() == 0:
            return state or {}, None
        if not state or len(state["log_sum"]) != len(head.tried):
            nothing = np.full((len(head.tried),) * 2, -np.inf)
            zero = np.zeros_like(nothing)
            state = {"windows": 0, "log_sum": nothing, "features": [zero] * 3, "head": [zero] * 3}
        every = slice(None, None, -(-len(measured.classes) // self.most_classes))
        classes = list(measured.classes[every])
        windows, rows = state["windows"] + 1, np.ix_(classes, classes)
        log_e, tracks = np.full((len(classes),) * 2, 6.0), {}
        for name, D, n in (
            ("features", measured.pairs[every, every], measured.tried[every]),
            ("head", head.pairs[every, every], head.tried[classes]),
        ):
            recent, weight, best = (x.copy() for x in state[name])
            highest = best[rows]
            floor = np.where(highest >= self.apart, np.minimum(self.drop * highest, self.overlap), np.nan)
            log_e = np.minimum(log_e, pair_evidence(D, n, floor, most=6.0))
            recent[rows], weight[rows], best[rows] = _followed(D, n, recent[rows], weight[rows], highest)
            tracks[name] = [recent, weight, best]
        log_sum = state["log_sum"].copy()
        if windows > self.warm_up:
            log_sum[rows] = accumulate(log_sum[rows], log_e, windows)
        return {"windows": windows, "log_sum": log_sum} | tracks, self._alert(record, log_sum, tracks)

    def _alert(self, record: WindowRecord, log_sum: Array, tracks: dict[str, list[Array]]) -> Alert | None:
        K = len(log_sum)
        upper = np.where(np.triu(np.ones((K, K), dtype=bool), 1), log_sum, -np.inf)
        pairs = K * (K - 1) / 2
        first, second = np.unravel_index(int(upper.argmax()), upper.shape)
        falling = int((upper >= 0).sum())
        if (
            upper[first, second] < math.log(pairs / self.level)
            or (falling > 1 and falling > self.many * pairs)
            or K < 3
        ):
            return None
        recent, best = (float(tracks["features"][i][first, second]) for i in (0, 2))
        cause = f"Classes {first} and {second} draw together: discriminability {recent:.1f}, it was {best:.1f}."
        advice = "Look at samples and labels of these two classes that came in since: mixed up or relabelled?"
        floor = min(self.drop * best, self.overlap)
        return Alert(self.name, record.step, (int(first), int(second)), cause, advice, recent, floor, self.level)


def _followed(D: Array, samples: Array, recent: Array, weight: Array, best: Array) -> tuple[Array, Array, Array]:
    """Faded mean of D, its weight in samples of a class, and the highest lower bound of it."""
    n = 2 / (1 / np.maximum(samples[:, None], 1e-9) + 1 / np.maximum(samples[None, :], 1e-9))
    n = np.where(np.isnan(D), 0.0, n)
    total = _FADING * weight + n
    mean = (recent * _FADING * weight + np.nan_to_num(np.clip(D, -_LARGE, _LARGE)) * n) / np.maximum(total, 1e-9)
    error = np.sqrt((2 + mean**2 / 4) / np.maximum(total, 1e-9))
    bound = np.where(total >= 6, mean - 2 * error, 0.0)
    return mean, total, np.maximum(best, bound)
