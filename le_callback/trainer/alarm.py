"""What happens when an alert is raised: it is told once, and the training stops, fails, is saved or goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from le_callback.alerts.alert import Alert, describe, named
from le_callback.alerts.book import AlertBook, Ended
from le_callback.alerts.defaults import default_rules
from le_callback.errors import require
from le_callback.notices import Notices, warn
from le_callback.records import WindowRecord
from le_callback.report.publisher import Publisher

OnAlert = Literal["warn", "stop", "raise"] | Callable[[Alert], None]


class SeparabilityWarning(UserWarning):
    """Classes are becoming less separable, or cannot be told apart any more."""


class SeparabilityError(RuntimeError):
    """Raised with ``on_alert="raise"``; ``alert`` is the reason."""

    def __init__(self, alert: Alert, text: str) -> None:
        super().__init__(text)
        self.alert = alert


class Actions:
    """What follows an alert, besides that it is told.

    Args:
        on_alert: ``warn``, ``stop`` (the Trainer stops after this step), ``raise`` (``SeparabilityError``) or a
            callable of the alert.
        checkpoint: folder of the checkpoints that are saved on an alert; ``None`` for none.
        notify: addresses of webhooks and chat services, as the library Apprise understands them.

    Raises:
        ValueError: if ``on_alert`` is none of these, or ``notify`` is given and Apprise is not installed.
    """

    def __init__(self, on_alert: OnAlert, checkpoint: str | Path | None, notify: Sequence[str]) -> None:
        known = callable(on_alert) or on_alert in ("warn", "stop", "raise")
        require(known, "on_alert", on_alert, "one of 'warn', 'stop', 'raise', or a callable of the alert")
        self.on_alert = on_alert
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.send = _messenger(notify) if notify else _send_nothing


class Alarm:
    """Holds the alert book of a run and acts on what is new in it.

    Args:
        rules: True for the default rules, False for none, or rules.
        actions: what follows an alert.
        publisher: where it is written.
        notices: where failing actions are told.
    """

    def __init__(
        self, rules: bool | Sequence[Callable[..., Any]], actions: Actions, publisher: Publisher, notices: Notices
    ) -> None:
        self.book = AlertBook(default_rules() if rules is True else list(rules or ()))
        self.raised: list[Alert] = []
        self._actions, self._publisher, self._notices = actions, publisher, notices

    def add(self, record: WindowRecord) -> list[Alert]:
        """The alerts that are new with this record."""
        new: list[Alert] = []
        with self._notices.surviving("an alert rule gave something else than an alert"):
            new = self.book.add(record)
        for name, error in self.book.failures.items():
            self._notices.tell(f"the alert rule {name} failed; it is asked again in every window", error)
        self.raised += new
        return new

    def standing(self) -> dict[str, bool]:
        """Whether the alert of each rule stands."""
        return {name: name in self.book.standing for name in self.book.names}

    def tell_ended(self, trainer: Trainer, class_names: Sequence[str]) -> None:
        """Tell what is over: in the log and to the loggers, once, and without any other action."""
        for ended in self.book.ended:
            text = ended_in_words(ended, class_names)
            rank_zero_info(f"LECallback: {text}")
            if trainer.is_global_zero:
                with self._notices.surviving("the end of an alert could not be written to a logger"):
                    self._publisher.text(trainer, "alerts", text, ended.step)

    def act(self, trainer: Trainer, alerts: Sequence[Alert], class_names: Sequence[str]) -> None:
        """Tell, save and notify; stops or raises at last. An action that fails is told once.

        Raises:
            SeparabilityError: with ``on_alert="raise"``.
        """
        actions = self._actions
        texts = [describe(alert, class_names) for alert in alerts]
        for alert, text in zip(alerts, texts, strict=True):
            self._tell(trainer, alert, text)
            with self._notices.surviving("the checkpoint of an alert could not be saved"):
                if actions.checkpoint is not None:
                    trainer.save_checkpoint(actions.checkpoint / f"{alert.rule}-step={alert.step}.ckpt")
            with self._notices.surviving("the action `on_alert` failed"):
                if callable(actions.on_alert):
                    actions.on_alert(alert)
        if alerts and actions.on_alert == "stop":
            trainer.should_stop = True
        if alerts and actions.on_alert == "raise":
            raise SeparabilityError(alerts[0], texts[0])

    def _tell(self, trainer: Trainer, alert: Alert, text: str) -> None:
        warn(text, SeparabilityWarning)
        if trainer.is_global_zero:
            with self._notices.surviving("an alert could not be written to a logger"):
                self._publisher.text(trainer, "alerts", text, alert.step)
            with self._notices.surviving("an alert could not be sent"):
                self._actions.send(f"{self._publisher.prefix}{alert.rule}", text)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return self.book.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken: an alert that stood is not raised again."""
        if state:
            self.book.load_state_dict(state)


def ended_in_words(ended: Ended, class_names: Sequence[str]) -> str:
    """What is over, with its classes by name."""
    where = named(ended.classes, class_names)
    about = f" ({where})" if where else ""
    return f"{ended.rule} at step {ended.since:,}{about} is over at step {ended.step:,}."


def _send_nothing(title: str, text: str) -> None:
    """Nobody asked to be notified."""


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
