"""A loader that gives the same samples again and again. K classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from le_callback.alerts.alert import Alert
from le_callback.alerts.attendance import sampled
from le_callback.alerts.rule import Rule, require_share
from le_callback.records import WindowRecord
from le_callback.values import Array

_FADING = 0.9


@dataclass(frozen=True)
class Composition:
    """How the class counts of windows vary.

    Attributes:
        windows: compared so far.
        last: (K,) counts of the last window.
        change: (K,) faded mean square of their changes, frozen while there is none.
        repeats: windows in a row with the counts of the one before.

    >>> Composition().repeats
    0
    """

    windows: int = 0
    last: Array = field(default_factory=lambda: np.zeros(0))
    change: Array = field(default_factory=lambda: np.zeros(0))
    repeats: int = 0

    def add(self, counts: Array) -> Composition:
        """Take in a window."""
        if len(self.last) != len(counts):
            return Composition(0, counts, np.zeros(len(counts)), 0)
        if (counts == self.last).all():
            return Composition(self.windows + 1, counts, self.change, self.repeats + 1)
        square = (counts - self.last) ** 2
        change = square if self.windows == 0 else _FADING * self.change + (1 - _FADING) * square
        return Composition(self.windows + 1, counts, change, 0)

    def log_coincidence(self) -> float:
        """Log probability that a window has the counts of the one before, by how much they varied.

        Counts with independent normal differences of variance v agree with probability 1/√(2πv), all but one of them.
        """
        each = -0.5 * np.log(np.maximum(2 * math.pi * self.change, 1))
        return float(np.sort(each)[:-1].sum()) if len(each) > 1 else 0.0


@dataclass(frozen=True)
class LoaderStuck(Rule[Composition]):
    """Class counts that varied from window to window repeat exactly: one batch comes again and again.

    Where the counts of the classes differ by no more than one a step, a sampler balances them, and nothing is said.

    Args:
        level: probability of an alarm in a whole run of samples that come independently.
        repeats: windows in a row that must repeat.
        warm_up: windows with other counts before the first judgement.
        name: in alerts, tags and saved states.
        explained_by: rules whose standing alert already says it.

    Raises:
        ValueError: if ``level`` is not between 0 and 1.

    >>> from dataclasses import replace
    >>> from le_callback import SeparationMonitor
    >>> rule, record, state = LoaderStuck(), SeparationMonitor(num_classes=3).close(50), None
    >>> for first in [120.0, 95.0, 101.0, 88.0, 110.0, 97.0, 90.0, 90.0, 90.0, 90.0]:
    ...     state, alert = rule(replace(record, class_samples=(first, 400.0 - 2 * first, first)), state)
    >>> alert.cause[:62]
    'The class counts of the last 4 windows are exactly the same (9'
    """

    level: float = 1e-3
    repeats: int = 2
    warm_up: int = 5
    name: str = "LoaderStuck"
    explained_by: tuple[str, ...] = ("NonFinite",)
    state_type = Composition

    def __post_init__(self) -> None:
        require_share("level", self.level)

    def __call__(self, record: WindowRecord, state: Composition | None) -> tuple[Composition | None, Alert | None]:
        """Counts of this window, and the alert while they repeat."""
        if (counts := sampled(record)) is None:
            return state, None
        after = (state or Composition()).add(counts)
        varied = after.windows - after.repeats
        # Σ over windows of level/(w(w + 1)) is the level
        needed = math.log(self.level) - math.log(after.windows * (after.windows + 1) + 1)
        if varied < self.warm_up or after.repeats < self.repeats:
            return after, None
        balanced = counts.max() - counts.min() <= record.window[1] - record.window[0]
        if balanced or after.repeats * after.log_coincidence() > needed:
            return after, None
        shown = ", ".join(f"{n:.0f}" for n in counts[:5]) + (", …" if len(counts) > 5 else "")
        cause = (
            f"The class counts of the last {after.repeats + 1} windows are exactly the same ({shown}), though they"
            " varied before: the loader seems to give one batch again and again."
        )
        advice = "Check the iterator and the random state of the sampler and its workers."
        return after, Alert(self.name, record.step, (), cause, advice, after.repeats, self.repeats, self.level)
