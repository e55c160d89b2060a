"""The fit behind a forecast, and the simulated futures.

Legend: T past times, N future times, K classes, p dimensions, P pairs, n quantities (``quantities``), S paths; u, v log
size of the common and the difference mode; h horizon in log time (``growth_laws``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from le_callback.forecast.growth_laws import LONG, Outlook, outlook
from le_callback.forecast.inputs import Run
from le_callback.forecast.quantities import Frame, frame_at, mode_curves, quantities
from le_callback.simulation.modes import flow, steady_coupling
from le_callback.values import NAN, Array

_LEAST = 8  # readings
_REACH = 0.5  # of the longer window: log time that the readings must reach back over
_WIDEST = 1000.0  # factor that a band may span
_NUMBERS = 2**17  # coordinates of class means that are simulated at once
_LEAST_PATHS = 32


@dataclass(frozen=True)
class Fit:
    """What the futures are drawn from, as ``fit_run`` finds it.

    Attributes:
        modes: how u and v go on.
        quantities: how each quantity goes on, by its own curve ``(n,)``.
        frame: pairs and directions now.

    >>> t = np.arange(1.0, 101.0)
    >>> means = t[:, None, None] * np.array([[1.0], [2.0]])  # both modes have the elasticity 1
    >>> from le_callback.similarity import IModel
    >>> fit = fit_run(Run(t, means, np.zeros((100, 2)), None, np.array([[0, 1]]), IModel()))
    >>> fit.modes.x.round(2), fit.quantities.x[0].round(2)
    (array([0.23, 0.23]), np.float64(0.23))
    """

    modes: Outlook
    quantities: Outlook
    frame: Frame

    def too_wide(self, h: float) -> str:
        """A sentence where 90 % bands of half of the gaps would span a factor above 1,000 after h of log time."""
        low, high = self.quantities.quantile(np.array([[0.05], [0.95]]), h)
        span = float(np.exp(np.median((high - low)[: len(self.frame.pairs)])))
        if span <= _WIDEST:
            return ""
        return f"the growth of the gaps changes so fast that half of them could end anywhere in a factor of {span:,.0f}"


def fit_run(run: Run) -> Fit | str:
    """How the modes and each quantity go on; a sentence where the run does not allow it.

    >>> from le_callback.similarity import IModel
    >>> fit_run(Run(np.arange(1.0, 5.0), np.ones((4, 2, 1)), np.zeros((4, 2)), None, np.array([[0, 1]]), IModel()))[:15]
    'only 4 readings'
    """
    T = len(run.times)
    if T < _LEAST:
        return f"only {T} readings of all classes in the last {1 - np.exp(-LONG):.0%} of the run, {_LEAST} are needed"
    if run.log_times[-1] - run.log_times[0] < _REACH * LONG:
        return "the run is too short: its readings reach back over too little of it"
    u, v = mode_curves(run.means, run.noise, run.model)
    if not np.isfinite(v).all():
        return "the class means do not stand out from the sampling noise yet"
    if not np.isfinite(u).all():
        u = np.zeros_like(u)  # too small to be seen: it has no part in the futures either
    frame = frame_at(run.means[-1], run.deviation[-1], run.pairs)
    curves = quantities(run.means, frame, deviation=run.deviation, noise=run.noise)
    ratios = (NAN, NAN) if run.spread is None else (run.median_log_ratio(), float(curves[-1, -1]))
    modes = replace(outlook(run.log_times, np.stack([u, v], axis=1), ratios), shift=np.zeros(2))
    worst = np.arange(curves.shape[1]) >= curves.shape[1] - 2  # the smallest gap and ratio come last
    return Fit(modes, outlook(run.log_times, curves, ratios, worst), frame)


def _grown(x: Array, u: Array, v: Array, directions: Array | None) -> Array:
    """Class means after a step in which α and β are constant."""
    return flow(x, u, v, steady_coupling(u, v, x.shape[-2]), directions)


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


@dataclass(frozen=True)
class ProcessNoise:
    """Brownian motion of the class means, per square root of time.

    Attributes:
        common: σ of what moves all classes alike.
        between: σ_k ``(K,)`` of what is each class's own.

    >>> ProcessNoise(1.0, np.zeros(2)).between
    array([0., 0.])
    """

    common: float
    between: Array


def simulate_futures(
    run: Run, fit: Fit, times: Array, noise: ProcessNoise, samples: int, generator: torch.Generator
) -> Iterator[Future]:
    """Simulate S futures through ``times (N,)``, the first of which is the end of the run.

    The class means of a path move by the LE-SDE, with α and β that follow from the growth of the modes: the exact flow
    of each step, with half of the step's noise before and half after it. What moves all classes alike is drawn once for
    all of them. How far the noise takes a quantity from where the LE-ODE leads is added to where its own curve may go.
    A path has one probability for all quantities and times, and takes that quantile of each. The modes grow by their
    medians. With many coordinates several paths share their class means.

    Args:
        run: what the fit has looked at.
        fit: of this run.
        times: ``(N,)``, increasing.
        noise: of the class means.
        samples: S.
        generator: source of all random numbers.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(1.0, 101.0)
    >>> means = t[:, None, None] * np.array([[1.0], [2.0]])
    >>> run = Run(t, means, np.zeros((100, 2)), None, np.array([[0, 1]]), IModel())
    >>> source, still = torch.Generator().manual_seed(0), ProcessNoise(0.0, np.zeros(2))
    >>> *_, last = simulate_futures(run, fit_run(run), np.array([100.0, 200.0]), still, 50, source)
    >>> float(np.exp(np.median(last.values[:, 0])).round(1))  # it was 100
    204.7
    """
    random = _Random(generator)
    probability = ((random.order(samples) + 0.5) / samples)[:, None]  # (S, 1), evenly over the distribution
    start, frame, directions, outside = _reduced(run, fit.frame)
    K, r = start.shape
    paths = int(np.clip(_NUMBERS // (K * r), min(samples, _LEAST_PATHS), samples))
    x = np.broadcast_to(start, (1 + paths, K, r))  # the first without noise
    of_path = np.arange(samples) % paths
    across = np.zeros(K)  # variance of each dimension left out, by noise
    k, l = frame.pairs.T  # noqa: E741
    past, now = np.zeros(2), quantities(start, frame)
    noisy_rows = np.append(0.0, np.ones(paths))[:, None]
    noisy = bool(noise.common > 0 or noise.between.any())
    for i, t in enumerate(times):
        h = float(np.log(t / times[0]))
        if i:
            step = np.sqrt((t - times[i - 1]) / 2)
            grown = fit.modes.quantile(0.5, h)
            du, dv = grown - past
            if noisy:
                x = x + step * random.wobble(noise, paths, r)
            x = _grown(x, du, dv, directions)
            if noisy:
                x = x + step * random.wobble(noise, paths, r)
            half = (step * noise.between) ** 2
            across = (across + half) * np.exp(2 * dv) + half
            past = grown
        by_noise = quantities(x, frame, across=outside * noisy_rows * (across[k] + across[l]))
        values = now + (by_noise[1:] - by_noise[0])[of_path]
        if i:
            values = values + fit.quantities.quantile(probability, h)
        yield Future(float(t), values)


@dataclass(frozen=True)
class _Random:
    """Arrays of random numbers from one generator."""

    generator: torch.Generator

    def order(self, count: int) -> Array:
        """0 … count − 1 in random order."""
        drawn = torch.randperm(count, generator=self.generator, device=self.generator.device)
        return np.asarray(drawn.cpu().numpy(), dtype=np.float64)

    def normal(self, *shape: int) -> Array:
        """Standard normal."""
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return np.asarray(drawn.cpu().numpy())

    def wobble(self, noise: ProcessNoise, samples: int, dimensions: int) -> Array:
        """Increments ``(1 + S, K, dimensions)`` of a unit of time, the first of them zero."""
        own = noise.between[:, None] * self.normal(samples, len(noise.between), dimensions)
        moved = own + noise.common * self.normal(samples, 1, dimensions)
        return np.concatenate([np.zeros((1, *moved.shape[1:])), moved])


def _reduced(run: Run, frame: Frame) -> tuple[Array, Frame, Array | None, int]:
    """Last means, frame and directions in the coordinates that move, and how many dimensions are left out."""
    last = run.means[-1]
    K, p = last.shape
    if run.model.couples_dimensions or p <= K:
        return last, frame, run.directions, 0
    basis, _ = np.linalg.qr(last.T)  # (p, K)
    return last @ basis, Frame(frame.pairs, frame.directions @ basis, frame.size, frame.deviation), None, p - K


def process_noise(run: Run) -> ProcessNoise:
    """What wanders, not what trembles: σ of the mean of all class means, and σ_k of what each moves besides.

    Third differences at lag m, in which a drift quadratic in time cancels, have E‖Δ³X̄_k‖² = 6 p σ_k² m h + 20 r_k for
    even steps h. r_k holds the sampling error and any trembling about a steady mean, as SGD's; taking the value at lag
    m from that at lag 2m leaves σ_k alone. m is a twelfth of the readings. Centred means, X̄_k less their mean, hold
    (K − 1)/K of the variance that is each class's own, and their mean what is common, besides 1/K² of the sum of it.

    >>> from le_callback.similarity import IModel
    >>> steady = np.arange(1.0, 25.0)
    >>> means = steady[:, None, None] * np.ones((2, 1))
    >>> process_noise(Run(steady, means, np.zeros((24, 2)), None, np.array([[0, 1]]), IModel()))
    ProcessNoise(common=0.0, between=array([0., 0.]))
    """
    K, p = run.means.shape[1:]
    m = max(1, len(run.means) // 12)
    step = float(np.diff(run.times).mean())
    centre = run.means.mean(1, keepdims=True)

    def variance(X: Array) -> Array:
        def third(lag: int) -> Array:
            d = X[3 * lag :] - 3 * X[2 * lag : -lag] + 3 * X[lag : -2 * lag] - X[: -3 * lag]
            return np.asarray((d**2).sum(-1).mean(0))

        return np.asarray(np.maximum(third(2 * m) - third(m), 0) / (6 * p * m * step))

    between = variance(run.means - centre) * K / (K - 1)
    common = max(float(variance(centre)[0]) - float(between.sum()) / K**2, 0.0)
    return ProcessNoise(float(np.sqrt(common)), np.asarray(np.sqrt(between)))
