"""The callback without any code: ``LE_CALLBACK=1 python train.py``.

Lightning asks the entry points of the group ``lightning.pytorch.callbacks_factory``, and ``pytorch_lightning`` those of
``pytorch_lightning.callbacks_factory``, for callbacks whenever a Trainer is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from le_callback.callback import LECallback
from le_callback.capture.evidence import NoClassificationError
from le_callback.notices import inform
from le_callback.trainer.namespaces import AnyCallback
from le_callback.trainer.session import Idle

VARIABLE = "LE_CALLBACK"
_ON, _OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def callbacks() -> list[AnyCallback]:
    """A callback with its default arguments if ``LE_CALLBACK`` is 1, else none.

    Raises:
        ValueError: if the variable is neither 1 nor 0.
    """
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value not in _ON + _OFF:
        raise ValueError(f"Expected the environment variable `{VARIABLE}` to be 1 or 0, but got {value!r}.")
    return [AddedCallback()] if value in _ON else []


class AddedCallback(LECallback):
    """The callback for a script that knows nothing of it: it steps aside where it cannot work.

    It leaves the Trainer to an ``LECallback`` that the script passes itself, and tells what is wrong where
    ``LECallback`` would raise.
    """

    steps_aside = True

    # Its state goes a way of its own. As a callback with state Lightning would refuse it twice in one Trainer, and
    # that happens to scripts which pass one list of callbacks to several Trainers: Lightning appends to that list.
    state_dict = AnyCallback.state_dict
    _KEY = "le_callback"

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing to check: it steps aside instead."""

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._acts(trainer):
            super().on_train_start(trainer, pl_module)

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._acts(trainer) and (state := super().state_dict()):
            checkpoint[self._KEY] = state

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._acts(trainer) and self._KEY in checkpoint:
            self.load_state_dict(checkpoint[self._KEY])

    def _acts(self, trainer: Trainer) -> bool:
        present = [c for c in trainer.callbacks if isinstance(c, LECallback)]  # type: ignore[attr-defined]
        return present[-1] is self and all(c.steps_aside for c in present)

    def step_aside(self, trainer: Trainer, reason: str) -> None:
        """Tell why, and follow this training no more; never raises."""
        session, self._session = self._session, Idle({})
        with suppress(Exception):
            session.withdraw(trainer)
        session.notices.tell("added by the environment, but cannot work here", reason)

    def stand_by(self, trainer: Trainer, reason: str) -> None:
        """There is nothing to follow in this training: that is no fault, and one line of information."""
        session, self._session = self._session, Idle({})
        with suppress(Exception):
            session.withdraw(trainer)
            inform(f"nothing to follow: {reason}")


def _guarded(hook: Callable[..., None]) -> Callable[..., None]:
    """The hook, after whose failure the callback steps aside and the training goes on."""

    @wraps(hook)
    def guarded(self: AddedCallback, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, trainer, *args, **kwargs)
        except NoClassificationError as error:
            self.stand_by(trainer, str(error))
        except Exception as error:
            self.step_aside(trainer, str(error).rstrip(".") or type(error).__name__)

    return guarded


def hooks_of(callback: type[LECallback]) -> list[str]:
    """Names of the hooks that a callback has and Lightning calls with its Trainer.

    >>> hooks_of(LECallback)[:2]
    ['on_after_backward', 'on_before_backward']
    """
    own = {name for kind in callback.__mro__ if issubclass(kind, LECallback) for name in vars(kind)}
    return sorted(n for n in own if n.startswith("on_") or n in ("setup", "teardown"))


for _name in hooks_of(AddedCallback):
    setattr(AddedCallback, _name, _guarded(getattr(AddedCallback, _name)))
