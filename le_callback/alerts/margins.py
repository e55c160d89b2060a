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
        wrong = self.denied(head, 0.2, 0.2)
        return Margins(
            (*self.recent, (head.margin, head.margin_low))[-_KEPT_MARGINS:], 0 if wrong else self.agreeing + 1
        )

    @property
    def usual(self) -> float:
        """Mean margin of the last windows."""
        return sum(mean for mean, _ in self.recent) / max(len(self.recent), 1)

    def denied(self, head: HeadMargin, fall: float, below: float) -> bool:
        """Whether the low quantile of the margins fell, by shares of the usual margin below all before and below zero.

        >>> import numpy as np
        >>> def head(margin, low):
        ...     return HeadMargin(margin, low, *[np.zeros(0)] * 3, (), np.zeros((0, 0)))
        >>> usual = Margins().add(head(8.0, 2.0))
        >>> usual.denied(head(3.0, -1.0), fall=0.3, below=0.1), usual.denied(head(3.0, -0.5), fall=0.3, below=0.1)
        (True, False)
        """
        lowest = min((low for _, low in self.recent), default=-math.inf)
        return self.usual > 0 and head.margin_low < min(-below * self.usual, lowest - fall * self.usual)
