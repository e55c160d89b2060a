"""Drift regression: α and β from dX̄ = (αU + βV) dt + noise, by maximum likelihood on two projections.

All that the increments say of α and β lies along U and V. They are projected on two fixed unit vectors e_1, e_2 that
span U and V of a reference taken *before* the window, so that the vectors know nothing of the window's noise:

    ⟨e_c, ΔX̄⟩ = ∫ (α⟨e_c, U⟩ + β⟨e_c, V⟩) dt + process noise + sampling noise,   c = 1, 2.

Six scalars a time, and two noise variances, are sufficient statistics (``Projections``). Projection on fixed
vectors avoids the errors-in-variables bias of the Gram matrix, which grows with the number of dimensions: what is left,
of the order of noise²/signal² along one direction, cancels between increments because the regressor is symmetric in
time about its increment.

Legend: T times, K classes, p dimensions, m levels of a window, C = 2 channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from le_callback.elasticity.growth import rate_basis
from le_callback.elasticity.increments import Channels
from le_callback.values import Array


@dataclass(frozen=True)
class Projections:
    """Sufficient statistics of the regression at T times.

    Attributes:
        x, u, v: X̄, U and V along e_1 and e_2, ``(C, T)``.
        noise: sampling variance of x, ``(C, T)``.

    >>> Projections(*np.ones((4, 2, 5))).noise.shape
    (2, 5)
    """

    x: Array
    u: Array
    v: Array
    noise: Array


def reference_basis(U: Array, V: Array) -> Array:
    """Orthonormal e ``(2, K, p)`` that spans the reference U and V ``(K, p)``: first U + V, then what is left of U.

    If U and V are parallel the second vector is zero, and only one combination of α and β is identifiable.

    >>> e = reference_basis(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    >>> np.abs(e @ e[0].T).round(6).ravel()
    array([1., 0.])
    """
    total, own = (U + V).ravel(), U.ravel()
    size = np.sqrt((U**2).sum() + (V**2).sum()) + 1e-300
    if np.linalg.norm(total) < 1e-9 * size:
        total = (U - V).ravel()
    first = total / max(float(np.linalg.norm(total)), 1e-300)
    rest = own - (own @ first) * first
    rest = rest - (rest @ first) * first
    length = np.linalg.norm(rest)
    second = rest / length if length > 1e-9 * size else np.zeros_like(rest)
    return np.stack([first, second]).reshape(2, *U.shape)


def interval_integrals(f: Array, dt: Array) -> Array:
    """∫f over each step ``(..., T − 1)`` from levels ``(..., T)``: cubic where steps are equal, else the trapezoid.

    >>> interval_integrals(np.arange(4.0) ** 3, np.ones(3))
    array([ 0.5 ,  3.75, 17.5 ])
    """
    total = (f[..., :-1] + f[..., 1:]) * dt / 2
    if len(dt) >= 3:
        equal = (np.abs(dt[:-2] - dt[1:-1]) < 1e-9 * dt[1:-1]) & (np.abs(dt[2:] - dt[1:-1]) < 1e-9 * dt[1:-1])
        bend = f[..., 1:-2] + f[..., 2:-1] - f[..., :-3] - f[..., 3:]
        total[..., 1:-1] += np.where(equal, bend * dt[1:-1] / 24, 0.0)
    return np.asarray(total)


def regression_channels(times: Array, data: Projections, window: slice, order: int, at: float) -> Channels:
    """Channels of one window; coefficients (α_0, α_1, …, β_0, β_1, …) of α(t) = Σ_j α_j φ_j(t), j < ``order``.

    φ is ``growth.rate_basis``. α_0 and β_0 are the coefficients at ``at``.

    Args:
        times: ``(T,)``.
        data: projections, that know nothing of the window.
        window: levels of the window.
        order: functions of time.
        at: a time.

    >>> t = np.arange(5.0)
    >>> data = Projections(*(np.ones((2, 5)) for _ in range(4)))
    >>> regression_channels(t, data, slice(0, 5), 1, 2.0).design.shape
    (2, 4, 2)
    """
    a, b = window.start, window.stop
    outer = slice(max(a - 1, 0), b)  # nothing after the window: causal
    steps = slice(a - outer.start, a - outer.start + b - a - 1)
    dt = np.diff(times[outer])
    u, v = (interval_integrals(f[:, outer], dt)[:, steps] for f in (data.u, data.v))
    t = times[a:b]
    powers = rate_basis((t[:-1] + t[1:]) / 2, at, t, order)  # (m − 1, order)
    design = np.concatenate([u[..., None] * powers, v[..., None] * powers], axis=-1)
    process = np.broadcast_to(np.diff(t), u.shape)
    return Channels(np.diff(data.x[:, a:b]), design, process, data.noise[:, a:b])


def instant_covariance(data: Projections, process_variance: Array, i: int) -> tuple[Array, Array]:
    """Noise of the cumulative (A, B): per unit time from process noise, and from sampling at time i, ``(2, 2)`` each.

    With Z the matrix of ⟨e_c, U⟩, ⟨e_c, V⟩: Z⁻¹ diag(q) Z⁻ᵀ and Z⁻¹ diag(r) Z⁻ᵀ.

    >>> unit = Projections(np.ones((2, 1)), np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    >>> instant_covariance(unit, np.array([4.0, 9.0]), 0)[0].diagonal()
    array([4., 9.])
    """
    inverse = np.linalg.pinv(np.stack([data.u[:, i], data.v[:, i]], axis=1))
    return inverse * process_variance @ inverse.T, inverse * data.noise[:, i] @ inverse.T
