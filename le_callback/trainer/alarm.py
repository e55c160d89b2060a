"""What happens when an alert is raised: it is told once, and the training stops, fails, is saved or goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_utilities.core.rank_zero import rank_zero_warn

from le_callback.alerts.alert import Alert, describe
from le_callback.alerts.book import AlertBook
from le_callback.alerts.defaults import default_rules
from le_callback.alerts.rule import rule_name
from le_callback.errors import require
from le_callback.notices import Notices
from le_callback.records import WindowRecord
from le_callback.report.dashboards import text_writers

OnAlert = Literal["warn", "stop", "raise"] | Callable[[Alert], None]


class SeparabilityWarning(UserWarning):
    """Classes are becoming less separable, or cannot be told apart any more."""


class SeparabilityError(RuntimeError):
    """Raised with ``on_alert="raise"``; ``alert`` is the reason."""

    def __init__(self, alert: Alert, text: str) -> None:
        super().__init__(text)
        self.alert = alert


class Alarm:
    """Holds the alert book of a run and acts on what is new in it.

    Args:
        rules: True for the default rules, False for none, or rules.
        on_alert: ``warn``, ``stop`` (the Trainer stops after this step), ``raise`` (``SeparabilityError``) or a
            callable of the alert.
        checkpoint: folder of the checkpoints that are saved on an alert; ``None`` for none.
        notify: addresses of webhooks and chat services, as the library Apprise understands them.
        notices: where failing actions are told.

    Raises:
        ValueError: if ``on_alert`` is none of these, or ``notify`` is given and Apprise is not installed.
    """

    def __init__(
        self,
        rules: bool | Sequence[Callable[..., Any]],
        on_alert: OnAlert,
        checkpoint: str | Path | None,
        notify: Sequence[str],
        notices: Notices,
    ) -> None:
        known = callable(on_alert) or on_alert in ("warn", "stop", "raise")
        require(known, "on_alert", on_alert, "one of 'warn', 'stop', 'raise', or a callable of the alert")
        self._on_alert = on_alert
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        self._notices = notices
        self._messenger = _messenger(notify) if notify else None
        self.book = AlertBook(default_rules() if rules is True else list(rules or ()))
        self.raised: list[Alert] = []

    def add(self, record: WindowRecord) -> list[Alert]:
        """The alerts that are new with this record."""
        new = self.book.add(record)
        for name, error in self.book.failures.items():
            self._notices.tell(f"the alert rule {name} failed and is left out", error)
        self.raised += new
        return new

    def metrics(self) -> dict[str, float]:
        """1 for each rule whose alert stands, else 0, by tag ``alerts/<rule>``."""
        return {f"alerts/{rule_name(r)}": float(rule_name(r) in self.book.standing) for r in self.book.rules}

    def act(self, trainer: Any, alerts: Sequence[Alert], class_names: Sequence[str], prefix: str = "") -> None:
        """Tell, save and notify; stops or raises at last. An action that fails is told once.

        Raises:
            SeparabilityError: with ``on_alert="raise"``.
        """
        texts = [describe(alert, class_names) for alert in alerts]
        for alert, text in zip(alerts, texts, strict=True):
            rank_zero_warn(f"LECallback: {text}", category=SeparabilityWarning)
            with self._notices.surviving("an alert could not be written to a logger"):
                if trainer.is_global_zero:
                    for writer in text_writers(trainer.loggers):
                        writer.add_text(f"{prefix}alerts", text, alert.step)
            with self._notices.surviving("an alert could not be sent"):
                if trainer.is_global_zero and self._messenger is not None:
                    self._messenger(f"{prefix}{alert.rule}", text)
            with self._notices.surviving("the checkpoint of an alert could not be saved"):
                if self._checkpoint is not None:
                    trainer.save_checkpoint(self._checkpoint / f"{alert.rule}-step={alert.step}.ckpt")
            if callable(self._on_alert):
                with self._notices.surviving("the action `on_alert` failed"):
                    self._on_alert(alert)
        if alerts and self._on_alert == "stop":
            trainer.should_stop = True
        if alerts and self._on_alert == "raise":
            raise SeparabilityError(alerts[0], texts[0])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return self.book.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken: an alert that stood is not raised again."""
        if state:
            self.book.load_state_dict(state)


def _messenger(addresses: Sequence[str]) -> Callable[[str, str], None]:
    """Sends a title and a text from a thread of its own, so that a slow service does not hold up the training."""
    try:
        from apprise import Apprise
    except ImportError:
        raise ValueError(
            f"Expected `notify={list(addresses)!r}` together with the package Apprise, which is not installed."
            " Install it with `pip install le-callback[notify]`."
        ) from None
    service = Apprise()
    for address in addresses:
        require(bool(service.add(address)), "notify", address, "an address that Apprise understands")

    def send(title: str, text: str) -> None:
        threading.Thread(target=lambda: service.notify(body=text, title=title), daemon=True).start()

    return send
