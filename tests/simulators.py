"""LE-ODE and LE-SDE by matrix exponentials of the full Kp × Kp drift. Shares no code with the estimators."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.linalg import expm


def identity_blocks(K, p):
    return np.broadcast_to(np.eye(p), (K, K, p, p)).copy()


def direction_blocks(directions):
    """H_ij = d_j d_jᵀ/‖d_j‖²."""
    K, p = directions.shape
    blocks = np.empty((K, K, p, p))
    for j in range(K):
        blocks[:, j] = np.outer(directions[j], directions[j]) / (directions[j] @ directions[j])
    return blocks


def logit_directions(K):
    return np.eye(K) - 1 / K


def drift(E, P, blocks):
    """M = (E ∘ P) ∘ H as one Kp × Kp matrix."""
    K, _, p, _ = blocks.shape
    M = np.zeros((K * p, K * p))
    for i in range(K):
        for j in range(K):
            M[i * p : (i + 1) * p, j * p : (j + 1) * p] = E[i, j] * P[i, j] * blocks[i, j]
    return M


def le_matrix(alpha, beta, K):
    return np.full((K, K), beta) + (alpha - beta) * np.eye(K)


def simulate(E, P, blocks, start, times, *, sigma=0.0, runs=1, rng=None, substeps=4):
    """Class means (runs, T, K, p) of dX = M(t) X dt + sigma dW, from ``start`` (K, p).

    E(t) gives the K × K matrix. Each substep is the exact flow of M at its middle, with the noise put in
    there: the local error is of third order in the substep.
    """
    K, p = start.shape
    X = np.tile(start.ravel(), (runs, 1))
    path = [X]
    flows: dict[bytes, tuple] = {}
    for t0, t1 in pairwise(times):
        h = (t1 - t0) / substeps
        for s in range(substeps):
            matrix = np.asarray(E(t0 + (s + 0.5) * h))
            key = matrix.tobytes() + np.float64(round(h, 12)).tobytes()
            if key not in flows:
                if len(flows) > 4:
                    flows.clear()
                flows[key] = (expm(h / 2 * drift(matrix, P, blocks)),)
            (half,) = flows[key]
            X = X @ half.T
            if sigma:
                X = X + sigma * np.sqrt(h) * rng.standard_normal(X.shape)
            X = X @ half.T
        path.append(X)
    return np.stack(path, axis=1).reshape(runs, len(times), K, p)


def simulated_growth(gamma, runs, sigma, seed):
    """G of ``runs`` LE-SDEs (I-model, K = 3, p = 4), one value for 50 of 10,000 steps, from the difference mode.

    Times (T,), G (runs, T), the sampling variance of G (runs, T), from that of the class means, and 1/amplitude².
    """
    K, p, window, steps = 3, 4, 50, 10_000
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((K, p))
    times = np.arange(window, steps + 1, window, dtype=float)
    means = simulate(
        lambda t: le_matrix(gamma(t), 0.0, K), np.full((K, K), 1 / K), identity_blocks(K, p), start, times,
        sigma=sigma, runs=runs, rng=rng, substeps=1,
    )  # fmt: skip
    means = means + 0.02 * rng.standard_normal(means.shape)
    square = ((means - means.mean(2, keepdims=True)) ** 2).sum((2, 3))
    square = square - 0.02**2 * (K - 1) * p
    return times, K / 2 * np.log(square / square[:, :1]), K**2 * 0.02**2 / square, 1 / square
