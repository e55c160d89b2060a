"""A forecast beside what came, as the page draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from le_callback.forecast.bands import Forecast
from le_callback.recorder import SourceTrajectory
from le_callback.report.fan_chart import worst_since
from le_callback.values import Array

_MOST_POINTS = 60


def outlook(forecast: Forecast, truth: SourceTrajectory, noisy: bool) -> dict[str, Any]:
    """The worst pair of a forecast: measured before and since, and the bands.

    It is the smallest gap over within-class deviation where that is known, else the smallest gap.

    Args:
        forecast: what was foreseen; of one without bands these are empty.
        truth: class means of the same source, up to now.
        noisy: whether they are of batches: their sampling noise is then taken off, as in the forecast.

    Returns:
        ``made_at`` and ``unit`` of all times; ``ratio``, whether it is over the deviation, and the ``level`` of
        separation; ``confidence``; ``why`` there is no forecast; ``measured``, lists of times and values; ``bands``,
        lists of times, lower ends, medians and upper ends. At most 60 points each.
    """
    times, gap, ratio = worst_since(truth, forecast, noisy)
    in_deviations = forecast.past_ratio is not None
    past, came, bands = forecast.past_worst_gap, gap, forecast.worst_gap
    if forecast.past_ratio is not None:
        past, came = forecast.past_ratio, ratio
    if forecast.ratio is not None:
        bands = forecast.ratio
    later = times > forecast.made_at
    measured = [np.concatenate([forecast.past_times, times[later]]), np.concatenate([past, came[later]])]
    return {
        "made_at": float(forecast.made_at),
        "unit": forecast.time_unit,
        "ratio": in_deviations,
        "level": float(forecast.separation.level),
        "confidence": float(forecast.confidence),
        "why": forecast.status,
        "measured": _thinned(measured),
        "bands": _thinned([forecast.times, bands.low, bands.median, bands.high]) if len(forecast.times) else [],
    }


def _thinned(curves: Sequence[Array]) -> list[list[float]]:
    """At most 60 evenly spaced points of curves, with the first and the last."""
    n = len(curves[0])
    kept = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(int)) if n else np.zeros(0, dtype=int)
    return [np.asarray(curve)[kept].astype(float).tolist() for curve in curves]
