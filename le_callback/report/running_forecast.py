"""The forecast of a run while it goes on: renewed now and then, and held against what came since."""

from __future__ import annotations

import math

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
        """What the latest forecast says of the worst pair; empty where there is none."""
        found = self.latest
        if found is None:
            return ""
        made = f"made at {found.time_unit} {clock(self._made_at)}"
        return f"{made}: {f'none, {found.status}' if found.status else _outlook(found)}"


def _outlook(found: Forecast) -> str:
    """When the gap of the worst pair is as large as its deviation, in words."""
    separation, unit = found.separation, found.time_unit
    level = "one deviation" if separation.level == 1 else f"{separation.level:g} deviations"
    goal = f"a gap of {level}"
    if math.isnan(separation.chance):
        return f"whether the worst pair reaches {goal} is {separation.status}"
    if separation.median <= found.made_at:
        return f"the worst pair reached {goal} at {unit} {clock(separation.median)}"
    end = clock(float(found.times[-1]))
    if math.isinf(separation.median):
        share = f"{separation.chance:.0%} of the simulated futures do before {unit} {end}"
        return f"the worst pair is not expected to reach {goal}: {share}"
    high = f"beyond {end}" if math.isinf(separation.high) else clock(separation.high)
    between = f"{found.confidence:.0%} of the simulated futures: {clock(separation.low)} to {high}"
    return f"the worst pair is expected to reach {goal} at {unit} {clock(separation.median)} ({between})"


def primary_source(trajectory: Trajectory) -> str | None:
    """The logits of the probe, or of the batches, or None where neither is recorded.

    >>> primary_source(Trajectory({}, "step", ("cat", "dog"))) is None
    True
    """
    preferred = (str(Source("logits", probe=True)), str(Source("logits")))
    return next((name for name in preferred if name in trajectory.sources), None)
