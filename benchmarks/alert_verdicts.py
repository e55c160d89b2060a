"""Whether the verdict of a window was right, by the later course of data of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from alert_kinds import WINDOW
from alert_runs import Held, Run

BEFORE, AFTER = 10, 5  # windows that are compared
SIDES = ("separating", "losing", "separated")
SEPARATED = 0.9  # accuracy on data of its own


@dataclass
class Verdicts:
    """The verdicts of some windows.

    Attributes:
        shares: windows after the fifth, by verdict.
        right: of the windows in which a side is taken, and that can be judged.
        judged: these windows.
        first: windows until the first answer, of each run.
        changes: of the verdict, of each run.
    """

    shares: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    first: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)

    def __add__(self, other: Verdicts) -> Verdicts:
        return Verdicts(
            self.shares + other.shares, self.right + other.right, self.judged + other.judged,
            self.first + other.first, self.changes + other.changes,
        )  # fmt: skip


def judged(run: Run) -> Verdicts:
    """Of one run."""
    names = [record.regime.name for record in run.records]
    first = next((i + 1 for i, name in enumerate(names) if name != "cannot tell"), len(names))
    changes = sum(a != b for a, b in pairwise(names))
    found = Verdicts(Counter(names[5:]), Counter(), Counter(), [first], [changes])
    for i, name in enumerate(names):
        if name in SIDES and is_foreseeable(run, i):
            found.judged[name] += 1
            found.right[name] += is_right(
                name, run.held[max(0, i - BEFORE + 1) : i + 1], run.held[i + 1 : i + 1 + AFTER]
            )
    return found


def is_foreseeable(run: Run, window: int) -> bool:
    """Whether no fault begins or ends in what comes after, and there is enough of it."""
    if window < 2 or window + AFTER >= len(run.held):
        return False
    s, now = run.setup, WINDOW * (window + 1)
    turns = (s.at, s.until, s.again) if s.fault else ()
    return not any(now <= turn < now + AFTER * WINDOW for turn in turns)


def is_right(name: str, before: list[Held], after: list[Held]) -> bool:
    """By accuracy, and where that stays within its sampling noise by the margin of the head."""
    was, now = (float(np.mean([h.accuracy for h in part])) for part in (before, after))
    noise = float(np.sqrt(max(was * (1 - was), 1e-3) / before[0].samples * (1 / BEFORE + 1 / AFTER)))
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
    return [
        *("| " + " | ".join(line) + " |" for line in lines),
        "",
        f"A side is taken and can be judged in {taken} windows, and right in {good} ({good / max(taken, 1):.1%}).",
    ]
