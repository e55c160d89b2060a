"""What an alert says. It carries its classes as data; their names are filled in where it is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from le_callback.verdict.words import joined, shortened

PLACEHOLDER = "{classes}"


@dataclass(frozen=True)
class Alert:
    """Something got worse.

    Attributes:
        rule: name of the rule that raised it.
        step: optimizer step at the end of the window.
        classes: indices of the classes concerned; empty where it concerns all alike.
        cause: what was found. ``{classes}`` stands for the names of ``classes``, ``{class 0}`` for that of the first,
            other braces for themselves.
        advice: what to do about it; may hold ``{classes}``, too.
        value: what was measured, in the unit that ``cause`` speaks of.
        threshold: what it is compared with, in the same unit.
        level: false-alarm rate of the rule over a whole run; NaN for facts that need no inference.

    >>> Alert("Late", 200, (1,), "Class {classes} is late.", "Wait.", 3.0, 1.0, 0.001).classes
    (1,)
    """

    rule: str
    step: int
    classes: tuple[int, ...]
    cause: str
    advice: str
    value: float
    threshold: float
    level: float


def describe(alert: Alert, class_names: Sequence[str] = ()) -> str:
    """The alert as one paragraph: rule, step, classes by name, cause and advice.

    Args:
        alert: what was raised.
        class_names: (K,) names; a class without one goes by its index.

    Returns:
        The paragraph, with at most eight classes by name.

    >>> alert = Alert("PairMerging", 200, (0, 1), "Classes {classes} merge.", "Look {here}.", 0.1, 1.0, 0.001)
    >>> describe(alert, ["cat", "dog"])
    'PairMerging at step 200 (cat, dog): Classes cat and dog merge. Look {here}.'
    """
    names = _names(alert.classes, class_names)
    where = f" ({shortened(names)})" if names else ""
    cause, advice = (filled(text, names) for text in (alert.cause, alert.advice))
    return f"{alert.rule} at step {alert.step:,}{where}: {cause} {advice}"


def filled(text: str, names: Sequence[str]) -> str:
    """A cause or an advice with the names of its classes.

    >>> filled("{class 1} drifts; look at {classes}.", ["cat", "dog"])
    'dog drifts; look at cat and dog.'
    """
    text = text.replace(PLACEHOLDER, joined(names))
    return re.sub(r"\{class (\d+)\}", lambda m: names[int(m[1])] if int(m[1]) < len(names) else m[0], text)


def named(classes: Sequence[int], class_names: Sequence[str]) -> str:
    """Classes by name, at most eight of them; empty without any.

    >>> named((1, 2), ["cat", "dog"])
    'dog, 2'
    """
    return shortened(_names(classes, class_names))


def _names(classes: Sequence[int], class_names: Sequence[str]) -> list[str]:
    return [class_names[k] if 0 <= k < len(class_names) else str(k) for k in classes]
