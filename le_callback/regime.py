"""The verdict of the separation theorem on one run, as far as a finite time allows it.

G = ∫γ cumulative local elasticity, t time, r tail index of γ ~ t^(−r), critical value 1. Theorem (paper, section 3):
γ = ω(1/t) ⇒ separable with probability → 1, γ = o(1/t) ⇒ with probability 0.
"""

from __future__ import annotations

import math

from le_callback.records import Regime, WindowRecord
from le_callback.values import NAN, Estimate

BAND = 0.15  # r within 1 ± BAND is no clear side: slow factors such as log t move it by 1/log t
WIDEST = 0.4  # half of an interval around 1 that is still called critical
SEPARATED, NEAREST = 0.99, 0.95  # accuracies of head and nearest class mean from which classes count as separated
SPENT = 0.1  # ‖Ψ‖ below which the loss is nearly spent


def is_converged(record: WindowRecord) -> bool:
    """Whether the classes are separated and the loss is nearly spent, or γ no longer stands out of its interval.

    Separated: the head is right for 99 % of the window's samples, the nearest class mean of features or logits for
    95 %. Spent: ‖Ψ‖ is below 0.1; where it is unknown, as of very many classes, only the interval of γ counts.

    Args:
        record: of one window; without the outputs of a head it is never converged.

    >>> from le_callback import SeparationMonitor
    >>> is_converged(SeparationMonitor(num_classes=2).close(1))
    False
    """
    head = record.head
    if head is None or head.tried.sum() == 0:
        return False
    accuracies = [found.accuracy for found in record.nearest_mean.values()]
    nearest = max((a for a in accuracies if not math.isnan(a)), default=0.0)
    if head.hits.sum() / head.tried.sum() < SEPARATED or nearest < NEAREST:
        return False
    training = record.effective_training
    spent = training is not None and training.psi < SPENT
    return spent or any(c.gamma.low <= 0 for c in record.coefficients.values())


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
