"""Locally elastic models: which coordinates of the class means follow the two growth modes.

K classes, p feature dimensions, q coordinates a class (p for the I-model, 1 for direction models).
A = ∫α (intra-class) and B = ∫β (inter-class) are the cumulative local-elasticity coefficients.

Every model maps class means X̄ (K, p) to coordinates z (K, q). Their common part z̄ = avg_k z_k and their difference
part z_k − z̄ are the two invariant modes of the LE-ODE under balanced sampling; the log growth of the modes and (A, B)
determine each other linearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class LEModel(Protocol):
    """What the estimators ask of a model of the class means."""

    @property
    def name(self) -> str:
        """Short name, used in tags: ``"I"``, ``"L"``."""
        ...

    def min_dimensions(self, num_classes: int) -> int:
        """Smallest feature dimension p for which the model is defined."""
        ...

    def coordinates(self, means: Tensor) -> Tensor:
        """Coordinates z ``(..., K, q)`` of class means ``(..., K, p)``."""
        ...

    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        """Coordinates ``(N, q)`` of samples ``(N, p)``, each along the direction of its class ``labels (N,)``."""
        ...

    def mode_weights(self, num_classes: int) -> ModeWeights:
        """The linear map from log growths of the modes to A and B."""
        ...


@dataclass(frozen=True)
class ModeWeights:
    """A = common_in_A·u + difference_in_A·v and likewise B, with u, v the log growths of the two modes.

    ``gamma_mode`` is the single mode that A − B depends on, ``gamma_weight`` its factor.
    """

    common_in_A: float
    difference_in_A: float
    common_in_B: float
    difference_in_B: float
    gamma_mode: str
    gamma_weight: float


@dataclass(frozen=True)
class IModel:
    """Identity similarity H_ij = I_p: a class is moved along the means of the others as they are.

    Common mode X̌, growing as exp((A + (K−1)B)/K); difference mode X̄_k − X̌, growing as exp((A − B)/K). Hence
    A = u + (K−1)v, B = u − v, and γ depends on the difference mode alone (paper, eq. 19 left).

    >>> import torch
    >>> IModel().coordinates(torch.eye(3)).shape
    torch.Size([3, 3])
    >>> IModel().mode_weights(3).gamma_weight
    3.0
    """

    name: str = "I"

    def min_dimensions(self, num_classes: int) -> int:  # noqa: D102
        return 1

    def coordinates(self, means: Tensor) -> Tensor:  # noqa: D102
        return means

    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        return features

    def mode_weights(self, num_classes: int) -> ModeWeights:  # noqa: D102
        K = num_classes
        return ModeWeights(1.0, K - 1.0, 1.0, -1.0, gamma_mode="difference", gamma_weight=float(K))


@dataclass(frozen=True)
class LModel:
    """Similarity along d_k = e_k − 1/K, for logits (p = K): H_ij = d_j d_jᵀ/‖d_j‖².

    With y_k = ⟨d_k, X̄_k⟩/‖d_k‖²: common mode avg_k y_k, growing as exp((A − B)/K); difference mode y_k − ȳ, growing
    as exp((A + B/(K−1))/K). Hence A = u + (K−1)v, B = (K−1)(v − u), and γ depends on the common mode alone (paper,
    eq. 19 right, for K = 3).

    >>> import torch
    >>> [round(y, 6) for y in LModel().coordinates(torch.eye(3)).flatten().tolist()]
    [1.0, 1.0, 1.0]
    """

    name: str = "L"

    def min_dimensions(self, num_classes: int) -> int:  # noqa: D102
        return num_classes

    def coordinates(self, means: Tensor) -> Tensor:  # noqa: D102
        K = means.shape[-2]
        own = means.diagonal(dim1=-2, dim2=-1)
        return ((own - means.mean(-1)) / (1 - 1 / K)).unsqueeze(-1)

    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        K = features.shape[-1]
        own = features.gather(1, labels.unsqueeze(1))
        return (own - features.mean(1, keepdim=True)) / (1 - 1 / K)

    def mode_weights(self, num_classes: int) -> ModeWeights:  # noqa: D102
        K = num_classes
        return ModeWeights(1.0, K - 1.0, 1.0 - K, K - 1.0, gamma_mode="common", gamma_weight=float(K))
