"""Whether the verdict of a window was right, by the later course of data of its own.

Where a fault begins or ends in what comes after a window, the run is judged that went on without the change from there:
no verdict can know what will break. The windows since the change are judged by what happened, from the first one on, in
which the verdict has not heard of it yet. A growth or loss that goes on is judged against what was since the change,
once three windows have passed; one that is told as sudden, against what was before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from alert_kinds import WINDOW
from alert_runs import AHEAD, Held, Run

BEFORE, AFTER = 10, AHEAD  # windows that are compared
FRESH = 3  # windows since a fault began or ended, which are also counted by themselves
SIDES = ("separating", "losing", "separated")
SEPARATED = 0.9  # accuracy on data of its own


@dataclass
class Verdicts:
    """The verdicts of some windows.

    Attributes:
        shares: windows after the fifth, by verdict.
        right: of the windows in which a side is taken, and that can be judged.
        judged: these windows.
        phases: right and judged windows ``before`` a change, in the first three since, and ``later``.
        first: windows until the first answer, of each run.
        changes: of the verdict, of each run.
    """

    shares: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)
    first: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)

    def __add__(self, other: Verdicts) -> Verdicts:
        return Verdicts(
            self.shares + other.shares, self.right + other.right, self.judged + other.judged,
            {name: (self.phase(name)[0] + other.phase(name)[0], self.phase(name)[1] + other.phase(name)[1])
             for name in {*self.phases, *other.phases}},
            self.first + other.first, self.changes + other.changes,
        )  # fmt: skip

    def phase(self, name: str) -> tuple[int, int]:
        """Right and judged windows of a phase."""
        return self.phases.get(name, (0, 0))


def judged(run: Run) -> Verdicts:
    """Of one run."""
    names = [record.regime.name for record in run.records]
    first = next((i + 1 for i, name in enumerate(names) if name != "cannot tell"), len(names))
    changes = sum(a != b for a, b in pairwise(names))
    found = Verdicts(Counter(names[5:]), first=[first], changes=[changes])
    for i, name in enumerate(names):
        after = later(run, i)
        if name in SIDES and i >= 2 and len(after) == AFTER:
            right = is_right(name, earlier(run, i), after)
            found.judged[name] += 1
            found.right[name] += right
            phase = phase_of(run, i)
            found.phases[phase] = (found.phase(phase)[0] + right, found.phase(phase)[1] + 1)
    return found


def later(run: Run, window: int) -> list[Held]:
    """The windows after one, without changes that none could know of."""
    after, now = run.held[window + 1 : window + 1 + AFTER], WINDOW * (window + 1)
    for turn, unchanged in sorted(run.unchanged.items()):
        if now <= turn < now + AFTER * WINDOW:
            return ([h for h in after if h.step <= turn] + unchanged)[:AFTER]
    return after


def earlier(run: Run, window: int) -> list[Held]:
    """The windows up to one that its verdict speaks of."""
    before = run.held[max(0, window - BEFORE + 1) : window + 1]
    if phase_of(run, window) != "later" or "at once" in run.records[window].regime.reason:
        return before
    turn = max(turn for turn in run.unchanged if turn < WINDOW * (window + 1))
    return [h for h in before if h.step > turn]


def phase_of(run: Run, window: int) -> str:
    """Whether a window lies before all changes, in the first windows since one, or later."""
    begun = [WINDOW * (window + 1) - turn for turn in run.unchanged if turn < WINDOW * (window + 1)]
    if not begun:
        return "before"
    return "since" if min(begun) <= FRESH * WINDOW else "later"


def is_right(name: str, before: list[Held], after: list[Held]) -> bool:
    """By accuracy, and where that stays within its sampling noise by the margin of the head."""
    was, now = (float(np.mean([h.accuracy for h in part])) for part in (before, after))
    noise = float(np.sqrt(max(was * (1 - was), 1e-3) / before[0].samples * (1 / len(before) + 1 / len(after))))
    margin = float(np.mean([h.margin for h in after]) - np.mean([h.margin for h in before]))
    change = now - was
    if name == "separated":
        return now >= SEPARATED and change > -max(2 * noise, 0.02)
    way = 1 if name == "separating" else -1
    return way * change > 2 * noise or (way * change > -2 * noise and way * margin > 0)


def table(by_kind: dict[str, Verdicts]) -> list[str]:
    """A line a kind: the share of each verdict, and how often a side was right."""
    names = ("at chance", "separating", "stalled", "losing", "separated", "cannot tell")
    head = ["kind", "windows", *names, *(f"{side} right" for side in SIDES), "first answer", "changes a run"]
    lines = [head, ["---"] * len(head)]
    total = sum(by_kind.values(), Verdicts())
    for kind, found in [*sorted(by_kind.items()), ("**all**", total)]:
        n = max(sum(found.shares.values()), 1)
        shares = [f"{found.shares[name] / n:.0%}" for name in names]
        right = [f"{found.right[side]}/{found.judged[side]}" for side in SIDES]
        middle = [f"{np.median(found.first):g}", f"{np.mean(found.changes):.1f}"]
        lines.append([kind, f"{n}", *shares, *right, *middle])
    taken, good = sum(total.judged.values()), sum(total.right.values())
    by_phase = [
        f" {what} in {found[0]} of {found[1]} ({found[0] / found[1]:.1%})"
        for name, what in (("before", "before a change"), ("since", f"in the first {FRESH} windows since one"),
                           ("later", "later"))
        if (found := total.phase(name))[1]
    ]  # fmt: skip
    split = f" Of these:{','.join(by_phase)}." if len(by_phase) > 1 else ""
    return [
        *("| " + " | ".join(line) + " |" for line in lines),
        "",
        f"A side is taken and can be judged in {taken} windows, and right in {good} ({good / max(taken, 1):.1%})."
        + split,
    ]
