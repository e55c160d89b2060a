"""What an alert says, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from le_callback.records import WindowRecord

State = Mapping[str, Any]  # numbers, strings, lists and numpy arrays


@dataclass(frozen=True)
class Alert:
    """Something got worse.

    ``value`` and ``threshold`` are in the unit that ``cause`` speaks of; ``level`` is the false-alarm rate of the rule
    over a whole run, NaN for facts that need no inference.
    """

    rule: str
    step: int
    classes: tuple[int, ...]  # concerned, empty where it concerns all alike
    cause: str
    advice: str
    value: float
    threshold: float
    level: float


class Rule(Protocol):
    """A pure function of the record and of its own state. It says at each window whether its condition holds."""

    @property
    def name(self) -> str:
        """Names the rule in alerts and states."""

    @property
    def explained_by(self) -> tuple[str, ...]:
        """Rules whose standing alert already says what this one would."""

    def __call__(self, record: WindowRecord, state: State | None) -> tuple[State, Alert | None]:
        """The next state, and the alert while the condition holds; ``state`` is ``None`` at first."""


UserRule = Callable[[WindowRecord], "Alert | None"]
