"""The fit behind a forecast, its backtests in the same run, and the simulated futures.

Legend: T past times, N future times, K classes, p dimensions, P pairs, n quantities (``quantities``), b origins,
S paths; u, v log size of the common and the difference mode, w log of the pooled within-class deviation; κ law, h
horizon in log time (``growth_laws``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from le_callback.forecast.growth_laws import LAWS, continued, elasticity, law_weights, origins
from le_callback.forecast.inputs import Run
from le_callback.forecast.quantities import Frame, frame_at, mode_curves, propagate, quantities
from le_callback.values import Array

WIDENING = 1.3  # scale of the factor by which a future takes over the error of a backtest
TAILS = 4.0  # degrees of freedom of its Student distribution
_LEAST = 12  # readings
_SUBSTEPS = 8  # of a backtest
_PROBE = 1e-4  # of log time, to read what growth of the modes does to a quantity


@dataclass(frozen=True)
class Elasticities:
    """Growth per unit of log time at one origin.

    Attributes:
        u, v, w: of the modes and of the deviation.
        own: of each quantity ``(n,)``; the worst ratio is counted without its deviation.
        by_u, by_v: change of each quantity with u and with v ``(n,)``.

    >>> Elasticities(1.0, 2.0, 0.0, np.ones(1), np.array([0.5]), np.array([2.0])).model
    array([4.5])
    """

    u: float
    v: float
    w: float
    own: Array
    by_u: Array
    by_v: Array

    @property
    def model(self) -> Array:
        """Growth of each quantity ``(n,)`` if only the modes grew: by_u·u + by_v·v."""
        return self.by_u * self.u + self.by_v * self.v

    def beyond(self, kappa: Array, h: float) -> Array:
        """What each quantity grows beyond the model ``(S, n)`` under the laws ``kappa (S,)``."""
        law = kappa[:, None]
        return continued(self.own[None], law, h) - continued(self.model[None], law, h)


@dataclass(frozen=True)
class Fit:
    """What the futures are drawn from, as ``fit_run`` finds it.

    Attributes:
        now: elasticities at the end of the run.
        frame: pairs and directions of that time.
        errors: of the backtests, per unit of log time: u, v, w and the quantities ``(laws, b, 3 + n)``.
        weights: of the laws ``(laws,)``.

    >>> now = Elasticities(1.0, 1.0, 0.0, np.ones(5), np.zeros(5), np.ones(5))
    >>> frame = frame_at(np.array([[3.0], [-1.0]]), np.ones(1), np.array([[0, 1]]))
    >>> Fit(now, frame, np.zeros((3, 4, 8)), np.array([0.8, 0.1, 0.1])).errors.shape  # 3 laws, 4 backtests
    (3, 4, 8)
    """

    now: Elasticities
    frame: Frame
    errors: Array
    weights: Array


def fit_run(run: Run) -> Fit | str:
    """Fit the continuation and backtest it; a sentence where the run does not allow it.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(1.0, 101.0)
    >>> means = t[:, None, None] * np.array([[1.0], [2.0]])  # both modes have the elasticity 1
    >>> fit = fit_run(Run(t, means, np.zeros((100, 2)), None, np.array([[0, 1]]), IModel()))
    >>> round(float(fit.now.v), 6), fit.weights.round(3)
    (1.0, array([1., 0., 0.]))
    """
    T = len(run.times)
    if T < _LEAST:
        return f"only {T} readings of all classes in the last three quarters of the run, {_LEAST} are needed"
    u, v = mode_curves(run.means, run.noise, run.model)
    starts = origins(run.log_times)
    if len(starts) < 3:
        return "the run is too short: its readings reach back over too little of it for backtests"
    if not np.isfinite(v).all():
        return "the class means do not stand out from the sampling noise yet"
    if not np.isfinite(u).all():
        u = np.zeros_like(u)  # too small to be seen: it has no part in the futures either
    modes = np.stack([u, v, run.pooled], axis=1)
    errors = np.array([_backtest(run, modes, int(b)) for b in starts]).transpose(1, 0, 2)
    frame, now, _ = _read_at(run, modes, T - 1)
    return Fit(now, frame, errors, law_weights(errors[:, :, 1]))


def _read_at(run: Run, modes: Array, index: int) -> tuple[Frame, Elasticities, Array]:
    """Frame and elasticities at one time, and the curves ``(T, n)`` of the quantities in this frame.

    ``modes`` holds u, v, w ``(T, 3)``; the worst ratio is counted without its deviation, as e^w times itself.
    """
    frame = frame_at(run.means[index], run.deviation[index], run.pairs)
    curves = quantities(run.means, frame, deviation=run.deviation, noise=run.noise)
    curves[:, -1] += modes[:, 2]
    x = elasticity(run.log_times, np.concatenate([modes, curves], axis=1), index)
    by_u, by_v = _responses(run, frame, index)
    return frame, Elasticities(x[0], x[1], x[2], x[3:], by_u, by_v), curves


def _backtest(run: Run, modes: Array, origin: int) -> Array:
    """Errors now, per unit of log time, of each law started at ``origin``: u, v, w, quantities ``(laws, 3 + n)``."""
    frame, x, curves = _read_at(run, modes, origin)
    kappa = np.array(LAWS)
    h = float(run.log_times[-1] - run.log_times[origin])
    path = np.repeat(run.means[None, origin], len(LAWS), axis=0)
    past = np.zeros((2, len(LAWS)))
    for step in np.linspace(0, h, _SUBSTEPS + 1)[1:]:
        grown = np.stack([continued(x.u, kappa, step), continued(x.v, kappa, step)])
        du, dv = grown - past
        path = propagate(path, du, dv, run.directions)
        past = grown
    by_model = quantities(path, frame) - quantities(run.means[origin], frame)
    predicted = by_model + x.beyond(kappa, h)
    actual = curves[-1] - curves[origin]
    modes_predicted = np.concatenate([past, continued(x.w, kappa, h)[None]]).T
    return np.concatenate([modes[-1] - modes[origin] - modes_predicted, actual - predicted], axis=1) / h


def _responses(run: Run, frame: Frame, index: int) -> tuple[Array, Array]:
    """Change of each quantity with u and with v, ``(n,)`` each, at one time, by the model."""
    x = np.repeat(run.means[None, index], 3, axis=0)
    du, dv = np.array([0.0, _PROBE, 0.0]), np.array([0.0, 0.0, _PROBE])
    still, by_u, by_v = quantities(propagate(x, du, dv, run.directions), frame)
    return (by_u - still) / _PROBE, (by_v - still) / _PROBE


@dataclass(frozen=True)
class Future:
    """What all paths are at one time.

    Attributes:
        time: in the unit of the run.
        values: log quantities ``(S, n)``.

    >>> Future(10.0, np.zeros((2, 5))).values.shape
    (2, 5)
    """

    time: float
    values: Array


def simulate_futures(
    run: Run, fit: Fit, times: Array, sigma: Array, samples: int, generator: torch.Generator
) -> Iterator[Future]:
    """Simulate S futures through ``times (N,)``, the first of which is the end of the run.

    A path draws a law κ by the weights; a backtest, whose errors in the modes, the deviation and all quantities it
    takes over together, times one Student factor, as errors of today's elasticities; the sampling error of its start.
    Its modes then grow from these elasticities by the law; α and β of the path follow from them. The means move by the
    LE-SDE with these α, β and the noise σ_k: the exact flow of each step, with half of the step's noise before and half
    after it.

    Args:
        run: what the fit has looked at.
        fit: of this run.
        times: ``(N,)``, increasing.
        sigma: σ_k ``(K,)`` per square root of time.
        samples: S.
        generator: source of all random numbers.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(1.0, 101.0)
    >>> means = t[:, None, None] * np.array([[1.0], [2.0]])
    >>> run = Run(t, means, np.zeros((100, 2)), None, np.array([[0, 1]]), IModel())
    >>> source = torch.Generator().manual_seed(0)
    >>> *_, last = simulate_futures(run, fit_run(run), np.array([100.0, 200.0]), np.zeros(2), 50, source)
    >>> float(np.exp(np.median(last.values[:, 0])).round(3))  # the gap grows as t
    200.0
    """
    S, random = samples, _Random(generator)
    paths = _draw_paths(fit, S, random)
    start, frame, directions, outside = _reduced(run, fit.frame)
    K, r = start.shape
    x = start + np.sqrt(run.noise[-1] / run.means.shape[2])[:, None] * random.normal(S, K, r)
    across = np.zeros((S, K))  # variance of each dimension left out, by noise
    k, l = frame.pairs.T  # noqa: E741
    past = np.zeros((2, S))
    for i, t in enumerate(times):
        h = float(np.log(t / times[0]))
        if i:
            grown = paths.grown(h)
            du, dv = grown - past
            half = sigma * np.sqrt((t - times[i - 1]) / 2)
            noisy = bool(half.any())
            if noisy:
                x = x + half[:, None] * random.normal(S, K, r)
            x = propagate(x, du, dv, directions)
            if noisy:
                x = x + half[:, None] * random.normal(S, K, r)
            across = (across + half**2) * np.exp(2 * dv)[:, None] + half**2
            past = grown
        by_model = quantities(x, frame, across=outside * (across[:, k] + across[:, l]))
        yield Future(float(t), paths.corrected(by_model, h))


@dataclass(frozen=True)
class _Paths:
    """What S paths have drawn: laws ``kappa (S,)`` and elasticities of their own.

    ``modes (2, S)`` of u and v, ``w (S,)`` of the deviation, ``own (S, n)`` of the quantities and ``model (S, n)`` what
    the modes alone give them.
    """

    kappa: Array
    modes: Array
    w: Array
    own: Array
    model: Array

    def grown(self, h: float) -> Array:
        """Growth of u and v ``(2, S)`` over the horizon."""
        return continued(self.modes, self.kappa, h)

    def corrected(self, by_model: Array, h: float) -> Array:
        """Log quantities ``(S, n)`` from those of the simulated means: with what each grows beyond the model."""
        law = self.kappa[:, None]
        values = by_model + (continued(self.own, law, h) - continued(self.model, law, h))
        values[:, -1] -= continued(self.w, self.kappa, h)
        return values


def _draw_paths(fit: Fit, samples: int, random: _Random) -> _Paths:
    chosen = np.minimum(np.searchsorted(np.cumsum(fit.weights), random.uniform(samples)), len(LAWS) - 1)
    origin = (random.uniform(samples) * fit.errors.shape[1]).astype(int)
    chi2 = (random.normal(int(TAILS), samples) ** 2).sum(0)
    factor = WIDENING * random.normal(samples) / np.sqrt(chi2 / TAILS)
    error = factor[:, None] * fit.errors[chosen, origin]  # (S, 3 + n)
    now = fit.now
    return _Paths(
        kappa=np.array(LAWS)[chosen],
        modes=np.array([[now.u], [now.v]]) + error[:, :2].T,
        w=now.w + error[:, 2],
        own=now.own + error[:, 3:],
        model=now.by_u * (now.u + error[:, :1]) + now.by_v * (now.v + error[:, 1:2]),
    )


@dataclass(frozen=True)
class _Random:
    """Arrays of random numbers from one generator."""

    generator: torch.Generator

    def uniform(self, *shape: int) -> Array:
        """Between 0 and 1."""
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return np.asarray(drawn.cpu().numpy())

    def normal(self, *shape: int) -> Array:
        """Standard normal."""
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return np.asarray(drawn.cpu().numpy())


def _reduced(run: Run, frame: Frame) -> tuple[Array, Frame, Array | None, int]:
    """Last means, frame and directions in the coordinates that move, and how many dimensions are left out."""
    last = run.means[-1]
    K, p = last.shape
    if run.model.couples_dimensions or p <= K:
        return last, frame, run.directions, 0
    basis, _ = np.linalg.qr(last.T)  # (p, K)
    return last @ basis, Frame(frame.pairs, frame.directions @ basis, frame.size, frame.deviation), None, p - K


def process_noise(run: Run) -> Array:
    """σ_k ``(K,)`` per square root of time: what wanders, not what trembles.

    Third differences at lag m, in which a drift quadratic in time cancels, have E‖Δ³X̄_k‖² = 6 p σ_k² m h + 20 r_k for
    even steps h. r_k holds the sampling error and any trembling about a steady mean, as SGD's; taking the value at lag
    m from that at lag 2m leaves σ_k alone. m is a twelfth of the readings.

    >>> from le_callback.similarity import IModel
    >>> steady = np.arange(1.0, 25.0)
    >>> means = steady[:, None, None] * np.ones((2, 1))
    >>> process_noise(Run(steady, means, np.zeros((24, 2)), None, np.array([[0, 1]]), IModel()))
    array([0., 0.])
    """
    X = run.means
    m = max(1, len(X) // 12)

    def third(lag: int) -> Array:
        d = X[3 * lag :] - 3 * X[2 * lag : -lag] + 3 * X[lag : -2 * lag] - X[: -3 * lag]
        return np.asarray((d**2).sum(-1).mean(0))

    step = float(np.diff(run.times).mean())
    return np.asarray(np.sqrt(np.maximum(third(2 * m) - third(m), 0) / (6 * X.shape[2] * m * step)))
