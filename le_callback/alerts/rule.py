"""What a rule is: a function of the record, or, with a memory, a subclass of ``Rule``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from le_callback.alerts.alert import Alert
from le_callback.errors import require, require_type
from le_callback.records import WindowRecord

UserRule = Callable[[WindowRecord], "Alert | None"]
"""A rule without a memory: looks at the record of a window, gives an alert or None."""
S = TypeVar("S")


class Rule(ABC, Generic[S]):
    """A rule with a state: says at each window whether its condition holds.

    It is a pure function of the record and of the state, and leaves both as they are. Its state is a dataclass, named
    as ``state_type``, or a plain value; it is made of numbers, strings, numpy arrays, and tuples, lists, mappings or
    dataclasses of these, so that it can be saved.

    Attributes:
        name: names the rule in alerts, tags and saved states; without it the class does.
        explained_by: rules whose standing alert already says what this one would.
        tells_new_classes: whether classes that join a standing alert are told, too.
        tells_end: whether it is told when the alert is over: not where it is about something that happened once.
        state_type: dataclass of the state; ``None`` for plain values, where tuples come back as lists.

    >>> class TooFew(Rule[int]):
    ...     def __call__(self, record, state):
    ...         windows = (state or 0) + 1
    ...         alert = Alert("TooFew", record.step, (), "few samples.", "log later.", record.samples, 10, 0.0)
    ...         return windows, alert if windows > 1 and record.samples < 10 else None
    >>> from le_callback import SeparationMonitor
    >>> record = SeparationMonitor(num_classes=2).close(1)
    >>> state, alert = TooFew()(record, None)
    >>> state, alert
    (1, None)
    >>> TooFew()(record, state)[1].rule
    'TooFew'
    """

    name: str
    explained_by: tuple[str, ...] = ()
    tells_new_classes: bool = False
    tells_end: bool = True
    state_type: type[Any] | None = None

    @abstractmethod
    def __call__(self, record: WindowRecord, state: S | None) -> tuple[S | None, Alert | None]:
        """The next state, and the alert while the condition holds.

        Args:
            record: of the window that ended.
            state: what the rule returned at the window before; ``None`` at first.
        """


@dataclass(frozen=True)
class StatelessRule(Rule[None]):
    """A callable of the record alone, as a rule.

    Attributes:
        function: takes a record and returns an alert or ``None``.
        name: that of the function.

    >>> def silent(record):
    ...     return None
    >>> StatelessRule(silent, "silent")(None, None)
    (None, None)
    """

    function: UserRule
    name: str

    def __call__(self, record: WindowRecord, state: None) -> tuple[None, Alert | None]:
        """What the function says."""
        return None, self.function(record)


def rule_name(rule: Rule[Any] | Callable[..., Any]) -> str:
    """``name`` of a rule, or that of a function, or else of its class.

    >>> rule_name(print), rule_name(StatelessRule(print, "shown"))
    ('print', 'shown')
    """
    name = getattr(rule, "name", None) or getattr(rule, "__name__", None)
    return name if isinstance(name, str) else type(rule).__name__


def as_rule(rule: Rule[Any] | UserRule) -> Rule[Any]:
    """The rule itself, or one that asks the callable.

    Raises:
        TypeError: if it is neither.

    >>> as_rule(3)
    Traceback (most recent call last):
    TypeError: Expected argument `rules` to be made of callables of the record and instances of `Rule`, but got 3.
    """
    if isinstance(rule, Rule):
        return rule
    usable = callable(rule) and not isinstance(rule, type)
    require_type(usable, "rules", rule, "made of callables of the record and instances of `Rule`")
    return StatelessRule(rule, rule_name(rule))


def require_share(argument: str, value: float) -> None:
    """Raise unless ``value`` lies between 0 and 1, without them.

    Raises:
        ValueError: naming the argument.

    >>> require_share("level", 5)
    Traceback (most recent call last):
    ValueError: Expected argument `level` to be between 0 and 1, but got 5.
    """
    require(0 < value < 1, argument, value, "between 0 and 1")
