"""How long the callback itself takes, as seen from the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from le_callback.summary import OwnCost


class Clock:
    """Adds up the time of training steps and of the callback within them."""

    def __init__(self) -> None:
        self._steps = 0
        self._update = self._window = self._training = 0.0
        self._step_began: float | None = None

    def start_step(self) -> None:
        """A training step begins."""
        self._step_began = time.perf_counter()

    def end_step(self) -> None:
        """A training step has ended."""
        if self._step_began is not None:
            self._training += time.perf_counter() - self._step_began
            self._steps += 1

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Times the update of one step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._update += time.perf_counter() - began

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Times the evaluation of one window."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._window += time.perf_counter() - began

    def cost(self) -> OwnCost:
        """The totals so far."""
        return OwnCost(self._steps, self._update, self._window, self._training)
