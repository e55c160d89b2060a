"""Whether labels contradict what the head has learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass

from le_callback.measures import HeadMargin

_KEPT_MARGINS = 10  # windows


@dataclass(frozen=True)
class Margins:
    """Whether labels begin to contradict the head.

    Attributes:
        recent: mean and low quantile of its margins in each of the last windows.
        agreeing: windows since labels contradicted it.

    >>> from le_callback import SeparationMonitor
    >>> Margins().add(SeparationMonitor(num_classes=2).close(1).head).agreeing
    1001
    """

    recent: tuple[tuple[float, float], ...] = ()
    agreeing: int = 1000

    def add(self, head: HeadMargin | None) -> Margins:
        """Take in a window: some samples are newly and confidently wrong if its low quantile falls far below zero."""
        if head is None:
            return Margins(self.recent, self.agreeing + 1)
        usual = sum(mean for mean, _ in self.recent) / max(len(self.recent), 1)
        lowest = min((low for _, low in self.recent), default=-math.inf)
        wrong = head.margin_low < -0.2 * usual and head.margin_low < lowest - 0.2 * usual and usual > 0
        return Margins(
            (*self.recent, (head.margin, head.margin_low))[-_KEPT_MARGINS:], 0 if wrong else self.agreeing + 1
        )
