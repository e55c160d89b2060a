"""Which training is continued: by a saved state that fits, or by another fit of the same Trainer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

VERSION = 1
"""Of the layout of the state in checkpoints; another number is not continued."""


class TrainerMark:
    """Knows a Trainer again without keeping it alive; a copy of it knows none.

    >>> class Runner: ...
    >>> runner = Runner()
    >>> TrainerMark(runner).is_of(runner), TrainerMark(runner).is_of(Runner()), TrainerMark().is_of(runner)
    (True, False, False)
    """

    def __init__(self, trainer: Any = None) -> None:
        self._of = None if trainer is None else weakref.ref(trainer)

    def is_of(self, trainer: Any) -> bool:
        """Whether it was made for this Trainer."""
        return self._of is not None and self._of() is trainer

    def __reduce__(self) -> tuple[type[TrainerMark], tuple[()]]:
        return TrainerMark, ()


def resume(
    saved: Any, fresh: Mapping[str, Any], loads: Mapping[str, Callable[[Any], None]], check: Callable[[], str]
) -> str:
    """Load the parts of a saved state; where one does not fit, all parts are as before.

    Args:
        saved: what a checkpoint held, whatever that is.
        fresh: the state of a training that starts now, in today's layout.
        loads: takes in a part, by its key in the state.
        check: looks at what was loaded; says what is wrong with it, or nothing.

    Returns:
        Why the state cannot be continued; empty where it is.

    >>> parts, fresh = {}, {"version": VERSION, "clock": {"now": 0.0}}
    >>> loads = {"clock": parts.update}
    >>> resume({"version": VERSION, "clock": {"now": 3.5}}, fresh, loads, lambda: ""), parts
    ('', {'now': 3.5})
    >>> resume({"version": VERSION}, fresh, loads, lambda: ""), parts
    ('it lacks clock', {'now': 0.0})
    """
    try:
        why = _mismatch(saved, fresh)
        if not why:
            for part, load in loads.items():
                load(saved[part])
            why = check()
    except Exception as error:  # whatever a checkpoint holds, the training goes on
        why = f"it cannot be read, {type(error).__name__}: {error}"
    if why:
        for part, load in loads.items():
            load(fresh[part])
    return why


def _mismatch(saved: Any, fresh: Mapping[str, Any]) -> str:
    """What in a saved state is of another version, layout, time axis or number of classes."""
    if not isinstance(saved, Mapping):
        return f"it is of type {type(saved).__name__}"
    if "version" not in saved:
        return "it has no version, as those of le_callback before layout 1"
    if saved["version"] != fresh["version"]:
        return f"it is of layout {saved['version']!r}, here is layout {fresh['version']}"
    wrong = _other_layout(saved, fresh, "")
    for part in ("monitor", "timeline"):
        if not wrong and part in fresh:
            wrong = _other_layout(saved[part], fresh[part], f"{part}.")
    return wrong or _other_setting(saved, fresh)


def _other_layout(saved: Any, fresh: Mapping[str, Any], where: str) -> str:
    """Keys that are missing or too many, numbers and texts that are none."""
    if not isinstance(saved, Mapping):
        return f"{where[:-1]} is of type {type(saved).__name__}"
    missing, extra = fresh.keys() - saved.keys(), saved.keys() - fresh.keys()
    if missing or extra:
        verb, keys = ("lacks", missing) if missing else ("holds the unknown", extra)
        return f"it {verb} {', '.join(sorted(f'{where}{key}' for key in keys))}"
    for key, value in fresh.items():
        kinds = (int, float) if isinstance(value, float) else type(value)
        if isinstance(value, int | float | str) and not isinstance(saved[key], kinds):
            return f"{where}{key} is of type {type(saved[key]).__name__}"
    return ""


def _other_setting(saved: Mapping[str, Any], fresh: Mapping[str, Any]) -> str:
    for part, key, what in (
        ("timeline", "axis", "its time axis is {!r}, here it is {!r}"),
        ("monitor", "num_classes", "it is of {} classes, here are {}"),
    ):
        if part in fresh and saved[part][key] != fresh[part][key]:
            return what.format(saved[part][key], fresh[part][key])
    return ""
