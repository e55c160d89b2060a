"""Local elasticity measured directly: how one optimizer step on a batch changes the classes of a fixed probe.

He and Su (2020) call training locally elastic if an update on a sample moves similar samples more than others. Here the
change that a single step makes to the class means of a probe is regressed on the class composition of its batch: an
independent witness of α and β, which are read from the growth over many steps.

K classes, p feature dimensions, M observed steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from le_callback.values import Estimate

_MIN_STEPS = 8


@dataclass(frozen=True)
class StepResponse:
    """Growth of a class's deviation in the probe by one optimizer step, per share of the batch.

    Attributes:
        intra: by samples of the class itself.
        inter: by samples of another class.
        gamma: intra + (K−1)·inter.
        steps: observed.
    """

    intra: Estimate
    inter: Estimate
    gamma: Estimate
    steps: int


def own_growth(before: Tensor, after: Tensor) -> Tensor:
    """Relative growth ``(K,)`` of each class's deviation from the centre in one step, along itself.

    ρ_k = ⟨Δm_k, m_k⟩/‖m_k‖² with m_k = X̄_k − avg_j X̄_j, for class means ``before`` and ``after`` (K, p); NaN rows stay.
    What a step does to all classes alike, such as the pull of a one-sided batch on every logit, drops out.

    >>> own_growth(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.5], [-1.5]]))
    tensor([0.5000, 0.5000])
    """
    centred = before - before.nanmean(0)
    change = after - after.nanmean(0) - centred
    return (change * centred).sum(1) / centred.square().sum(1)


def estimate_step_response(
    compositions: NDArray[np.float64],
    growths: NDArray[np.float64],
    confidence: float = 0.95,
    num_classes: int | None = None,
) -> StepResponse:
    """Growth of a class by training on itself and on another class, from M steps.

    Least squares of ρ_k = a·c_k + b·(1 − c_k) over steps and classes, with c the composition of the step's batch.
    ``intra`` is a, ``inter`` b, and ``gamma`` a + (K−1)b, K times the growth of the deviations under balanced sampling.
    In the I-model with means that form a simplex ETF a = α − s, b = (s − β)/(K−1) with s = (α + (K−1)β)/K the growth of
    the centre, and ``gamma`` is α − β. Intervals are robust to errors that the classes of a step share (clusters are
    steps), Student's t with M − 2 degrees of freedom.

    Args:
        compositions: (M, K) shares of the classes in each batch.
        growths: (M, K) of ``own_growth``; NaN where a class is not in the probe.
        confidence: coverage of the intervals.
        num_classes: K, where the columns are some of the classes only.

    Returns:
        The estimates; unknown with fewer than 8 steps or where all batches have the same composition.

    >>> c = np.eye(2)[[0, 1] * 6]
    >>> round(estimate_step_response(c, 0.3 * c - 0.1 * (1 - c)).gamma.value, 6)
    0.2
    """
    M = compositions.shape[0]
    K = num_classes or compositions.shape[1]
    known = np.isfinite(growths)
    own = np.where(known, compositions, 0.0)
    others = np.where(known, 1 - compositions, 0.0)
    design = np.stack([own, others], axis=-1)  # (M, K, 2)
    gram = np.einsum("mki,mkj->ij", design, design)
    if M < _MIN_STEPS or np.linalg.cond(gram) > 1e10:
        return StepResponse(Estimate.unknown(), Estimate.unknown(), Estimate.unknown(), M)
    response = np.where(known, growths, 0.0)
    inverse = np.linalg.inv(gram)
    solution = inverse @ np.einsum("mki,mk->i", design, response)
    scores = np.einsum("mki,mk->mi", design, response - design @ solution)
    covariance = inverse @ (scores.T @ scores) @ inverse * M / (M - 2)
    quantile = float(stdtrit(M - 2, 0.5 + confidence / 2))
    estimates = []
    for functional in (np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, K - 1.0])):
        value = float(functional @ solution)
        half = quantile * float(np.sqrt(functional @ covariance @ functional))
        estimates.append(Estimate(value, value - half, value + half))
    intra, inter, gamma = estimates
    return StepResponse(intra, inter, gamma, M)


@dataclass
class StepResponseTracker:
    """The last ``memory`` observed steps of one source, of all of ``num_classes`` classes or of some."""

    memory: int = 44
    confidence: float = 0.95
    num_classes: int | None = None
    _steps: deque[tuple[list[float], list[float]]] = field(init=False)

    def __post_init__(self) -> None:
        self._steps = deque(maxlen=self.memory)

    def add(self, composition: Tensor, before: Tensor, after: Tensor) -> StepResponse:
        """Take in one step: batch ``composition`` (K,), class means ``before`` and ``after`` (K, p)."""
        growth = own_growth(before.cpu().double(), after.cpu().double())
        self._steps.append((composition.cpu().double().tolist(), growth.tolist()))
        return self.estimate()

    def estimate(self) -> StepResponse:
        """What the steps so far say."""
        if not self._steps:
            return StepResponse(Estimate.unknown(), Estimate.unknown(), Estimate.unknown(), 0)
        compositions, growths = (np.array(column) for column in zip(*self._steps, strict=True))
        return estimate_step_response(compositions, growths, self.confidence, self.num_classes)

    def state_dict(self) -> dict[str, Any]:
        """Plain lists."""
        return {"steps": [list(step) for step in self._steps]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._steps = deque(((list(c), list(g)) for c, g in state["steps"]), maxlen=self.memory)


def batch_composition(target: Tensor, num_classes: int) -> Tensor:
    """Weight of each class ``(K,)`` in labels (N,) or class weights (N, K); labels outside the classes are left out.

    >>> batch_composition(torch.tensor([0, 2, 2, -100]), 3)
    tensor([1., 0., 2.])
    """
    if target.ndim > 1:
        return target.sum(0).float()
    inside = (target >= 0) & (target < num_classes)
    counts = torch.zeros(num_classes, device=target.device)
    return counts.index_add_(0, target.clamp(0, num_classes - 1), inside.float())
