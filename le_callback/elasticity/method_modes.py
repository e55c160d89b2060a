"""Method ``"modes"``: A, B from the log growth of the two modes, α, β, γ from local fits of it.

Balanced sampling; each mode has a process noise of its own.

Legend: T times, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from le_callback.elasticity.amplitudes import Flags, ModePair, ModeSeries
from le_callback.elasticity.coefficients import MethodResult
from le_callback.elasticity.increments import Channels
from le_callback.elasticity.problem import Method, Problem
from le_callback.elasticity.rates import mode_channels, mode_functionals
from le_callback.elasticity.sliding import ChannelMaker, WindowEstimates, WindowSettings, fill_gaps, slide
from le_callback.similarity import ModeWeights
from le_callback.values import Array


def integral_weights(weights: ModeWeights) -> Array:
    """A, B and G as sums of the log growths of the common and the difference mode, ``(3, 2)``.

    >>> from le_callback.similarity import IModel
    >>> integral_weights(IModel().mode_weights(3))
    array([[ 1.,  2.],
           [ 1., -1.],
           [ 0.,  3.]])
    """
    W = np.array(
        [
            [weights.common_in_A, weights.difference_in_A],
            [weights.common_in_B, weights.difference_in_B],
        ]
    )
    return np.vstack([W, W[0] - W[1]])


def mode_integrals(modes: ModePair, weights: ModeWeights) -> tuple[Array, int]:
    """A, B and G ``(3, T)`` since the first time at which both modes are identifiable, and the index of that time.

    NaN where a mode is not identifiable; the index is 0 where both never are.

    Source: Zhang, Wang, Su 2021, eq. 19.

    >>> from le_callback.elasticity.amplitudes import entry_series
    >>> from le_callback.similarity import IModel
    >>> mode = entry_series(np.exp([[[1.0]], [[1.1]]]))
    >>> mode_integrals(ModePair(mode, mode), IModel().mode_weights(2))[0][:, 1].round(6)
    array([0.2, 0. , 0.2])
    """
    both = modes.identifiable
    both_series = (modes.common, modes.difference)
    y = np.stack([s.log_amplitude if s.path is None else s.path for s in both_series])  # (2, T)
    start = int(both.argmax()) if both.any() else 0
    return integral_weights(weights) @ (y - y[:, [start]]), start


def by_modes(
    modes: ModePair, times: Array, weights: ModeWeights, wanted: list[int], settings: WindowSettings
) -> MethodResult:
    """A, B, G and α, β, γ from the log amplitudes of both modes.

    Args:
        modes: log amplitudes and their sampling variances.
        times: ``(T,)``.
        weights: of the modes in A, B and γ.
        wanted: indices of times at which α, β, γ are wanted.
        settings: of the windows.

    >>> from le_callback.elasticity.amplitudes import norm_series
    >>> from le_callback.similarity import IModel
    >>> t = np.arange(20.0)
    >>> mode = norm_series(np.exp(0.1 * t)[:, None, None], np.zeros(20), 1)
    >>> found = by_modes(ModePair(mode, mode), t, IModel().mode_weights(2), [10], WindowSettings(length=9))
    >>> round(float(found.A[10]), 6), found.rates.estimate[10].round(6) + 0.0
    (2.0, array([0.2, 0. , 0.2]))
    """
    integrals, start = mode_integrals(modes, weights)
    rates = _rates(modes, weights, times, wanted, settings)
    return MethodResult.since(
        start, modes.identifiable, integrals, _variances(modes, weights, times, start, rates), rates
    )


def _variances(modes: ModePair, weights: ModeWeights, t: Array, start: int, rates: WindowEstimates) -> Array:
    """Variances of A, B and G ``(T, 3)``: process noise since ``start``, and sampling noise at both ends."""
    both = (modes.common, modes.difference)
    known = np.isfinite(rates.process_variance).any()  # else no window: sampling noise alone
    q = np.stack([fill_gaps(c) for c in rates.process_variance.T]) if known else np.zeros((2, 1))
    speed = q * np.stack([fill_gaps(1 / s.scale) for s in both])
    walk = np.concatenate([np.zeros((2, 1)), np.cumsum((speed[:, 1:] + speed[:, :-1]) / 2 * np.diff(t), axis=1)], 1)
    sampling = np.stack([s.noise for s in both])
    per_mode = walk - walk[:, [start]] + sampling + sampling[:, [start]]
    per_mode[:, start] = 0.0
    per_mode = np.where(np.isfinite(per_mode), np.maximum(per_mode, 0), np.nan)
    return np.asarray((integral_weights(weights) ** 2 @ per_mode).T)


def _rates(
    modes: ModePair, weights: ModeWeights, t: Array, wanted: list[int], settings: WindowSettings
) -> WindowEstimates:
    """α, β, γ from the local fits of both modes; γ alone where only its own mode is identifiable."""
    functionals = mode_functionals(weights, settings.order)
    make = _channel_maker((modes.common, modes.difference), t, settings.order)
    joint = slide(make, t, modes.identifiable, wanted, functionals, settings)
    own = modes.common if weights.gamma_mode == "common" else modes.difference
    alone = [i for i in wanted if not np.isfinite(joint.estimate[i, 2])]
    if not alone or not own.identifiable.any():
        return joint
    gamma = weights.gamma_weight * np.eye(settings.order)[:1]
    single = slide(_channel_maker((own,), t, settings.order), t, own.identifiable, alone, gamma, settings)
    estimate, half = joint.estimate.copy(), joint.half.copy()
    estimate[alone, 2], half[alone, 2] = single.estimate[alone, 0], single.half[alone, 0]
    return replace(joint, estimate=estimate, half=half)


def _channel_maker(chosen: tuple[ModeSeries, ...], t: Array, order: int) -> ChannelMaker:
    def make(a: int, b: int, at: float) -> Channels:
        return mode_channels(t[a:b], [s.window(a, b) for s in chosen], at, order)

    return make


def _solve(problem: Problem) -> tuple[MethodResult, Flags]:
    weights, modes = problem.balanced_weights("modes"), problem.norm_modes()
    return by_modes(modes, problem.run.times, weights, problem.wanted, problem.settings), modes.identifiable


METHOD = Method(_solve)
