"""How long the callback itself takes, as seen from the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from le_callback.report.table import OwnCost


class Clock:
    """Adds up the time of training steps and of the callback within them."""

    def __init__(self) -> None:
        self._steps = 0
        self._training = 0.0
        self._seconds = dict.fromkeys(("update", "window", "figures", "probe"), 0.0)
        self._step_began: float | None = None

    def start_step(self) -> None:
        """A training step begins."""
        self._step_began = time.perf_counter()

    def end_step(self, update: float) -> None:
        """A training step has ended, in which the update took so many seconds."""
        self._seconds["update"] += update
        if self._step_began is not None:
            self._training += time.perf_counter() - self._step_began
            self._steps += 1
            self._step_began = None

    def evaluating(self) -> AbstractContextManager[None]:
        """Times the evaluation and logging of one window."""
        return self._timing("window")

    def drawing(self) -> AbstractContextManager[None]:
        """Times the figures of one window."""
        return self._timing("figures")

    def probing(self) -> AbstractContextManager[None]:
        """Times one reading of the probe."""
        return self._timing("probe")

    @contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self._seconds[part] += seconds
            if self._step_began is None:  # before, between or after the steps, as at the end of a run
                self._training += seconds

    def cost(self) -> OwnCost:
        """The totals so far."""
        own = self._seconds
        return OwnCost(self._steps, own["update"], own["window"], own["figures"], own["probe"], self._training)
