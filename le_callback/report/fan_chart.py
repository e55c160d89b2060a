"""Fan chart of a forecast beside the truth as it arrives. Imports matplotlib when it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from le_callback.forecast.bands import Bands, Forecast, clock
from le_callback.forecast.quantities import frame_at, pair_deviation, quantities
from le_callback.recorder import SourceTrajectory
from le_callback.values import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fan_chart(
    forecast: Forecast, truth: SourceTrajectory | None = None, title: str | None = None, noisy: bool = False
) -> Figure:
    """Worst pair over time: gap, and gap over within-class deviation where that is known, with the separation time.

    Args:
        forecast: what was foreseen; one without bands shows the past and why.
        truth: class means of the same source; what is later than the forecast is drawn as what came.
        title: what the figure shows.
        noisy: whether ``truth`` is of batches: their sampling noise is then taken off, as in the forecast.

    Returns:
        A figure without a window; logarithmic axes but for the time.

    Raises:
        ValueError: a ``truth`` of another number of classes.
    """
    from matplotlib.figure import Figure

    later = None if truth is None else worst_since(truth, forecast, noisy)
    rows = 1 if forecast.past_ratio is None else 2
    figure = Figure(figsize=(4.6, 0.8 + 2.3 * rows), dpi=130, layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    _panel(panels[0], forecast, forecast.past_worst_gap, forecast.worst_gap, None if later is None else later[:2])
    panels[0].set_ylabel("smallest gap of two\nclass means, ‖X̄ₖ − X̄ₗ‖", fontsize=8)
    if forecast.past_ratio is not None:
        _panel(panels[1], forecast, forecast.past_ratio, forecast.ratio, None if later is None else later[::2])
        panels[1].set_ylabel("smallest gap over\nwithin-class deviation", fontsize=8)
        _mark_separation(panels[1], forecast)
    panels[-1].set_xlabel(f"time, {forecast.time_unit}s", fontsize=8)
    for axes in panels:
        axes.legend(fontsize=7, loc="best", framealpha=0.6, borderpad=0.3, labelspacing=0.25)
        axes.tick_params(which="both", labelsize=7)
    when = f"forecast made at {forecast.time_unit} {clock(forecast.made_at)}, {forecast.model}-model"
    told = forecast.status or f"separation: {forecast.separation.status}"
    figure.suptitle(f"{title or when}\n{told}", fontsize=8, wrap=True)
    return figure


def _panel(axes: Axes, forecast: Forecast, past: Array, bands: Bands | None, later: tuple[Array, Array] | None) -> None:
    axes.plot(forecast.past_times, past, color="black", linewidth=1.2, label="measured")
    if bands is not None and len(forecast.times):
        name = f"{forecast.confidence:.0%} of the simulated futures"
        axes.fill_between(forecast.times, bands.low, bands.high, color="tab:blue", alpha=0.2, linewidth=0, label=name)
        axes.plot(forecast.times, bands.median, color="tab:blue", linewidth=1.5, label="their median")
        axes.axvline(forecast.made_at, color="0.5", linewidth=0.8, linestyle=":")
    if later is not None and len(later[0]):
        axes.plot(*later, color="tab:orange", linewidth=1.5, label="what came")
    axes.set_yscale("log")
    axes.grid(alpha=0.25)


def _mark_separation(axes: Axes, forecast: Forecast) -> None:
    separation = forecast.separation
    axes.axhline(separation.level, color="tab:green", linewidth=1, linestyle="--", label=f"level {separation.level:g}")
    if not np.isfinite(separation.median):
        return
    end = max(float(forecast.times[-1]), separation.median) if len(forecast.times) else separation.median
    low, high = separation.low, min(separation.high, end)
    axes.plot([low, high], [separation.level] * 2, color="tab:green", linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot(separation.median, separation.level, "o", color="tab:green", label="separation, with interval")


def worst_since(truth: SourceTrajectory, forecast: Forecast, noisy: bool = False) -> tuple[Array, Array, Array]:
    """Times, worst gap and worst ratio of the pairs of the forecast, since it was made.

    Raises:
        ValueError: a ``truth`` of another number of classes.
    """
    num_classes, pairs = len(forecast.along.low.T), forecast.pairs
    if truth.means.shape[1] != num_classes:
        raise ValueError(
            f"Expected argument `truth` to hold {num_classes} classes, as the forecast, but got {truth.means.shape[1]}."
        )
    part = (truth.times >= forecast.made_at) & np.isfinite(truth.means).all((1, 2))
    if not part.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    means = truth.means[part].astype(np.float64)
    spread = truth.mean_noise[part].astype(np.float64) * truth.counts[part]
    noise = truth.mean_noise[part].astype(np.float64) if noisy else None
    frame = frame_at(means[0], np.ones(len(pairs)), pairs)
    curves = quantities(means, frame, deviation=pair_deviation(spread, pairs), noise=noise)
    return truth.times[part], np.exp(curves[:, -2]), np.exp(curves[:, -1])
