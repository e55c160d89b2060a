"""Holds rules and their states: raises each alert once, and again only after it was over for some windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from typing_extensions import TypeIs

from le_callback.alerts.accuracy import ElasticityLost, SeparabilityLost
from le_callback.alerts.alert import Alert, Rule, State, UserRule
from le_callback.alerts.pairs import PairMerging
from le_callback.alerts.structure import ClassVanished, FeatureCollapse, NonFinite
from le_callback.records import WindowRecord


def default_rules() -> tuple[Rule, ...]:
    """All rules with their default settings, the most specific first."""
    return (NonFinite(), ClassVanished(), FeatureCollapse(), PairMerging(), SeparabilityLost(), ElasticityLost())


@dataclass(frozen=True)
class Standing:
    """An alert that was raised and is not over: the classes told, and windows since its condition last held."""

    classes: tuple[int, ...]
    quiet: int


@dataclass
class AlertBook:
    """Asks every rule at every window and says what is new.

    Args:
        rules: rules with a state, or plain callables of the record that return an alert or ``None``.
        rearm: windows without its condition after which a rule may raise again.

    >>> def too_few(record):
    ...     return Alert("TooFew", record.step, (), "few samples", "log later", record.samples, 10, 0.0)
    >>> from le_callback import SeparationMonitor
    >>> book, monitor = AlertBook([too_few]), SeparationMonitor(num_classes=2)
    >>> [len(book.add(monitor.close(step))) for step in (1, 2, 3)]
    [1, 0, 0]
    """

    rules: Sequence[Rule | UserRule] = field(default_factory=default_rules)
    rearm: int = 10
    standing: dict[str, Standing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # user rules that raised an error, and the error

    def __post_init__(self) -> None:
        self._states: dict[str, State] = {}

    def add(self, record: WindowRecord) -> list[Alert]:
        """The alerts that this window raises, none that stand already or that another explains."""
        raised: list[Alert] = []
        for rule in self.rules:
            name = rule_name(rule)
            alert = self._ask(rule, name, record)
            old = self.standing.get(name)
            if alert is None:
                if old is not None:
                    self._rest(name, old)
                continue
            told = old.classes if old else ()
            # classes that join later are news where an alert is about classes
            news = old is None or bool(told and set(alert.classes) - set(told))
            if old is None and any(other in self.standing for other in getattr(rule, "explained_by", ())):
                continue
            self.standing[name] = Standing(tuple(sorted({*told, *alert.classes})), 0)
            if news and (old is None or name in ("PairMerging", "ClassVanished")):
                raised.append(alert)
        return raised

    def _ask(self, rule: Rule | UserRule, name: str, record: WindowRecord) -> Alert | None:
        if _has_state(rule):
            self._states[name], alert = rule(record, self._states.get(name))
            return alert
        try:
            return rule(record)
        except Exception as error:  # a user's rule never stops the training
            self.failures.setdefault(name, f"{type(error).__name__}: {error}")
            return None

    def _rest(self, name: str, old: Standing) -> None:
        if old.quiet + 1 >= self.rearm:
            del self.standing[name]
        else:
            self.standing[name] = Standing(old.classes, old.quiet + 1)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, loadable with ``weights_only=True``."""
        return {
            "states": {name: _to_plain(state) for name, state in self._states.items()},
            "standing": {name: [list(s.classes), s.quiet] for name, s in self.standing.items()},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; states of rules that are no longer there are left out."""
        names = {rule_name(rule) for rule in self.rules}
        self._states = {n: _from_plain(state) for n, state in saved["states"].items() if n in names}
        self.standing = {n: Standing(tuple(c), quiet) for n, (c, quiet) in saved["standing"].items() if n in names}


def rule_name(rule: Rule | UserRule | Callable[..., Any]) -> str:
    """``name`` of a rule, or that of a function."""
    name = getattr(rule, "name", None) or getattr(rule, "__name__", None)
    return name if isinstance(name, str) else type(rule).__name__


def _has_state(rule: Rule | UserRule) -> TypeIs[Rule]:
    return hasattr(rule, "explained_by")


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {key: _to_plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, Mapping):
        return {key: _from_plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_from_plain(v) for v in value]
    return value
