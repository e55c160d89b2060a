"""Sequential evidence that something got worse: e-values of one window, and their accumulation over a run.

An e-value is a nonnegative statistic whose mean is at most 1 while all is well, given the past. With start weights
w_t ≥ 0, Σ w_t ≤ 1, the process S_t = (S_{t−1} + w_t) e_t plus the weights not yet spent is a supermartingale that
starts at 1, so that P(S_t ≥ 1/a for any t) ≤ a (Ville): one bound for the whole run, whenever the change comes.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import xlogy

from le_callback.values import Array

_HORIZON = 100.0  # windows; changes far later than this cost log(t²/horizon) of evidence
_FALLEN_TO = np.array([0.85, 0.7, 0.5, 0.3, 0.1])  # shares of the rate that the alternatives assume
_SHIFTS = np.array([1.0, 2.0, 4.0])  # standard errors that the alternatives assume
_CLIP = 6.0
_MOST_SAMPLES = 25.0  # of a class of a pair: samples of a window share one state of the network
_HEADROOM = 2.0  # nats above what an alert needs
_LARGE = 1e3  # stands for the discriminability of a pair without any deviation


def start_weight(window: int) -> float:
    """Share of the false-alarm rate for changes that start in this window, from 1: h/(t + h)², h = 100.

    >>> sum(start_weight(t) for t in range(1, 100_000)) < 1
    True
    """
    return _HORIZON / (window + _HORIZON) ** 2


def accumulate(log_sum: Array, log_e: Array, window: int, needed: float = math.inf) -> Array:
    """Log S_t = log(S_{t−1} + w_t) + log e_t, elementwise, at most a little above what is needed.

    What is above that would only keep an alert standing when its cause is over; less evidence raises no false alarm.

    Args:
        log_sum: log S_{t−1}, −∞ at first.
        log_e: log e-value of the window, of the same shape.
        window: t, from 1.
        needed: log S at which an alert is raised.

    >>> accumulate(np.array(-np.inf), np.array(0.0), 1).round(2)
    np.float64(-4.63)
    """
    return np.minimum(np.logaddexp(log_sum, math.log(start_weight(window))) + log_e, needed + _HEADROOM)


def rate_evidence(hits: float, tried: float, rate: float, most_samples: float, most: float) -> float:
    """Log e-value of a window that a success rate is below ``rate``: a mixture of likelihood ratios.

    Samples of a window share one state of the network and are no independent draws: their evidence counts as that of
    at most ``most_samples``, and for at most ``most`` nats, so that no single window raises an alarm. Both only lower
    an e-value.

    Args:
        hits: successes of the window.
        tried: samples of the window.
        rate: success rate while all is well, in (0, 1]; nothing is judged for other values.
        most_samples: that count as independent.
        most: nats of a window.

    >>> rate_evidence(45, 50, 0.8, 50, 6.0) < 0 < rate_evidence(20, 50, 0.8, 50, 6.0)
    True
    """
    if tried <= 0 or not 0 < rate <= 1:
        return 0.0
    rate = min(rate, 1 - 1e-3)
    q = rate * _FALLEN_TO
    log_ratio = xlogy(hits, q / rate) + xlogy(tried - hits, (1 - q) / (1 - rate))
    mixture = float(np.logaddexp.reduce(log_ratio) - math.log(len(q)))
    return min(mixture * min(1.0, most_samples / tried), most)


def shift_evidence(z: Array, most: float) -> Array:
    """Log e-value that a standard normal statistic is below zero on average; 0 where ``z`` is NaN.

    Args:
        z: statistics of any shape.
        most: nats of a window.

    >>> shift_evidence(np.array([2.0, -4.0, np.nan]), 6.0).round(1)
    array([-3.6,  6. ,  0. ])
    """
    bounded = np.maximum(np.nan_to_num(z), -_CLIP)[..., None]
    log_ratio = np.logaddexp.reduce(-_SHIFTS * bounded - _SHIFTS**2 / 2, axis=-1) - math.log(len(_SHIFTS))
    return np.where(np.isnan(z), 0.0, np.minimum(log_ratio, most))


def pair_evidence(D: Array, samples: Array, floor: Array, most: float) -> Array:
    """Log e-values (K, K) that the discriminability of a pair is below ``floor``.

    By the delta method D has variance 1/n_k + 1/n_l + D²/(2(n_k + n_l − 2)); the heavy tail of few degrees of freedom
    is mapped to that of a normal deviate.

    Args:
        D: (K, K) signed discriminabilities, NaN where unknown.
        samples: (K,) n.
        floor: (K, K), NaN where nothing is judged.
        most: nats of a window.

    >>> D, floor = np.array([[0.0, 4.0, 0.1], [4.0, 0.0, 4.0], [0.1, 4.0, 0.0]]), np.full((3, 3), 1.5)
    >>> pair_evidence(D, np.full(3, 20.0), floor, 6.0)[0].round(1)
    array([ 6. , -7. ,  5.3])
    """
    n = np.minimum(samples, _MOST_SAMPLES)
    dof = n[:, None] + n[None, :] - 2
    usable = (n[:, None] >= 2) & (n[None, :] >= 2) & (dof >= 4)
    n, dof = np.maximum(n, 1), np.maximum(dof, 1)
    error = np.sqrt(1 / n[:, None] + 1 / n[None, :] + floor**2 / (2 * dof))
    z = (np.clip(D, -_LARGE, _LARGE) - floor) / error
    z = z * (1 - 1 / (4 * dof)) / np.sqrt(1 + z**2 / (2 * dof))
    return shift_evidence(np.where(usable, z, np.nan), most)
