"""How a log growth curve goes on in log time, and how far it may stray: what trainings have shown.

Legend: τ = log t, T times, n curves, h = log(t/t*) horizon after the present t*. A curve y(τ) has the elasticity
s = dy/dτ (per unit of log time: gap ~ t^s locally), over a short and a long window. r, r_min: median and least over the
pairs of gap over within-class deviation.

Trainings grow on unevenly: slowly as a rule, with rises that leave no trace beforehand. So errors are skewed. The
likeliest course is y(t) − y(t*) = log(1 + κ x h)/κ, between a power law (κ = 0) and a log law (κ = 1), with
x = c₀ + c₁ s. About it, a curve strays by a two-piece Student distribution: upwards by s↑(h), downwards by s↓(h),

    s↑² = G² (rest² + share² s² + change² (s − s_long)²) h² + tremble² e²
    s↓² = (rest′² + share′² s²) h² + tremble² e²

with e the deviation of single readings from a smooth curve. The more the worst pair is separated and the less it lags
behind, the less is left to gain: G falls from 1 to a floor where log r_min + (λ − 1) log(r_min/r) rises. The smallest
gap of all pairs rises less than a single one, falls more, and waits longer for the worst pair. The numbers are those of
largest likelihood on trainings that are kept apart from those which judge the forecasts, some then widened, see
``benchmarks/results/forecast.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from le_callback.values import Array

SHORT, LONG = 0.2, 0.8  # of log time: windows over which slopes are read, the last fifth and half of the run
KAPPA = 1.04
COURSE = (0.12, 0.112)  # c₀ and c₁
SETTLED = 0.57  # share of the way from the last reading to the curve that is smoothed over LEVEL
LEVEL = 0.1  # of log time
RISE = (0.83, 0.9, 0.24)  # rest, share and change upwards
FALL = (0.1, 0.032)  # rest and share downwards
TREMBLE = 1.08
FLOOR, WIDTH = 0.19, 0.2  # of G: its least value, and over how much of the logarithm it falls
ROOM = (-0.67, 1.84)  # of G: the logarithm where it is half-way, and λ
WORST_ROOM = (-1.41, 2.68)  # the same of the smallest gap
WORST = (0.75, 1.6)  # of the smallest gap: factors of s↑ and s↓ but for the tremble
DEGREES = 3.7  # of freedom of the Student distribution
_LEAST = 4  # points in a window
_WHITE = 6.0  # variance of the second difference of white noise
_GRID = np.sinh(np.linspace(-9, 9, 4001))  # values at which the Student distribution is tabulated
_BELOW = student.cdf(_GRID, DEGREES)


def continued(x: Array | float, h: Array | float) -> Array:
    """Growth of y, sign(x) log(1 + κ |x| h)/κ; a falling curve is the mirror of a rising one.

    Args:
        x: elasticity at the origin.
        h: horizon in log time; both are broadcast.

    >>> continued(np.array([2.0, -2.0]), 0.5).round(4)
    array([ 0.6855, -0.6855])
    """
    x = np.asarray(x, dtype=np.float64)
    return np.asarray(np.sign(x) * np.log1p(KAPPA * np.abs(x) * h) / KAPPA)


def elasticity(log_times: Array, curves: Array, window: float) -> Array:
    """Slopes ``(n,)`` of curves ``(T, n)`` by least squares over the last ``window`` of log time, at least four points.

    >>> tau = np.linspace(0, 1, 50)
    >>> elasticity(tau, 3 * tau[:, None], 0.2).round(6)
    array([3.])
    """
    tau, y = _last(log_times, curves, window)
    centred = tau - tau.mean()
    return np.asarray(centred @ y / (centred @ centred))


def tremble(log_times: Array, curves: Array) -> Array:
    """Deviation ``(n,)`` of single readings from a smooth curve, from the median squared second difference.

    >>> noise = np.random.default_rng(0).standard_normal((2000, 1))
    >>> bool(abs(tremble(np.linspace(0.0, 0.3, 2000), noise)[0] - 1) < 0.1)
    True
    """
    _, y = _last(log_times, curves, 0.3)
    second = y[2:] - 2 * y[1:-1] + y[:-2]
    return np.asarray(np.sqrt(np.median(second**2, axis=0) / (student.ppf(0.75, 1e9) ** 2 * _WHITE)))


@dataclass(frozen=True)
class Outlook:
    """How n curves go on.

    Attributes:
        x: elasticities ``(n,)`` of the likeliest course.
        shift: from the last reading to where the curve is ``(n,)``.
        rise: scale of errors upwards, per unit of log time ``(n,)``.
        fall: the same downwards ``(n,)``.
        level_error: of single readings ``(n,)``.

    >>> rest = Outlook(np.zeros(1), np.zeros(1), np.ones(1), np.ones(1), np.zeros(1))
    >>> rest.course(2.0), rest.strays(2.0), abs(rest.quantile(0.5, 2.0).round(6))
    (array([0.]), (array([2.]), array([2.])), array([0.]))
    """

    x: Array
    shift: Array
    rise: Array
    fall: Array
    level_error: Array

    def course(self, h: float) -> Array:
        """Likeliest growth ``(n,)`` over the horizon."""
        return np.asarray(continued(self.x, h) + self.shift)

    def strays(self, h: float) -> tuple[Array, Array]:
        """Scales s↑(h) and s↓(h) ``(n,)`` of the errors."""
        return np.asarray(np.hypot(self.rise * h, self.level_error)), np.asarray(
            np.hypot(self.fall * h, self.level_error)
        )

    def quantile(self, probability: Array | float, h: float) -> Array:
        """Growth over the horizon that is not exceeded with a probability ``(..., 1)``: ``(..., n)``."""
        return self.course(h) + stray(np.asarray(probability, dtype=np.float64), *self.strays(h))


def outlook(log_times: Array, curves: Array, ratios: tuple[float, float], worst: Array | bool = False) -> Outlook:
    """From the past of n curves.

    Args:
        log_times: τ ``(T,)``, increasing.
        curves: ``(T, n)``.
        ratios: log r and log r_min now; NaN where they are not known, and then as much may be gained as far from
            separation.
        worst: which curves ``(n,)`` are those of the smallest gap.

    >>> tau = np.linspace(0, 1, 50)
    >>> found = outlook(tau, tau[:, None], (float("nan"), float("nan")))
    >>> found.x.round(3), found.rise.round(2), found.fall.round(3)
    (array([0.232]), array([1.22]), array([0.105]))
    """
    short, long = (elasticity(log_times, curves, w) for w in (SHORT, LONG))
    tau, recent = _last(log_times, curves, LEVEL)
    shift = SETTLED * (recent.mean(0) + short * (log_times[-1] - tau.mean()) - curves[-1])
    rest, share, change = RISE
    rise = np.sqrt(rest**2 + (share * short) ** 2 + (change * (short - long)) ** 2)
    rise = rise * np.where(worst, WORST[0] * room(*ratios, *WORST_ROOM), room(*ratios, *ROOM))
    fall = np.hypot(FALL[0], FALL[1] * short) * np.where(worst, WORST[1], 1.0)
    return Outlook(COURSE[0] + COURSE[1] * short, shift, rise, fall, TREMBLE * tremble(log_times, curves))


def room(median: float, least: float, middle: float, lag: float) -> float:
    """What is left to gain, G: 1 far from separation, or where the ratios are not known.

    Args:
        median: log r.
        least: log r_min.
        middle: where G is half-way between 1 and its floor.
        lag: λ, how much it counts that the worst pair lags behind.

    >>> round(room(1.0, -2.0, *ROOM), 2), round(room(2.0, 2.0, *ROOM), 2)
    (1.0, 0.19)
    """
    if np.isnan(median + least):
        return 1.0
    return float(FLOOR + (1 - FLOOR) * expit((middle - median - lag * (least - median)) / WIDTH))


def stray(probability: Array, up: Array, down: Array) -> Array:
    """Quantiles of the two-piece Student distribution: Student's on both sides of its mode, with two scales.

    Args:
        probability: of less ``(..., 1)``.
        up: scale above the mode ``(n,)``.
        down: scale below it ``(n,)``; the mass below is its share of both.

    Source: two-piece distributions, Fernández and Steel 1998.

    >>> stray(np.array([[0.25], [0.75]]), np.array([3.0]), np.array([1.0])).round(2)
    array([[0.  ],
           [3.33]])
    """
    whole = np.maximum(up + down, np.finfo(np.float64).tiny)
    below, above = down / whole, up / whole
    under = probability < below
    left = probability / np.maximum(2 * below, np.finfo(np.float64).tiny)
    right = 1 - (1 - probability) / np.maximum(2 * above, np.finfo(np.float64).tiny)
    return np.asarray(np.interp(np.where(under, left, right), _BELOW, _GRID) * np.where(under, down, up))


def _last(log_times: Array, curves: Array, window: float) -> tuple[Array, Array]:
    first = min(int(np.searchsorted(log_times, log_times[-1] - window)), max(len(log_times) - _LEAST, 0))
    return log_times[first:], curves[first:]
