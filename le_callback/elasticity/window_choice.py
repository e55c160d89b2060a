"""How long the windows of a run are, and how many functions of time a coefficient has in them, where nobody says.

Noise is averaged best by long windows and few functions, and smooth curves without noise are followed best by short
windows and many. Which of the two a run is, the residuals of local fits tell.

Legend: T times, m levels of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from le_callback.elasticity.amplitudes import ModePair, ModeSeries
from le_callback.elasticity.growth import growth_basis
from le_callback.values import Array

LONGEST = 51
ORDER = 2
Choice = tuple[int, int]  # window, order
FINER: Mapping[str, tuple[Choice, ...]] = {  # by method, tried one after the other
    "modes": ((LONGEST, 3), (LONGEST, 4), (25, 4), (13, 4), (9, 4)),
    "regression": ((LONGEST, 3),),  # beyond, α and β can hardly be told apart
    "closed_form": (),  # as in the paper
}
_GAIN = 4.0  # a finer choice must divide every residual variance by this: noise does not let it
_EXACT = 1e-16  # of the mean squared increment: rounding, which is finer than needed


def choose_window(
    modes: ModePair,
    times: Array,
    *,
    window: int | None = None,
    order: int | None = None,
    finer: Sequence[Choice] = FINER["modes"],
    spare: int = 0,
) -> Choice:
    """Window and order for a run; what is given is kept.

    The first choice is (51, 2), or (T, 2) in a short run. A finer one takes its place if in every stretch of the run it
    leaves at most a quarter of the residual variance, for both modes; and so on from there. One more coefficient takes
    about 1/m of the residuals of noise, so that a run with noise keeps the first choice.

    Args:
        modes: log amplitudes of the run.
        times: ``(T,)``.
        window: m, or None.
        order: number of functions, or None.
        finer: what may take the place of the first choice, see ``FINER``.
        spare: times that a method needs beyond a window.

    >>> t = np.arange(100.0, 200.0)
    >>> def both(y):
    ...     mode = ModeSeries(y, 0 * t, 1 + 0 * t, t > 0)
    ...     return ModePair(mode, mode)
    >>> choose_window(both(np.sqrt(t)), t)
    (51, 3)
    >>> choose_window(both(np.sqrt(t) + 0.01 * np.random.default_rng(0).standard_normal(100)), t)
    (51, 2)
    """
    longest = min(LONGEST, len(times) - spare)

    def kept(m: int, c: int) -> Choice:
        return min(m, longest) if window is None else window, c if order is None else order

    chosen = kept(LONGEST, ORDER)
    curves = [mode for mode in (modes.common, modes.difference) if mode.identifiable.any()]
    for choice in (kept(*c) for c in finer):
        possible = bool(curves) and choice != chosen and choice[0] >= choice[1] + 3
        if possible and all(_is_better(mode, times, chosen, choice) for mode in curves):
            chosen = choice
    return max(chosen[0], chosen[1] + 3) if window is None else window, chosen[1]


def _is_better(mode: ModeSeries, times: Array, coarse: Choice, fine: Choice) -> bool:
    stretches = _stretches(mode, coarse[0])
    left = np.array([[_residual(mode.log_amplitude, times, a, b, *c) for c in (coarse, fine)] for a, b in stretches])
    if not len(left):
        return False
    moved = np.array([np.mean(np.diff(mode.log_amplitude[a:b]) ** 2) for a, b in stretches])
    exact = left[:, 0] <= _EXACT * moved
    return bool(not exact.all() and (exact | (_GAIN * left[:, 1] <= left[:, 0])).all())


def _stretches(mode: ModeSeries, length: int) -> list[tuple[int, int]]:
    """Stretches of ``length`` times, all identifiable, that share no increment; the last one ends with the run."""
    T = len(mode.identifiable)
    starts = {*range(0, T - length + 1, length - 1), T - length} if length <= T else set()
    return [(a, a + length) for a in sorted(starts) if mode.identifiable[a : a + length].all()]


def _residual(curve: Array, times: Array, first: int, stop: int, window: int, order: int) -> float:
    """Residual variance of the increments, windows of a stretch together; the last of them ends with the stretch."""
    square, freedom = 0.0, 0
    starts = {*range(first, stop - window + 1, window - 1), stop - window}
    for a in sorted(starts):
        part = slice(a, a + window)
        basis = np.diff(growth_basis(times[part], (times[a] + times[a + window - 1]) / 2, order), axis=0)
        basis = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-300)
        increments = np.diff(curve[part])
        left = increments - basis @ np.linalg.lstsq(basis, increments, rcond=None)[0]
        square, freedom = square + float(left @ left), freedom + window - 1 - order
    return square / freedom
