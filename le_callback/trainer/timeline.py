"""Time as training sees it: optimizer steps, cumulative learning rate, or epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

TimeAxis = Literal["steps", "lr", "epochs"]

UNITS: Mapping[TimeAxis, str] = {"steps": "step", "lr": "learning rate", "epochs": "epoch"}


@dataclass
class Timeline:
    """The time t of a training, in the unit of its axis.

    On the axis ``lr`` an optimizer step with learning rate η lasts η, as in gradient flow: a schedule that decays is
    then not read as lost elasticity.

    >>> timeline = Timeline("lr")
    >>> for step, rate in enumerate((0.5, 0.25), start=1):
    ...     timeline.advance(step, rate, steps_per_epoch=10)
    >>> timeline.now
    0.75
    """

    axis: TimeAxis
    now: float = 0.0
    step: int = 0

    @property
    def unit(self) -> str:
        """The unit, in the singular."""
        return UNITS[self.axis]

    def advance(self, step: int, learning_rate: float, steps_per_epoch: float) -> None:
        """Optimizer step number ``step`` was taken; does nothing if it was booked before."""
        steps = step - self.step
        if steps <= 0:
            return
        self.step = step
        if self.axis == "steps":
            self.now += steps
        else:
            self.now += steps * (learning_rate if self.axis == "lr" else 1 / max(steps_per_epoch, 1))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"axis": self.axis, "now": self.now, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, if the axis is the same."""
        if state["axis"] == self.axis:
            self.now, self.step = state["now"], state["step"]
