"""The linear LE dynamics on the stacked vector: its drift in few coordinates, and its flow by matrix exponentials.

Legend: K classes, p dimensions, r ≤ K rank of the directions, n coordinates that the drift couples, m columns that
share the drift, N intervals; G (n, n) drift, Φ (n, n) flow, Q (n, n) covariance, W = E ∘ P (K, K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.elasticity.sampling_noise import directions_of
from le_callback.similarity import LEModel
from le_callback.simulation.strengths import Rate
from le_callback.values import Array

_CHUNK = 2**22  # numbers in one batch of matrix exponentials


@dataclass(frozen=True)
class Space:
    """Coordinates in which the drift acts.

    I-model: the classes couple, each dimension alone: n = K, m = p. Directions: only the part of the features in the
    span of the directions, ``basis (p, r)``, moves: n = Kr, m = 1. Else n = Kp, m = 1. What is across the basis does
    not drift.

    Attributes:
        blocks: similarity in coordinates ``(K, K, r, r)``; None: identity.
        basis: orthonormal columns ``(p, r)``; None: all of R^p.

    >>> Space(None, None).drift(np.ones((2, 2))).shape
    (2, 2)
    """

    blocks: Array | None
    basis: Array | None

    def drift(self, W: Array) -> Array:
        """G ``(..., n, n)`` from W ``(..., K, K)``."""
        if self.blocks is None:
            return W
        K, r = len(self.blocks), self.blocks.shape[-1]
        G = np.einsum("...ij,ijab->...iajb", W, self.blocks)
        return np.asarray(G.reshape(*W.shape[:-2], K * r, K * r))

    def enter(self, x: Tensor) -> Tensor:
        """Coordinates ``(..., n, m)`` of features ``(..., K, p)``."""
        if self.blocks is None:
            return x
        c = x if self.basis is None else x @ torch.as_tensor(self.basis).to(x)
        return c.flatten(-2).unsqueeze(-1)

    def leave(self, c: Tensor, num_classes: int) -> Tensor:
        """Features ``(..., K, p)`` of coordinates ``(..., n, m)``, zero across the basis."""
        if self.blocks is None:
            return c
        x = c.reshape(*c.shape[:-2], num_classes, -1)
        if self.basis is None:
            return x
        moved: Tensor = x @ torch.as_tensor(self.basis).to(x).T
        return moved


def space_of(model: LEModel, num_classes: int, dimensions: int, *, full: bool = False) -> Space:
    """The smallest space for the model.

    Args:
        model: gives H.
        num_classes: K.
        dimensions: p.
        full: keep all dimensions together, as covariances that mix them need.

    >>> from le_callback.similarity import LModel
    >>> space_of(LModel(), 3, 3).basis.shape
    (3, 2)
    """
    K, p = num_classes, dimensions
    if not model.couples_dimensions and not full:
        return Space(None, None)
    unit = torch.eye(p, dtype=torch.float64).unsqueeze(1).expand(p, K, p)  # every class at e_a
    blocks = np.stack([model.pulls(unit, i).numpy() for i in range(K)])  # (K, p, K, p): H_ij e_a
    blocks = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1))  # (K, K, p, p)
    directions = directions_of(model, K)
    if directions is None or full:
        return Space(blocks, None)
    _, size, rows = np.linalg.svd(directions, full_matrices=False)
    basis = rows[size > 1e-12 * size[0]].T
    return Space(np.einsum("ar,ijab,bs->ijrs", basis, blocks, basis), basis)


@dataclass(frozen=True)
class Flows:
    """One linear Gaussian step an interval: c ↦ Φ c + shift + N(0, Q) in every column.

    Attributes:
        flow: Φ ``(N, n, n)``.
        shift: ``(N, n, m)`` or None.
        covariance: Q ``(N, n, n)`` or None.

    >>> Flows(np.eye(2)[None], None, None).flow.shape
    (1, 2, 2)
    """

    flow: Array
    shift: Array | None
    covariance: Array | None


def flows(
    drift: Rate,
    grid: Array,
    affine: Rate | None = None,
    diffusion: Callable[[Array], Array] | None = None,
) -> Flows:
    """Steps of dc = (G c + R) dt + S^½ dB over the intervals of ``grid (N + 1,)``.

    Fourth-order Magnus rule on the two Gauss points of each interval, exact where G, R and S are constant in it or, for
    Φ, where G(t) commutes with itself and is a cubic in t. Q = Y Φᵀ from [Y; Z]′ = [[G, S], [0, −Gᵀ]] [Y; Z], Y = 0 and
    Z = 1 at the start (Van Loan's block exponential), under the same rule.

    Args:
        drift: times ``(n_t,)`` to G ``(n_t, n, n)``.
        grid: ends of the intervals.
        affine: times to R ``(n_t, n, m)``.
        diffusion: times to S ``(n_t, n, n)``.

    >>> decay = flows(lambda t: -np.ones((len(t), 1, 1)), np.array([0.0, 1.0]), None, lambda t: np.ones((len(t), 1, 1)))
    >>> decay.flow.round(4).item(), decay.covariance.round(4).item()  # exp(−1) and (1 − exp(−2))/2
    (0.3679, 0.4323)
    """
    N = len(grid) - 1
    n = drift(grid[:1]).shape[-1]
    size = max(1, _CHUNK // (4 * n * n))
    parts = [_flows(drift, grid[a : a + size + 1], affine, diffusion) for a in range(0, N, size)]
    if not parts:
        return Flows(np.zeros((0, n, n)), None, None)

    def joined(name: str) -> Array | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else np.concatenate(found)

    flow = joined("flow")
    assert flow is not None
    return Flows(flow, joined("shift"), joined("covariance"))


def _flows(drift: Rate, grid: Array, affine: Rate | None, diffusion: Callable[[Array], Array] | None) -> Flows:
    h = np.diff(grid)
    middle, offset = (grid[1:] + grid[:-1]) / 2, h * np.sqrt(3) / 6
    early, late = middle - offset, middle + offset
    h = h[:, None, None]
    G1, G2 = drift(early), drift(late)
    n = G1.shape[-1]
    omega = _magnus(G1, G2, h)
    shift = covariance = None
    if diffusion is None:
        flow = _exp(omega)
    else:
        S1, S2 = diffusion(early), diffusion(late)
        scale = max(float(np.abs(S1).max(initial=0)), float(np.abs(S2).max(initial=0)), 1e-300)
        H1, H2 = (
            np.block([[G, S / scale], [np.zeros_like(G), -np.swapaxes(G, -1, -2)]]) for G, S in ((G1, S1), (G2, S2))
        )
        F = _exp(_magnus(H1, H2, h))
        flow = F[:, :n, :n]
        covariance = F[:, :n, n:] @ np.swapaxes(flow, -1, -2) * scale
        covariance = (covariance + np.swapaxes(covariance, -1, -2)) / 2
    if affine is not None:
        R1, R2 = affine(early), affine(late)
        term = h / 2 * (R1 + R2) - np.sqrt(3) / 12 * h**2 * (G1 @ R2 - G2 @ R1)
        one = np.broadcast_to(np.eye(n), omega.shape)
        block = np.block([[omega, one], [np.zeros_like(omega), np.zeros_like(omega)]])
        shift = _exp(block)[:, :n, n:] @ term  # φ₁(Ω) = ∫₀¹ exp(sΩ) ds
    return Flows(flow, shift, covariance)


def _magnus(G1: Array, G2: Array, h: Array) -> Array:
    return np.asarray(h / 2 * (G1 + G2) - np.sqrt(3) / 12 * h**2 * (G1 @ G2 - G2 @ G1))


def _exp(matrices: Array) -> Array:
    return np.asarray(torch.linalg.matrix_exp(torch.from_numpy(np.ascontiguousarray(matrices))).numpy())


def square_roots(covariances: Array) -> Array:
    """L ``(..., n, n)`` with LLᵀ the covariance; eigenvalues below zero by rounding count as zero.

    >>> square_roots(np.array([[4.0]]))
    array([[2.]])
    """
    values, vectors = np.linalg.eigh(covariances)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[..., None, :])


def refined(times: Array, breaks: Array, substeps: int) -> tuple[Array, NDArray[np.intp]]:
    """Grid with the breaks between the times and ``substeps`` equal parts of each piece; and where the times are in it.

    Args:
        times: ``(T,)``.
        breaks: in any order; those outside of the times are left out.
        substeps: parts of each piece.

    >>> refined(np.array([0.0, 2.0]), np.array([1.0, 5.0]), 2)
    (array([0. , 0.5, 1. , 1.5, 2. ]), array([0, 4]))
    """
    if len(times) == 1:
        return times, np.zeros(1, dtype=np.intp)
    inside = breaks[(breaks > times[0]) & (breaks < times[-1])]
    points = np.unique(np.concatenate([times, inside]))
    near = np.concatenate([[False], np.diff(points) < 1e-12 * (times[-1] - times[0])])
    points = np.union1d(points[~near], times)
    steps = np.diff(points)[:, None] * (np.arange(substeps) / substeps)
    grid = np.append((points[:-1, None] + steps).ravel(), times[-1])
    return grid, np.searchsorted(grid, times)


def gauss_integrals(f: Rate, grid: Array) -> Array:
    """Integrals ``(N, ...)`` of f over the intervals of the grid, by two Gauss points each.

    >>> gauss_integrals(lambda t: t**3, np.array([0.0, 2.0])).round(12)
    array([4.])
    """
    h = np.diff(grid)
    middle, offset = (grid[1:] + grid[:-1]) / 2, h * np.sqrt(3) / 6
    total = f(middle - offset) + f(middle + offset)
    return np.asarray(total * (h / 2).reshape(-1, *[1] * (total.ndim - 1)))


def across_basis(affine: Rate, grid: Array, basis: Array) -> Array:
    """Displacement ``(N, K, p)`` in each interval by the part of R across the basis.

    Args:
        affine: times ``(n_t,)`` to R ``(n_t, K, p)``.
        grid: ``(N + 1,)``.
        basis: orthonormal columns ``(p, r)``.

    >>> across_basis(lambda t: np.ones((len(t), 1, 2)), np.array([0.0, 2.0]), np.array([[1.0], [0.0]])).ravel()
    array([0., 2.])
    """
    R = gauss_integrals(affine, grid)
    return np.asarray(R - R @ basis @ basis.T)
