"""Collects the class means of a run, window by window, within a budget.

K classes, p feature dimensions, T windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.moments.statistics import ClassStatistics
from le_callback.values import BoundedSeries, Source

BUDGET_BYTES = 8 * 2**20  # of all sources together
MIN_WINDOWS = 32  # sources of which fewer windows fit the budget are left out, the widest first

_Window = tuple[Tensor, Tensor, Tensor]  # means (K, p), noise (K,), counts (K,)


@dataclass(frozen=True)
class SourceTrajectory:
    """Class means of one source over time; NaN where a class was not seen in a window.

    Attributes:
        times: ``(T,)``.
        means: ``(T, K, p)``.
        mean_noise: ``(T, K)`` within-class variance over samples: the expected squared error of each mean. A probe's
            means have no such error, as its samples are always the same; then it is their spread alone.
        counts: ``(T, K)`` samples.
    """

    times: NDArray[np.float64]
    means: NDArray[np.float32]
    mean_noise: NDArray[np.float32]
    counts: NDArray[np.float32]


@dataclass
class TrajectoryRecorder:
    """Collects windows; all sources together stay within ``budget`` bytes whatever the length of the run."""

    budget: int = BUDGET_BYTES
    _series: dict[Source, BoundedSeries[_Window]] = field(default_factory=dict)
    _sizes: dict[Source, int] = field(default_factory=dict)  # bytes of a window

    def add(self, source: Source, time: float, statistics: ClassStatistics) -> None:
        """Keep the class moments of a window, if its source fits the budget."""
        if self._sizes.get(source) != (size := _bytes(statistics.mean)):
            self._sizes[source] = size
            self._share()
        if (series := self._series.get(source)) is None:
            return
        spread = statistics.variance / statistics.weight if source.probe else statistics.mean_noise
        mean, noise, weight = (x.detach().cpu().float() for x in (statistics.mean, spread, statistics.weight))
        series.add(time, (mean, noise, weight))

    def _share(self) -> None:
        """As many windows of each source as fit the budget, the same of all."""
        total = 0
        capacity: dict[Source, int] = {}
        for one, taken in sorted(self._sizes.items(), key=lambda item: (item[1], str(item[0]))):
            total += taken
            if self.budget // total >= MIN_WINDOWS:
                capacity = dict.fromkeys((*capacity, one), self.budget // total)
        kept: dict[Source, BoundedSeries[_Window]] = {one: self._series.get(one) or BoundedSeries() for one in capacity}
        for one, series in kept.items():
            series.shrink(capacity[one])
        self._series = kept

    def sources(self) -> dict[str, SourceTrajectory]:
        """What was collected so far, by the name of the source."""
        found = {}
        for source, series in self._series.items():
            means, noise, counts = (torch.stack(column).numpy() for column in zip(*series.values, strict=True))
            found[str(source)] = SourceTrajectory(np.array(series.times), means, noise, counts)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            str(source): {
                "stride": series.stride,
                "added": series.added,
                "times": list(series.times),
                "windows": [torch.stack(column) for column in zip(*series.values, strict=True)],
            }
            for source, series in self._series.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._series = {
            Source.parse(name): BoundedSeries(
                stride=saved["stride"],
                added=saved["added"],
                times=list(saved["times"]),
                values=list(zip(*(column.unbind() for column in saved["windows"]), strict=True)),
            )
            for name, saved in state.items()
        }
        self._sizes = {source: _bytes(series.values[0][0]) for source, series in self._series.items() if series.values}
        self._share()


def _bytes(means: Tensor) -> int:
    """Of a window with means (K, p)."""
    return 4 * (means.numel() + 2 * len(means))
