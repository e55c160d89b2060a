"""How a log growth curve goes on in log time, and how far it may stray: what trainings have shown.

Legend: τ = log t, T times, n curves, h = log(t/t*) horizon after the present t*. A curve y(τ) has the elasticity
x = dy/dτ (per unit of log time: gap ~ t^x locally). r: median over the pairs of gap over within-class deviation.

A curve goes on by y(t) − y(t*) = log(1 + κ x h)/κ, between a power law (κ = 0) and a log law (κ = 1), from an
elasticity x that is a weighted sum of its slopes over two windows, less where the classes are separated already. Its
error is Student's t times

    s(h)² = (rest² + share² x² + change² (x_short − x_long)²) h² + tremble² e²

with e the deviation of single readings from a smooth curve. The numbers are those of largest likelihood on trainings
that are kept apart from those which judge the forecasts, see ``benchmarks/results/forecast.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from le_callback.values import Array

SHORT, LONG = 0.2, 0.8  # of log time: windows over which slopes are read, the last fifth and half of the run
KAPPA = 0.47
WEIGHTS = (0.56, 0.65)  # of both slopes
GATE = (0.13, 1.19, 3.2, 0.89)  # least and largest factor of the elasticity; power of 1/r, and log r of factor 1
SETTLED = 0.5  # share of the way from the last reading to the curve that is smoothed over LEVEL
LEVEL = 0.1  # of log time
REST, SHARE, CHANGE, TREMBLE = 0.21, 0.38, 0.45, 1.1
DEGREES = 2.7  # of freedom of the Student distribution
_LEAST = 4  # points in a window
_WHITE = 6.0  # variance of the second difference of white noise


def continued(x: Array | float, h: Array | float) -> Array:
    """Growth of y, sign(x) log(1 + κ |x| h)/κ; a falling curve is the mirror of a rising one.

    Args:
        x: elasticity at the origin.
        h: horizon in log time; both are broadcast.

    >>> continued(np.array([2.0, -2.0]), 0.5).round(4)
    array([ 0.8197, -0.8197])
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
        x: elasticities ``(n,)`` with which they go on.
        shift: from the last reading to where the curve is ``(n,)``.
        slope_error: of the elasticity ``(n,)``, in units of the Student factor.
        level_error: of single readings ``(n,)``, in the same units.

    >>> rest = Outlook(np.zeros(1), np.zeros(1), np.ones(1), np.zeros(1))
    >>> rest.median(2.0), rest.error(2.0)
    (array([0.]), array([2.]))
    """

    x: Array
    shift: Array
    slope_error: Array
    level_error: Array

    def median(self, h: float) -> Array:
        """Expected growth ``(n,)`` over the horizon."""
        return np.asarray(continued(self.x, h) + self.shift)

    def error(self, h: float) -> Array:
        """Scale s(h) ``(n,)`` of the error."""
        return np.asarray(np.hypot(self.slope_error * h, self.level_error))


def outlook(log_times: Array, curves: Array, log_ratio: float) -> Outlook:
    """From the past of n curves.

    Args:
        log_times: τ ``(T,)``, increasing.
        curves: ``(T, n)``.
        log_ratio: log r now; NaN where it is not known, and then the elasticity is taken as it is.

    >>> tau = np.linspace(0, 1, 50)
    >>> outlook(tau, tau[:, None], float("nan")).x.round(3)
    array([1.21])
    """
    short, long = (elasticity(log_times, curves, w) for w in (SHORT, LONG))
    low, high, power, middle = GATE
    gate = 1.0 if np.isnan(log_ratio) else float(np.clip(np.exp(-power * (log_ratio - middle)), low, high))
    x = gate * (WEIGHTS[0] * short + WEIGHTS[1] * long)
    tau, recent = _last(log_times, curves, LEVEL)
    shift = SETTLED * (recent.mean(0) + short * (log_times[-1] - tau.mean()) - curves[-1])
    slope_error = np.sqrt(REST**2 + (SHARE * x) ** 2 + (CHANGE * (short - long)) ** 2)
    return Outlook(x, shift, slope_error, TREMBLE * tremble(log_times, curves))


def factor(probability: Array) -> Array:
    """Quantiles of the Student factor.

    >>> factor(np.array([0.5])) + 0.0
    array([0.])
    """
    return np.asarray(student.ppf(probability, DEGREES))


def _last(log_times: Array, curves: Array, window: float) -> tuple[Array, Array]:
    first = min(int(np.searchsorted(log_times, log_times[-1] - window)), max(len(log_times) - _LEAST, 0))
    return log_times[first:], curves[first:]
