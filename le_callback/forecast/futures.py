"""The fit behind a forecast, its backtests in the same run, and the simulated futures.

Legend: T past times, N future times, K classes, p dimensions, P pairs, n quantities (``readings``), b origins,
S paths; u, v log size of the common and the difference mode, w log of the pooled within-class deviation; κ law, h
horizon in log time (``continuation``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from le_callback.elasticity.sampling_noise import directions_of
from le_callback.forecast.growth_laws import LAWS, continued, elasticity, law_weights, origins
from le_callback.forecast.quantities import Frame, frame_at, mode_curves, pair_deviation, propagate, quantities
from le_callback.similarity import LEModel
from le_callback.values import Array

WIDENING = 1.3  # scale of the factor by which a future takes over the error of a backtest
TAILS = 4.0  # degrees of freedom of its Student distribution
_SUBSTEPS = 8  # of a backtest
_PROBE = 1e-4  # of log time, to read what growth of the modes does to a quantity


@dataclass(frozen=True)
class Run:
    """The part of a run that a forecast looks at.

    Attributes:
        log_times: ``(T,)``.
        means: ``(T, K, p)``.
        noise: expected squared error of each mean ``(T, K)``.
        spread: within-class variance tr Σ_k ``(T, K)``, or None.
        pairs: ``(P, 2)``.
        model: I-model, or simplex directions.
    """

    log_times: Array
    means: Array
    noise: Array
    spread: Array | None
    pairs: Array
    model: LEModel

    @property
    def directions(self) -> Array | None:
        """Class directions ``(K, p)``, None for the I-model."""
        return directions_of(self.model, self.means.shape[1])

    def deviation(self) -> Array:
        """Of each pair ``(T, P)``; ones where unknown."""
        if self.spread is None:
            return np.ones((len(self.means), len(self.pairs)))
        return pair_deviation(self.spread, self.pairs)

    def pooled(self) -> Array:
        """Log of the pooled deviation, w ``(T,)``."""
        return np.zeros(len(self.means)) if self.spread is None else 0.5 * np.log(self.spread.mean(1))


@dataclass(frozen=True)
class Elasticities:
    """Growth per unit of log time at one origin.

    Attributes:
        u, v, w: of the modes and of the deviation.
        own: of each quantity ``(n,)``; the worst ratio is counted without its deviation.
        model: of each quantity if only the modes grew ``(n,)``: by_u·u + by_v·v.
        by_u, by_v: ``(n,)``.
    """

    u: float
    v: float
    w: float
    own: Array
    by_u: Array
    by_v: Array

    @property
    def model(self) -> Array:
        """What the model gives each quantity ``(n,)``."""
        return self.by_u * self.u + self.by_v * self.v

    def beyond(self, kappa: Array, h: float) -> Array:
        """What each quantity grows beyond the model ``(S, n)`` under the laws ``kappa (S,)``."""
        law = kappa[:, None]
        return continued(self.own[None], law, h) - continued(self.model[None], law, h)


@dataclass(frozen=True)
class Fit:
    """What the futures are drawn from.

    Attributes:
        now: elasticities at the end of the run.
        frame: pairs and directions of that time.
        errors: of the backtests, per unit of log time: u, v, w and the quantities ``(laws, b, 3 + n)``.
        weights: of the laws.
    """

    now: Elasticities
    frame: Frame
    errors: Array
    weights: Array


def fit_run(run: Run) -> Fit | str:
    """Fit the continuation and backtest it; a sentence where the run does not allow it."""
    u, v = mode_curves(run.means, run.noise, run.model)
    starts = origins(run.log_times)
    if len(starts) < 3:
        return "the run is too short: its readings reach back over too little of it for backtests"
    if not np.isfinite(v).all():
        return "the class means do not stand out of the sampling noise yet"
    if not np.isfinite(u).all():
        u = np.zeros_like(u)  # too small to be seen: it has no part in the futures either
    deviation, w = run.deviation(), run.pooled()
    modes = np.stack([u, v, w], axis=1)

    def at(index: int) -> tuple[Frame, Elasticities, Array]:
        frame = frame_at(run.means[index], deviation[index], run.pairs)
        curves = quantities(run.means, frame, deviation=deviation, noise=run.noise)
        curves[:, -1] += w
        x = elasticity(run.log_times, np.concatenate([modes, curves], axis=1), index)
        by_u, by_v = _responses(run, frame, index)
        return frame, Elasticities(x[0], x[1], x[2], x[3:], by_u, by_v), curves

    kappa = np.array(LAWS)
    errors = []
    for b in starts:
        frame, x, curves = at(int(b))
        h = float(run.log_times[-1] - run.log_times[b])
        path = np.repeat(run.means[None, b], len(LAWS), axis=0)
        past = np.zeros((2, len(LAWS)))
        for step in np.linspace(0, h, _SUBSTEPS + 1)[1:]:
            grown = np.stack([continued(x.u, kappa, step), continued(x.v, kappa, step)])
            du, dv = grown - past
            path = propagate(path, du, dv, run.directions)
            past = grown
        model = quantities(path, frame) - quantities(run.means[b], frame)
        predicted = model + x.beyond(kappa, h)
        actual = curves[-1] - curves[b]
        modes_predicted = np.concatenate([past, continued(x.w, kappa, h)[None]]).T
        errors.append(np.concatenate([modes[-1] - modes[b] - modes_predicted, actual - predicted], axis=1) / h)
    stacked = np.array(errors).transpose(1, 0, 2)
    frame, now, _ = at(len(run.means) - 1)
    return Fit(now, frame, stacked, law_weights(stacked[:, :, 1]))


def _responses(run: Run, frame: Frame, index: int) -> tuple[Array, Array]:
    """Change of each quantity with u and with v, ``(n,)`` each, at one time, by the model."""
    x = np.repeat(run.means[None, index], 3, axis=0)
    du, dv = np.array([0.0, _PROBE, 0.0]), np.array([0.0, 0.0, _PROBE])
    still, by_u, by_v = quantities(propagate(x, du, dv, run.directions), frame)
    return (by_u - still) / _PROBE, (by_v - still) / _PROBE


@dataclass(frozen=True)
class Future:
    """Log quantities of all paths ``(S, n)`` at one time."""

    time: float
    values: Array


def simulate(
    run: Run, fit: Fit, times: Array, sigma: Array, samples: int, generator: torch.Generator
) -> Iterator[Future]:
    """Simulate S futures through ``times (N,)``, the first of which is the end of the run.

    A path draws a law κ by the weights; a backtest, whose errors in the modes, the deviation and all quantities it
    takes over together, times one Student factor, as errors of today's elasticities; the sampling error of its start.
    Its modes then grow from these elasticities by the law; α and β of the path follow from them. The means move by the
    LE-SDE with these α, β and the noise σ_k ``(K,)``: the exact flow of each step, with half of the step's noise before
    and half after it.
    """
    S = samples

    def uniform() -> Array:
        return np.asarray(
            torch.rand(S, generator=generator, dtype=torch.float64, device=generator.device).cpu().numpy()
        )

    def normal(*shape: int) -> Array:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
        return np.asarray(drawn.cpu().numpy())

    chosen = np.minimum(np.searchsorted(np.cumsum(fit.weights), uniform()), len(LAWS) - 1)
    kappa = np.array(LAWS)[chosen]
    origin = (uniform() * fit.errors.shape[1]).astype(int)
    chi2 = (normal(int(TAILS), S) ** 2).sum(0)
    factor = WIDENING * normal(S) / np.sqrt(chi2 / TAILS)
    error = factor[:, None] * fit.errors[chosen, origin]  # (S, 3 + n)
    now = fit.now
    own = now.own + error[:, 3:]
    model = now.by_u * (now.u + error[:, :1]) + now.by_v * (now.v + error[:, 1:2])
    start, frame, directions, outside = _reduced(run, fit.frame)
    K, r = start.shape
    x = start + np.sqrt(run.noise[-1] / run.means.shape[2])[:, None] * normal(S, K, r)
    across = np.zeros((S, K))  # variance of each dimension left out, by noise
    k, l = frame.pairs.T  # noqa: E741
    past = np.zeros((2, S))
    for i, t in enumerate(times):
        h = float(np.log(t / times[0]))
        if i:
            grown = continued(np.array([[now.u], [now.v]]) + error[:, :2].T, kappa, h)
            half = sigma * np.sqrt((t - times[i - 1]) / 2)
            noisy = bool(half.any())
            if noisy:
                x = x + half[:, None] * normal(S, K, r)
            du, dv = grown - past
            x = propagate(x, du, dv, directions)
            if noisy:
                x = x + half[:, None] * normal(S, K, r)
            across = (across + half**2) * np.exp(2 * dv)[:, None] + half**2
            past = grown
        values = quantities(x, frame, across=outside * (across[:, k] + across[:, l]))
        law = kappa[:, None]
        values += continued(own, law, h) - continued(model, law, h)
        values[:, -1] -= continued(now.w + error[:, 2], kappa, h)
        yield Future(float(t), values)


def _reduced(run: Run, frame: Frame) -> tuple[Array, Frame, Array | None, int]:
    """Last means, frame and directions in the coordinates that move, and how many dimensions are left out."""
    last = run.means[-1]
    K, p = last.shape
    if run.model.couples_dimensions or p <= K:
        return last, frame, run.directions, 0
    basis, _ = np.linalg.qr(last.T)  # (p, K)
    return last @ basis, Frame(frame.pairs, frame.directions @ basis, frame.size, frame.deviation), None, p - K


def process_noise(run: Run, times: Array) -> Array:
    """σ_k ``(K,)`` per square root of time: what wanders, not what trembles.

    Third differences at lag m, in which a drift quadratic in time cancels, have E‖Δ³X̄_k‖² = 6 p σ_k² m h + 20 r_k for
    even steps h. r_k holds the sampling error and any trembling about a steady mean, as SGD's; taking the value at lag
    m from that at lag 2m leaves σ_k alone. m is a twelfth of the readings.
    """
    X = run.means
    m = max(1, len(X) // 12)

    def third(lag: int) -> Array:
        d = X[3 * lag :] - 3 * X[2 * lag : -lag] + 3 * X[lag : -2 * lag] - X[: -3 * lag]
        return np.asarray((d**2).sum(-1).mean(0))

    step = float(np.diff(times).mean())
    return np.asarray(np.sqrt(np.maximum(third(2 * m) - third(m), 0) / (6 * X.shape[2] * m * step)))
