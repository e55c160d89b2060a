"""Models whose classes pull along one direction each: the L-model for logits, any directions for features.

K classes, p feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from le_callback.errors import require
from le_callback.similarity.base import LEModel, ModeWeights, shared_regressors


@dataclass(frozen=True)
class LModel(LEModel):
    """Similarity along d_k = e_k − 1/K, for logits (p = K): H_ij = d_j d_jᵀ/‖d_j‖².

    With y_k = ⟨d_k, X̄_k⟩/‖d_k‖²: common mode avg_k y_k, growing as exp((A − B)/K); difference mode y_k − ȳ, growing
    as exp((A + B/(K−1))/K). Hence A = u + (K−1)v, B = (K−1)(v − u), and γ depends on the common mode alone (paper,
    eq. 19 right, for K = 3).

    >>> import torch
    >>> [round(y, 6) for y in LModel().coordinates(torch.eye(3)).flatten().tolist()]
    [1.0, 1.0, 1.0]
    """

    name: str = "L"
    has_directions = True

    @override
    def min_dimensions(self, num_classes: int) -> int:
        return num_classes

    @override
    def coordinates(self, means: Tensor) -> Tensor:
        K = means.shape[-2]
        own = means.diagonal(dim1=-2, dim2=-1)
        return ((own - means.mean(-1)) / (1 - 1 / K)).unsqueeze(-1)

    @override
    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        K = features.shape[-1]
        own = features.gather(1, labels.unsqueeze(1))
        return (own - features.mean(1, keepdim=True)) / (1 - 1 / K)

    @override
    def class_directions(self, num_classes: int) -> Tensor:
        return torch.eye(num_classes, dtype=torch.float64) - 1 / num_classes

    @override
    def mode_weights(self, num_classes: int) -> ModeWeights:
        K = num_classes
        return ModeWeights(1.0, K - 1.0, 1.0 - K, K - 1.0, gamma_mode="common", gamma_weight=float(K))

    @override
    def has_modes(self, num_classes: int, tolerance: float = 1e-4) -> bool:
        return True

    @override
    def pulls(self, means: Tensor, row: int) -> Tensor:
        K = means.shape[-2]
        directions = torch.eye(K, dtype=means.dtype, device=means.device) - 1 / K
        return self.coordinates(means) * directions

    @override
    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        return shared_regressors(self.pulls(means, 0), P)


@dataclass(frozen=True, eq=False)
class DirectionModel(LEModel):
    """Similarity along given directions ``(K, p)``: H_ij = d_j d_jᵀ/‖d_j‖², for features of any dimension.

    With y_k = ⟨d_k, X̄_k⟩/‖d_k‖². The modes of the L-model hold if the directions are a simplex equiangular tight frame,
    ⟨d_i, d_j⟩ = −‖d_i‖²/(K−1); for other directions use the regression.

    Raises:
        ValueError: directions that are not ``(K, p)`` with K ≥ 2, not finite, zero, or of rank below K − 1.

    >>> DirectionModel(torch.eye(3) - 1 / 3).has_modes(3)
    True
    >>> DirectionModel(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).has_modes(2)
    False
    """

    directions: Tensor = field(repr=False)
    name: str = "direction"
    has_directions = True

    def __post_init__(self) -> None:
        d = self.directions
        shape = tuple(d.shape)
        require(d.ndim == 2 and shape[0] >= 2, "directions", shape, "of shape (K, p) with K ≥ 2, one row a class")
        usable = bool(torch.isfinite(d).all()) and not bool((d.norm(dim=1) == 0).any())
        require(usable, "directions", d, "finite and not zero for any class")
        rank, K = int(torch.linalg.matrix_rank(d.double())), d.shape[0]
        require(
            rank >= K - 1,
            "directions",
            rank,
            f"of rank {K - 1} or {K} for {K} classes",
            "Some classes share a direction: use more feature dimensions, or merge those classes.",
        )

    @classmethod
    def from_classifier(cls, weight: Tensor) -> DirectionModel:
        """Directions of a linear classifier ``(K, p)``: each class's row minus the mean row.

        >>> DirectionModel.from_classifier(torch.eye(3)).has_modes(3)
        True
        """
        weight = weight.detach()
        return cls(weight - weight.mean(0, keepdim=True))

    @override
    def min_dimensions(self, num_classes: int) -> int:
        return self.directions.shape[1]

    @override
    def coordinates(self, means: Tensor) -> Tensor:
        d = self._matching(means, means.shape[-2])
        return (means * d).sum(-1, keepdim=True) / d.square().sum(-1, keepdim=True)

    @override
    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        d = self._matching(features, self.directions.shape[0])[labels]
        return (features * d).sum(-1, keepdim=True) / d.square().sum(-1, keepdim=True)

    @override
    def has_modes(self, num_classes: int, tolerance: float = 1e-4) -> bool:
        return num_classes == len(self.directions) and is_simplex(self.directions, tolerance)

    @override
    def class_directions(self, num_classes: int) -> Tensor:
        return self.directions.detach().to("cpu", torch.float64)

    @override
    def mode_weights(self, num_classes: int) -> ModeWeights:
        require(
            self.has_modes(num_classes),
            "directions",
            tuple(self.directions.shape),
            f"a simplex equiangular tight frame of {num_classes} classes, for the model to have two modes",
            'Use method="regression".',
        )
        return LModel().mode_weights(num_classes)

    @override
    def pulls(self, means: Tensor, row: int) -> Tensor:
        return self.coordinates(means) * self._matching(means, means.shape[-2])

    @override
    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        return shared_regressors(self.pulls(means, 0), P)

    def _matching(self, means: Tensor, num_classes: int) -> Tensor:
        fits = tuple(self.directions.shape) == (num_classes, means.shape[-1])
        expected = f"of {num_classes} classes in {means.shape[-1]} dimensions, as the class means"
        require(fits, "directions", tuple(self.directions.shape), expected, "Give one direction (p,) a class.")
        return self.directions.to(means)


def is_simplex(directions: Tensor, tolerance: float) -> bool:
    """Whether directions ``(K, p)`` are a simplex equiangular tight frame: ⟨d_i, d_j⟩ = −‖d‖²/(K−1), equal norms.

    >>> is_simplex(torch.eye(3) - 1 / 3, 1e-6), is_simplex(torch.eye(3), 1e-6)
    (True, False)
    """
    d = directions.double()
    K = len(d)
    gram = d @ d.T / d.square().sum(1).mean()
    simplex = (torch.eye(K, dtype=d.dtype, device=d.device) * K - 1) / (K - 1)
    return bool((gram - simplex).abs().max() <= tolerance)
