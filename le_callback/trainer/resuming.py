"""Which training is continued: by a saved state that fits, or by another fit of the same Trainer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from torch import Tensor

from le_callback.moments.window import ClassWindow
from le_callback.monitor import SeparationMonitor
from le_callback.notices import Notices
from le_callback.trainer.alarm import Alarm
from le_callback.trainer.probing import NoProbing
from le_callback.trainer.processes import OneProcess
from le_callback.trainer.timeline import Timeline

VERSION = 5
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
            why = check() or _other_shapes(saved)
    except Exception as error:  # whatever a checkpoint holds, the training goes on
        why = f"it cannot be read, {type(error).__name__}: {error}"
    if why:
        for part, load in loads.items():
            load(fresh[part])
    return why


def shapes_of(state: Any) -> str:
    """A fingerprint of where a state has what: keys, lengths, kinds of values, shapes of tensors.

    >>> import torch
    >>> shapes_of({"a": torch.zeros(3)}) == shapes_of({"a": torch.ones(3)}) != shapes_of({"a": torch.ones(1, 3)})
    True
    """
    found: list[str] = []

    def walk(value: Any, where: str) -> None:
        if isinstance(value, Tensor):
            found.append(f"{where} {tuple(value.shape)} {value.dtype}")
            return
        if isinstance(value, Mapping):
            inside = [*value.items()]
        elif isinstance(value, list | tuple):
            inside = [*enumerate(value)]
        else:
            found.append(f"{where} {type(value).__name__}")
            return
        found.append(f"{where} {len(inside)}")
        for key, inner in inside:
            walk(inner, f"{where}.{key}")

    walk(state, "")
    return blake2b("\n".join(found).encode(), digest_size=16).hexdigest()


class Continuity:
    """What of a training goes into checkpoints beside its monitor, and how it comes back.

    Args:
        alarm, probing, timeline: of the training.
        processes: those of the training.
        notices: where it is told that a state does not fit.
    """

    def __init__(
        self, alarm: Alarm, probing: NoProbing, timeline: Timeline, processes: OneProcess, notices: Notices
    ) -> None:
        self._alarm, self._probing, self._timeline = alarm, probing, timeline
        self._processes, self._notices = processes, notices

    def state(self, monitor: SeparationMonitor) -> dict[str, Any]:
        """Tensors and plain values."""
        state = {
            "version": VERSION,
            "monitor": monitor.state_dict(),
            "alerts": self._alarm.state_dict(),
            "probe": self._probing.state_dict(),
            "timeline": self._timeline.state_dict(),
        }
        return state | {"shapes": shapes_of(state)}

    def resume(self, saved: Any, monitor: SeparationMonitor, batch: Mapping[str, Tensor]) -> bool:
        """Continue the saved state, if there is one and it belongs to batches like this; else it is told why not."""
        if not saved:
            return False
        device = batch["features"].device
        loads: dict[str, Callable[[Any], None]] = {
            "monitor": lambda state: monitor.load_state_dict(state, device),
            "alerts": self._alarm.load_state_dict,
            "probe": lambda state: self._probing.load_state_dict(state, device),
            "timeline": self._timeline.load_state_dict,
        }
        why = resume(saved, self.state(monitor), loads, lambda: _other_widths(monitor.window, batch))
        if why:
            self._notices.tell("the saved state is not continued, everything starts anew", why)
        elif self._processes.rank > 0:
            for window in monitor.open_windows:
                window.clear()  # its samples count once, on the first process
        return not why


def _other_widths(window: ClassWindow | None, batch: Mapping[str, Tensor]) -> str:
    """What in a window is of another width than in a batch, by source."""
    if window is None or window.accepts(batch):
        return ""
    widths = {name: (moments.reference.shape[1], batch[name].shape[1]) for name, moments in window.moments.items()}
    return ", ".join(f"its {name} are {old} wide, here {new}" for name, (old, new) in widths.items() if old != new)


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


def _other_shapes(saved: Mapping[str, Any]) -> str:
    told = saved.get("shapes")
    same = told is None or told == shapes_of({key: part for key, part in saved.items() if key != "shapes"})
    return "" if same else "it does not hold what was saved"


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
