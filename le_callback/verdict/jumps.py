"""A series that falls or rises at once: no line fits it, and what was before says nothing about what comes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import t

from le_callback.values import Array

_AFTER = 2  # windows that must both be off
_LEAST, _MOST = 4, 8  # windows before
_LEVEL = 5e-4
_STEP = 0.35  # of y = asinh(D/√8): the discriminability times 0.7


@dataclass(frozen=True)
class Jump:
    """The last two windows are off what the windows before let expect.

    Attributes:
        before: mean of the windows before.
        after: mean of the last two.

    >>> Jump(1.0, 0.2).falls
    True
    """

    before: float
    after: float

    @property
    def falls(self) -> bool:
        """Whether it goes down."""
        return self.after < self.before


@lru_cache
def _quantile(m: int) -> float:
    return float(t.ppf(1 - _LEVEL, m - 1))


def last_jump(values: Array) -> Jump | None:
    """The jump into the last two windows, if there is one.

    Both differ from the mean of the 4 to 8 windows before, on the same side, by more than 0.35 and by more than the
    t quantile of that many windows allows once in 2,000.

    Args:
        values: ``(n,)``; NaN where unknown, which is left out.

    >>> last_jump(np.array([1.0, 1.1, 1.0, 1.1, 1.0, 0.2, 0.1]))
    Jump(before=1.04, after=0.15...)
    >>> last_jump(np.array([1.0, 1.1, 1.0, 1.1, 1.0, 0.2, 0.9]))
    """
    known = values[~np.isnan(values)]
    past, now = known[:-_AFTER][-_MOST:], known[-_AFTER:]
    m = len(past)
    if m < _LEAST:
        return None
    off = now - past.mean()
    needed = max(_STEP, _quantile(m) * float(past.std(ddof=1)) * math.sqrt(1 + 1 / m))
    if (off < -needed).all() or (off > needed).all():
        return Jump(float(past.mean()), float(now.mean()))
    return None
