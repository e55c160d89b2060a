"""The LE-ODE of two-parameter models under balanced sampling, exact by its two modes.

Legend: K classes, p dimensions, d_k directions, y_k = ⟨d_k, X̄_k⟩/‖d_k‖², u and v log growth of common and difference
mode. N intervals between grid points, m Gauss–Legendre nodes in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from le_callback.elasticity.sampling_noise import directions_of
from le_callback.errors import require
from le_callback.similarity import LEModel
from le_callback.simulation.strengths import Strengths
from le_callback.values import Array

_NODES = 8
_SIMPLEX = 1e-12


@dataclass(frozen=True)
class Growth:
    """Integrals over time, as ``growth`` takes them.

    Attributes:
        A, B: ∫α and ∫β ``(N + 1,)`` from the first grid point to each.
        C: ∫β exp((A + B/(K−1))/K) ``(N + 1,)``.

    >>> Growth(np.array([0.0, 1.0]), np.zeros(2), np.zeros(2)).A
    array([0., 1.])
    """

    A: Array
    B: Array
    C: Array


def has_exact_modes(model: LEModel, num_classes: int) -> bool:
    """Whether :func:`mode_solution` holds for the model.

    >>> from le_callback.similarity import IModel
    >>> has_exact_modes(IModel(), 3)
    True
    """
    return model.has_modes(num_classes, _SIMPLEX * num_classes)


def growth(strengths: Strengths, grid: Array, num_classes: int) -> Growth:
    """Integrals of α, β over the grid by 8-point Gauss–Legendre: exact for polynomials up to degree 15 between points.

    Args:
        strengths: of two numbers α and β.
        grid: ``(N + 1,)``, with the breaks of the strengths among its points.
        num_classes: K.

    Raises:
        ValueError: strengths that are a matrix E.

    >>> from le_callback.similarity import IModel
    >>> from le_callback.simulation.strengths import as_strengths
    >>> strengths = as_strengths((lambda t: 2 * t, 0.0), np.zeros(1), 2, IModel())
    >>> growth(strengths, np.array([0.0, 1.0, 3.0]), 2).A.round(12)
    array([0., 1., 9.])
    """
    require(strengths.pair is not None, "strengths", "a matrix E", "two numbers α, β")
    assert strengths.pair is not None
    K, N = num_classes, len(grid) - 1
    c, w = legendre.leggauss(_NODES)
    half = np.diff(grid)[:, None] / 2  # (N, 1)
    nodes = (grid[:-1, None] + half) + half * c
    alpha, beta = (f.reshape(N, _NODES) * half for f in strengths.pair(nodes.ravel()))
    partial = _collocation(c)  # ∫ from the left end to each node

    def cumulative(f: Array) -> Array:
        return np.concatenate([[0.0], np.cumsum(f @ w)])

    A, B = cumulative(alpha), cumulative(beta)
    V = ((A[:-1, None] + alpha @ partial.T) + (B[:-1, None] + beta @ partial.T) / (K - 1)) / K
    return Growth(A, B, cumulative(beta * np.exp(V)))


def mode_solution(x0: Array, integrals: Growth, model: LEModel) -> Array:
    """X̄ ``(N + 1, K, p)`` at the grid points from ``x0 (K, p)``.

    I-model: X̌ grows as e^u, u = (A + (K−1)B)/K, and X̄_k − X̌ as e^v, v = (A − B)/K.

    L-model and simplex directions, ȳ growing as e^u, u = (A − B)/K, and δ_k = y_k − ȳ as e^v, v = (A + B/(K−1))/K:
    X̄_k = X̄_k(0) + d_k ȳ(0)(e^u − 1) + d_k δ_k(0) (e^v − 1 − C/(K−1)) + C/K Σ_j d_j δ_j(0), with C = ∫β e^v.
    C does not follow from A and B alone: parts of X̄_k across d_k depend on the path of β, too.

    Args:
        x0: ``(K, p)``.
        integrals: A, B, C at the grid points.
        model: I, L, or simplex directions.

    Source: Zhang, Wang, Su 2021, eq. 19.

    >>> from le_callback.similarity import IModel
    >>> from le_callback.simulation.strengths import as_strengths
    >>> integrals = growth(as_strengths((1.0, 0.5), np.zeros(1), 2, IModel()), np.array([0.0, 1.0]), 2)
    >>> mode_solution(np.array([[1.0], [1.0]]), integrals, IModel())[1].round(3).ravel()  # exp(0.75)
    array([2.117, 2.117])
    """
    K = len(x0)
    directions = directions_of(model, K)
    A, B = integrals.A, integrals.B
    if directions is None:
        return flow(x0, (A + (K - 1) * B) / K, (A - B) / K)
    return flow(x0, (A - B) / K, (A + B / (K - 1)) / K, integrals.C, directions)


def flow(x: Array, u: Array, v: Array, C: Array | None = None, directions: Array | None = None) -> Array:
    """What class means become as the log common mode grows by u, the log difference mode by v, see ``mode_solution``.

    Args:
        x: ``(..., K, p)``.
        u: ``(...)``, each for one of ``x`` or all for the same.
        v: ``(...)``.
        C: ∫β exp(v) ``(...)``, with directions.
        directions: ``(K, p)``; None for the I-model.

    >>> flow(np.array([[1.0], [3.0]]), np.zeros(1), np.log([2.0])).ravel()
    array([0., 4.])
    """
    u, v = np.asarray(u)[..., None, None], np.asarray(v)[..., None, None]
    if directions is None:
        centre = x.mean(-2, keepdims=True)
        return np.asarray(np.exp(u) * centre + np.exp(v) * (x - centre))
    K = len(directions)
    C = np.asarray(C)[..., None, None]
    y = ((x * directions).sum(-1) / (directions**2).sum(-1))[..., None]  # (..., K, 1)
    common = y.mean(-2, keepdims=True)
    delta = y - common
    own = common * np.expm1(u) + delta * (np.expm1(v) - C / (K - 1))
    return np.asarray(x + directions * own + C / K * (directions * delta).sum(-2, keepdims=True))


def steady_coupling(u: Array, v: Array, num_classes: int) -> Array:
    """C = ∫β exp(v) over a time in which α and β are constant, of direction models.

    >>> float(steady_coupling(np.array(0.0), np.array(0.5), 3).round(4))  # β = (K − 1)(v − u)
    1.2974
    """
    still = np.abs(v) < 1e-12
    average = np.where(still, 1.0, np.expm1(v) / np.where(still, 1.0, v))
    return np.asarray((num_classes - 1) * (v - u) * average)


def _collocation(c: Array) -> Array:
    """Weights ``(m, m)`` of ∫_{−1}^{c_i} of the polynomial through values at the nodes c."""
    m = len(c)
    higher = legendre.legvander(c, m)
    k = np.arange(1, m)
    integral = np.column_stack([c + 1, (higher[:, 2:] - higher[:, :-2]) / (2 * k + 1)])
    return np.asarray(np.linalg.solve(legendre.legvander(c, m - 1).T, integral.T).T)
