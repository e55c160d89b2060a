"""The noise Σ of the LE-SDE from a run, isotropic in each class.

Legend: T times, K classes, p feature dimensions; σ_k per square root of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from le_callback.elasticity.inputs import check_means, check_times
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.inputs import check_count, check_start
from le_callback.simulation.linear import Flows, flows, refined, space_of
from le_callback.simulation.ode import coupled_drift
from le_callback.simulation.strengths import as_sampling, as_strengths
from le_callback.values import Array


@dataclass(frozen=True)
class NoiseEstimate:
    """Isotropic noise of each class.

    Attributes:
        sigma: σ_k ``(K,)`` per square root of the unit of time, as ``simulate_sde`` takes it.
        unexplained: root mean square of what the fit leaves, over that of what it fits.
        source: ``"means"`` or ``"samples"``: whose noise it is.

    >>> NoiseEstimate(np.array([0.5, 0.5]), 0.0, "means").sigma
    array([0.5, 0.5])
    """

    sigma: Array
    unexplained: float
    source: str


def estimate_mean_noise(
    means: Any,
    times: Any,
    coefficients: Any,
    model: LEModel | str,
    *,
    sampling_variance: Any = None,
    priors: Any = None,
) -> NoiseEstimate:
    """Process noise of the class *means*: what the drift leaves of their increments.

    σ_k² = Σ_t (‖ΔX̄_k − (Φ − 1) X̄_k‖² − r_t − r_{t+1}) / (p Σ_t Δt), with Φ the flow over the step and r the total
    sampling variance of the mean; not below zero. The mean of many samples is steadier than one: for the noise of
    single samples use :func:`estimate_sample_noise`. What the drift does to the noise within a step is left out: steps
    must be short against its growth times.

    Args:
        means: ``(T, K, p)``, finite.
        times: ``(T,)``, strictly increasing.
        coefficients: as in ``simulate_ode``.
        model: as there.
        sampling_variance: tr(Σ_k)/n_k of each mean ``(T, K)``; None where the same samples are seen every time.
        priors: as in ``simulate_ode``.

    Returns:
        σ_k with ``source="means"``.

    Raises:
        ValueError: as ``simulate_ode``, fewer than 2 times, or a sampling variance of another shape.
        TypeError: a model that is none.

    >>> walk = np.cumsum(np.random.default_rng(0).standard_normal((2000, 2, 3)), axis=0) * 0.5
    >>> estimate_mean_noise(walk, np.arange(2000), (0.0, 0.0), "I").sigma.round(1)
    array([0.5, 0.5])
    """
    model = as_model(model)
    X, t = check_means(means, times, model)
    T, K, p = X.shape
    require(T >= 2, "means", X.shape, "of at least 2 times")
    require(bool(np.isfinite(X).all()), "means", X, "finite")
    r = np.zeros((T, K)) if sampling_variance is None else np.asarray(sampling_variance, dtype=np.float64)
    require(r.shape == (T, K), "sampling_variance", r.shape, f"of shape {(T, K)}")
    require(bool(np.isfinite(r).all() and (r >= 0).all()), "sampling_variance", r, "finite and not negative")
    strengths = as_strengths(coefficients, t, K, model)
    space = space_of(model, K, p, full=True)
    drift = coupled_drift(space, strengths, as_sampling(priors, t, K)[0])
    grid, at = refined(t, strengths.breaks, 1)
    steps = flows(drift, grid).flow
    stacked = X.reshape(T, -1)
    left = np.empty_like(stacked[1:])
    for i in range(T - 1):
        x = stacked[i]
        for flow in steps[at[i] : at[i + 1]]:
            x = flow @ x
        left[i] = stacked[i + 1] - x
    square = (left.reshape(len(left), K, p) ** 2).sum(-1)
    total = (square - r[:-1] - r[1:]).sum(0) / (p * (t[-1] - t[0]))
    moved = float((np.diff(stacked, axis=0) ** 2).sum())
    unexplained = float(np.sqrt(square.sum() / moved)) if moved > 0 else 0.0
    return NoiseEstimate(np.sqrt(np.maximum(total, 0)), unexplained, "means")


def estimate_sample_noise(
    within_variance: Any,
    times: Any,
    coefficients: Any,
    model: LEModel | str,
    *,
    dimensions: int,
    priors: Any = None,
) -> NoiseEstimate:
    """Noise of single *samples* from the growth of the variance within classes.

    Under the LE-SDE the stacked covariance is C(t) = Φ C(0) Φᵀ + Σ_j σ_j² Q_j(t), linear in σ². The trace of its
    block k is fitted to the measured one over all times by least squares with σ² ≥ 0, each class scaled by its mean.
    C(0) is taken as isotropic in each class, with classes independent.

    Args:
        within_variance: trace of the covariance within each class ``(T, K)``, finite and not negative.
        times: ``(T,)``, strictly increasing.
        coefficients: as in ``simulate_ode``.
        model: as there.
        dimensions: p.
        priors: as in ``simulate_ode``.

    Returns:
        σ_k with ``source="samples"``.

    Raises:
        ValueError: as ``simulate_ode``, or a variance of another shape.
        TypeError: a model that is none.

    >>> t = np.arange(5.0)
    >>> v = 3 * 0.25 * t[:, None] * np.ones(2)  # three dimensions, σ = ½
    >>> estimate_sample_noise(v, t, (0.0, 0.0), "I", dimensions=3).sigma
    array([0.5, 0.5])
    """
    model = as_model(model)
    t = check_times(times)
    v = np.asarray(within_variance, dtype=np.float64)
    fits = v.ndim == 2 and len(v) == len(t) >= 2
    require(fits, "within_variance", v.shape, f"of shape ({len(t)}, K) with at least 2 times")
    require(bool(np.isfinite(v).all() and (v >= 0).all()), "within_variance", v, "finite and not negative")
    K, p = v.shape[1], check_count(dimensions, "dimensions")
    check_start(np.zeros((K, p)), model)
    strengths = as_strengths(coefficients, t, K, model)
    drift = coupled_drift(space_of(model, K, p, full=True), strengths, as_sampling(priors, t, K)[0])
    grid, at = refined(t, strengths.breaks, 1)
    blocks = np.repeat(np.eye(K), p, axis=1)  # (K, Kp): traces of the blocks
    kept = np.concatenate([v[:1], _traces(flows(drift, grid), np.diag(blocks.T @ v[0] / p), blocks)])
    scale = 1 / np.maximum(v.mean(0), 1e-300)
    target = ((v - kept[at]) * scale).ravel()
    columns = []
    for unit in blocks:  # unit noise of one class
        S = np.diag(unit)
        steps = flows(drift, grid, None, lambda s, S=S: np.broadcast_to(S, (len(s), *S.shape)))  # type: ignore[misc]
        caused = np.concatenate([np.zeros((1, K)), _traces(steps, np.zeros_like(S), blocks)])
        columns.append((caused[at] * scale).ravel())
    design = np.stack(columns, axis=1)
    size = np.linalg.norm(design, axis=0)
    squares, left = nnls(design / size, target)
    unexplained = float(left) / max(float(np.linalg.norm(v * scale)), 1e-300)
    return NoiseEstimate(np.sqrt(squares / size), unexplained, "samples")


def _traces(steps: Flows, start: Array, blocks: Array) -> Array:
    """Traces ``(N, K)`` of the blocks of the covariance that has started as ``start (Kp, Kp)``, after each step."""
    C, found = start, []
    for i, flow in enumerate(steps.flow):
        C = flow @ C @ flow.T
        if steps.covariance is not None:
            C = C + steps.covariance[i]
        found.append(blocks @ np.diag(C))
    return np.stack(found)
