"""Method ``"regression"``: α, β by maximum likelihood of the drift dX̄ = (αU + βV) dt; A and B are their integrals.

Any sampling matrix, any similarity blocks. The mathematics of one window is in ``regression``.

Legend: T times, K classes, p feature dimensions, m levels in a window.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from le_callback.elasticity.amplitudes import Flags
from le_callback.elasticity.coefficients import MethodResult
from le_callback.elasticity.increments import Channels
from le_callback.elasticity.inputs import Run, as_sampling
from le_callback.elasticity.problem import Method, Problem
from le_callback.elasticity.rates import regression_functionals
from le_callback.elasticity.regression import Projections, instant_covariance, reference_basis, regression_channels
from le_callback.elasticity.sampling_noise import SamplingNoise, directions_of, projected_variance
from le_callback.elasticity.sliding import WindowEstimates, WindowSettings, fill_gaps, slide
from le_callback.similarity import LEModel
from le_callback.values import Array

_SINGULAR = 1e-10  # condition below which α and β cannot be told apart
_FIRST = 1  # first level of a window: the one before gives the reference


def by_regression(run: Run, model: LEModel, P: Array, wanted: list[int], settings: WindowSettings) -> MethodResult:
    """α, β, γ from windows of projected increments, and A, B as their integrals.

    Args:
        run: class means and their noise.
        model: gives the regressors U and V.
        P: sampling matrix ``(K, K)`` or ``(T, K, K)``.
        wanted: indices of times at which α, β, γ are wanted.
        settings: of the windows.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(20.0)
    >>> start = np.array([[1.0, 0.5], [0.6, 1.2]])
    >>> slow, fast = np.exp(0.01 * t)[:, None, None], np.exp(0.03 * t)[:, None, None]
    >>> run = Run.of(start.mean(0) * slow + (start - start.mean(0)) * fast, t, None, IModel())
    >>> by_regression(run, IModel(), np.full((2, 2), 0.5), [10], WindowSettings(length=9)).rates.estimate[10].round(4)
    array([ 0.04, -0.02, 0.06])
    """
    t = run.times
    projected = _ProjectedRun.of(run, model, P, settings)

    def make(a: int, b: int, at: float) -> Channels:
        return regression_channels(t, projected.before(a), slice(a, b), settings.order, at)

    rates = slide(make, t, run.finite, wanted, regression_functionals(settings.order), settings, _FIRST)
    weak = rates.condition < _SINGULAR
    rates = replace(
        rates,
        estimate=np.where(weak[:, None], np.nan, rates.estimate),
        half=np.where(weak[:, None], np.nan, rates.half),
        covariance=np.where(weak[:, None, None], np.nan, rates.covariance),
    )
    known = np.isfinite(rates.estimate[:, 0])
    if not known.any():
        return MethodResult.unknown(rates)
    first, last = int(known.argmax()), len(t) - 1 - int(known[::-1].argmax())
    rate = np.stack([fill_gaps(rates.estimate[:, c]) for c in range(2)])
    cumulative = np.concatenate([np.zeros((2, 1)), np.cumsum((rate[:, 1:] + rate[:, :-1]) / 2 * np.diff(t), axis=1)], 1)
    cumulative -= cumulative[:, [first]]
    A, B = np.where(known, cumulative, np.nan)
    return MethodResult(A, B, _variances(projected, rates, first, last), rates)


def _variances(projected: _ProjectedRun, rates: WindowEstimates, first: int, last: int) -> Array:
    """Variances of A, B and G ``(T, 3)`` between two levels: process noise since the first, sampling noise at both."""
    t, settings = projected.run.times, projected.settings
    q = np.stack([fill_gaps(c) for c in rates.process_variance.T], axis=1)
    variances = np.full((len(t), 3), np.nan)
    walk, origin = np.zeros((2, 2)), None
    for i in range(first, last + 1):
        a = settings.start(i, _FIRST, len(t))
        per_time, sampling = instant_covariance(projected.before(_FIRST if a is None else a), q[i], i)
        walk = walk + per_time * (t[i] - t[i - 1] if i > first else 0.0)
        origin = sampling if origin is None else origin
        C = walk + (sampling + origin if i > first else 0.0)
        variances[i] = C[0, 0], C[1, 1], C[0, 0] + C[1, 1] - 2 * C[0, 1]
    return variances


@dataclass(frozen=True)
class _ProjectedRun:
    """Class means and regressors of a run, projected on references taken before each window.

    References are renewed every quarter of a window; what was projected is kept.
    """

    run: Run
    U: Array  # (T, K, p)
    V: Array
    directions: Array | None
    settings: WindowSettings
    kept: dict[int, Projections] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, model: LEModel, P: Array, settings: WindowSettings) -> _ProjectedRun:
        U, V = (f.numpy() for f in model.regressors(torch.from_numpy(run.means), torch.tensor(P)))
        return cls(run, U, V, directions_of(model, run.means.shape[1]), settings)

    def before(self, a: int) -> Projections:
        """For a window whose first level is a: nothing of the window is in the reference."""
        step = self._step
        anchor = 1 + (a - 1) // step * step
        if anchor not in self.kept:
            self.kept[anchor] = self._project(anchor)
        return self.kept[anchor]

    @property
    def _step(self) -> int:
        return max(1, self.settings.length // 4)

    def _project(self, anchor: int) -> Projections:
        """Onto the basis of the mean of up to m levels before ``anchor``, as far as windows of this anchor reach."""
        T, finite, noise = len(self.run.times), self.run.finite, self.run.noise
        past = slice(max(0, anchor - self.settings.length), anchor)
        keep: Flags = finite[past]
        basis = reference_basis(self.U[past][keep].sum(0), self.V[past][keep].sum(0))
        span = slice(max(anchor - 1, 0), min(T, anchor + self._step + self.settings.length))
        data = np.zeros((4, 2, T))
        flat = basis.reshape(2, -1).T
        for k, f in enumerate((self.run.means, self.U, self.V)):
            data[k][:, span] = (f[span].reshape(span.stop - span.start, -1) @ flat).T
        clean = SamplingNoise(
            np.where(finite[span, None], noise.trace[span], 0.0),
            None if noise.along is None else np.where(finite[span, None], noise.along[span], 0.0),
        )
        data[3][:, span] = [projected_variance(clean, e, self.directions) for e in basis]
        return Projections(*data)


def _solve(problem: Problem) -> tuple[MethodResult, Flags]:
    run = problem.run
    P = as_sampling(problem.priors, *run.means.shape[:2])
    return by_regression(run, problem.model, P, problem.wanted, problem.settings), problem.norm_modes().identifiable


METHOD = Method(_solve, extra_times=_FIRST)
