"""The I-model: classes pull on each other along their means as they are. K classes, p feature dimensions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from le_callback.similarity.base import LEModel, ModeWeights, shared_regressors


@dataclass(frozen=True)
class IModel(LEModel):
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
    couples_dimensions = False

    @override
    def min_dimensions(self, num_classes: int) -> int:
        return 1

    @override
    def coordinates(self, means: Tensor) -> Tensor:
        return means

    @override
    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        return features

    @override
    def has_modes(self, num_classes: int, tolerance: float = 1e-4) -> bool:
        return True

    @override
    def mode_weights(self, num_classes: int) -> ModeWeights:
        K = num_classes
        return ModeWeights(1.0, K - 1.0, 1.0, -1.0, gamma_mode="difference", gamma_weight=float(K))

    @override
    def pulls(self, means: Tensor, row: int) -> Tensor:
        return means

    @override
    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        return shared_regressors(means, P)
