"""The LE matrix measured directly: how a step on class j moves class i of the probe.

One optimizer step on a batch in which class j has the share c_j obeys Δm_i = Σ_j c_j E_ij v_j + noise, the LE-SDE with
the realised sampling matrix. Balanced windows cannot tell the E_ij of one row apart when the v_j are collinear, as
those of the L-model are (Σ_j d_j = 0); the varying composition of single batches can.

K classes, p feature dimensions, S chosen classes, C = S columns (S + 1 where some classes were not chosen), M steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.similarity import LModel

MAX_CLASSES = 64  # of the matrix, unless classes are chosen
MEMORY_BYTES = 8 * 2**20
STEPS_PER_COLUMN = 40  # that are remembered, so that one pair can stand out among all others
_LEAST_STEPS_PER_COLUMN = 2  # so that the standard errors mean something

Array = NDArray[np.float32]  # as stored; sums are in double precision


@dataclass(frozen=True)
class ResponseMatrix:
    """The LE matrix E, per optimizer step, measured on a probe. See ``estimate_response_matrix``."""

    classes: tuple[int, ...]  # of rows (who is changed) and columns (who is trained)
    E: NDArray[np.float64]  # (S, S)
    error: NDArray[np.float64]  # (S, S) standard errors
    steps: int  # observed
    status: str  # "ok", or what is missing and why

    @property
    def strongest_pair(self) -> tuple[int, int] | None:
        """The two classes that move each other most, by (E_ij + E_ji)/2; ``None`` where E is unknown."""
        mutual = np.tril(self.E + self.E.T, -1) + np.triu(np.full_like(self.E, -np.inf))
        if len(self.classes) < 2 or not np.isfinite(self.E).all():
            return None
        i, j = np.unravel_index(int(mutual.argmax()), mutual.shape)
        return self.classes[j], self.classes[i]


@dataclass(frozen=True)
class StepMoments:
    """What one step says: sufficient for E and for its standard errors."""

    composition: Array  # (C,) shares c_j
    gram: Array  # (C, C) ⟨v_j, v_k⟩
    response: Array  # (S, C) ⟨Δm_i, v_j⟩


def step_moments(
    source: str, composition: Tensor, before: Tensor, after: Tensor, classes: Sequence[int] | None = None
) -> StepMoments:
    """Inner products of the changes Δm_i with the pulls v_j in one optimizer step.

    For ``logits`` the L-model, m_i = X̄_i and v_j = d_j d_jᵀ X̄_j/‖d_j‖². For ``features`` the I-model of the deviations,
    m_i = X̄_i − X̌ and v_j = X̄_j − X̌: what a step does to all classes alike drops out.

    Args:
        source: ``features`` or ``logits``.
        composition: (K,) share of each class in the batch.
        before: (K, p) class means of the probe before the step.
        after: (K, p) class means after it.
        classes: rows and columns; the other classes become one more column. None takes all.

    >>> moments = step_moments("features", torch.tensor([1.0, 0.0]), torch.eye(2), torch.eye(2) * 1.1)
    >>> (20 * moments.response).round().astype(int).tolist()
    [[1, -1], [-1, 1]]
    """
    X, change, c = before.double().cpu(), (after - before).double().cpu(), composition.double().cpu()
    if source == "logits":
        pulls = LModel().pulls(X, 0)
    else:
        pulls, change = X - X.mean(0), change - change.mean(0)
    if classes is not None and len(classes) < len(X):
        chosen = torch.tensor(list(classes))
        others = torch.ones(len(X), dtype=torch.bool)
        others[chosen] = False
        share = c[others].sum()
        other = (c[others] @ pulls[others] / share.clamp(min=1e-300)).unsqueeze(0)
        pulls, change = torch.cat([pulls[chosen], other]), change[chosen]
        c = torch.cat([c[chosen], share.unsqueeze(0)])
    return StepMoments(*(x.float().numpy() for x in (c, pulls @ pulls.T, change @ pulls.T)))


def estimate_response_matrix(steps: Sequence[StepMoments], classes: Sequence[int]) -> ResponseMatrix:
    """Least squares of all changes on the pulls of the classes that were trained.

    Row i: E_i = A⁻¹ b_i with A = Σ_t (c cᵀ) ∘ (V Vᵀ) and b_i = Σ_t c ∘ (V Δm_i). Standard errors are robust to errors
    that the coordinates of a step share (clusters are steps), with M/(M − C) degrees of freedom.

    Args:
        steps: M of ``step_moments``.
        classes: (S,) the classes of the rows.

    Returns:
        E and its standard errors (S, S); unknown with fewer than 2C steps, or where the batches' compositions do not
        tell the classes apart.

    >>> steps = [step_moments("logits", torch.eye(2)[t % 2], torch.eye(2), 1.5 * torch.eye(2)) for t in range(8)]
    >>> estimate_response_matrix(steps, range(2)).E.round(3)
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    S, M = len(classes), len(steps)
    unknown = np.full((S, S), np.nan)
    if M == 0:
        return ResponseMatrix(tuple(classes), unknown, unknown, 0, "no step was observed yet")
    c, gram, response = (
        np.stack(column).astype(np.float64)
        for column in zip(*((s.composition, s.gram, s.response) for s in steps), strict=True)
    )
    C = c.shape[1]
    # an unused column of others has no coefficient, and must not hide the chosen classes
    used = np.array([column < S or bool(c[:, column].any()) for column in range(C)])
    if M < _LEAST_STEPS_PER_COLUMN * C:
        status = f"waiting: {M} of {_LEAST_STEPS_PER_COLUMN * C} observed steps"
        return ResponseMatrix(tuple(classes), unknown, unknown, M, status)
    c, gram, response = c[:, used], gram[:, used][:, :, used], response[:, :, used]
    normal = np.einsum("mj,mk,mjk->jk", c, c, gram)
    scale = np.sqrt(np.diag(normal))
    if (scale == 0).any() or np.linalg.cond(normal / np.outer(scale, scale)) > 1e10:
        status = "not identifiable: the batches' compositions do not tell the classes apart"
        return ResponseMatrix(tuple(classes), unknown, unknown, M, status)
    inverse = np.linalg.inv(normal / np.outer(scale, scale)) / np.outer(scale, scale)
    E = np.einsum("mj,mij->ij", c, response) @ inverse  # (S, C)
    fitted = np.einsum("ik,mk,mkj->mij", E, c, gram)
    scores = c[:, None, :] * (response - fitted)  # (M, S, C)
    spread = np.einsum("mij,jk->mik", scores, inverse)
    error = np.sqrt((spread**2).sum(0) * M / max(M - c.shape[1], 1))
    return ResponseMatrix(tuple(classes), E[:, :S], error[:, :S], M, "ok")


class ResponseMatrixTracker:
    """The last observed steps of one source, within a fixed memory.

    Args:
        source: ``features`` or ``logits``.
        classes: rows and columns.
        num_classes: K.

    40 steps a column are kept, fewer where they would take more than 8 MiB.
    """

    def __init__(self, source: str, classes: Sequence[int], num_classes: int) -> None:
        self.source = source
        self.classes = tuple(classes)
        columns = len(self.classes) + (len(self.classes) < num_classes)
        affordable = MEMORY_BYTES // (4 * columns * (2 * columns + 1))
        self._steps: deque[StepMoments] = deque(maxlen=min(STEPS_PER_COLUMN * columns, affordable))
        self._num_classes = num_classes
        self._unusable = 0
        self._too_narrow = False

    def add(self, composition: Tensor, before: Tensor, after: Tensor) -> None:
        """Take in one step; left out are class means that are not finite, and logits that are not K."""
        if self.source == "logits" and before.shape[1] != self._num_classes:
            self._too_narrow = True
            return
        moments = step_moments(self.source, composition, before, after, self.classes)
        if np.isfinite(moments.gram).all() and np.isfinite(moments.response).all():
            self._steps.append(moments)
        else:
            self._unusable += 1

    def estimate(self) -> ResponseMatrix:
        """What the steps so far say."""
        found = estimate_response_matrix(self._steps, self.classes)
        if self._too_narrow:
            return replace(found, status="unknown: its pulls act along one logit for each class")
        if self._unusable and not self._steps:
            return replace(found, status="unknown: class means of the probe are not finite; does it lack a class?")
        return found

    def state_dict(self) -> dict[str, Any]:
        """Tensors."""
        names = ("composition", "gram", "response")
        return {
            "classes": list(self.classes),
            "steps": [[torch.from_numpy(getattr(s, name)) for name in names] for s in self._steps],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken; steps of other classes are dropped."""
        self._steps.clear()
        if tuple(state["classes"]) == self.classes:
            self._steps.extend(StepMoments(*(x.numpy() for x in step)) for step in state["steps"])


def matrix_classes(chosen: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """The classes of the matrix: those chosen, or all if these are at most 64, or none.

    >>> matrix_classes(None, 3), matrix_classes([4, 7], 100), matrix_classes(None, 100)
    ((0, 1, 2), (4, 7), ())
    """
    if chosen is not None:
        return tuple(chosen)
    return tuple(range(num_classes)) if num_classes <= MAX_CLASSES else ()
