"""Slide a window over a run: one fit for each time, with the run's other windows as its history.

Legend: T times, m levels a window, C channels, c coefficients, F functionals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from le_callback.elasticity.amplitudes import Flags
from le_callback.elasticity.increments import (
    Channels,
    Posterior,
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
class WindowSettings:
    """How a run is cut into windows and what is fitted in each.

    Attributes:
        length: number of times in a window, m.
        order: number of functions of time that make up a coefficient in a window.
        causal: whether the window of a time holds only its past; else it is centred.
        confidence: of the intervals.

    >>> WindowSettings(length=5, causal=True).start(3, 0, 20), WindowSettings(length=5, causal=True).start(4, 0, 20)
    (None, 0)
    """

    length: int = 51
    order: int = 2
    causal: bool = False
    confidence: float = 0.95

    def start(self, i: int, first: int, T: int) -> int | None:
        """First level of the window that serves time i; None if there is none.

        Causal windows end at i. Centred ones are moved inside at both ends of the run, as Savitzky–Golay "interp" does.

        Args:
            i: index of a time.
            first: first level that a window may hold.
            T: number of times.
        """
        m = self.length
        if T - first < m:
            return None
        if self.causal:
            return i - m + 1 if i - m + 1 >= first else None
        return min(max(i - m // 2, first), T - m)


@dataclass(frozen=True)
class WindowEstimates:
    """What the windows of a run say, for each time; NaN where there is no window.

    Attributes:
        estimate: of each functional, ``(T, F)``.
        half: half widths of the intervals ``(T, F)``.
        covariance: ``(T, F, F)``.
        process_variance: q of each channel ``(T, C)``.
        condition: see ``Posterior.condition``, ``(T,)``; 0 where there is no window.

    >>> WindowEstimates.unknown(5, 3).estimate.shape
    (5, 3)
    """

    estimate: Array
    half: Array
    covariance: Array
    process_variance: Array
    condition: Array

    @classmethod
    def unknown(cls, T: int, F: int, C: int = 1) -> WindowEstimates:
        """Nothing is known yet."""
        numbers = (
            np.full((T, F), np.nan),
            np.full((T, F), np.nan),
            np.full((T, F, F), np.nan),
            np.full((T, C), np.nan),
        )
        return cls(*numbers, np.zeros(T))


@dataclass(frozen=True)
class _OtherWindows:
    """Windows of a run that share no increment, and the likelihood of q in each: the history of all others."""

    starts: list[int]
    grid: Array  # (G,)
    likelihood: Array  # (W, C, G)
    settings: WindowSettings

    def history(self, a: int) -> Array:
        """Log likelihood ``(C, G)`` of q in the nearest windows that share no increment with the one from level a."""
        length, causal = self.settings.length, self.settings.causal
        apart = [j for j, b in enumerate(self.starts) if b + length - 1 <= a or (not causal and b >= a + length - 1)]
        nearest = sorted(apart, key=lambda j: abs(self.starts[j] - a))[:_HISTORY]
        return np.asarray(self.likelihood[nearest].sum(0))


def stack(channels: list[Channels]) -> Channels:
    """Windows of equal length as one batch, in a new leading axis.

    >>> one = Channels(np.zeros((1, 4)), np.zeros((1, 4, 2)), np.ones((1, 4)), np.zeros((1, 5)))
    >>> stack([one, one]).design.shape
    (2, 1, 4, 2)
    """
    return Channels(*(np.stack([getattr(c, name) for c in channels]) for name in Channels.__dataclass_fields__))


def fill_gaps(a: Array) -> Array:
    """Gaps ``(T,)`` filled linearly, ends by the nearest known value; zeros where nothing is known.

    >>> fill_gaps(np.array([np.nan, 1.0, np.nan, 3.0]))
    array([1., 1., 2., 3.])
    """
    known = np.isfinite(a)
    return np.interp(np.arange(len(a)), np.flatnonzero(known), a[known]) if known.any() else np.zeros_like(a)


def slide(
    make: ChannelMaker,
    times: Array,
    valid: Flags,
    evaluate: list[int],
    functionals: Array,
    settings: WindowSettings,
    first: int = 0,
) -> WindowEstimates:
    """Fit the window of each time that is asked for.

    The history of a window are windows that share no increment with it, for causal estimates only earlier ones, at most
    16, the nearest.

    Args:
        make: ``make(a, b, at)`` gives the channels of levels a … b − 1, with coefficients at time ``at``.
        times: ``(T,)``.
        valid: ``(T,)``; windows that hold a time that is not valid are left out.
        evaluate: indices of times.
        functionals: of the coefficients ``(F, c)``.
        settings: of the windows.
        first: first level that a window may hold.

    Returns:
        The functionals at each time, NaN where no window was fitted.

    >>> from le_callback.elasticity.growth import growth_basis, growth_channels
    >>> t = np.arange(30.0)
    >>> def make(a, b, at):
    ...     return growth_channels(0.1 * t[a:b], 0 * t[a:b], np.ones(b - a - 1), growth_basis(t[a:b], at, 1))
    >>> slide(make, t, t >= 0, [15], np.ones((1, 1)), WindowSettings(length=9, order=1)).estimate[15].round(6)
    array([0.1])
    """
    T, F, m = len(times), len(functionals), settings.length
    jobs = []
    for i in evaluate:
        a = settings.start(i, first, T)
        if a is not None and valid[a : a + m].all():
            jobs.append((i, a))
    if not jobs:
        return WindowEstimates.unknown(T, F)
    others = _other_windows(make, times, valid, jobs, settings, first)
    found = WindowEstimates.unknown(T, F, others.likelihood.shape[1])
    for begin in range(0, len(jobs), _BATCH):
        batch = jobs[begin : begin + _BATCH]
        index = [i for i, _ in batch]
        channels = stack([make(a, a + m, times[i]) for i, a in batch])
        post = fit(channels, ProcessHistory(others.grid, np.stack([others.history(a) for _, a in batch])))
        found.estimate[index], _, found.half[index] = mixture_interval(post, functionals, settings.confidence)
        found.covariance[index] = _covariance(post, functionals, found.estimate[index])
        found.process_variance[index] = post.process_variance
        found.condition[index] = post.condition
    return found


def _other_windows(
    make: ChannelMaker,
    times: Array,
    valid: Flags,
    jobs: list[tuple[int, int]],
    settings: WindowSettings,
    first: int,
) -> _OtherWindows:
    """Windows that share no increment, from the first level on, and the likelihood of q in them.

    ``jobs`` are index of the time and first level of the windows to be fitted: the grid of q holds theirs too.
    """
    m = settings.length
    starts = [a for a in range(first, len(times) - m + 1, m - 1) if valid[a : a + m].all()]
    if settings.causal:
        starts = [a for a in starts if a + m - 1 <= max(a for _, a in jobs)]
    windows = [make(a, a + m, (times[a] + times[a + m - 1]) / 2) for a in starts]
    sample = [make(a, a + m, times[i]) for i, a in jobs[:: max(1, len(jobs) // 8)]]
    grid = process_grid(stack(windows + sample))
    C = len(sample[0].response)
    likelihood = window_likelihood(stack(windows), grid) if windows else np.zeros((0, C, len(grid)))
    return _OtherWindows(starts, grid, likelihood, settings)


def _covariance(post: Posterior, functionals: Array, estimate: Array) -> Array:
    """Covariance ``(n, F, F)`` of the functionals under the mixture, whose mean is ``estimate (n, F)``."""
    centre = np.einsum("fc,...nc->...fn", functionals, post.mean) - estimate[..., None]
    within = np.einsum("fc,...ncd,gd->...nfg", functionals, post.covariance, functionals)
    return np.asarray(
        np.einsum("kn,knfg->kfg", post.weights, within) + np.einsum("kn,kfn,kgn->kfg", post.weights, centre, centre)
    )
