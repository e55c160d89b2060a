"""The path of one growth over a run: which windows are joined, and since when. K classes, q coordinates a class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.class_growth import Growth
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.rate_filters import PathReading
from le_callback.elasticity.unexplained import Unexplained
from le_callback.values import NAN, Array


class GrowthPath:
    """Joins windows in which a mode stands out of the sampling noise.

    The reference is the first of ``persistence`` consecutive windows that can be joined: with a handful of degrees of
    freedom, single windows exceed any threshold by chance. Later on, windows that cannot
    be used are bridged; where ``persistence`` of them do stand out of the noise and yet cannot be joined to the last
    that was used, as after a change of sign, the path begins again.

    Args:
        persistence: windows, at least 3.
        unit: of the level, in that of the growth.

    Attributes:
        level: growth since the reference; NaN before it.
        reference: its time.
        time: of the last window that was used.
        noise, first_noise: sampling variance of the level there, and at the reference.
        lasting: standard deviation of the level by what no window averages, with its sign.
        coupling: ρ of the last two windows that were joined.
        past: what the path did that drift does not explain.
        windows: that were used.
        joined: whether the last window was.
    """

    def __init__(self, persistence: int, unit: float = 1.0) -> None:
        self.persistence, self.unit = persistence, unit
        self._clear()

    def _clear(self) -> None:
        self.level = self.reference = self.coupling = self.noise = self.first_noise = self.time = NAN
        self.lasting = 0.0
        self.past = Unexplained()
        self.windows = self.misses = 0
        self.joined = False
        self._last: ClassReading | None = None
        self._after: Array | None = None

    @property
    def known(self) -> bool:
        """Whether the path has a reference."""
        return self.windows >= self.persistence

    @property
    def last(self) -> ClassReading | None:
        """The window that the next one is joined to; None where the path has not begun."""
        return self._last

    def add(self, time: float, reading: ClassReading, visible: bool, growth: Growth | None) -> PathReading | None:
        """Take in a window; returns what it adds to the path, or None.

        Args:
            time: of the window.
            reading: of the window.
            visible: whether the mode stands out of the sampling noise.
            growth: from ``last`` to this window; needed where there is a last one and the mode is visible.
        """
        self.joined = False
        if not visible:
            if not self.known:
                self._clear()
            return None
        if self._last is None or growth is None or time <= self.time:  # a clock that was set back
            self._clear()
            self._begin(time, reading)
            return None
        if not math.isfinite(growth.value):
            self.misses += 1
            if not self.known or self.misses >= self.persistence:
                self._clear()
                self._begin(time, reading)
            return None
        return self._extend(time, reading, growth)

    def _extend(self, time: float, reading: ClassReading, growth: Growth) -> PathReading:
        scale = self.unit**2
        jump, start = 0.0, None
        if self._after is None:
            start = self.first_noise = float(growth.noise_before.sum()) * scale
        else:
            jump = float(np.square(np.sqrt(growth.noise_before) - np.sqrt(self._after)).sum()) * scale
        jump += growth.doubt * scale
        dt = time - self.time
        self.level += growth.value * self.unit
        self.noise = float(growth.noise_after.sum()) * scale
        lasting = growth.lasting_doubt * self.unit
        self.lasting += math.copysign(lasting, growth.value)
        self.time, self._last, self._after = time, reading, growth.noise_after
        self.coupling = growth.coupling
        self.past.add(growth.scatter, growth.echo, growth.off)
        self.windows, self.misses, self.joined = self.windows + 1, 0, True
        return PathReading(time, dt, self.level, self.noise, jump, start, lasting)

    def _begin(self, time: float, reading: ClassReading) -> None:
        self.level, self.reference, self.time, self.windows, self._last = 0.0, time, time, 1, reading

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers."""
        numbers = "level", "reference", "coupling", "noise", "first_noise", "time", "lasting"
        names = (*numbers, "windows", "misses", "joined")
        return {name: getattr(self, name) for name in names} | {
            "after": None if self._after is None else torch.from_numpy(self._after),
            "last": self._last and self._last.state(),
            "past": self.past.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        numbers = dict(state)
        after, last = numbers.pop("after"), numbers.pop("last")
        self.past.load_state_dict(numbers.pop("past"))
        for name, value in numbers.items():
            setattr(self, name, value)
        self._after = None if after is None else after.numpy()
        self._last = last and ClassReading.from_state(last)
