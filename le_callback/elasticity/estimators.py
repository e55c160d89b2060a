"""LE coefficients of one run from its class means: A, B, α, β, γ with intervals.

Three methods, the same record:

- ``"closed_form"``: the paper's eq. (19) on mean log entries, with its Savitzky–Golay derivative.
- ``"modes"``: log norms of the two modes, corrected for noise. Balanced sampling. A process noise for each mode.
- ``"regression"``: maximum likelihood of the drift. Any sampling matrix, any similarity blocks.

Legend: T times, K classes, p feature dimensions, m levels in a window; numpy float64 inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from le_callback.elasticity.amplitudes import ModeSeries, entry_series, mode_noise, norm_series, split_modes
from le_callback.elasticity.coefficients import LECoefficients, normal_half_width, symmetric_interval
from le_callback.elasticity.growth import polynomial_basis
from le_callback.elasticity.increments import Channels
from le_callback.elasticity.inputs import as_noise, check_means
from le_callback.elasticity.rates import mode_channels, mode_functionals, regression_functionals
from le_callback.elasticity.regression import Projections, instant_covariance, reference_basis, regression_channels
from le_callback.elasticity.sampling_noise import SamplingNoise, coordinate_variance, directions_of, projected_variance
from le_callback.elasticity.sliding import WindowEstimates, slide, window_start
from le_callback.similarity import LEModel, ModeWeights, sampling_matrix
from le_callback.values import Array

Flags = NDArray[np.bool_]

METHODS = ("closed_form", "modes", "regression")
_SINGULAR = 1e-10


def estimate_coefficients(
    means: Any,
    times: Any = None,
    *,
    model: LEModel,
    method: str = "modes",
    priors: Any = None,
    noise: Any = None,
    window: int = 51,
    order: int = 2,
    confidence: float = 0.95,
    causal: bool = False,
    threshold: float = 3.0,
    evaluate: Sequence[int] | None = None,
) -> LECoefficients:
    """Estimate the LE coefficients of one run.

    Args:
        means: class means X̄ ``(T, K, p)``, torch or numpy. NaN where a class was not seen.
        times: ``(T,)``, strictly increasing; None counts 0, 1, …  Their unit is that of 1/α and 1/β.
        model: I, L, direction or general.
        method: ``"closed_form"``, ``"modes"`` or ``"regression"``.
        priors: class frequencies or a sampling matrix, see ``models.sampling_matrix``; None: balanced.
        noise: sampling variance of the class means: a :class:`SamplingNoise`, or its trace ``(T, K)`` or ``(K,)``; None
            is exact means (a probe).
        window: number of times in a window, m.
        order: number of functions of time that make up α and β within a window (1: constant), see
            ``growth.rate_basis``; ``"closed_form"``: degree of the polynomial.
        confidence: of all intervals.
        causal: use only the past of each time, as in live use; else windows are centred.
        threshold: a mode is identifiable where its squared norm is above ``threshold`` times its sampling noise.
        evaluate: indices of times at which α, β, γ are wanted; None is all.

    Returns:
        The coefficients; what cannot be estimated is NaN, and ``status`` says why.

    Raises:
        ValueError: wrong shapes or settings, K = 1, p too small for the model, times that do not increase, or a method
            that the model or the priors do not allow.

    >>> from le_callback.similarity import IModel
    >>> t = np.arange(60.0)
    >>> start = np.array([[1.0, 0.5], [0.6, 1.2]])
    >>> slow, fast = np.exp(0.01 * t)[:, None, None], np.exp(0.03 * t)[:, None, None]
    >>> means = start.mean(0) * slow + (start - start.mean(0)) * fast
    >>> found = estimate_coefficients(means, t, model=IModel(), window=21)
    >>> round(float(found.alpha[30]), 4), round(float(found.beta[30]), 4)
    (0.04, -0.02)
    """
    _check_settings(method, window, order, confidence)
    X, t = check_means(means, times, model)
    T, K, p = X.shape
    known = as_noise(noise, T, K)
    finite: Flags = np.asarray(np.isfinite(X).all((1, 2)) & np.isfinite(known.trace).all(1))
    Xf = np.where(finite[:, None, None], X, 0.0)
    wanted = list(range(T)) if evaluate is None else sorted({range(T)[i] for i in evaluate})
    z = np.where(finite[:, None, None], model.coordinates(torch.from_numpy(Xf)).numpy(), np.nan)
    common, difference = split_modes(z)
    total = mode_noise(coordinate_variance(known, model, p))
    q = z.shape[-1]
    series = (
        norm_series(common, total[0], q, threshold=threshold),
        norm_series(difference, total[1], (K - 1) * q, threshold=threshold),
    )
    settings = {"window": window, "causal": causal, "confidence": confidence}
    if method == "regression":
        P = sampling_matrix(K, None if priors is None else torch.as_tensor(priors)).numpy()
        if P.ndim == 3 and len(P) != T:
            raise ValueError(f"priors that change with time need one row for each of the {T} times, got {len(P)}")
        identifiable = series[0].identifiable & series[1].identifiable
        parts = _regression(Xf, t, model, P, known, finite, order, wanted, settings)
    else:
        if priors is not None and not np.allclose(np.asarray(priors, dtype=np.float64), np.ravel(priors)[0]):
            raise ValueError(f'method {method!r} needs balanced priors; use method="regression"')
        if method == "closed_form":
            series = (entry_series(common), entry_series(difference))
        identifiable = series[0].identifiable & series[1].identifiable
        parts = _from_modes(series, t, model, K, method, order, wanted, settings)
    A, B, variances, rates = parts
    return _record(t, A, B, variances, rates, identifiable, finite, model, method, settings)


Parts = tuple[Array, Array, Array, WindowEstimates]


def _from_modes(
    series: tuple[ModeSeries, ModeSeries],
    t: Array,
    model: LEModel,
    K: int,
    method: str,
    order: int,
    wanted: list[int],
    settings: dict[str, Any],
) -> Parts:
    """A, B from the log growth of the modes, variances ``(T, 3)`` (A, B, G), and rates from the local fits."""
    weights = model.mode_weights(K)
    common, difference = series
    W = np.array(
        [
            [weights.common_in_A, weights.difference_in_A],
            [weights.common_in_B, weights.difference_in_B],
        ]
    )
    W = np.vstack([W, W[0] - W[1]])  # (3, 2): A, B, G
    both = common.identifiable & difference.identifiable
    y = np.stack([common.log_amplitude, difference.log_amplitude])  # (2, T)
    start = int(both.argmax()) if both.any() else 0
    cumulative = W @ (y - y[:, [start]])
    if method == "closed_form":
        rates = _savitzky_golay(cumulative, t, order, wanted, settings)
        process = np.nan_to_num(rates.process_variance[0]) if np.isfinite(rates.process_variance).any() else np.zeros(3)
        elapsed = np.maximum(t - t[start], 0)
        variances = elapsed[:, None] * (process if process.shape == (3,) else np.zeros(3))
    else:
        rates = _mode_rates(series, weights, t, order, wanted, settings)
        known = np.isfinite(rates.process_variance).any()  # else no window: sampling noise alone
        q = np.stack([_filled(c) for c in rates.process_variance.T]) if known else np.zeros((2, 1))
        speed = q * np.stack([_filled(1 / s.scale) for s in series])
        walk = np.concatenate([np.zeros((2, 1)), np.cumsum((speed[:, 1:] + speed[:, :-1]) / 2 * np.diff(t), axis=1)], 1)
        sampling = np.stack([s.noise for s in series])
        per_mode = walk - walk[:, [start]] + sampling + sampling[:, [start]]
        per_mode[:, start] = 0.0
        variances = (W**2 @ np.where(np.isfinite(per_mode), np.maximum(per_mode, 0), np.nan)).T
    A, B = cumulative[0], cumulative[1]
    before = np.arange(len(t)) < start
    return np.where(both & ~before, A, np.nan), np.where(both & ~before, B, np.nan), variances, rates


def _mode_rates(
    series: tuple[ModeSeries, ModeSeries],
    weights: ModeWeights,
    t: Array,
    order: int,
    wanted: list[int],
    settings: dict[str, Any],
) -> WindowEstimates:
    """α, β, γ from the local fits of both modes; γ alone where only its own mode is identifiable."""

    def maker(chosen: tuple[ModeSeries, ...]) -> Any:
        def make(a: int, b: int, at: float) -> Channels:
            return mode_channels(t[a:b], [s.window(a, b) for s in chosen], at, order)

        return make

    functionals = mode_functionals(weights, order)
    both = series[0].identifiable & series[1].identifiable
    joint = slide(maker(series), t, both, wanted, functionals, first=0, **settings)
    own = 0 if weights.gamma_mode == "common" else 1
    alone = [i for i in wanted if not np.isfinite(joint.estimate[i, 2])]
    if alone and series[own].identifiable.any():
        single = slide(
            maker((series[own],)),
            t,
            series[own].identifiable,
            alone,
            weights.gamma_weight * np.eye(order)[:1],
            first=0,
            **settings,
        )
        joint.estimate[alone, 2], joint.half[alone, 2] = single.estimate[alone, 0], single.half[alone, 0]
    return joint


def _savitzky_golay(
    cumulative: Array, t: Array, order: int, wanted: list[int], settings: dict[str, Any]
) -> WindowEstimates:
    """Derivative of a least-squares polynomial: at regular times the paper's filter. Errors of a random walk.

    With w the weights of the m values, the error variance is q Σ_i s_i (Σ_{j>i} w_j)², q from the residual increments.
    """
    T, m = len(t), settings["window"]
    estimate, half = np.full((T, 3), np.nan), np.full((T, 3), np.nan)
    covariance, process = np.full((T, 3, 3), np.nan), np.full((T, 3), np.nan)
    freedom = m - 1 - order
    quantile = float(stdtrit(freedom, 0.5 + settings["confidence"] / 2))
    for i in wanted:
        a = window_start(i, m, 0, T, settings["causal"])
        if a is None or not np.isfinite(cumulative[:, a : a + m]).all():
            continue
        s, y = t[a : a + m] - t[i], cumulative[:, a : a + m]
        basis, dt = polynomial_basis(s, 0.0, order), np.diff(s)
        weights = np.linalg.pinv(np.column_stack([np.ones(m), basis]))[1]
        design = np.diff(basis, axis=0) / np.sqrt(dt)[:, None]
        d = np.diff(y) / np.sqrt(dt)
        residual = d - d @ np.linalg.pinv(design).T @ design.T
        walk = residual @ residual.T / freedom  # (3, 3) covariance of A, B, G per unit of time
        gain = float((dt * np.cumsum(weights[::-1])[::-1][1:] ** 2).sum())
        estimate[i], covariance[i], process[i] = y @ weights, walk * gain, np.diag(walk)
        half[i] = quantile * np.sqrt(np.maximum(np.diag(covariance[i]), 0))
    mean = np.nanmean(process, axis=0) if np.isfinite(process).any() else np.full(3, np.nan)
    return WindowEstimates(estimate, half, covariance, np.broadcast_to(mean, (T, 3)), np.ones(T))


def _regression(
    X: Array,
    t: Array,
    model: LEModel,
    P: Array,
    noise: SamplingNoise,
    finite: Flags,
    order: int,
    wanted: list[int],
    settings: dict[str, Any],
) -> Parts:
    """Rates from windows of projected increments; A and B are their integrals."""
    T, K, _ = X.shape
    U, V = (f.numpy() for f in model.regressors(torch.from_numpy(X), torch.tensor(P)))
    directions = directions_of(model, K)
    step = max(1, settings["window"] // 4)
    cache: dict[int, Projections] = {}

    def projections(anchor: int) -> Projections:
        """Onto the basis of the mean of up to m levels before ``anchor``."""
        if anchor not in cache:
            past = slice(max(0, anchor - settings["window"]), anchor)
            keep = finite[past]
            basis = reference_basis(U[past][keep].sum(0), V[past][keep].sum(0))
            span = slice(max(anchor - 1, 0), min(T, anchor + step + settings["window"]))
            data = np.zeros((4, 2, T))
            flat = basis.reshape(2, -1).T
            for k, f in enumerate((X, U, V)):
                data[k][:, span] = (f[span].reshape(span.stop - span.start, -1) @ flat).T
            clean = SamplingNoise(
                np.where(finite[span, None], noise.trace[span], 0.0),
                None if noise.along is None else np.where(finite[span, None], noise.along[span], 0.0),
            )
            data[3][:, span] = [projected_variance(clean, e, directions) for e in basis]
            cache[anchor] = Projections(*data)
        return cache[anchor]

    def at_start(a: int) -> Projections:
        return projections(1 + (a - 1) // step * step)

    def make(a: int, b: int, at: float) -> Channels:
        return regression_channels(t, at_start(a), slice(a, b), order, at)

    rates = slide(make, t, finite, wanted, regression_functionals(order), first=1, **settings)
    weak = rates.condition < _SINGULAR
    for numbers in (rates.estimate, rates.half, rates.covariance):
        numbers[weak] = np.nan
    known = np.isfinite(rates.estimate[:, 0])
    variances = np.full((T, 3), np.nan)
    if not known.any():
        return np.full(T, np.nan), np.full(T, np.nan), variances, rates
    first, last = int(known.argmax()), T - 1 - int(known[::-1].argmax())
    rate = np.stack([_filled(rates.estimate[:, c]) for c in range(2)])
    q = np.stack([_filled(c) for c in rates.process_variance.T], axis=1)
    cumulative = np.concatenate([np.zeros((2, 1)), np.cumsum((rate[:, 1:] + rate[:, :-1]) / 2 * np.diff(t), axis=1)], 1)
    cumulative -= cumulative[:, [first]]
    walk, origin = np.zeros((2, 2)), None
    for i in range(first, last + 1):
        a = window_start(i, settings["window"], 1, T, settings["causal"])
        per_time, sampling = instant_covariance(at_start(1 if a is None else a), q[i], i)
        walk = walk + per_time * (t[i] - t[i - 1] if i > first else 0.0)
        origin = sampling if origin is None else origin
        C = walk + (sampling + origin if i > first else 0.0)
        variances[i] = C[0, 0], C[1, 1], C[0, 0] + C[1, 1] - 2 * C[0, 1]
    outside = ~known
    return np.where(outside, np.nan, cumulative[0]), np.where(outside, np.nan, cumulative[1]), variances, rates


def _filled(a: Array) -> Array:
    """Gaps filled linearly, ends by the nearest known value."""
    known = np.isfinite(a)
    return np.interp(np.arange(len(a)), np.flatnonzero(known), a[known]) if known.any() else np.zeros_like(a)


def _record(
    t: Array,
    A: Array,
    B: Array,
    variances: Array,
    rates: WindowEstimates,
    identifiable: Flags,
    finite: Flags,
    model: LEModel,
    method: str,
    settings: dict[str, Any],
) -> LECoefficients:
    known = np.isfinite(A)
    reference = float(t[known.argmax()]) if known.any() else float("nan")
    if known.any():
        A, B = A - A[known.argmax()], B - B[known.argmax()]
    notes = []
    if not finite.all():
        notes.append(
            f"{int((~finite).sum())} of {len(t)} times have class means or noise that are not finite and are left out"
        )
    if len(t) < settings["window"] + (method == "regression"):
        notes.append(f"only {len(t)} times for a window of {settings['window']}: no α, β, γ; use a smaller window")
    if not identifiable.any():
        notes.append("not identifiable: the modes never rise above the sampling noise; train longer or use a probe")
    elif not np.isfinite(rates.estimate).any() and len(t) >= settings["window"] + (method == "regression"):
        notes.append("no window in which all times are identifiable and α and β can be told apart")
    half = [normal_half_width(v, settings["confidence"]) for v in variances.T]
    return LECoefficients(
        times=t,
        A=A,
        B=B,
        alpha=rates.estimate[:, 0],
        beta=rates.estimate[:, 1],
        gamma=rates.estimate[:, 2],
        A_interval=symmetric_interval(A, half[0]),
        B_interval=symmetric_interval(B, half[1]),
        G_interval=symmetric_interval(A - B, half[2]),
        alpha_interval=symmetric_interval(rates.estimate[:, 0], rates.half[:, 0]),
        beta_interval=symmetric_interval(rates.estimate[:, 1], rates.half[:, 1]),
        gamma_interval=symmetric_interval(rates.estimate[:, 2], rates.half[:, 2]),
        covariance=rates.covariance[:, :2, :2],
        identifiable=identifiable,
        reference_time=reference,
        model=model.name,
        method=method,
        confidence=settings["confidence"],
        status="; ".join(notes) if notes else "ok",
    )


def _check_settings(method: str, window: int, order: int, confidence: float) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}; 2 is the paper's")
    if window < order + 3:
        raise ValueError(f"window must be at least order + 3 = {order + 3}, got {window}; use a larger window")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}; 0.95 gives 95 % intervals")
