"""Features that collapse: to a point, to few dimensions, or to few live units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from le_callback.alerts.alert import Alert
from le_callback.alerts.evidence import accumulate, shift_evidence
from le_callback.alerts.margins import Margins
from le_callback.alerts.rule import Rule, require_share
from le_callback.errors import require
from le_callback.measures import HeadMargin, Scatter, Spread
from le_callback.records import WindowRecord
from le_callback.values import Array

_QUANTITIES = ("scatter of the features", "effective rank of the features", "live units")
_SCATTER, _RANK = 0, 1
_UNJUDGED = 0.5  # standard errors above the floor: speaks neither for nor against
_WELL, _RECOVERED = 4.0, 0.95  # standard errors where this share of the best accuracy is back: it is over
_LEAST_RANK = 3.0  # a smaller rank has nowhere to fall


@dataclass(frozen=True)
class Trace:
    """A quantity on a log scale.

    Attributes:
        past: values of the last windows.
        jitter: faded mean of their steps.

    >>> Trace((1.0,)).add(1.5, memory=20).past
    (1.0, 1.5)
    """

    past: tuple[float, ...] = ()
    jitter: float = 0.0

    def above_floor(self, now: float, drop: float) -> float:
        """Standard errors by which ``now`` lies above the highest value less ``drop``; NaN without a past."""
        return (now - (max(self.past, default=math.nan) - drop)) / max(0.15, 2 * self.jitter)

    def add(self, now: float, memory: int) -> Trace:
        """Take in a window; keep ``memory`` values."""
        jitter = self.jitter
        if self.past:
            jitter = 0.9 * jitter + 0.1 * min(abs(now - self.past[-1]), 1.0)
        return Trace((*self.past, now)[-memory:], jitter)


def _no_evidence() -> Array:
    return np.full(len(_QUANTITIES), -np.inf)


@dataclass(frozen=True)
class CollapseState:
    """What ``FeatureCollapse`` remembers.

    Attributes:
        windows: judged so far.
        log_sum: (3,) evidence on scatter, rank and live units.
        accuracy: best by nearest class mean, fading.
        traces: of the three.
        margins: of the head.

    >>> CollapseState().log_sum
    array([-inf, -inf, -inf])
    """

    windows: int = 0
    log_sum: Array = field(default_factory=_no_evidence)
    accuracy: float = 0.0
    traces: tuple[Trace, ...] = (Trace(),) * len(_QUANTITIES)
    margins: Margins = field(default_factory=Margins)


@dataclass(frozen=True)
class FeatureCollapse(Rule[CollapseState]):
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
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` is not between 0 and 1, or a factor is not above 1.

    >>> from le_callback import SeparationMonitor
    >>> FeatureCollapse()(SeparationMonitor(num_classes=2).close(1), None)
    (None, None)
    """

    level: float = 1e-3
    scatter_drop: float = 1e5
    rank_drop: float = 4.0
    live_drop: float = 8.0
    memory: int = 20
    warm_up: int = 5
    name: str = "FeatureCollapse"
    explained_by: tuple[str, ...] = ("NonFinite",)
    state_type = CollapseState

    def __post_init__(self) -> None:
        require_share("level", self.level)
        for argument, drop in zip(("scatter_drop", "rank_drop", "live_drop"), self._drops(), strict=True):
            require(drop > 1, argument, drop, "a factor above 1")

    def __call__(self, record: WindowRecord, state: CollapseState | None) -> tuple[CollapseState | None, Alert | None]:
        """Evidence of this window, and the alert while it suffices."""
        scatter, spread = record.scatter.get("features"), record.spread.get("features")
        nearest, before = record.nearest_mean.get("features"), state or CollapseState()
        if scatter is None or spread is None or nearest is None or not nearest.tried.any():
            return state, None
        now = _log_quantities(scatter, spread)
        after = self._next(before, now, nearest.accuracy, record.head)
        worst = int(after.log_sum.argmax())
        if after.log_sum[worst] < self._needed or after.margins.agreeing <= self.memory:
            return after, None
        return after, self._alert(record.step, worst, now[worst], after, scatter.dead_units)

    def _next(
        self, before: CollapseState, now: tuple[float, ...], accuracy: float, head: HeadMargin | None
    ) -> CollapseState:
        windows, log_sum = before.windows + 1, before.log_sum
        if windows > self.warm_up:
            z = self._above_floors(before, now, accuracy)
            log_sum = accumulate(log_sum, shift_evidence(z, most=8.0), windows, self._needed)
        # while it is down, what it was is not forgotten
        traces = tuple(
            trace if fallen else trace.add(x, self.memory)
            for trace, x, fallen in zip(before.traces, now, log_sum >= self._needed, strict=True)
        )
        best = max(accuracy, before.accuracy if (log_sum >= self._needed).any() else 0.98 * before.accuracy)
        return CollapseState(windows, log_sum, best, traces, before.margins.add(head))

    def _above_floors(self, before: CollapseState, now: tuple[float, ...], accuracy: float) -> Array:
        """Standard errors (3,) of the quantities above what counts as collapsed."""
        lost = accuracy < 0.75 * before.accuracy
        spread_out = max(before.traces[_RANK].past, default=0.0) >= math.log(_LEAST_RANK)
        windows_down = bool((before.log_sum >= self._needed).any())
        z = []
        for i, (trace, x, drop) in enumerate(zip(before.traces, now, self._drops(), strict=True)):
            judged = (i == _SCATTER or lost) and (i != _RANK or spread_out)
            if windows_down and accuracy >= _RECOVERED * before.accuracy:
                z.append(_WELL)
            else:
                z.append(trace.above_floor(x, math.log(drop)) if judged else _UNJUDGED)
        return np.array(z)

    @property
    def _needed(self) -> float:
        return math.log(len(_QUANTITIES) / self.level)

    def _drops(self) -> tuple[float, float, float]:
        return self.scatter_drop, self.rank_drop, self.live_drop

    def _alert(self, step: int, worst: int, now: float, after: CollapseState, dead: float) -> Alert:
        value, high = math.exp(now), math.exp(max(after.traces[worst].past))
        cause = (
            f"The {_QUANTITIES[worst]} fell from {_short(high)} to {_short(value)} ({dead:.0%} of the units are dead)."
        )
        advice = (
            "Look for dead ReLUs, a vanishing scale, too strong a weight decay or inputs that are all the same; go back"
            " to an earlier checkpoint."
        )
        return Alert(self.name, step, (), cause, advice, value, high / self._drops()[worst], self.level)


def _short(value: float) -> str:
    return "0" if value < 1e-20 else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _log_quantities(scatter: Scatter, spread: Spread) -> tuple[float, float, float]:
    # 1e-30: a squared length that single precision still tells from nothing
    return (
        math.log(max(scatter.total, 1e-30)),
        math.log(max(spread.rank, 1e-3)),
        math.log(max(1 - scatter.dead_units, 1e-3)),
    )
