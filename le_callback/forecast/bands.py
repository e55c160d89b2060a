"""Forecast of a run: bands of gaps, class means and the separation time from futures simulated by the LE-SDE.

Legend: T past times, N future times, K classes, p dimensions, P pairs, n quantities, S paths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.inputs import as_noise, check_means
from le_callback.forecast.futures import Run, fit_run, process_noise, simulate
from le_callback.forecast.growth_laws import LAWS, REACH, WINDOW
from le_callback.forecast.quantities import frame_at, pair_deviation, pairs_of, quantities
from le_callback.similarity import LEModel
from le_callback.values import Array

MAX_CLASSES = 64
_MOST_TIMES = 256  # past times that are looked at
_STEPS = 40  # future times


@dataclass(frozen=True)
class Bands:
    """Quantiles over the futures, each ``(N,)`` or ``(N, n)``."""

    low: Array
    median: Array
    high: Array


@dataclass(frozen=True)
class SeparationTime:
    """When the worst pair's gap over the within-class deviation first reaches ``level``.

    Attributes:
        level: of the gap over √((tr Σ_k + tr Σ_l)/2).
        low, median, high: quantiles over the futures; infinite where it is not reached in the time looked at.
        chance: share of the futures that reach it.
        status: a sentence.
    """

    level: float
    low: float
    median: float
    high: float
    chance: float
    status: str


@dataclass(frozen=True)
class Forecast:
    """What the LE-SDE says of the rest of a run.

    Attributes:
        made_at: time of the last class means that were used.
        times: ``(N,)``, the first is ``made_at``; empty where no forecast could be made.
        gaps: ‖X̄_k − X̄_l‖ of each of ``pairs``, ``(N, P)``, in units of the features.
        pairs: ``(P, 2)``.
        along: class means less their centre, along the direction from the centre to them at ``made_at``, ``(N, K)``.
        worst_gap: smallest gap of all pairs ``(N,)``.
        ratio: smallest gap over within-class deviation ``(N,)``, None where the deviation is not known.
        separation: when ``ratio`` reaches the level.
        past_times, past_worst_gap, past_ratio: the same of the run so far.
        laws: weight of each law of growth, by κ (``continuation``).
        model: name.
        confidence: of the bands.
        time_unit: of all times.
        status: empty, or why there is no forecast.
    """

    made_at: float
    times: Array = field(repr=False)
    gaps: Bands = field(repr=False)
    pairs: Array = field(repr=False)
    along: Bands = field(repr=False)
    worst_gap: Bands = field(repr=False)
    ratio: Bands | None = field(repr=False)
    separation: SeparationTime
    past_times: Array = field(repr=False)
    past_worst_gap: Array = field(repr=False)
    past_ratio: Array | None = field(repr=False)
    laws: dict[float, float]
    model: str
    confidence: float
    time_unit: str
    status: str


def forecast(
    means: Any,
    times: Any,
    *,
    model: LEModel,
    generator: torch.Generator,
    until: float | None = None,
    spread: Any = None,
    sampling_noise: Any = None,
    noise: Any = None,
    samples: int = 400,
    confidence: float = 0.9,
    level: float = 1.0,
    time_unit: str = "step",
) -> Forecast:
    """Continue the growth of both modes, simulate the LE-SDE forward, and widen by what the same run teaches.

    1. Elasticities: log growth of the common and the difference mode per unit of log time, read over the last fifth
       of the run. They go on by a power law, a log law or a faster saturating one (``continuation.LAWS``); the laws are
       weighed by how well each, started earlier in this run, met the present. α and β follow from the two modes.
    2. Each future draws a law and the joint error of one such backtest, times a heavy-tailed factor of random sign, as
       an error of today's elasticities; the sampling error of the last means; and Brownian noise. Its class means then
       move by the LE-SDE with α, β of its own. Bands are quantiles over the futures.
    3. The two-parameter model gives all pairs one growth, or two. What a pair, a class or the worst pair grows beyond
       that is read from its own curve, continued by the same law, and backtested in the same way.

    A run whose growth changed lately gets wide bands. A stage of growth that has left no trace yet, such as the end of
    a plateau, is not foreseen. The scale and the tails of the factor, and the length of the windows, were chosen on
    trainings; ``benchmarks/results/forecast.md`` says how the bands did on others.

    Args:
        means: ``(T, K, p)`` class means up to now; times at which some are NaN are left out. Only the times from
            ``exp(-1.3)``, about a quarter, of the last one on are used.
        times: ``(T,)``, strictly increasing, counted from the start of the training; times ≤ 0 are left out.
        model: I-model, L-model, or simplex directions.
        generator: source of all random numbers.
        until: last time of the forecast; three times the last of ``times`` if left out.
        spread: within-class variance tr Σ_k ``(T, K)``, for the separation time.
        sampling_noise: expected squared error of each mean, tr Σ_k/n_k ``(T, K)``; None where the same samples are
            seen every time, as by a probe.
        noise: σ or σ_k ``(K,)`` per square root of time of the class means; estimated if left out.
        samples: number of futures S.
        confidence: of the bands.
        level: gap over deviation that counts as separated. 1 is a class-distance normalised variance (CDNV) of 1.
        time_unit: of ``times``, for sentences and axes.

    Returns:
        Bands and separation time; empty, with a sentence as ``status``, where the run is too short or too noisy.

    Raises:
        ValueError: shapes, settings out of range, more than 64 classes, or a model without two modes.
        TypeError: a generator that is none.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(1.0, 101.0)
    >>> x = t[:, None, None] * np.array([[1.0], [2.0]])  # a power law
    >>> found = forecast(x, t, model=IModel(), generator=torch.Generator().manual_seed(0))
    >>> round(float(found.worst_gap.median[-1]), 3)  # at t = 300
    300.0
    """
    X, t = check_means(means, times, model)
    T, K, _ = X.shape
    r = as_noise(sampling_noise, T, K).trace
    V = None if spread is None else np.asarray(spread, dtype=np.float64)
    _check(model, K, T, V, samples, confidence, level, generator, until, t)
    sigma = None if noise is None else _sigma(noise, K)
    known = np.isfinite(X).all((1, 2)) & np.isfinite(r).all(1) & (t > 0)
    if V is not None:
        known &= np.isfinite(V).all(1) & (V > 0).all(1)
    X, t, r, V = X[known], t[known], r[known], None if V is None else V[known]
    pairs = pairs_of(K)
    frame = frame_at(X[-1], np.ones(len(pairs)), pairs) if len(X) else None
    past: tuple[Array, Array | None] = (np.zeros(0), None)
    if frame is not None:
        curves = quantities(X, frame, deviation=None if V is None else pair_deviation(V, pairs), noise=r)
        past = np.exp(curves[:, -2]), None if V is None else np.exp(curves[:, -1])

    def nothing(status: str) -> Forecast:
        none, table = np.zeros(0), np.zeros((0, len(pairs)))
        empty, nan = Bands(none, none, none), float("nan")
        time = SeparationTime(level, nan, nan, nan, nan, f"not known: {status}")
        classes = np.zeros((0, K))
        return Forecast(
            float(t[-1]) if len(t) else nan, none, Bands(table, table, table), pairs, Bands(classes, classes, classes),
            empty, None, time, t, *past, {}, model.name, confidence, time_unit, status,
        )  # fmt: skip

    recent = np.flatnonzero(t >= t[-1] * np.exp(-REACH - WINDOW)) if len(t) else np.zeros(0, dtype=int)
    if len(recent) > _MOST_TIMES:
        recent = recent[np.linspace(0, len(recent) - 1, _MOST_TIMES).round().astype(int)]
    if len(recent) < 12:
        return nothing(
            f"only {len(recent)} readings of all classes in the last three quarters of the run, 12 are needed"
        )
    run = Run(np.log(t[recent]), X[recent], r[recent], None if V is None else V[recent], pairs, model)
    fit = fit_run(run)
    if isinstance(fit, str):
        return nothing(fit)
    if sigma is None:
        sigma = process_noise(run, t[recent])
    end = 3 * t[-1] if until is None else float(until)
    ahead = np.geomspace(t[-1], end, _STEPS)
    ahead[0], ahead[-1] = t[-1], end
    ends = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    bands, ratios = [], []
    for future in simulate(run, fit, ahead, sigma, samples, generator):
        bands.append(np.exp(np.quantile(future.values, ends, axis=0)))
        ratios.append(future.values[:, -1])
    low, median, high = np.array(bands).transpose(1, 0, 2)  # (N, n) each
    P = len(pairs)

    def part(columns: slice | int) -> Bands:
        return Bands(low[:, columns], median[:, columns], high[:, columns])

    return Forecast(
        made_at=float(t[-1]),
        times=ahead,
        gaps=part(slice(0, P)),
        pairs=pairs,
        along=part(slice(P, P + K)),
        worst_gap=part(-2),
        ratio=None if V is None else part(-1),
        separation=separation_time(ahead, np.array(ratios).T, t, past[1], level, ends, time_unit),
        past_times=t,
        past_worst_gap=past[0],
        past_ratio=past[1],
        laws=dict(zip(LAWS, fit.weights.tolist(), strict=True)),
        model=model.name,
        confidence=confidence,
        time_unit=time_unit,
        status="",
    )


def separation_time(
    times: Array, log_ratio: Array, past_times: Array, past: Array | None, level: float, ends: list[float], unit: str
) -> SeparationTime:
    """First time that each future ``log_ratio (S, N)`` reaches the level, linear between ``times (N,)`` in log time.

    >>> ratio = np.array([[1.0, 4.0]])
    >>> found = separation_time(np.array([1.0, 4.0]), np.log(ratio), np.ones(1), ratio[0, :1], 2.0, [0.5] * 3, "step")
    >>> round(found.median, 6), found.chance
    (2.0, 1.0)
    """
    nan, inf = float("nan"), float("inf")
    if past is None:
        return SeparationTime(level, nan, nan, nan, nan, "not known: it needs the within-class variance, `spread`")
    if (past >= level).any():
        t = float(past_times[int(np.argmax(past >= level))])
        return SeparationTime(level, t, t, t, 1.0, f"reached at {unit} {clock(t)}")
    above = log_ratio >= np.log(level)
    first = above.argmax(1)
    i = np.arange(len(log_ratio))
    before = np.maximum(first - 1, 0)
    rise = log_ratio[i, first] - log_ratio[i, before]
    share = np.where(rise > 0, (np.log(level) - log_ratio[i, before]) / np.where(rise > 0, rise, 1.0), 0.0)
    logs = np.log(times)
    crossing = np.exp(logs[before] + share * (logs[first] - logs[before]))
    crossing = np.where(above.any(1), crossing, inf)
    low, median, high = (float(np.quantile(crossing, q, method="higher")) for q in ends)
    chance = float(above.any(1).mean())
    if not np.isfinite(median):
        verb = "never at this rate" if chance < ends[0] else "rather not"
        status = f"{verb}: {chance:.0%} of the simulated futures reach {level:g} before {unit} {clock(times[-1])}"
    else:
        upper = clock(high) if np.isfinite(high) else f"after {clock(times[-1])}"
        status = f"at {unit} {clock(median)}, {ends[2] - ends[0]:.0%} of the futures from {clock(low)} to {upper}"
    return SeparationTime(level, low, median, high, chance, status)


def clock(time: float) -> str:
    """A time in a sentence, whatever its unit.

    >>> clock(1234567.5), clock(0.01234)
    ('1,234,568', '0.0123')
    """
    return f"{time:,.0f}" if time >= 100 else f"{time:.3g}"


def _sigma(noise: Any, K: int) -> Array:
    array = np.asarray(noise.detach().cpu() if isinstance(noise, torch.Tensor) else noise, dtype=np.float64)
    if array.shape not in ((), (K,)) or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"Expected argument `noise` to be a number or of shape ({K},), finite and not negative, but got {noise!r}."
        )
    return np.broadcast_to(array, (K,))


def _check(
    model: LEModel, K: int, T: int, spread: Array | None, samples: Any, confidence: float, level: float,
    generator: Any, until: float | None, times: Array,
) -> None:  # fmt: skip
    if K > MAX_CLASSES:
        raise ValueError(
            f"Expected argument `means` to hold at most {MAX_CLASSES} classes, but got {K}; forecast those of interest."
        )
    if not model.has_modes(K):
        raise ValueError(
            f"Expected argument `model` to have two modes for {K} classes, but the {model.name}-model given has none; "
            "use IModel(), LModel() or simplex directions."
        )
    if spread is not None and spread.shape != (T, K):
        raise ValueError(f"Expected argument `spread` to have shape ({T}, {K}), but got {spread.shape}.")
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 50:
        raise ValueError(f"Expected argument `samples` to be a whole number ≥ 50, but got {samples!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected argument `confidence` to be between 0 and 1, but got {confidence!r}.")
    if not (np.isfinite(level) and level > 0):
        raise ValueError(f"Expected argument `level` to be positive, but got {level!r}.")
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"Expected argument `generator` to be a torch.Generator, but got {type(generator).__name__}; "
            "pass torch.Generator().manual_seed(…)."
        )
    if until is not None and not (np.isfinite(until) and until > max(times[-1], 0)):
        raise ValueError(f"Expected argument `until` to be later than the last time {times[-1]:g}, but got {until!r}.")
