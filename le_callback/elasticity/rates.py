"""α, β, γ of one window, from a few scalars a time: the core that offline and live estimates share.

Live use, O(window) a log step whatever the length of the run: keep the last m times of a ``ModeSeries`` for each mode
(three scalars a time) or of ``Projections``, make the channels of the window, call ``estimate_rates``; once every m − 1
log steps, when a window shares no increment with the last one, call ``extend_history``.

Legend: m times of a window, C channels, F = 3 functionals (α, β, γ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from le_callback.elasticity.amplitudes import ModeSeries
from le_callback.elasticity.growth import growth_basis, growth_channels
from le_callback.elasticity.increments import (
    Channels,
    ProcessHistory,
    fit,
    mixture_interval,
    no_history,
    process_grid,
    window_likelihood,
)
from le_callback.errors import require
from le_callback.similarity import ModeWeights
from le_callback.values import Array

_MARGIN = 7.0  # of log q: windows to come may hold a thousand times more or less process noise


@dataclass(frozen=True)
class Rates:
    """α, β, γ of one window, per unit of time.

    Attributes:
        estimate: ``(3,)``, with leading axes: of many windows.
        error: standard errors ``(3,)``.
        half: half widths of the intervals ``(3,)``.

    >>> Rates(np.array([0.2, 0.0, 0.2]), np.full(3, 0.01), np.full(3, 0.02)).half
    array([0.02, 0.02, 0.02])
    """

    estimate: Array
    error: Array
    half: Array


def mode_channels(times: Array, modes: Sequence[ModeSeries], at: float, order: int) -> Channels:
    """Channels of one window of one or two modes, each with coefficients of its own.

    The process noise of the log amplitude is q/amplitude².

    Args:
        times: ``(m,)``.
        modes: identifiable at all of them.
        at: time at which the first coefficient of a mode is its growth rate.
        order: functions of time a mode, see ``growth.rate_basis``.

    >>> t = np.arange(100.0, 104.0)
    >>> mode = ModeSeries(0.1 * t, 0 * t, 1 + 0 * t, t > 0)
    >>> mode_channels(t, [mode, mode], 103.0, 2).design.shape
    (2, 3, 4)
    """
    basis = growth_basis(times, at, order)
    parts = []
    for s in modes:
        process = np.diff(times) / np.sqrt(s.scale[:-1] * s.scale[1:])
        parts.append(growth_channels(s.log_amplitude, s.noise, process, basis))
    design = np.zeros((len(parts), len(times) - 1, order * len(parts)))
    for c, part in enumerate(parts):
        design[c, :, order * c : order * (c + 1)] = part.design[0]
    names = ("response", "process", "noise")
    response, process, noise = (np.concatenate([getattr(x, n) for x in parts]) for n in names)
    return Channels(response, design, process, noise)


def mode_functionals(weights: ModeWeights, order: int) -> Array:
    """α, β, γ ``(3, 2·order)`` of the coefficients of ``mode_channels`` with the common mode first.

    >>> from le_callback.similarity import IModel
    >>> mode_functionals(IModel().mode_weights(3), 1)
    array([[ 1.,  2.],
           [ 1., -1.],
           [ 0.,  3.]])
    """
    functionals = np.zeros((3, 2 * order))
    functionals[:2, 0] = weights.common_in_A, weights.common_in_B
    functionals[:2, order] = weights.difference_in_A, weights.difference_in_B
    functionals[2] = functionals[0] - functionals[1]
    return functionals


def regression_functionals(order: int) -> Array:
    """α, β, γ ``(3, 2·order)`` of the coefficients of ``regression.regression_channels``.

    >>> regression_functionals(1)
    array([[ 1.,  0.],
           [ 0.,  1.],
           [ 1., -1.]])
    """
    functionals = np.zeros((3, 2 * order))
    functionals[0, 0] = functionals[1, order] = functionals[2, 0] = 1.0
    functionals[2, order] = -1.0
    return functionals


def estimate_rates(
    channels: Channels, functionals: Array, history: ProcessHistory | None = None, confidence: float = 0.95
) -> Rates:
    """α, β, γ of one window, or with leading axes of many.

    Args:
        channels: of the window.
        functionals: of the coefficients ``(3, c)``, see ``mode_functionals`` and ``regression_functionals``.
        history: what other windows say of the process noise.
        confidence: of the intervals.

    >>> t = np.arange(100.0, 110.0)
    >>> mode = ModeSeries(0.1 * t, 0 * t, 1 + 0 * t, t > 0)
    >>> from le_callback.similarity import IModel
    >>> found = estimate_rates(mode_channels(t, [mode, mode], 109.0, 2), mode_functionals(IModel().mode_weights(2), 2))
    >>> found.estimate.round(6) + 0.0
    array([0.2, 0. , 0.2])
    """
    post = fit(channels, no_history(channels) if history is None else history)
    return Rates(*mixture_interval(post, functionals, confidence))


def extend_history(history: ProcessHistory | None, channels: Channels, memory: float = 16.0) -> ProcessHistory:
    """Add a window to the history.

    The window must share no increment with those already there. The first call fixes the grid of q.

    Args:
        history: None before the first window.
        channels: of the window.
        memory: number of windows after which what was held before has faded.

    >>> t = np.arange(100.0, 110.0)
    >>> mode = ModeSeries(np.sin(t), 0 * t, 1 + 0 * t, t > 0)
    >>> extend_history(None, mode_channels(t, [mode], 109.0, 2)).log_likelihood.shape[0]
    1

    Raises:
        ValueError: a ``memory`` below 1.
    """
    require(memory >= 1, "memory", memory, "at least 1 window", "16 remembers about 16 windows.")
    if history is None:
        grid = process_grid(channels, margin=_MARGIN)
        return ProcessHistory(grid, window_likelihood(channels, grid))
    faded = (1 - 1 / memory) * history.log_likelihood
    return ProcessHistory(history.log_q, faded + window_likelihood(channels, history.log_q))
