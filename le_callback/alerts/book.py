"""Holds rules and their states: raises each alert once, and again only after it was over for some windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from le_callback.alerts.alert import Alert
from le_callback.alerts.defaults import default_rules
from le_callback.alerts.rule import Rule, UserRule, as_rule, rule_name
from le_callback.errors import require
from le_callback.records import WindowRecord
from le_callback.saving import from_plain, to_plain


@dataclass(frozen=True)
class Standing:
    """An alert that was raised and is not over.

    Attributes:
        classes: told so far, in order.
        quiet: windows since its condition last held.

    >>> Standing((2,), 0).classes
    (2,)
    """

    classes: tuple[int, ...]
    quiet: int


@dataclass
class AlertBook:
    """Asks every rule at every window and says what is new.

    Args:
        rules: rules with a state, or plain callables of the record that return an alert or ``None``.
        rearm: windows without its condition after which a rule may raise again.

    Attributes:
        standing: alerts that are not over, by rule.
        failures: rules that raised an error, and the first error of each; such a rule never stops the training.

    Raises:
        ValueError: if ``rearm`` is below 1, or two rules with a state have one name.
        TypeError: if one of ``rules`` is neither a rule nor a callable.

    >>> def too_few(record):
    ...     return Alert("TooFew", record.step, (), "few samples", "log later", record.samples, 10, 0.0)
    >>> from le_callback import SeparationMonitor
    >>> book, monitor = AlertBook([too_few]), SeparationMonitor(num_classes=2)
    >>> [len(book.add(monitor.close(step))) for step in (1, 2, 3)]
    [1, 0, 0]
    """

    rules: Sequence[Rule[Any] | UserRule] = field(default_factory=default_rules)
    rearm: int = 10
    standing: dict[str, Standing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.rearm >= 1, "rearm", self.rearm, "at least 1 window")
        self._asked = [(rule_name(rule), as_rule(rule)) for rule in self.rules]
        names = [rule_name(rule) for rule in self.rules if isinstance(rule, Rule)]
        remedy = "Their states are kept by name: give one of them another `name`."
        require(len(set(names)) == len(names), "rules", names, "of different names", remedy)
        self._states: dict[str, Any] = {}

    def add(self, record: WindowRecord) -> list[Alert]:
        """The alerts that this window raises, none that stand already or that another explains."""
        news = (self._news(name, rule, self._ask(name, rule, record)) for name, rule in self._asked)
        return [alert for alert in news if alert is not None]

    def _ask(self, name: str, rule: Rule[Any], record: WindowRecord) -> Alert | None:
        try:
            self._states[name], alert = rule(record, self._states.get(name))
        except Exception as error:  # a user's rule never stops the training
            self.failures.setdefault(name, f"{type(error).__name__}: {error}")
            return None
        return alert

    def _news(self, name: str, rule: Rule[Any], alert: Alert | None) -> Alert | None:
        """The alert, if it is to be told; notes that it stands, or rests."""
        old = self.standing.get(name)
        if alert is None:
            if old is not None:
                self._rest(name, old)
            return None
        if old is None:
            if any(other in self.standing for other in rule.explained_by):
                return None
            self.standing[name] = Standing(tuple(sorted(set(alert.classes))), 0)
            return alert
        self.standing[name] = Standing(tuple(sorted({*old.classes, *alert.classes})), 0)
        joined = bool(old.classes) and not set(alert.classes) <= set(old.classes)
        return alert if joined and rule.tells_new_classes else None

    def _rest(self, name: str, old: Standing) -> None:
        if old.quiet + 1 >= self.rearm:
            del self.standing[name]
        else:
            self.standing[name] = Standing(old.classes, old.quiet + 1)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "states": {name: to_plain(state) for name, state in self._states.items()},
            "standing": {name: [list(s.classes), s.quiet] for name, s in self.standing.items()},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken.

        States of rules that are no longer there, or that keep other things by now, are left out: those start anew.
        """
        self._states = {}
        for name, rule in self._asked:
            try:
                self._states[name] = from_plain(saved["states"][name], rule.state_type)
            except (KeyError, TypeError):
                continue
        standing = {n: Standing(tuple(c), quiet) for n, (c, quiet) in saved["standing"].items()}
        self.standing = {n: s for n, s in standing.items() if n in dict(self._asked)}
