"""The side of the separation theorem: γ against 1/t, as far as a finite time shows it.

G = ∫γ cumulative local elasticity, t time, r tail index of γ ~ t^(−r), critical value 1. Theorem (paper, section 3):
γ = ω(1/t) ⇒ separable with probability → 1, γ = o(1/t) ⇒ with probability 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from le_callback.records import Side, Verdict
from le_callback.values import NAN, Estimate

BAND = 0.15  # r within 1 ± BAND is no clear side: slow factors such as log t move it by 1/log t
WIDEST = 0.4  # half of an interval around 1 that still counts as alike

_SAID: dict[Side, str] = {
    "slower": "γ decays more slowly than 1/t",
    "like": "γ decays like 1/t",
    "faster": "γ decays faster than 1/t",
    "negative": "γ is below zero with its whole interval",
}
_MEANS: dict[Side, str] = {
    "slower": "decaying so for ever, it would separate the classes",
    "like": "the theorem is undecided there",
    "faster": "decaying so for ever, it would not separate the classes",
    "negative": "the class means draw together",
}
_AGREES: dict[Side, tuple[Verdict, ...]] = {
    "slower": ("separating",),
    "faster": ("stalled", "at chance", "losing"),
    "negative": ("losing", "at chance"),
}
_DISAGREES: dict[Side, tuple[Verdict, ...]] = {
    "slower": ("losing", "at chance"),
    "faster": ("separating",),
    "negative": ("separating",),
}


class Theorem(NamedTuple):
    """What the theorem says.

    Attributes:
        side: γ against 1/t.
        known: the numbers that it rests on.
        t_gamma: t·γ; NaN where the index is unknown.
    """

    side: Side
    known: str
    t_gamma: float


def theorem_side(gamma: Estimate, time: float, index: Estimate) -> Theorem:
    """On which side of 1/t the local elasticity is now.

    Args:
        gamma: γ with its interval.
        time: t, in the unit of γ.
        index: the local tail index with its interval.

    >>> theorem_side(Estimate(0.01, 0.009, 0.011), 1000.0, Estimate(0.5, 0.4, 0.6))
    Theorem(side='slower', known='tail index 0.50 [0.40, 0.60], t·γ = 10', t_gamma=10.0)
    """
    if math.isnan(index.value):
        negative = gamma.high < 0
        known = f"γ = {gamma.value:.2g} [{gamma.low:.2g}, {gamma.high:.2g}]" if negative else ""
        return Theorem("negative" if negative else "open", known, NAN)
    t_gamma = time * gamma.value
    known = f"tail index {index.value:.2f} [{index.low:.2f}, {index.high:.2f}], t·γ = {t_gamma:.2g}"
    side: Side = "open"
    if gamma.high < 0:
        side = "negative"
    elif index.high < 1 - BAND:
        side = "slower"
    elif index.low > 1 + BAND:
        side = "faster"
    elif index.low > 1 - WIDEST and index.high < 1 + WIDEST:
        side = "like"
    return Theorem(side, known, t_gamma)


def in_words(found: Theorem, verdict: Verdict) -> str:
    """The theorem's side as a sentence, with its caveat and whether it agrees with what is measured.

    >>> in_words(Theorem("faster", "tail index 1.40 [1.20, 1.60], t·γ = 2", 2.0), "separating")[:67]
    'γ decays faster than 1/t (tail index 1.40 [1.20, 1.60], t·γ = 2): d'
    >>> in_words(Theorem("open", "", math.nan), "stalled")
    'open so far: the decay of γ is not known, too few windows in which the gap stands out of the noise.'
    """
    if found.side == "open":
        why = f"well enough ({found.known})" if found.known else ""
        few = "" if found.known else ", too few windows in which the gap stands out of the noise"
        return f"open so far: the decay of γ is not known{' ' if why else ''}{why}{few}."
    said = f"{_SAID[found.side]} ({found.known})"
    if verdict == "separated":
        return f"{said}; nothing is left to separate, so γ → 0 is healthy."
    agreement = ""
    if verdict in _AGREES.get(found.side, ()):
        agreement = " Both sides agree."
    elif verdict in _DISAGREES.get(found.side, ()):
        agreement = " That is not what is measured now: one of both will give way."
    return f"{said}: {_MEANS[found.side]}. The theorem is about t → ∞, this about the steps so far.{agreement}"
