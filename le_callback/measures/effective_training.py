"""How far training still pulls on the class means, and how well the linear model describes the pull. K classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import WIDE_NUMBERS, in_cache
from le_callback.values import NAN, Tag


@dataclass(frozen=True)
class EffectiveTraining:
    """Root mean squares over the classes of what training still pulls and of what a linear model leaves of it.

    Attributes:
        psi: ‖Ψ_k‖ with Ψ_k = e_k − softmax(X̄_k).
        residue: ‖Ψ_k + J_k X̄_k‖.

    Source: "justifications" of the LE-SDE, Zhang, Wang, Su 2021.

    >>> effective_training(10 * torch.eye(2)).psi < 0.001
    True
    """

    psi: float
    residue: float


def effective_training(logit_means: Tensor) -> EffectiveTraining:
    """How far training still pulls (Ψ), and how well the linear model describes the pull (R).

    J_k = diag(p̄_k) − p̄_k p̄_kᵀ with p̄_k = softmax(X̄_k), Ψ_k = e_k − p̄_k, R_k = Ψ_k + J_k X̄_k; root mean squares
    over the classes of ‖Ψ_k‖ and ‖R_k‖. ‖Ψ‖ near zero: the loss is nearly spent (effective training).

    Args:
        logit_means: (K, K) class means of the logits; rows with NaN are left out.

    >>> effective_training(torch.zeros(2, 2))
    EffectiveTraining(psi=0.707..., residue=0.707...)
    """
    seen = ~logit_means.sum(1).isnan()
    X = logit_means if bool(seen.all()) else logit_means[seen]
    X = X.double() if X.numel() <= WIDE_NUMBERS else X
    if not len(X):
        return EffectiveTraining(psi=NAN, residue=NAN)
    own = seen.nonzero().flatten()
    squares = [_squares(X[rows], own[rows]) for rows in in_cache(X)]
    psi, residue = torch.cat(squares, 1).mean(1).sqrt().tolist()
    return EffectiveTraining(psi=psi, residue=residue)


def _squares(X: Tensor, own: Tensor) -> Tensor:
    """‖Ψ_k‖² and ‖R_k‖² (2, k) of some classes ``own`` by their means of the logits (k, K)."""
    share = X.softmax(1)
    psi = -share
    rows = torch.arange(len(X), device=X.device)
    known = own < X.shape[1]  # a single logit is that of the second class
    psi[rows[known], own[known]] += 1
    pulled = (X - torch.linalg.vecdot(share, X).unsqueeze(1)).mul_(share).add_(psi)
    return torch.stack([torch.linalg.vecdot(v, v) for v in (psi, pulled)])


def _of_window(window: SourceWindow) -> EffectiveTraining | None:
    return None if window.part is not None else effective_training(window.statistics.mean)  # a softmax is over all


MEASURE = Measure(
    "effective_training",
    _of_window,
    (
        Tag(
            name="separation/effective_training",
            label="‖Ψ‖",
            unit="",
            meaning="‖Ψ‖ = ‖eₖ − softmax X̄ₖ‖, root mean square over the classes: how far training still pulls.",
            look_for="near 0: nothing left to learn from the means",
            better="lower",
            chart="effective training",
            read=lambda found: found.psi,
            essential=True,
        ),
        Tag(
            name="separation/linearisation_residue",
            label="‖Ψ + JX̄‖",
            unit="",
            meaning="‖Ψ + JX̄‖: what the linear model behind the LE-SDE leaves of that pull.",
            look_for="small against ‖Ψ‖: the linear model holds",
            better="lower",
            chart="effective training",
            read=lambda found: found.residue,
        ),
    ),
    layers=("logits",),
)
