"""The whole LE matrix E(t): who is changed (rows) by whom (columns).

Row i obeys dX̄_i = Σ_j E_ij P_ij H_ij X̄_j dt + noise: p equations a step for K unknowns.

Legend: T times, K classes, p dimensions, W windows, n steps of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.inputs import Run, as_sampling
from le_callback.elasticity.regression import interval_integrals
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.values import Array


@dataclass(frozen=True)
class LEMatrix:
    """Estimated LE matrices of W windows.

    Attributes:
        times: middle of each window ``(W,)``.
        E: ``(W, K, K)``, per unit of time; rows: who is changed, columns: who is trained.
        error: standard errors ``(W, K, K)``.
        status: "ok", or what is missing and why.

    >>> LEMatrix(np.zeros(1), np.eye(2)[None], np.zeros((1, 2, 2)), "ok").E[0, 0]
    array([1., 0.])
    """

    times: Array
    E: Array
    error: Array
    status: str


def estimate_le_matrix(
    means: Any,
    times: Any = None,
    *,
    model: LEModel | str,
    priors: Any = None,
    noise: Any = None,
    window: int | None = None,
    symmetric: bool = False,
) -> LEMatrix:
    """Estimate E(t) in windows that do not overlap, constant within each.

    Instruments Z are the regressors at the level *before* each step: they know nothing of the step's noise, process or
    sampling, so that E_i = (ZᵀR)⁻¹ Zᵀ ΔX̄_i has no errors-in-variables bias. R is the integral of the regressors
    over the step. Standard errors: (ZᵀR)⁻¹ Zᵀ Ω Z (RᵀZ)⁻¹ with Ω tridiagonal, process noise from the row's residuals
    and the known sampling noise.

    Args:
        means: class means X̄ ``(T, K, p)``: list, array or tensor. NaN where a class was not seen.
        times: ``(T,)``, strictly increasing; None counts 0, 1, …
        model: its H_ij: a similarity model, ``"I"`` (needs p ≥ K) or ``"L"``.
        priors: see ``similarity.sampling_matrix``.
        noise: as in ``estimators.estimate_coefficients``.
        window: number of steps in a window; None is the whole run.
        symmetric: combine E_ij and E_ji, weighed by their precision.

    Returns:
        A matrix for each window; what cannot be estimated is NaN, and ``status`` says why.

    Raises:
        TypeError: for a ``model`` that is none.
        ValueError: as ``estimators.estimate_coefficients``, or a window of fewer than 2 steps.

    Source: Zhang, Wang, Su 2021, section 2 (the LE matrix E).

    >>> growth = np.exp(0.1 * np.arange(8.0))[:, None, None]
    >>> found = estimate_le_matrix(growth * np.eye(2), model="I")
    >>> bool(np.allclose(found.E[0], [[0.2, 0.0], [0.0, 0.2]], atol=1e-3))
    True
    """
    model = as_model(model)
    run = Run.of(means, times, noise, model)
    T, K, _ = run.means.shape
    P = np.broadcast_to(as_sampling(priors, T, K), (T, K, K))
    steps = T - 2  # the first level is an instrument only
    size = steps if window is None else window
    require(window is None or window >= 2, "window", window, "at least 2 steps")
    if steps < max(size, 2):
        empty = np.zeros((0, K, K))
        return LEMatrix(
            np.zeros(0), empty, empty, f"only {T} times: no window of {size} steps; wait or use a smaller window"
        )
    starts = range(1, T - size, size)
    E, error = np.full((2, len(starts), K, K), np.nan)
    for w, a in enumerate(starts):
        levels = slice(a - 1, a + size + 1)
        if not run.finite[levels].all():
            continue
        X, t, trace = run.means[levels], run.times[levels], run.noise.trace[levels]
        for i in range(K):
            E[w, i], error[w, i] = _row(X, t, trace[:, i], model, P[levels, i], i)
    if symmetric:
        E, error = _symmetrised(E, error)
    centres = np.array([(run.times[a] + run.times[a + size]) / 2 for a in starts])
    missing = int((~np.isfinite(E).all((1, 2))).sum())
    reason = (
        "class means or noise not finite, or pulls that cannot be told apart (are there more classes than dimensions?)"
    )
    return LEMatrix(centres, E, error, f"{missing} of {len(E)} windows have no estimate: {reason}" if missing else "ok")


def _symmetrised(E: Array, error: Array) -> tuple[Array, Array]:
    """Means of E_ij and E_ji ``(W, K, K)``, weighed by their precision, and their standard errors."""
    weight = 1 / error**2
    swapped = np.swapaxes(weight, -1, -2)
    mean = (weight * E + swapped * np.swapaxes(E, -1, -2)) / (weight + swapped)
    diagonal = np.eye(E.shape[-1], dtype=bool)
    return mean, np.where(diagonal, error, 1 / np.sqrt(weight + swapped))


def _row(X: Array, t: Array, variance: Array, model: LEModel, P: Array, i: int) -> tuple[Array, Array]:
    """Row i of E and its standard errors ``(K,)`` from n + 2 levels, the first one instrument only."""
    K, p = X.shape[1:]
    pulls = model.pulls(torch.tensor(X), i).numpy() * P[:, :, None]  # (n + 2, K, p)
    dt = np.diff(t)
    if variance.any():  # the cubic rule would bring the instrument's noise into R
        R = (pulls[1:-1] + pulls[2:]) / 2 * dt[1:, None, None]  # (n, K, p)
    else:
        R = np.moveaxis(interval_integrals(np.moveaxis(pulls, 0, -1), dt)[..., 1:], -1, 0)
    Z, d, dt = pulls[:-2], np.diff(X[1:, i], axis=0), dt[1:]
    cross = np.einsum("njp,nkp->jk", Z, R)
    scale = np.sqrt(np.einsum("njp,njp->j", R, R)) + 1e-300
    size = np.sqrt(np.einsum("njp,njp->j", Z, Z)) + 1e-300
    if np.linalg.svd(cross / size[:, None] / scale, compute_uv=False)[-1] < 1e-10:
        return np.full(K, np.nan), np.full(K, np.nan)
    inverse = np.linalg.inv(cross / size[:, None] / scale) / scale[:, None] / size
    row = inverse @ np.einsum("njp,np->j", Z, d)
    residual = d - np.einsum("njp,j->np", R, row)
    r = variance[1:] / p  # of each coordinate
    freedom = max(residual.size - K, 1)
    sampling = (p * (r[:-1] + r[1:])).sum()
    process = max(((residual**2).sum() * residual.size / freedom - sampling) / (p * dt.sum()), 0.0)
    diagonal = process * dt + r[:-1] + r[1:]
    middle = np.einsum("njp,n,nkp->jk", Z, diagonal, Z)
    beside = np.einsum("njp,n,nkp->jk", Z[:-1], -r[1:-1], Z[1:])
    C = inverse @ (middle + beside + beside.T) @ inverse.T
    return row, np.sqrt(np.maximum(np.diag(C), 0))
