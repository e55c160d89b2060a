"""Numbers of the verdict as a person says them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from le_callback.values import Estimate
from le_callback.verdict.pairs import discriminability_at

_MOST_NAMES = 8
_TELLING = 0.5  # discriminability from which a growth in percent says something


def in_deviations(growth: Estimate, level: float, scale: float) -> Estimate:
    """Growth of y = asinh(D/√8) as growth of D: dD = √(8 + D²) dy, at the level y.

    >>> round(in_deviations(Estimate(1.0, 0.0, 2.0), 0.0, 1.0).value, 3)
    2.828
    """
    factor = scale * math.sqrt(8.0) * math.cosh(level)
    return Estimate(growth.value * factor, growth.low * factor, growth.high * factor)


def growth_in_words(growth: Estimate, level: float, time_unit: str) -> str:
    """How fast the discriminability grows: in percent of its level, or in deviations where that is near 0.

    Args:
        growth: of y = asinh(D/√8), per unit of time.
        level: y.
        time_unit: of the rate.

    >>> growth_in_words(Estimate(1e-4, 5e-5, 2e-4), 1.5, "step")
    'grows 11 % [5.5, 22] per 1,000 steps'
    >>> growth_in_words(Estimate(-2e-5, -4e-5, 1e-5), 0.0, "step")
    'falls by 0.057 [-0.028, 0.11] deviations per 1,000 steps'
    """
    value = discriminability_at(level)
    units = [1000.0, 100.0, 10.0] if time_unit == "step" else [1.0]
    percent = value >= _TELLING
    for scale in units:
        rate = in_deviations(growth, level, (100 / value if percent else 1.0) * scale)
        if abs(rate.value) <= 200 or not percent:
            break
    falls = rate.value < 0
    low, high = (-rate.high, -rate.low) if falls else (rate.low, rate.high)
    per = f"{scale:,.0f} steps" if time_unit == "step" else time_unit
    number = f"{abs(rate.value):.2g} % [{low:.2g}, {high:.2g}]"
    if not percent:
        number = f"by {abs(rate.value):.2g} [{low:.2g}, {high:.2g}] deviations"
    return f"{'falls' if falls else 'grows'} {_plain(number)} per {per}"


def _plain(text: str) -> str:
    """Numbers of two digits without an exponent."""
    words = []
    for word in text.split(" "):
        bare = word.strip("[],")
        words.append(word.replace(bare, f"{float(bare):.0f}") if "e+" in bare else word)
    return " ".join(words)


def joined(names: Sequence[str]) -> str:
    """Names as an enumeration: ``a``, ``a and b``, ``a, b and c``.

    Of more than eight the first eight and how many more; ``all classes`` where there is no name.

    >>> joined(["cat", "dog", "owl"])
    'cat, dog and owl'
    >>> joined(list("abcdefghij"))
    'a, b, c, d, e, f, g, h and 2 more'
    """
    if not names:
        return "all classes"
    if len(names) == 1 or len(names) > _MOST_NAMES:
        return shortened(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def shortened(names: Sequence[str]) -> str:
    """At most eight names, and how many more.

    >>> shortened(["cat", "dog"])
    'cat, dog'
    """
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
