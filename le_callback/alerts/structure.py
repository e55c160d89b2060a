"""Rules on what feeds the classes: samples that stay away, features that collapse, numbers that are not finite.

K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from le_callback.alerts.alert import Alert, State
from le_callback.alerts.evidence import accumulate, shift_evidence
from le_callback.records import WindowRecord
from le_callback.values import Array

_NONFINITE = "samples with features that are not finite"


@dataclass(frozen=True)
class NonFinite:
    """Features that are NaN, infinite or too large to square. A fact, told with the first window that has any."""

    name: str = "NonFinite"
    explained_by: tuple[str, ...] = ()

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """The alert of each window with such samples."""
        before = (state or {"count": 0})["count"]
        count = int(record.skipped.get(_NONFINITE, 0))
        after = {"count": count}
        if count <= before:
            return after, None
        cause = f"{count - before} samples since step {record.window[0]} have features that are not finite."
        advice = "Stop, go back to a checkpoint before, lower the learning rate or clip gradients; check the inputs."
        return after, Alert(self.name, record.step, (), cause, advice, count - before, 0, math.nan)


@dataclass(frozen=True)
class ClassVanished:
    """A class without samples for much longer than its share explains, or whose samples are all one unmoving point.

    Samples of a class with share π stay away for N samples with probability at most exp(−πN). The alert needs half of
    that exponent to exceed log(K j(j+1)/level) after j windows with the class, and the gap to be ``bursts`` times the
    longest before: data that comes sorted is no loss.

    Args:
        level: probability of an alarm in a whole run in which samples come independently with half their share or more.
        bursts: gap over the longest gap before.
        warm_up: windows with samples before the first judgement.
    """

    level: float = 1e-3
    bursts: float = 4.0
    warm_up: int = 5
    name: str = "ClassVanished"
    explained_by: tuple[str, ...] = ("NonFinite",)

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """Counts of this window, and the alert while a class stays away."""
        counts = np.asarray(record.class_samples, dtype=np.float64)
        if counts.sum() == 0:
            return state or {}, None
        K = len(counts)
        zeros = np.zeros(K)
        if not state or len(state["total"]) != K:
            state = {"windows": 0, "total": zeros, "seen": zeros, "gap": zeros, "longest": zeros, "still": zeros}
        windows = state["windows"] + 1
        present = counts > 0
        last_gap: Array = state["gap"]
        last_longest: Array = state["longest"]
        gap = np.where(present, 0.0, last_gap + counts.sum())
        longest = np.where(present, np.maximum(last_longest, last_gap), last_longest)
        total: Array = state["total"] + counts
        seen: Array = state["seen"] + present
        still = self._still(record, state["still"])
        after = {"windows": windows, "total": total, "seen": seen, "gap": gap, "longest": longest, "still": still}
        if windows <= self.warm_up:
            return after, None
        # share while the class was still there
        share = total / np.maximum(total.sum() - gap, 1)
        expected = np.multiply(share, gap)
        needed: Array = np.log(K * np.maximum(seen, 1) * (np.maximum(seen, 1) + 1) / self.level)
        gone = (seen > 0) & (0.5 * expected >= needed) & (gap >= self.bursts * longest)
        if gone.any():
            classes = tuple(np.flatnonzero(gone).tolist())
            worst = int(np.argmax(np.where(gone, expected, -1)))
            cause = f"No sample of {_named(classes)} for {gap[worst]:.0f} samples; {expected[worst]:.0f} were expected."
            advice = "Check the sampler and the files of this class."
            return after, Alert(self.name, record.step, classes, cause, advice, 0.0, float(expected[worst]), self.level)
        if (still >= 3).any() and not (still[present] >= 3).all():
            classes = tuple(np.flatnonzero(still >= 3).tolist())
            cause = f"The mean of {_named(classes)} has not moved for 3 windows while others did."
            advice = "Check the inputs of this class: are they all the same?"
            return after, Alert(self.name, record.step, classes, cause, advice, 0.0, 1e-6, math.nan)
        return after, None

    def _still(self, record: WindowRecord, before: Array) -> Array:
        measured = record.class_separation.get("features")
        after = np.zeros_like(before)
        if measured is not None and np.isfinite(measured.moved).any() and measured.radius > 0:
            rows = list(measured.classes)
            unmoved = (measured.moved < 1e-6 * measured.radius) & (measured.tried >= 2)
            if (measured.moved > 1e-3 * measured.radius).any():
                after[rows] = np.where(unmoved, before[rows] + 1, 0)
        return after


@dataclass(frozen=True)
class FeatureCollapse:
    """The scatter of the features, their effective rank or the share of live units fell at once.

    All three leave the labels aside. Features also collapse when labels begin to contradict what was learnt: then some
    samples are at first confidently wrong, and the alert is left to the rules that read the labels. A smaller scatter
    is no collapse either: what it costs is measured as accuracy.

    Each is compared on a log scale with its highest of the last ``memory`` windows, in units of its own scatter from
    window to window. Rank and live units may fall in good health, so accuracy must have fallen with them.

    Args:
        level: probability of an alarm in a whole run in which none falls by more than its factor.
        scatter_drop: factor of the mean squared distance from the mean.
        rank_drop: factor of the effective rank.
        live_drop: factor of the share of live units.
        memory: windows.
        warm_up: windows before the first judgement.
    """

    level: float = 1e-3
    scatter_drop: float = 1e5
    rank_drop: float = 4.0
    live_drop: float = 8.0
    memory: int = 20
    warm_up: int = 5
    name: str = "FeatureCollapse"
    explained_by: tuple[str, ...] = ("NonFinite",)

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """Evidence of this window, and the alert while it suffices."""
        measured = record.class_separation.get("features")
        names = ("scatter", "rank", "live")
        state = state or {
            "windows": 0, "log_sum": np.full(3, -np.inf), "accuracy": 0.0,
            "margins": [], "contradicted": 1000,
            "past": {name: [] for name in names}, "jitter": dict.fromkeys(names, 0.0),
        }  # fmt: skip
        if measured is None or measured.tried.sum() == 0:
            return state, None
        windows = state["windows"] + 1
        accuracy = float(measured.hits.sum() / measured.tried.sum())
        # scale of a length squared that single precision still tells from nothing
        now = {
            "scatter": math.log(max(measured.scatter, 1e-30)),
            "rank": math.log(max(measured.effective_rank, 1e-3)),
            "live": math.log(max(1 - measured.dead_units, 1e-3)),
        }
        margins, contradicted = self._contradiction(record, state)
        lost = accuracy < 0.75 * state["accuracy"]
        drops = {"scatter": self.scatter_drop, "rank": self.rank_drop, "live": self.live_drop}
        z, past, jitter = [], {}, {}
        for name in names:
            before, spread = state["past"][name], state["jitter"][name]
            drop = math.log(drops[name])
            floor = max(before, default=math.nan) - drop
            judged = name == "scatter" or lost
            judged &= name != "rank" or max(before, default=0.0) >= math.log(3)
            z.append((now[name] - floor) / max(0.15, 2 * spread) if judged else 0.5)
            if before:
                step = min(abs(now[name] - before[-1]), 1.0)
                spread = 0.9 * spread + 0.1 * step
            past[name], jitter[name] = [*before, now[name]][-self.memory :], spread
        log_sum = state["log_sum"]
        if windows > self.warm_up:
            log_sum = accumulate(log_sum, shift_evidence(np.array(z), most=8.0), windows)
        after = {
            "windows": windows, "log_sum": log_sum, "accuracy": max(accuracy, 0.98 * state["accuracy"]),
            "past": past, "jitter": jitter, "margins": margins, "contradicted": contradicted,
        }  # fmt: skip
        worst = int(log_sum.argmax())
        if log_sum[worst] < math.log(3 / self.level) or contradicted <= self.memory:
            return after, None
        name = names[worst]
        what = {"scatter": "scatter of the features", "rank": "effective rank of the features", "live": "live units"}
        high = max(past[name])
        value, threshold = (
            math.exp(now[name]),
            math.exp(high) / drops[name],
        )
        cause = (
            f"The {what[name]} fell to {value:.2g} from {math.exp(high):.2g} ({measured.dead_units:.0%} of units dead)."
        )
        advice = "Look for dead ReLUs, a vanishing scale or too strong a weight decay; go back to a checkpoint before."
        return after, Alert(self.name, record.step, (), cause, advice, value, threshold, self.level)

    def _contradiction(self, record: WindowRecord, state: State) -> tuple[list[list[float]], int]:
        """Recent margins of the head (mean, low quantile), and windows since labels contradicted it."""
        past: list[list[float]] = state["margins"]
        head = record.head
        if head is None:
            return past, state["contradicted"] + 1
        usual = sum(m for m, _ in past) / max(len(past), 1)
        lowest = min((low for _, low in past), default=-math.inf)
        new = head.margin_low < -0.2 * usual and head.margin_low < lowest - 0.2 * usual
        return [*past, [head.margin, head.margin_low]][-10:], 0 if new and usual > 0 else state["contradicted"] + 1


def _named(classes: tuple[int, ...]) -> str:
    return f"class {classes[0]}" if len(classes) == 1 else "classes " + ", ".join(map(str, classes))
