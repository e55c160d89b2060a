"""Holds rules and their states: raises each alert once, says when it is over, and raises it again when it returns."""

from __future__ import annotations

from collections import Counter
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
        since: step at which it was raised.

    >>> Standing((2,), 0, 50).classes
    (2,)
    """

    classes: tuple[int, ...]
    quiet: int
    since: int


@dataclass(frozen=True)
class Ended:
    """An alert that is over.

    Attributes:
        rule: that raised it.
        classes: that it was about.
        since: step at which it was raised.
        step: end of the window in which it is over.

    >>> Ended("PairMerging", (0, 1), 500, 1200).since
    500
    """

    rule: str
    classes: tuple[int, ...]
    since: int
    step: int


@dataclass
class AlertBook:
    """Asks every rule at every window and says what is new.

    Args:
        rules: rules with a state, or plain callables of the record that return an alert or ``None``.
        rearm: windows without its condition after which an alert is over, and may be raised again.

    Attributes:
        standing: alerts that are not over, by rule.
        ended: alerts that are over since the last window.
        failures: rules that raised an error, and the first error of each; such a rule never stops the training, and is
            asked again in the next window.

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
    rearm: int = 3
    standing: dict[str, Standing] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.rearm >= 1, "rearm", self.rearm, "at least 1 window")
        names = [rule_name(rule) for rule in self.rules if isinstance(rule, Rule)]
        remedy = "Their states are kept by name: give one of them another `name`."
        require(len(set(names)) == len(names), "rules", names, "of different names", remedy)
        self._asked = list(zip(self._own_names(names), map(as_rule, self.rules), strict=True))
        self._states: dict[str, Any] = {}

    def _own_names(self, taken: Sequence[str]) -> list[str]:
        """A name for each rule: of functions that have the same, such as lambdas, the second gets a number."""
        used, own = Counter(taken), []
        for rule in self.rules:
            name = rule_name(rule)
            if not isinstance(rule, Rule):
                used[name] += 1
                while used[name] > 1 and (numbered := f"{name}_{used[name]}") in used:
                    used[name] += 1
                name = numbered if used[name] > 1 else name
                used[name] = max(used[name], 1)
            own.append(name)
        return own

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rules, in the order in which they are asked."""
        return tuple(name for name, _ in self._asked)

    def add(self, record: WindowRecord) -> list[Alert]:
        """The alerts that this window raises, none that stand already or that another explains."""
        self.ended = []
        news = (self._news(name, rule, self._ask(name, rule, record), record.step) for name, rule in self._asked)
        return [alert for alert in news if alert is not None]

    def _ask(self, name: str, rule: Rule[Any], record: WindowRecord) -> Alert | None:
        try:
            self._states[name], alert = rule(record, self._states.get(name))
        except Exception as error:  # a user's rule never stops the training
            self.failures.setdefault(name, f"{type(error).__name__}: {error}")
            return None
        return alert

    def _news(self, name: str, rule: Rule[Any], alert: Alert | None, step: int) -> Alert | None:
        """The alert, if it is to be told; notes that it stands, or rests."""
        old = self.standing.get(name)
        if alert is None:
            if old is not None:
                self._rest(name, rule, old, step)
            return None
        classes = tuple(sorted(set(alert.classes)))
        if old is None:
            if any(self._explains(other, classes) for other in rule.explained_by):
                return None
            self.standing[name] = Standing(classes, 0, step)
            return alert
        self.standing[name] = Standing(tuple(sorted({*old.classes, *classes})), 0, old.since)
        joined = bool(old.classes) and not set(classes) <= set(old.classes)
        return alert if joined and rule.tells_new_classes else None

    def _explains(self, other: str, classes: tuple[int, ...]) -> bool:
        """Whether a standing alert says what one about these classes would; that of some explains only those."""
        standing = self.standing.get(other)
        if standing is None:
            return False
        return not standing.classes or (bool(classes) and set(classes) <= set(standing.classes))

    def _rest(self, name: str, rule: Rule[Any], old: Standing, step: int) -> None:
        if old.quiet + 1 < self.rearm:
            self.standing[name] = Standing(old.classes, old.quiet + 1, old.since)
            return
        del self.standing[name]
        if rule.tells_end:
            self.ended.append(Ended(name, old.classes, old.since, step))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "states": {name: to_plain(state) for name, state in self._states.items()},
            "standing": {name: [list(s.classes), s.quiet, s.since] for name, s in self.standing.items()},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken.

        States of rules that are no longer there, or that keep other things by now, are left out: those start anew.
        """
        self._states, self.ended = {}, []
        for name, rule in self._asked:
            try:
                self._states[name] = from_plain(saved["states"][name], rule.state_type)
            except (KeyError, TypeError):
                continue
        standing = {n: Standing(tuple(c), *rest) for n, (c, *rest) in saved["standing"].items()}
        self.standing = {n: s for n, s in standing.items() if n in self.names}
