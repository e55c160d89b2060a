"""The forecast of a run while it goes on: renewed now and then, and held against what came since."""

from __future__ import annotations

from le_callback.forecast.bands import Forecast, clock
from le_callback.forecast.inputs import MAX_CLASSES
from le_callback.similarity import IModel
from le_callback.trajectory import Trajectory
from le_callback.values import Source

FIRST_WINDOW = 16
HORIZON = 4.0  # times the present: the window at which the next figures are due


class RunningForecast:
    """Keeps the latest forecast, and the one before that the truth has overtaken.

    The primary model is continued: the I-model of the logits, on the probe where there is one. Everything is computed
    on the host from the recorded class means, with a random generator of its own.
    """

    def __init__(self) -> None:
        self.latest: Forecast | None = None
        self.previous: Forecast | None = None
        self._made_at = 0.0  # known also where no class means could be used

    def renew(self, trajectory: Trajectory, window: int) -> bool:
        """Forecast from the run so far up to four times its length; False where it is too early or too wide a problem.

        Nothing is forecast before window 16, for more than 64 classes, or where the logits are not recorded.
        """
        source = primary_source(trajectory)
        if window < FIRST_WINDOW or source is None or len(trajectory.class_names) > MAX_CLASSES:
            return False
        now = float(trajectory.sources[source].times[-1])
        if now <= 0:
            return False
        found = trajectory.forecast(source, IModel(), until=HORIZON * now)
        self.previous, self.latest, self._made_at = self.latest, found, now
        return True

    def sentence(self) -> str:
        """What the latest forecast says of separation; empty where there is none."""
        if self.latest is None:
            return ""
        made = f"made at {self.latest.time_unit} {clock(self._made_at)}"
        if self.latest.status:
            return f"{made}: none, {self.latest.status}"
        level = self.latest.separation.level
        return f"{made}: worst pair's gap reaches {level:g} × the deviation: {self.latest.separation.status}"


def primary_source(trajectory: Trajectory) -> str | None:
    """The logits of the probe, or of the batches, or None where neither is recorded.

    >>> primary_source(Trajectory({}, "step", ("cat", "dog"))) is None
    True
    """
    preferred = (str(Source("logits", probe=True)), str(Source("logits")))
    return next((name for name in preferred if name in trajectory.sources), None)
