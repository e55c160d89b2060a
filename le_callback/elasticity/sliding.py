"""Slide a window over a run: one fit for each time, with the run's other windows as its history.

Legend: T times, m levels a window, C channels, c coefficients, F functionals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from le_callback.elasticity.increments import (
    Channels,
    ProcessHistory,
    fit,
    mixture_interval,
    process_grid,
    window_likelihood,
)
from le_callback.values import Array

ChannelMaker = Callable[[int, int, float], Channels]

_BATCH = 64
_HISTORY = 16  # windows


@dataclass(frozen=True)
class WindowEstimates:
    """For each time: functionals ``(T, F)``, half widths, covariance ``(T, F, F)``, q ``(T, C)``, condition."""

    estimate: Array
    half: Array
    covariance: Array
    process_variance: Array
    condition: Array


def stack(channels: list[Channels]) -> Channels:
    """Windows of equal length as one batch, in a new leading axis.

    >>> one = Channels(np.zeros((1, 4)), np.zeros((1, 4, 2)), np.ones((1, 4)), np.zeros((1, 5)))
    >>> stack([one, one]).design.shape
    (2, 1, 4, 2)
    """
    return Channels(*(np.stack([getattr(c, name) for c in channels]) for name in Channels.__dataclass_fields__))


def window_start(i: int, m: int, first: int, T: int, causal: bool) -> int | None:
    """First level of the window that serves time i; None if there is none.

    Causal windows end at i. Centred ones are moved inside at both ends of the run, as Savitzky–Golay "interp" does.

    >>> window_start(0, 5, 0, 20, causal=False), window_start(0, 5, 0, 20, causal=True)
    (0, None)
    """
    if T - first < m:
        return None
    if causal:
        return i - m + 1 if i - m + 1 >= first else None
    return min(max(i - m // 2, first), T - m)


def slide(
    make: ChannelMaker,
    times: Array,
    valid: NDArray[np.bool_],
    evaluate: list[int],
    functionals: Array,
    *,
    window: int,
    first: int,
    causal: bool,
    confidence: float,
) -> WindowEstimates:
    """Fit the window of each time in ``evaluate``.

    ``make(a, b, at)`` gives the channels of levels a … b − 1 evaluated at time ``at``. Windows that hold a time that is
    not ``valid`` are left NaN. The history of a window are windows that share no increment with it, for causal
    estimates only earlier ones, at most 16, the nearest.
    """
    T, F, m = len(times), len(functionals), window
    estimate, half = np.full((T, F), np.nan), np.full((T, F), np.nan)
    covariance, condition = np.full((T, F, F), np.nan), np.zeros(T)
    jobs = []
    for i in evaluate:
        a = window_start(i, m, first, T, causal)
        if a is not None and valid[a : a + m].all():
            jobs.append((i, a))
    if not jobs:
        return WindowEstimates(estimate, half, covariance, np.full((T, 1), np.nan), condition)
    blocks = [a for a in range(first, T - m + 1, m - 1) if valid[a : a + m].all()]
    if causal:
        blocks = [a for a in blocks if a + m - 1 <= max(a for _, a in jobs)]
    past = [make(a, a + m, (times[a] + times[a + m - 1]) / 2) for a in blocks]
    sample = [make(a, a + m, times[i]) for i, a in jobs[:: max(1, len(jobs) // 8)]]
    grid = process_grid(stack(past + sample))
    known = window_likelihood(stack(past), grid) if past else np.zeros((0, 1, len(grid)))
    C = sample[0].response.shape[0]
    process_variance = np.full((T, C), np.nan)
    for start in range(0, len(jobs), _BATCH):
        batch = jobs[start : start + _BATCH]
        channels = stack([make(a, a + m, times[i]) for i, a in batch])
        history = np.zeros((len(batch), C, len(grid)))
        for k, (_, a) in enumerate(batch):
            apart = [j for j, b in enumerate(blocks) if b + m - 1 <= a or (not causal and b >= a + m - 1)]
            nearest = sorted(apart, key=lambda j: abs(blocks[j] - a))[:_HISTORY]
            history[k] = known[nearest].sum(0)
        post = fit(channels, ProcessHistory(grid, history))
        index = [i for i, _ in batch]
        estimate[index], _, half[index] = mixture_interval(post, functionals, confidence)
        centre = np.einsum("fc,...nc->...fn", functionals, post.mean) - estimate[index][..., None]
        within = np.einsum("fc,...ncd,gd->...nfg", functionals, post.covariance, functionals)
        covariance[index] = np.einsum("kn,knfg->kfg", post.weights, within) + np.einsum(
            "kn,kfn,kgn->kfg", post.weights, centre, centre
        )
        process_variance[index] = post.process_variance
        condition[index] = post.condition
    return WindowEstimates(estimate, half, covariance, process_variance, condition)
