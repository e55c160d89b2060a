"""The verdict of each window: from what is measured, qualified by the theorem. K classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from le_callback.records import Regime, Verdict, WindowRecord
from le_callback.saving import from_plain, to_plain
from le_callback.values import NAN, Estimate
from le_callback.verdict.chance import Recent, tallies
from le_callback.verdict.jumps import Jump, last_jump
from le_callback.verdict.pairs import PairSeries, discriminability_at
from le_callback.verdict.supply import Supply
from le_callback.verdict.theorem import in_words, theorem_side
from le_callback.verdict.trend import LEAST, longest_line
from le_callback.verdict.words import growth_in_words, in_deviations, joined

SEPARATED = (0.99, 0.95)  # accuracies of head and nearest class mean from which classes count as separated
STILL_SEPARATED = (0.98, 0.93)  # … and below which they no longer do
EACH = (0.9, 0.8)  # … below which no single class may certainly be
SPENT = 0.1  # ‖Ψ‖ below which the loss is nearly spent
WIDE = 0.3  # change of y over the span that an interval must exclude, or nothing can be told
_PATIENCE = 2
PATIENCE: Mapping[Verdict, int] = {"stalled": 3, "cannot tell": 5}
"""Windows in a row that must say otherwise before the verdict changes; two where nothing is listed."""
_UNKNOWN = Estimate.unknown()


class Found(NamedTuple):
    """What one window says by itself.

    Attributes:
        name: the verdict.
        reason: why.
        growth: of y per unit of time.
        level: y.
        sure: whether the verdict changes at once.
    """

    name: Verdict
    reason: str
    growth: Estimate = _UNKNOWN
    level: float = NAN
    sure: bool = False


class Line(NamedTuple):
    """How the worst pairs of a layer grow.

    Attributes:
        growth: of y per unit of time.
        level: y.
        pair: the worst pair; None: the worst tenth of the pairs.
        span: time from the first to the last point.
        now: y at the last point.
    """

    growth: Estimate
    level: float
    pair: tuple[int, int] | None
    span: float
    now: float


_NO_LINE = Line(_UNKNOWN, NAN, None, NAN, NAN)


@dataclass(frozen=True)
class JudgeState:
    """What the judge remembers.

    Attributes:
        name: the verdict that holds.
        other: what the last windows said instead.
        others: how many windows in a row did.
        series: of the pairs, by layer.
        recent: accuracies.
        jump: the last jump; None once a line fits what came since.
        jumped: step at the end of the first window after it.
        best: highest accuracy by nearest class mean so far.
        best_step: when that was.
        supply: samples of each class in the last windows.

    >>> JudgeState().name
    'cannot tell'
    """

    name: Verdict = "cannot tell"
    other: Verdict = "cannot tell"
    others: int = 0
    series: Mapping[str, PairSeries] = field(default_factory=dict)
    recent: Recent = field(default_factory=Recent)
    jump: Jump | None = None
    jumped: int = 0
    best: float = 0.0
    best_step: int = 0
    supply: Supply = field(default_factory=Supply)


class Judge:
    """Says in each window whether the classes separate, and what the theorem says to that.

    Args:
        confidence: of the interval of the growth.

    Attributes:
        class_names: by which classes are called, if they are known.

    >>> from le_callback import SeparationMonitor
    >>> Judge().add(SeparationMonitor(num_classes=2).close(1), Estimate.unknown()).name
    'cannot tell'
    """

    def __init__(self, confidence: float = 0.95) -> None:
        self.confidence = confidence
        self.class_names: Sequence[str] = ()
        self.state = JudgeState()

    def add(self, record: WindowRecord, index: Estimate) -> Regime:
        """Take in a window.

        Args:
            record: of the window; its own ``regime`` is not looked at.
            index: local tail index of γ.
        """
        self.state = _taken_in(self.state, record)
        found = self._found(record)
        self.state = _held(self.state, found.name, found.sure)
        name = self.state.name
        reason = found.reason
        if name != found.name:
            reason = f"{reason} (this window alone says: {found.name})"
        theorem = theorem_side(record.primary.gamma, record.primary.time, index)
        scale = 1000.0 if record.time_unit == "step" else 1.0
        rate = _UNKNOWN if math.isnan(found.level) else in_deviations(found.growth, found.level, scale)
        return Regime(name, reason, rate, theorem.side, in_words(theorem, name), theorem.t_gamma, index)

    def _found(self, record: WindowRecord) -> Found:
        state, recent = self.state, self.state.recent
        if not tallies(record):
            what = "no sample that can be compared with a class mean of the window before"
            return Found("cannot tell", f"{what}; longer windows (`every_n_steps`) help", sure=True)
        if recent.at_chance:
            return Found("at chance", self._at_chance())
        if state.jump is not None:
            return Found(_said(state.jump), self._jumped(state.jump))
        growth, level, pair, span, now = self._growth()
        separated = self._separated(record, growth)
        few = state.supply.few() if separated else ()
        if separated and not few:
            return Found("separated", self._accuracies("the classes are separated"), growth, level)
        if few and not (growth.low > 0 or growth.high < 0):
            said = self._accuracies("the classes with enough samples are separated")
            return Found("cannot tell", f"{said}; {self._too_few(few)}", growth, level)
        if math.isnan(growth.value):
            return Found("cannot tell", f"fewer than {LEAST} windows in which pairs of classes can be compared")
        said = f"the discriminability of {self._whose(pair)}, now {discriminability_at(now):.2g},"
        said = f"{said} {growth_in_words(growth, level, record.time_unit)}"
        if few:
            said = f"{said}; {self._too_few(few)}"
        if growth.low > 0:
            return Found("separating", said, growth, level)
        if growth.high < 0:
            return Found("losing", said, growth, level)
        if (growth.high - growth.low) / 2 * span > WIDE:
            remedy = "longer windows (`every_n_steps`) hold more samples"
            return Found("cannot tell", f"{said}: too wide to tell; {remedy}", growth, level)
        return Found("stalled", self._accuracies(said), growth, level)

    def _growth(self) -> Line:
        """Growth of the worst pairs: it counts as growth if that of one layer does, as loss only if both fall."""
        lines = [_line(series, self.confidence) for series in self.state.series.values()]
        known = [line for line in lines if not math.isnan(line.growth.value)]
        if not known:
            return _NO_LINE
        growing = max(known, key=lambda line: line.growth.low)
        if growing.growth.low > 0:
            return growing
        resting = [line for line in known if line.growth.high >= 0]
        return min(resting or known, key=lambda line: line.growth.high - line.growth.low)

    def _whose(self, pair: tuple[int, int] | None) -> str:
        if pair is None:
            return "the worst tenth of the pairs"
        return f"the worst pair ({' / '.join(self._names(pair))})"

    def _names(self, classes: Sequence[int]) -> list[str]:
        return [self.class_names[k] if k < len(self.class_names) else str(k) for k in classes]

    def _too_few(self, few: tuple[int, ...]) -> str:
        """Why nothing is said of these classes."""
        different = self.state.supply.different()
        most = max(1, round(float(different[list(few)].max())))
        noun, each = ("class", "it may be") if len(few) == 1 else ("classes", "each may be")
        return (
            f"cannot tell for {noun} {joined(self._names(few))}: {each} no more than about {most} different"
            f" sample{'s' * (most > 1)}, too few to say so of others (a probe of held-out samples would)"
        )

    def _separated(self, record: WindowRecord, growth: Estimate) -> bool:
        head, nearest = STILL_SEPARATED if self.state.name == "separated" else SEPARATED
        recent = self.state.recent
        if not (recent.accuracy("head") >= head and recent.nearest >= nearest) or recent.behind(*EACH):
            return False
        training = record.effective_training
        spent = training is not None and training.psi < SPENT
        return spent or self.state.name == "separated" or not growth.low > 0

    def _at_chance(self) -> str:
        nearest, head = self.state.recent.nearest, self.state.recent.accuracy("head")
        measured = {"nearest class mean": nearest, "head": head}
        known = [f"{name} {a:.2%}" for name, a in measured.items() if not math.isnan(a)]
        told = f"no class is told apart better than by a guess: accuracy by {', by '.join(known)}"
        if self.state.best > 2 * max(nearest, 0.0) and self.state.best > 0:
            told += f"; it was {self.state.best:.0%} at step {self.state.best_step:,}"
        return told

    def _jumped(self, jump: Jump) -> str:
        verb = "fell" if jump.falls else "rose"
        before, after = (max(discriminability_at(y), 0.0) for y in (jump.before, jump.after))
        return (
            f"the discriminability of the worst pairs {verb} at once from {before:.2g} to {after:.2g},"
            f" in the window that ended at step {self.state.jumped:,}"
        )

    def _accuracies(self, said: str) -> str:
        recent = self.state.recent
        head = recent.accuracy("head")
        by_head = "" if math.isnan(head) else f", by head {head:.1%}"
        return f"{said}; accuracy by nearest class mean {recent.nearest:.1%}{by_head}"

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"state": to_plain(self.state)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.state = from_plain(saved["state"], JudgeState)


def _taken_in(state: JudgeState, record: WindowRecord) -> JudgeState:
    """The state with one window more."""
    recent = state.recent.add(tallies(record))
    best, best_step = state.best, state.best_step
    if recent.nearest > best:
        best, best_step = recent.nearest, record.step
    supply = state.supply.add(np.asarray(record.class_samples))
    state = replace(state, recent=recent, best=best, best_step=best_step, supply=supply)
    series = dict(state.series)
    for layer, found in record.discriminability.items():
        if found.held_out:
            old = series.get(layer) or PairSeries.of(len(record.class_samples), found.classes)
            series[layer] = old.add(record.primary.time, found)
    jump, jumped = _joint_jump(series) or _recovery(state.jump, series), record.window[0]
    if jump is not None:
        series = {layer: one.since(len(one.times) - 2) for layer, one in series.items()}
        return replace(state, series=series, jump=jump, jumped=jumped, name=_said(jump), others=0)
    if state.jump is not None and all(len(one.times) > LEAST for one in series.values()):
        # what came since speaks for itself, and at once
        return replace(state, series=series, jump=None, others=_PATIENCE)
    return replace(state, series=series)


def _joint_jump(series: Mapping[str, PairSeries]) -> Jump | None:
    """The jump that all layers make in one direction, if there is one."""
    jumps = [last_jump(one.lowest()[0]) or last_jump(one.lowest_tenth()) for one in series.values()]
    found = [jump for jump in jumps if jump is not None]
    if not found or len(found) < len(jumps) or len({jump.falls for jump in found}) > 1:
        return None
    return min(found, key=lambda jump: abs(jump.after - jump.before))


def _recovery(fall: Jump | None, series: Mapping[str, PairSeries]) -> Jump | None:
    """The way back up from a fall of which half is made good in two windows in a row, by all layers."""
    if fall is None or not fall.falls:
        return None
    now = np.array([one.lowest()[0][-2:] for one in series.values()])
    half = (fall.before + fall.after) / 2
    return Jump(fall.after, float(now.mean(1).min())) if (now > half).all() else None


def _said(jump: Jump) -> Verdict:
    return "losing" if jump.falls else "separating"


def _line(series: PairSeries, confidence: float) -> Line:
    times, values, level, pair = series.worst(len(series.times))
    growth, points = longest_line(times, values, confidence)
    if not points:
        return _NO_LINE
    # within the span the worst pairs are chosen anew
    if first := int(np.searchsorted(np.array(series.times), times[-points])):
        times, values, level, pair = series.worst(len(series.times) - first)
        growth, points = longest_line(times, values, confidence)
        if not points:
            return _NO_LINE
    now = level + growth.value * float(times[-1] - times[-points:].mean())
    return Line(growth, level, pair, float(times[-1] - times[-points]), now)


def _held(state: JudgeState, name: Verdict, sure: bool) -> JudgeState:
    """The state with the verdict that holds: another one only if windows in a row say so."""
    if name == state.name:
        return replace(state, other=name, others=0)
    others = state.others + 1 if name == state.other or state.others >= _PATIENCE else 1
    if sure or state.name == "cannot tell" or others >= PATIENCE.get(name, _PATIENCE):
        return replace(state, name=name, other=name, others=0)
    return replace(state, other=name, others=others)
