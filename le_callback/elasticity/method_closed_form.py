"""Method ``"closed_form"``: the paper's eq. (19) on mean log entries, with its Savitzky–Golay derivative.

Legend: T times, m levels in a window.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from le_callback.elasticity.amplitudes import Flags, ModePair, entry_series
from le_callback.elasticity.coefficients import MethodResult
from le_callback.elasticity.growth import polynomial_basis
from le_callback.elasticity.method_modes import mode_integrals
from le_callback.elasticity.problem import Method, Problem
from le_callback.elasticity.sliding import WindowEstimates, WindowSettings
from le_callback.similarity import ModeWeights
from le_callback.values import Array


def by_closed_form(
    modes: ModePair, times: Array, weights: ModeWeights, wanted: list[int], settings: WindowSettings
) -> MethodResult:
    """A, B, G from the mean log entries of both modes, and their derivatives.

    Args:
        modes: from ``amplitudes.entry_series``.
        times: ``(T,)``.
        weights: of the modes in A, B and γ.
        wanted: indices of times at which α, β, γ are wanted.
        settings: of the windows; ``order`` is the degree of the polynomial.

    Source: Zhang, Wang, Su 2021, eq. 19.

    >>> from le_callback.elasticity.amplitudes import entry_series
    >>> from le_callback.similarity import IModel
    >>> t = np.arange(20.0)
    >>> mode = entry_series(np.exp(0.1 * t)[:, None, None])
    >>> found = by_closed_form(ModePair(mode, mode), t, IModel().mode_weights(2), [10], WindowSettings(length=9))
    >>> found.rates.estimate[10].round(6) + 0.0
    array([0.2, 0. , 0.2])
    """
    integrals, start = mode_integrals(modes, weights)
    rates = savitzky_golay(integrals, times, wanted, settings)
    process = np.zeros(3)
    if np.isfinite(rates.process_variance).any():
        process = np.nan_to_num(rates.process_variance[0])
    elapsed = np.maximum(times - times[start], 0)
    return MethodResult.since(start, modes.identifiable, integrals, elapsed[:, None] * process, rates)


def savitzky_golay(cumulative: Array, times: Array, wanted: list[int], settings: WindowSettings) -> WindowEstimates:
    """Derivative of a least-squares polynomial: at regular times the paper's filter. Errors of a random walk.

    With w the weights of the m values, the error variance is q Σ_i s_i (Σ_{j>i} w_j)², q from the residual increments.

    Args:
        cumulative: F functions of time ``(F, T)``, NaN where not known.
        times: ``(T,)``.
        wanted: indices of times.
        settings: of the windows; ``order`` is the degree of the polynomial.

    Returns:
        The derivatives, NaN where a window holds a value that is not known; q is the mean over all windows.

    >>> t = np.arange(20.0)
    >>> savitzky_golay((t**2)[None], t, [10], WindowSettings(length=9)).estimate[10].round(6)
    array([20.])
    """
    (F, T), m = cumulative.shape, settings.length
    found = WindowEstimates.unknown(T, F, F)
    freedom = m - 1 - settings.order
    quantile = float(stdtrit(freedom, 0.5 + settings.confidence / 2))
    for i in wanted:
        a = settings.start(i, 0, T)
        if a is None or not np.isfinite(cumulative[:, a : a + m]).all():
            continue
        s, y = times[a : a + m] - times[i], cumulative[:, a : a + m]
        basis, dt = polynomial_basis(s, 0.0, settings.order), np.diff(s)
        weights = np.linalg.pinv(np.column_stack([np.ones(m), basis]))[1]
        design = np.diff(basis, axis=0) / np.sqrt(dt)[:, None]
        d = np.diff(y) / np.sqrt(dt)
        residual = d - d @ np.linalg.pinv(design).T @ design.T
        walk = residual @ residual.T / freedom  # (F, F) covariance of the functions per unit of time
        gain = float((dt * np.cumsum(weights[::-1])[::-1][1:] ** 2).sum())
        found.estimate[i], found.covariance[i], found.process_variance[i] = y @ weights, walk * gain, np.diag(walk)
        found.half[i] = quantile * np.sqrt(np.maximum(np.diag(found.covariance[i]), 0))
    process = found.process_variance
    mean = np.nanmean(process, axis=0) if np.isfinite(process).any() else np.full(F, np.nan)
    numbers = (found.estimate, found.half, found.covariance, np.broadcast_to(mean, (T, F)))
    return WindowEstimates(*numbers, np.ones(T))


def _solve(problem: Problem) -> tuple[MethodResult, Flags]:
    weights = problem.balanced_weights("closed_form")
    common, difference = problem.coordinates()
    modes = ModePair(entry_series(common), entry_series(difference))
    return by_closed_form(modes, problem.run.times, weights, problem.wanted, problem.settings), modes.identifiable


METHOD = Method(_solve)
