"""Functions of time that α, β, γ and the growth of a mode are made of within a window.

Legend: m times of a window, order: number of functions; times in steps.
"""

from __future__ import annotations

import numpy as np

from le_callback.elasticity.increments import Channels
from le_callback.values import Array


def rate_basis(times: Array, at: float, window: Array, order: int) -> Array:
    """Functions φ_j ``(m, order)`` of time of which α, β, γ are sums in a window: φ_0 = 1, φ_j(at) = 0 for j > 0.

    Coefficients that fall as t^(−r) are followed best by such powers: φ_1 = t*/t − 1, φ_2 = (t*/t)^½ − 1,
    φ_3 = (t/t*)^½ − 1, … with t* = ``at``. Constants and 1/t, the critical rate, are exact from order 2 on; the bias at
    t^(−½) is a third of that of a polynomial of equal degree. Far from the origin they are that polynomial. Windows
    that start within their own length of t = 0 use times shifted by what is missing.

    >>> t = np.array([200.0, 400.0])
    >>> rate_basis(t, 200.0, t, 2)[:, 1]
    array([ 0. , -0.5])
    """
    shift = _shift(window)
    ratio = (times + shift) / (at + shift)
    return np.stack([np.ones_like(ratio)] + [ratio**e - 1 for e in _exponents(order)], axis=-1)


def growth_basis(times: Array, at: float, order: int) -> Array:
    """Integrals ``(m, order)`` of ``rate_basis`` over time, up to constants; ``times`` is the window.

    >>> growth_basis(np.array([100.0, 400.0]), 100.0, 2)[:, 0]
    array([300., 600.])
    """
    shift = _shift(times)
    t, where = times + shift, at + shift
    columns = [t]
    for e in _exponents(order):
        power = np.log(t / where) if e == -1 else (t / where) ** (e + 1) / (e + 1)
        columns.append(where * power - t)
    return np.stack(columns, axis=-1)


def polynomial_basis(times: Array, at: float, order: int) -> Array:
    """(t − at)^j / h^(j−1), j = 1 … order, with h half the window: the first coefficient is the derivative at ``at``.

    >>> polynomial_basis(np.arange(3.0), 1.0, 2)
    array([[-1.,  1.],
           [ 0.,  0.],
           [ 1.,  1.]])
    """
    half = (times[-1] - times[0]) / 2
    return np.stack([(times - at) ** j / half ** (j - 1) for j in range(1, order + 1)], axis=-1)


def _exponents(order: int) -> list[float]:
    return [-1.0, -0.5, *(0.5 * j for j in range(1, order))][: order - 1]


def _shift(window: Array) -> float:
    """What a window's start lacks to be its own length away from t = 0."""
    return float(max(0.0, window[-1] - 2 * window[0]))


def growth_channels(values: Array, noise: Array, process: Array, basis: Array) -> Channels:
    """Channel ``(1, m − 1)`` of a growth curve whose mean is a sum of basis functions and a constant.

    Args:
        values: y ``(m,)``.
        noise: sampling variance of each value ``(m,)``.
        process: variance of each increment in units of q ``(m − 1,)``.
        basis: ``(m, order)``.

    >>> t = np.arange(3.0)
    >>> growth_channels(2 * t, 0 * t, np.ones(2), polynomial_basis(t, 1.0, 1)).design[0, :, 0]
    array([1., 1.])
    """
    return Channels(np.diff(values)[None], np.diff(basis, axis=0)[None], process[None], noise[None])
