"""How the errors of the two paths of a model hang together."""

from __future__ import annotations

import math
from typing import Any

_BEFORE = 8.0  # windows without correlation that count before any was seen
_MEMORY = 0.985  # of what was seen, a window
_WORST = 3.0  # deviations: larger errors are changes of the rate, and count no more than that


class PathCorrelation:
    """Correlation of what two paths were off their predictions, shrunk to 0 while few windows were seen.

    Under balanced sampling the modes are orthogonal and their errors independent. Where some classes are rare, the
    noise of these is in both.

    >>> correlation = PathCorrelation()
    >>> for error in (1.0, -1.0) * 20:
    ...     correlation.add(error, error)
    >>> round(correlation.value, 2)
    0.79
    """

    def __init__(self) -> None:
        self._first = self._second = self._both = 0.0

    @property
    def value(self) -> float:
        """Between −1 and 1."""
        return self._both / math.sqrt((_BEFORE + self._first) * (_BEFORE + self._second))

    def add(self, first: float, second: float) -> None:
        """Take in the errors of both paths in one window, in standard deviations; NaN where there was no prediction."""
        if not (math.isfinite(first) and math.isfinite(second)):
            return
        a, b = (min(max(x, -_WORST), _WORST) for x in (first, second))
        self._first = _MEMORY * self._first + a * a
        self._second = _MEMORY * self._second + b * b
        self._both = _MEMORY * self._both + a * b

    def state_dict(self) -> dict[str, Any]:
        """Numbers."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        vars(self).update(state)
