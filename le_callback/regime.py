"""The verdict of the separation theorem on one run, as far as a finite time allows it.

G = ∫γ cumulative local elasticity, t time, r tail index of γ ~ t^(−r), critical value 1. Theorem (paper, section 3):
γ = ω(1/t) ⇒ separable with probability → 1, γ = o(1/t) ⇒ with probability 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import t as student

from le_callback.records import Regime, WindowRecord
from le_callback.values import NAN, Array, Estimate

BAND = 0.15  # r within 1 ± BAND is no clear side: slow factors such as log t move it by 1/log t
WIDEST = 0.4  # half of an interval around 1 that is still called critical
_BINS, _SPAN, _PER_BIN = 8, 12.0, 4
_GRID = np.linspace(-1.0, 4.0, 501)
SEPARATED, NEAREST = 0.99, 0.95  # accuracies of head and nearest class mean from which classes count as separated
SPENT = 0.1  # ‖Ψ‖ below which the loss is nearly spent


def local_tail_index(times: Sequence[float], growth: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Tail index r of γ ~ t^(−r) now, from the growth of G over the last windows, with its interval.

    On a grid of log time, ΔG = c ∫ t^(−r) dt + noise: neither the reference time of G nor its scale matters. The
    variance of each ΔG comes from the scatter of the increments inside its bin; the likelihood of r, with c > 0
    integrated out, is normalised over −1 ≤ r ≤ 4 and widened where the bins scatter more than their variances say.

    Args:
        times: (T,) increasing and positive.
        growth: (T,) G.
        confidence: of the interval.

    Returns:
        The median and the interval; unknown with fewer than 5 bins of 4 increments.

    >>> t = np.arange(50.0, 5000.0, 25.0)
    >>> noise = 1e-4 * np.random.default_rng(0).standard_normal(len(t)).cumsum()
    >>> round(local_tail_index(t, t**0.5 + noise).value, 2)
    0.5
    """
    t, G = np.asarray(times, dtype=np.float64), np.asarray(growth, dtype=np.float64)
    late = (t > 0) & (t >= t[-1] / _SPAN) & np.isfinite(G) if len(t) else np.zeros(0, dtype=bool)
    t, G = t[late], G[late]
    edges = _edges(t)
    if len(edges) < 6:
        return Estimate.unknown()
    response, variance = np.diff(G[edges]), np.empty(len(edges) - 1)
    for i, (a, b) in enumerate(pairwise(edges)):
        x, d = np.diff(t[a : b + 1]), np.diff(G[a : b + 1])
        rest = d - x * (d.sum() / x.sum())
        variance[i] = rest @ rest * len(d) / (len(d) - 1)
    pooled = float(np.median(variance / np.diff(t[edges])))
    variance = (variance + pooled * np.diff(t[edges])) / 2 + 1e-300
    steps = np.log(t[edges])
    power = 1 - _GRID[:, None]
    # ∫ t^(−r) dt over a bin, relative to the last time so that c is of one scale for all r
    safe = np.where(np.abs(power) < 1e-9, 1.0, power)
    flow = np.where(np.abs(power) < 1e-9, np.diff(steps), np.diff(np.exp(safe * (steps - steps[-1])), axis=1) / safe)
    flow = flow / np.sqrt((flow**2 / variance).sum(1, keepdims=True))  # unit information
    fitted = (flow * response / variance).sum(1)
    total = float((response**2 / variance).sum())
    misfit = np.maximum(total - fitted.clip(min=0) ** 2, 0)
    dof = len(response) - 2
    scale = max(1.0, float(misfit.min()) / dof)
    log_likelihood = (fitted**2 - fitted.max() ** 2) / (2 * scale) + log_ndtr(fitted / math.sqrt(scale))
    weight = np.exp(log_likelihood - log_likelihood.max())
    cumulative = np.cumsum(weight) / weight.sum()
    # few degrees of freedom: tails like Student's
    tail = float(2 * (1 - _normal_cdf(float(student.ppf(0.5 + confidence / 2, dof)))))
    low, value, high = np.interp([tail / 2, 0.5, 1 - tail / 2], cumulative, _GRID)
    return Estimate(float(value), float(low), float(high))


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _edges(t: Array) -> list[int]:
    """Indices that cut the times into bins of equal log width with at least 4 increments each."""
    if len(t) < 5 * _PER_BIN + 1:
        return []
    wanted = np.searchsorted(t, np.geomspace(t[0], t[-1], _BINS + 1)[1:-1])
    edges = [0]
    for i in [*wanted.tolist(), len(t) - 1]:
        if i - edges[-1] >= _PER_BIN:
            edges.append(i)
    if edges[-1] != len(t) - 1:
        edges[-1] = len(t) - 1
    return edges


def is_converged(record: WindowRecord) -> bool:
    """Whether the classes are separated and the loss is nearly spent, or γ no longer stands out of its interval.

    Separated: the head is right for 99 % of the window's samples, the nearest class mean of features or logits for
    95 %. Spent: ‖Ψ‖ is below 0.1.

    Args:
        record: of one window; without the outputs of a head it is never converged.

    >>> from le_callback import SeparationMonitor
    >>> is_converged(SeparationMonitor(num_classes=2).close(1))
    False
    """
    head = record.head
    if head is None or head.tried.sum() == 0 or record.linearisation is None:
        return False
    accuracies = [s.nearest_mean_accuracy for s in record.separation.values()]
    nearest = max((a for a in accuracies if not math.isnan(a)), default=0.0)
    if head.hits.sum() / head.tried.sum() < SEPARATED or nearest < NEAREST:
        return False
    return record.linearisation.psi < SPENT or any(c.gamma.low <= 0 for c in record.coefficients.values())


def judge_regime(gamma: Estimate, time: float, index: Estimate, converged: bool = False) -> Regime:
    """Which side of the theorem the run is on now, and why.

    Args:
        gamma: γ with its interval.
        time: t, in the unit of γ.
        index: the local tail index with its interval.
        converged: whether the measured side says that the classes are separated and the loss is spent; then γ → 0 is
            health, and nothing else is said.

    Returns:
        The side, the reason with its numbers, t·γ (NaN where the index is unknown) and the index.

    >>> judge_regime(Estimate(0.01, 0.009, 0.011), 1000.0, Estimate(0.5, 0.4, 0.6)).name
    'separating'
    """
    t_gamma = time * gamma.value
    known = f"tail index {index.value:.2f} [{index.low:.2f}, {index.high:.2f}], t·γ = {t_gamma:.2g}"
    if converged:
        return Regime("converged", "the classes are separated and the loss is nearly spent", t_gamma, index)
    if math.isnan(index.value):
        return Regime("not identifiable", "too few windows in which the gap stands out of the noise", NAN, index)
    if gamma.high < 0:
        return Regime("not separating", f"γ is below zero with its whole interval; {known}", t_gamma, index)
    if index.high < 1 - BAND:
        return Regime("separating", f"γ decays more slowly than 1/t: {known}", t_gamma, index)
    if index.low > 1 + BAND:
        return Regime("not separating", f"γ decays faster than 1/t: {known}", t_gamma, index)
    if index.low > 1 - WIDEST and index.high < 1 + WIDEST:
        return Regime("critical", f"γ decays like 1/t: {known}", t_gamma, index)
    return Regime("not identifiable", f"the decay of γ is not known well enough: {known}", t_gamma, index)
