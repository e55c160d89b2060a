"""What a similarity model is: which coordinates of the class means follow the two growth modes, and how classes pull.

K classes, p feature dimensions, q coordinates a class (p for the I-model, 1 for direction models).
A = ∫α (intra-class) and B = ∫β (inter-class) are the cumulative local-elasticity coefficients.

Every model maps class means X̄ (K, p) to coordinates z (K, q). Their common part z̄ = avg_k z_k and their difference
part z_k − z̄ are the two invariant modes of the LE-ODE under balanced sampling; the log growth of the modes and (A, B)
determine each other linearly. Under any sampling matrix P the same model gives the regressors of dX̄/dt = αU + βV.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ModeWeights:
    """A = common_in_A·u + difference_in_A·v and likewise B, with u, v the log growths of the two modes.

    Attributes:
        common_in_A, difference_in_A: weights of u and v in A.
        common_in_B, difference_in_B: weights of u and v in B.
        gamma_mode: ``"common"`` or ``"difference"``, the single mode that A − B depends on.
        gamma_weight: its factor.

    >>> from le_callback.similarity import IModel
    >>> IModel().mode_weights(3).difference_in_A
    2.0
    """

    common_in_A: float
    difference_in_A: float
    common_in_B: float
    difference_in_B: float
    gamma_mode: str
    gamma_weight: float


class LEModel(ABC):
    """The similarity blocks H_ij of the LE-SDE, as far as estimators and simulators ask for them.

    Attributes:
        name: short name, used in tags: ``"I"``, ``"L"``.
        couples_dimensions: whether H mixes feature dimensions; without it each dimension is a system of its own.
        has_directions: whether each class pulls along one direction, so that it has a single coordinate.

    Source: Zhang, Wang, Su 2021, section 2: M = (E ⊗ P) ∘ H.

    >>> from le_callback.similarity import LModel
    >>> isinstance(LModel(), LEModel), LModel().has_directions
    (True, True)
    """

    name: str
    couples_dimensions: bool = True
    has_directions: bool = False

    @abstractmethod
    def min_dimensions(self, num_classes: int) -> int:
        """Smallest feature dimension p for which the model is defined."""

    @abstractmethod
    def coordinates(self, means: Tensor) -> Tensor:
        """Coordinates z ``(..., K, q)`` of class means ``(..., K, p)``."""

    @abstractmethod
    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        """Coordinates ``(N, q)`` of single samples ``(N, p)``, each along the direction of its class in ``labels``."""

    @abstractmethod
    def pulls(self, means: Tensor, row: int) -> Tensor:
        """H_ij X̄_j ``(..., K, p)`` for i = ``row``: how each class j would move class i."""

    @abstractmethod
    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """U_i = P_ii H_ii X̄_i and V_i = Σ_{j≠i} P_ij H_ij X̄_j, both ``(..., K, p)``, so that dX̄/dt = αU + βV."""

    def class_directions(self, num_classes: int) -> Tensor | None:
        """Directions d ``(K, p)`` with H_ij = d_j d_jᵀ/‖d_j‖²; None where classes do not pull along one direction."""
        return None

    def has_modes(self, num_classes: int, tolerance: float = 1e-4) -> bool:
        """Whether the two modes exist under balanced sampling, so that ``mode_weights`` may be called.

        ``tolerance`` is how far directions may be from a simplex, as a share of their squared length.
        """
        return False

    def mode_weights(self, num_classes: int) -> ModeWeights:
        """The linear map from log growths of the modes to A and B.

        Raises:
            ValueError: if the model has no two modes.
        """
        raise ValueError(f'the {self.name}-model has no two modes; use method="regression"')


def shared_regressors(pulls: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """U and V ``(..., K, p)`` where H_ij does not depend on i, from s_j = H_j X̄_j ``(..., K, p)``.

    >>> import torch
    >>> shared_regressors(torch.tensor([[1.0], [3.0]]), torch.full((2, 2), 0.5))[1].flatten()
    tensor([1.5000, 0.5000])
    """
    P = P.to(pulls)
    U = P.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * pulls
    return U, P @ pulls - U
