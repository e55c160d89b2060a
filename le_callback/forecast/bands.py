"""Forecast of a run: bands of gaps, class means and the separation time from futures simulated by the LE-SDE.

Legend: T past times, N future times, K classes, p dimensions, P pairs, n quantities, S paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.inputs import check_means
from le_callback.forecast.futures import Future, ProcessNoise, fit_run, process_noise, simulate_futures
from le_callback.forecast.inputs import Run, check_bands, check_end, check_sigma, read_run
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.inputs import check_count, check_generator
from le_callback.values import NAN, Array

_STEPS = 24  # future times
_LEAST_FUTURES = 50


@dataclass(frozen=True)
class Bands:
    """Quantiles over the futures.

    Attributes:
        low, median, high: each ``(N,)`` for one quantity, ``(N, n)`` for several.

    >>> Bands(np.ones(2), np.full(2, 2.0), np.full(2, 3.0)).median
    array([2., 2.])
    """

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

    >>> SeparationTime(1.0, 90.0, 100.0, 120.0, 1.0, "at step 100").median
    100.0
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
        model: name.
        confidence: of the bands.
        time_unit: of all times.
        status: empty, or why there is no forecast.

    >>> t = np.arange(1.0, 6.0)
    >>> early = forecast(np.ones((5, 2, 1)), t, model="I", generator=torch.Generator())
    >>> early.made_at, early.status[:15]
    (5.0, 'only 3 readings')
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
    model: str
    confidence: float
    time_unit: str
    status: str


def forecast(  # noqa: PLR0913 -- one call for a user, each setting with its default
    means: Any,
    times: Any,
    *,
    model: LEModel | str,
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
    """Continue the growth of both modes and of every gap, simulate the LE-SDE forward, and add how trainings stray.

    1. Growth per unit of log time, of the common and the difference mode and of each quantity: slopes over the last
       fifth and half of the run. It most likely goes on slowly, may rise much, and the less the farther the classes are
       separated already (``growth_laws``). α and β follow from the medians of the two modes.
    2. Each future moves its class means by the LE-SDE with these α, β, and with Brownian noise that is estimated apart
       for what all classes do alike and for what each does besides.
    3. The two-parameter model gives all pairs one growth, or two. Where a pair, a class or the worst pair goes is read
       from its own curve; the LE-SDE says how far noise takes it from there.
    4. How far the growth of each quantity may stray, upwards and downwards apart, as trainings showed it for curves as
       steep and as bent, and the error of its last reading. Bands are quantiles over the futures.

    A stage of growth that has left no trace yet, such as the end of a plateau, is not foreseen. Where the classes have
    not begun to separate, and where the bands would span more than a factor of 1,000, there are none, and ``status``
    says so. The numbers of the laws were chosen on trainings; ``benchmarks/results/forecast.md`` says how the bands did
    on others. For schedules of the learning rate, count the times in cumulative learning rate, as
    ``LECallback(time_axis="lr")`` does: what is to come is foreseen only in the time that it is counted in.

    Args:
        means: ``(T, K, p)`` class means up to now; times at which some are NaN are left out. Growth is
            read from ``exp(-0.8)``, about a half, of the last time on. Of more than 276 pairs, those that are closest
            at the last time are followed.
        times: ``(T,)``, strictly increasing, counted from the start of the training; times ≤ 0 are left out.
        model: I-model or L-model, also by name, ``"I"`` or ``"L"``, or simplex directions.
        generator: source of all random numbers.
        until: last time of the forecast; three times the last of ``times`` if left out.
        spread: within-class variance tr Σ_k ``(T, K)``, for the separation time.
        sampling_noise: expected squared error of each mean, tr Σ_k/n_k ``(T, K)``; None where the same samples are
            seen every time, as by a probe.
        noise: σ or σ_k ``(K,)`` per square root of time of the class means, each class on its own; estimated if left
            out.
        samples: number of futures S.
        confidence: of the bands.
        level: gap over deviation that counts as separated. 1 is a class-distance normalised variance (CDNV) of 1.
        time_unit: of ``times``, for sentences and axes.

    Returns:
        Bands and separation time; empty, with a sentence as ``status``, where the run is too short or too noisy.

    Raises:
        ValueError: shapes, settings out of range, more than 64 classes, or a model without two modes.
        TypeError: a generator or a model that is none.

    Source: the LE-SDE of Zhang, Wang, Su 2021, section 2; the law of growth and the bands are our own.

    >>> t = np.arange(1.0, 101.0)
    >>> x = t[:, None, None] * np.array([[1.0], [2.0]])  # a power law
    >>> found = forecast(x, t, model="I", generator=torch.Generator().manual_seed(0))
    >>> round(float(found.worst_gap.median[-1]), 3)  # at t = 300
    226.523
    """
    model = as_model(model)
    X, t = check_means(means, times, model)
    whole = read_run(X, t, model, spread=spread, sampling_noise=sampling_noise)
    samples = check_count(samples, "samples", _LEAST_FUTURES)
    check_bands(confidence, level)
    source = check_generator(generator)
    end = check_end(until, float(t[-1]))
    K, P = whole.means.shape[1], len(whole.pairs)
    sigma = None if noise is None else ProcessNoise(0.0, check_sigma(noise, K))
    blank = _without_bands(whole, level, confidence, time_unit)
    run = whole.recent()
    last = 3 * blank.made_at if end is None else end
    fit = fit_run(run)
    silent = fit if isinstance(fit, str) else whole.too_early() or fit.too_wide(np.log(last / blank.made_at))
    if isinstance(fit, str) or silent:
        return replace(blank, status=silent, separation=replace(blank.separation, status=f"not known: {silent}"))
    ahead = _times_ahead(blank.made_at, last)
    ends = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    futures = simulate_futures(run, fit, ahead, process_noise(run) if sigma is None else sigma, samples, source)
    bands, log_ratio = _summary(futures, ends)
    return replace(
        blank,
        times=ahead,
        gaps=_part(bands, slice(0, P)),
        along=_part(bands, slice(P, P + K)),
        worst_gap=_part(bands, -2),
        ratio=None if whole.spread is None else _part(bands, -1),
        separation=separation_time(ahead, log_ratio, blank.past_times, blank.past_ratio, level, ends, time_unit),
    )


def _without_bands(run: Run, level: float, confidence: float, time_unit: str) -> Forecast:
    """The forecast as it is before anything is foreseen."""
    none, K = np.zeros(0), run.means.shape[1]
    table, classes = np.zeros((0, len(run.pairs))), np.zeros((0, K))
    gap, ratio = run.worst()
    return Forecast(
        made_at=float(run.times[-1]) if len(run.times) else NAN,
        times=none,
        gaps=Bands(table, table, table),
        pairs=run.pairs,
        along=Bands(classes, classes, classes),
        worst_gap=Bands(none, none, none),
        ratio=None,
        separation=SeparationTime(level, NAN, NAN, NAN, NAN, ""),
        past_times=run.times,
        past_worst_gap=gap,
        past_ratio=ratio,
        model=run.model.name,
        confidence=confidence,
        time_unit=time_unit,
        status="",
    )


def _times_ahead(now: float, end: float) -> Array:
    ahead = np.geomspace(now, end, _STEPS)
    ahead[0], ahead[-1] = now, end
    return ahead


def _summary(futures: Iterable[Future], ends: list[float]) -> tuple[Bands, Array]:
    """Bands ``(N, n)`` of the quantities, and the log ratio ``(S, N)`` of the worst pair of every path."""
    bands, ratios = [], []
    for future in futures:
        bands.append(np.exp(np.quantile(future.values, ends, axis=0)))
        ratios.append(future.values[:, -1])
    low, median, high = np.array(bands).transpose(1, 0, 2)  # (N, n) each
    return Bands(low, median, high), np.array(ratios).T


def _part(bands: Bands, columns: slice | int) -> Bands:
    return Bands(bands.low[:, columns], bands.median[:, columns], bands.high[:, columns])


def separation_time(
    times: Array, log_ratio: Array, past_times: Array, past: Array | None, level: float, ends: list[float], unit: str
) -> SeparationTime:
    """First time that each future reaches the level, linear between the times in log time.

    Args:
        times: future times ``(N,)``.
        log_ratio: of each future ``(S, N)``.
        past_times: ``(T,)``.
        past: ratio so far ``(T,)``; None where it is not known.
        level: of the ratio.
        ends: the three quantiles to take.
        unit: of the times, for the sentence.

    >>> ratio = np.array([[1.0, 4.0]])
    >>> found = separation_time(np.array([1.0, 4.0]), np.log(ratio), np.ones(1), ratio[0, :1], 2.0, [0.5] * 3, "step")
    >>> round(found.median, 6), found.chance
    (2.0, 1.0)
    """
    if past is None:
        return SeparationTime(level, NAN, NAN, NAN, NAN, "not known: it needs the within-class variance, `spread`")
    if (past >= level).any():
        t = float(past_times[int(np.argmax(past >= level))])
        return SeparationTime(level, t, t, t, 1.0, f"reached at {unit} {clock(t)}")
    crossing = _crossings(times, log_ratio, float(np.log(level)))
    low, median, high = (float(np.quantile(crossing, q, method="higher")) for q in ends)
    chance = float((crossing != np.inf).mean())
    end = clock(times[-1])
    if np.isfinite(median):
        upper = clock(high) if np.isfinite(high) else f"beyond {end}"
        status = f"at {unit} {clock(median)}, {ends[2] - ends[0]:.0%} of the futures from {clock(low)} to {upper}"
    else:
        verb = "never at this rate" if chance < ends[0] else "unlikely"
        status = f"{verb}: {chance:.0%} of the simulated futures reach {level:g} before {unit} {end}"
    return SeparationTime(level, low, median, high, chance, status)


def _crossings(times: Array, log_ratio: Array, log_level: float) -> Array:
    """First time ``(S,)`` at which each row of ``log_ratio (S, N)`` is at the level; infinite where it never is."""
    above = log_ratio >= log_level
    first = above.argmax(1)
    i = np.arange(len(log_ratio))
    before = np.maximum(first - 1, 0)
    rise = log_ratio[i, first] - log_ratio[i, before]
    share = np.where(rise > 0, (log_level - log_ratio[i, before]) / np.where(rise > 0, rise, 1.0), 0.0)
    logs = np.log(times)
    crossing = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(above.any(1), crossing, np.inf)


def clock(time: float) -> str:
    """A time in a sentence, whatever its unit.

    >>> clock(1234567.5), clock(0.01234)
    ('1,234,568', '0.0123')
    """
    return f"{time:,.0f}" if time >= 100 else f"{time:.3g}"
