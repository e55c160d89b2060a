"""A, B and G: the growth of paths since a reference, with an interval. H grid points of ``rate_filters``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scipy.special import ndtri

from le_callback.elasticity.growth_path import GrowthPath
from le_callback.elasticity.rate_filters import RateFilters
from le_callback.values import NAN, Array


class Cumulative:
    """Sum of the growths of some paths since the first window in which all of them were read.

    Its variance is that of the first and the last reading, and of what the paths wandered in between: the growth that
    is read holds that walk, the integral of the rate does not. How far it wanders is itself not known: that makes the
    tails heavier than normal ones, as the fourth cumulant says.

    Attributes:
        reference: time of that window; NaN before it.
        value: the sum; NaN where a path was not read in the last window.
        variance, fourth: second and fourth cumulant of the value, were the paths independent.
        product: of the standard deviations of two paths, with the signs of their weights; 0 for one.
        noise: sampling variance of the last reading alone.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.reference, self._sum = NAN, 0.0
        self.value = self.variance = self.fourth = self.noise = NAN
        self.product = 0.0
        self._at: dict[int, tuple[float, float]] = {}  # level and lasting doubt of a path
        self._lasting: dict[int, float] = {}  # of a path, with its sign: growth that reverses takes it back
        self._since: dict[
            int, tuple[float, float, Array | None]
        ] = {}  # of a path: reference, noise and walk at the start

    def add(
        self, time: float, paths: Sequence[GrowthPath], weights: Sequence[float], filters: RateFilters, first: int
    ) -> bool:
        """Take in a window; returns whether the sum began anew.

        Args:
            time: of the window.
            paths: all there are.
            weights: of their growth since the last window; a path of weight 0 is not needed.
            filters: of the paths.
            first: channel of the first path.
        """
        needed = [i for i, w in enumerate(weights) if w != 0]
        self.value = self.variance = self.fourth = self.noise = NAN
        if any(i in self._since and paths[i].reference != self._since[i][0] for i in needed):
            self._clear()
        if any(paths[i].time != time for i in needed):
            return False
        began = not math.isfinite(self.reference) or any(i not in self._at for i in needed)
        if began:
            self._clear()
            self.reference = time
            for i in needed:
                path = paths[i]
                walk = None if path.windows == 1 else filters.wandered[first + i].copy()
                self._since[i] = path.reference, path.noise, walk
        else:
            self._sum += sum(weights[i] * (paths[i].level - self._at[i][0]) for i in needed)
            for i in needed:
                doubt = weights[i] * (paths[i].lasting - self._at[i][1])
                self._lasting[i] = self._lasting.get(i, 0.0) + doubt
        self._at = {i: (paths[i].level, paths[i].lasting) for i in needed}
        self.variance = sum(x**2 for x in self._lasting.values())
        self.value, self.fourth, self.noise = self._sum, 0.0, 0.0
        parts = list[float]()
        for i in needed:
            path = paths[i]
            if path.windows > 1 and not began:
                _, noise, walk = self._since[i]
                start = path.first_noise if walk is None else noise
                second, fourth = filters.growth_cumulants(first + i, start + path.noise, walk)
                self.variance += weights[i] ** 2 * second
                parts.append(math.copysign(abs(weights[i]) * math.sqrt(max(second, 0.0)), weights[i]))
                self.fourth += weights[i] ** 4 * fourth
                self.noise += weights[i] ** 2 * path.noise
        self.product = parts[0] * parts[1] if len(parts) == 2 else 0.0
        return began

    def half_width(self, confidence: float, correlation: float = 0.0) -> float:
        """Of an interval of this coverage, by Cornish's and Fisher's expansion, to the fourth cumulant.

        Args:
            confidence: its coverage.
            correlation: of the errors of two paths.
        """
        z = float(ndtri(0.5 + confidence / 2))
        variance = self.variance + 2 * correlation * self.product
        if not variance > 0:
            return z * variance
        return math.sqrt(variance) * (z + (z**3 - 3 * z) * self.fourth / (24 * variance**2))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers."""
        since = [
            [i, reference, noise, None if walk is None else torch.from_numpy(walk)]
            for i, (reference, noise, walk) in self._since.items()
        ]
        return {
            "reference": self.reference,
            "sum": self._sum,
            "lasting": dict(self._lasting),
            "at": dict(self._at),
            "since": since,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._clear()
        self.reference, self._sum, self._at = state["reference"], state["sum"], dict(state["at"])
        self._lasting = dict(state["lasting"])
        self._since = {i: (r, n, None if w is None else w.numpy().copy()) for i, r, n, w in state["since"]}
