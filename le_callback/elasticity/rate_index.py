"""Local tail index r of a rate γ ~ t^(−r): how the rate falls now, whatever its scale and the reference time.

The growth G = ∫γ is known at T times, with sampling noise of known variance and a random walk of unknown variance. The
likelihood of all its increments under c·∫t^(−r) dt is exact: their covariance is tridiagonal. In long runs neighbouring
levels are averaged first, in blocks of equal length in log time, whose increments have a tridiagonal covariance, too.

What counts is the run from a twelfth of its last time on. Where this leaves r open, a longer part says more, but only
if the decay was the same in it: then, and only then, the estimates differ by no more than chance (Hausman 1978).

Theorem (Zhang, Wang, Su 2021, section 3): γ = ω(1/t) ⇒ separable with probability → 1, γ = o(1/t) ⇒ with probability 0.

Legend: T times, n levels after averaging, g values of r, Q variances of the walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpttrf, dpttrs
from scipy.special import log_ndtr

from le_callback.errors import require
from le_callback.values import Array, Estimate

SPAN = 12.0  # the last time over the first that is looked at
LONGER = 60.0  # the same where the shorter part leaves r open and the longer one agrees
_OPEN = 0.1  # half of an interval above which a longer part is asked
_AGREE = 1.0  # standard deviations of the difference of both estimates
_REACH = 6.0  # standard deviations about the shorter part's estimate in which the longer part's is looked for
MOST_LEVELS = 64
_LEAST = 8  # levels
_RANGE = (-1.0, 4.0)  # of r
_GRIDS = ((31, 12), (41, 8), (61, 8))  # values of r and variances of the walk, from coarse to fine


@dataclass(frozen=True)
class Levels:
    """Averages of the growth over blocks of time, and what is known of the noise of their increments.

    Attributes:
        log_times: ``(n,)``, of the middles in log time.
        growth: ``(n,)``.
        noise: sampling variance ``(n,)``.
        walk: variance of each increment ``(n − 1,)`` by a walk, in units of that of one reading to the next.
        walk_beside: covariance of neighbouring increments ``(n − 2,)`` by the walk.
    """

    log_times: Array
    growth: Array
    noise: Array
    walk: Array
    walk_beside: Array


def local_tail_index(
    times: Sequence[float] | Array,
    growth: Sequence[float] | Array,
    noise: Sequence[float] | Array,
    process: Sequence[float] | Array | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Tail index r of γ ~ t^(−r) now, from the growth G over the last windows, with its interval.

    ΔG = c ∫ t^(−r) dt + walk + sampling noise. The scale c > 0 and the variance of the walk are integrated out, flat in
    c and in the log of the variance; what is left is normalised over −1 ≤ r ≤ 4.

    The times from a twelfth of the last on count. Where the interval is wider than ± 0.1, those from a sixtieth on are
    taken in its place if both medians agree: if they differ by no more than √(s² − s′²), the standard deviation of
    their difference where the decay is one and the same power of time, with s and s′ those of both estimates.

    Args:
        times: t ``(T,)``, increasing; those that are not positive are left out.
        growth: G ``(T,)``.
        noise: sampling variance of each G ``(T,)``.
        process: how much the growth wanders at each time, relative to other times ``(T,)``; None: alike.
        confidence: of the interval.

    Returns:
        The median and the interval; unknown with fewer than 8 times, or where G does not change.

    Raises:
        ValueError: lengths that differ, or a ``confidence`` that is not between 0 and 1.

    Source: the tail index of Zhang, Wang, Su 2021, section 3, of the rate instead of its integral; the comparison of
    both parts Hausman 1978.

    >>> t = np.arange(50.0, 5000.0, 25.0)
    >>> noisy = t**0.5 + 0.1 * np.random.default_rng(0).standard_normal(len(t))
    >>> round(local_tail_index(t, noisy, np.full(len(t), 0.01)).value, 1)
    0.5
    """
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    t, G, r = (np.asarray(x, dtype=np.float64) for x in (times, growth, noise))
    p = np.ones_like(t) if process is None else np.asarray(process, dtype=np.float64)
    for argument, values in (("growth", G), ("noise", r), ("process", p)):
        require(values.shape == t.shape, argument, values.shape, f"of shape {t.shape}, as the times")
    known = (t > 0) & np.isfinite(G) & np.isfinite(r) & np.isfinite(p)
    if not known.any():
        return Estimate.unknown()
    series, end = np.stack([t, G, r, p])[:, known], t[-1]
    late = series[:, series[0] >= end / SPAN]
    if late.shape[1] < _LEAST or not np.diff(late[1]).any():
        return Estimate.unknown()
    ends = (1 - confidence) / 2, 0.5, (1 + confidence) / 2
    grid, weight = _posterior(_levels(late), _walks(*late[1:3]), _GRIDS, _RANGE)
    low, value, high = _quantiles(grid, weight, ends)
    longer = series[:, series[0] >= end / LONGER]
    if high - low > 2 * _OPEN and longer.shape[1] > late.shape[1]:
        mean, deviation = _moments(grid, weight)
        about = max(mean - _REACH * deviation, _RANGE[0]), min(mean + _REACH * deviation, _RANGE[1])
        grid, weight = _posterior(_levels(longer), _walks(*longer[1:3]), _GRIDS[:1], about)
        other, narrower = _moments(grid, weight)
        if (other - mean) ** 2 <= _AGREE**2 * (deviation**2 - narrower**2):
            low, value, high = _quantiles(grid, weight, ends)
    return Estimate(value, low, high)


def _levels(series: Array) -> Levels:
    """Of times, growth, noise and process ``(4, T)``."""
    t, growth, noise, process = series
    return averaged(t, growth, noise, process, MOST_LEVELS)


def _walks(growth: Array, noise: Array) -> tuple[float, float]:
    """The smallest and the largest variance of the walk that come into question."""
    typical, total = float(noise.mean()), float((np.diff(growth) ** 2).mean())
    return max(1e-3 * typical, 1e-9 * total), max(30 * typical, 3 * total)


def _quantiles(grid: Array, weight: Array, shares: tuple[float, float, float]) -> tuple[float, float, float]:
    """Of a density over an even grid."""
    mass = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    low, middle, high = np.interp(shares, mass / mass[-1], grid).tolist()
    return low, middle, high


def _moments(grid: Array, weight: Array) -> tuple[float, float]:
    """Mean and standard deviation of a density over an even grid."""
    share = weight / weight.sum()
    mean = float(share @ grid)
    return mean, float(np.sqrt(share @ (grid - mean) ** 2))


def averaged(t: Array, growth: Array, noise: Array, process: Array, most: int) -> Levels:
    """Average neighbouring readings in at most ``most`` blocks, about equal in log time.

    With e_i the walk from reading i to the next, of variance v_i ∝ process · Δt, the increment of two block means holds
    the e_i between the blocks whole, and those inside by their share: a ramp up in the later, down in the earlier one.

    Args:
        t: ``(T,)`` increasing and positive.
        growth: ``(T,)``.
        noise: sampling variances ``(T,)``.
        process: ``(T,)``, how much the growth wanders at each time, relative to other times.
        most: blocks.

    >>> ones = np.ones(4)
    >>> averaged(np.arange(1.0, 5.0), np.array([0.0, 1.0, 3.0, 5.0]), ones, ones, 2).growth
    array([0., 3.])
    """
    first = np.arange(len(t))
    if len(t) > most:
        first = np.unique(np.append(0, np.searchsorted(t, np.geomspace(t[0], t[-1], most + 1)[1:-1])))
    size = np.diff(np.append(first, len(t)))
    v = (process[1:] + process[:-1]) / 2 * np.diff(t)
    v = v / v.mean()
    block = np.repeat(np.arange(len(first)), size)
    inside = block[1:] == block[:-1]
    own = block[:-1][inside]
    down = (np.arange(1, len(t)) - first[block[1:]])[inside] / size[
        own
    ]  # share that the mean lacks to the last reading
    up = 1 - down  # share that it has beyond the first
    before, after, both = (
        np.asarray(np.bincount(own, w * v[inside], len(first)), dtype=np.float64) for w in (down**2, up**2, up * down)
    )
    return Levels(
        log_times=np.add.reduceat(np.log(t), first) / size,
        growth=np.add.reduceat(growth, first) / size,
        noise=np.add.reduceat(noise, first) / size**2,
        walk=before[:-1] + v[~inside] + after[1:],
        walk_beside=both[1:-1],
    )


def _posterior(
    levels: Levels,
    variances: tuple[float, float],
    grids: tuple[tuple[int, int], ...],
    reach: tuple[float, float],
) -> tuple[Array, Array]:
    """Values of r ``(g,)`` over the bulk of the posterior, and its density there, up to a factor."""
    (a, b), (low, high) = reach, variances
    grid = weight = np.zeros(0)
    for values, walks in grids:
        grid, walk = np.linspace(a, b, values), np.geomspace(low, high, walks)
        log_likelihood = tail_likelihood(levels, grid, walk)
        mass = np.exp(log_likelihood - log_likelihood.max())
        weight = mass.sum(0)
        some, other = np.flatnonzero(mass.max(0) > 1e-5), np.flatnonzero(mass.max(1) > 1e-4)
        a, b = grid[max(some[0] - 1, 0)], grid[min(some[-1] + 1, values - 1)]
        low, high = walk[max(other[0] - 1, 0)], walk[min(other[-1] + 1, walks - 1)]
    return grid, weight


def tail_likelihood(levels: Levels, grid: Array, variances: Array) -> Array:
    """Log likelihood ``(Q, g)`` of r and of the walk's variance, with the scale c > 0 of the rate integrated out.

    Args:
        levels: growth and noise.
        grid: r ``(g,)``.
        variances: of the walk from one reading to the next ``(Q,)``.

    >>> t, ones = np.arange(1.0, 40.0), np.ones(39)
    >>> levels = averaged(t, 2 * t**0.5, 1e-4 * ones, ones, 64)
    >>> int(tail_likelihood(levels, np.linspace(0, 1, 11), np.array([1e-6]))[0].argmax())
    5
    """
    lt, d, r = levels.log_times - levels.log_times[-1], np.diff(levels.growth), levels.noise
    power = 1 - grid[:, None]
    safe = np.where(np.abs(power) < 1e-9, 1.0, power)
    # ∫ t^(−r) dt from level to level, relative to the last time so that c is of one scale for all r
    flow = np.where(np.abs(power) < 1e-9, np.diff(lt), np.diff(np.exp(safe * lt), axis=1) / safe)
    Q, g, n = len(variances), len(grid), len(d)
    # one system for all variances: blocks (n, n) that nothing joins
    own = variances[:, None] * levels.walk + (r[:-1] + r[1:])
    beside = np.zeros((Q, n))
    beside[:, :-1] = variances[:, None] * levels.walk_beside - r[1:-1]
    columns = np.empty((1 + g, Q, n))
    columns[0], columns[1:] = d, flow[:, None]
    pivots, factor, failed = dpttrf(own.ravel(), beside.ravel()[:-1])
    if failed:
        raise np.linalg.LinAlgError("the covariance of the increments is not positive definite")
    white, _ = dpttrs(pivots, factor, columns.reshape(1 + g, Q * n).T)
    white = white.T.reshape(1 + g, Q, n)
    information = np.einsum("gn,gqn->qg", flow, white[1:])
    z = white[0] @ flow.T / np.sqrt(information)
    misfit = (white[0] @ d)[:, None] - z**2
    log_determinant = np.log(pivots).reshape(Q, n).sum(1)[:, None]
    return np.asarray(log_ndtr(z) - (log_determinant + misfit + np.log(information)) / 2)
