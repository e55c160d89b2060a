"""Locally elastic models: which coordinates of the class means follow the two growth modes.

K classes, p feature dimensions, q coordinates a class (p for the I-model, 1 for direction models).
A = ∫α (intra-class) and B = ∫β (inter-class) are the cumulative local-elasticity coefficients.

Every model maps class means X̄ (K, p) to coordinates z (K, q). Their common part z̄ = avg_k z_k and their difference
part z_k − z̄ are the two invariant modes of the LE-ODE under balanced sampling; the log growth of the modes and (A, B)
determine each other linearly. Under any sampling matrix P the same model gives the regressors of dX̄/dt = αU + βV.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
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
        """Coordinates ``(N, q)`` of single samples ``(N, p)``, each along the direction of its class in ``labels``."""
        ...

    def has_modes(self, num_classes: int) -> bool:
        """Whether the two modes exist (under balanced sampling), so that ``mode_weights`` may be called."""
        ...

    def mode_weights(self, num_classes: int) -> ModeWeights:
        """The linear map from log growths of the modes to A and B."""
        ...

    def pulls(self, means: Tensor, row: int) -> Tensor:
        """H_ij X̄_j ``(..., K, p)`` for i = ``row``: how each class j would move class i."""
        ...

    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """U_i = P_ii H_ii X̄_i and V_i = Σ_{j≠i} P_ij H_ij X̄_j, both ``(..., K, p)``, so that dX̄/dt = αU + βV."""
        ...


def sampling_matrix(num_classes: int, priors: Tensor | None = None) -> Tensor:
    """Sampling matrix P ``(K, K)`` or, for priors that change with time, ``(T, K, K)``; float64.

    ``priors`` is None (balanced, 1/K everywhere); class frequencies or counts ``(K,)``, giving P_ij = π_j; the
    same per time ``(T, K)`` with T ≠ K; or any matrix ``(K, K)`` or ``(T, K, K)``, taken as it is.

    Raises:
        ValueError: a shape other than these, or entries that are negative or not finite, or that sum to zero.

    >>> sampling_matrix(2, torch.tensor([30.0, 10.0]))
    tensor([[0.7500, 0.2500],
            [0.7500, 0.2500]], dtype=torch.float64)
    """
    K = num_classes
    if priors is None:
        return torch.full((K, K), 1 / K, dtype=torch.float64)
    priors = priors.to(torch.float64)
    if not bool(torch.isfinite(priors).all()) or bool((priors < 0).any()):
        raise ValueError("priors must be finite and not negative; pass class frequencies, counts or a sampling matrix")
    if priors.ndim >= 2 and priors.shape[-2:] == (K, K):
        return priors
    if priors.ndim not in (1, 2) or priors.shape[-1] != K:
        raise ValueError(
            f"priors must have shape ({K},), (T, {K}), ({K}, {K}) or (T, {K}, {K}), got {tuple(priors.shape)}; "
            f"give one frequency for each of the {K} classes"
        )
    total = priors.sum(-1, keepdim=True)
    if bool((total == 0).any()):
        raise ValueError("priors must not sum to zero; leave out times at which no class was sampled")
    return (priors / total).unsqueeze(-2).expand(*priors.shape[:-1], K, K)


def _shared_regressors(pulls: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """U and V where H_ij does not depend on i: s_j = H_j X̄_j ``(..., K, p)``."""
    P = P.to(pulls)
    U = P.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * pulls
    return U, P @ pulls - U


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

    def has_modes(self, num_classes: int) -> bool:  # noqa: D102
        return True

    def pulls(self, means: Tensor, row: int) -> Tensor:  # noqa: D102
        return means

    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _shared_regressors(means, P)


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

    def has_modes(self, num_classes: int) -> bool:  # noqa: D102
        return True

    def pulls(self, means: Tensor, row: int) -> Tensor:  # noqa: D102
        K = means.shape[-2]
        directions = torch.eye(K, dtype=means.dtype, device=means.device) - 1 / K
        return self.coordinates(means) * directions

    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _shared_regressors(self.pulls(means, 0), P)


@dataclass(frozen=True, eq=False)
class DirectionModel:
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
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        d = self.directions
        if d.ndim != 2 or d.shape[0] < 2:
            raise ValueError(
                f"directions must have shape (K, p) with K ≥ 2, got {tuple(d.shape)}; give one row a class"
            )
        if not bool(torch.isfinite(d).all()) or bool((d.norm(dim=1) == 0).any()):
            raise ValueError("directions must be finite and not zero; give every class a direction")
        rank, K = int(torch.linalg.matrix_rank(d.double())), d.shape[0]
        if rank < K - 1:
            raise ValueError(
                f"directions of {K} classes must have rank {K - 1} or {K}, got {rank}: some classes share a direction; "
                "use more feature dimensions, or merge those classes"
            )

    @classmethod
    def from_classifier(cls, weight: Tensor) -> DirectionModel:
        """Directions of a linear classifier ``(K, p)``: each class's row minus the mean row.

        >>> DirectionModel.from_classifier(torch.eye(3)).has_modes(3)
        True
        """
        weight = weight.detach()
        return cls(weight - weight.mean(0, keepdim=True))

    def min_dimensions(self, num_classes: int) -> int:  # noqa: D102
        return self.directions.shape[1]

    def coordinates(self, means: Tensor) -> Tensor:  # noqa: D102
        d = self._matching(means, means.shape[-2])
        return (means * d).sum(-1, keepdim=True) / d.square().sum(-1, keepdim=True)

    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        d = self._matching(features, self.directions.shape[0])[labels]
        return (features * d).sum(-1, keepdim=True) / d.square().sum(-1, keepdim=True)

    def has_modes(self, num_classes: int) -> bool:  # noqa: D102
        d = self.directions.double()
        K = d.shape[0]
        if num_classes != K:
            return False
        gram = d @ d.T / d.square().sum(1).mean()
        simplex = (torch.eye(K, dtype=d.dtype, device=d.device) * K - 1) / (K - 1)
        return bool((gram - simplex).abs().max() <= self.tolerance)

    def mode_weights(self, num_classes: int) -> ModeWeights:  # noqa: D102
        if not self.has_modes(num_classes):
            raise ValueError(
                f"the directions are no simplex equiangular tight frame of {num_classes} classes, so the model has "
                'no two modes; use method="regression"'
            )
        return LModel().mode_weights(num_classes)

    def pulls(self, means: Tensor, row: int) -> Tensor:  # noqa: D102
        return self.coordinates(means) * self._matching(means, means.shape[-2])

    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _shared_regressors(self.pulls(means, 0), P)

    def _matching(self, means: Tensor, num_classes: int) -> Tensor:
        if self.directions.shape != (num_classes, means.shape[-1]):
            raise ValueError(
                f"directions of shape {tuple(self.directions.shape)} do not fit {num_classes} classes in "
                f"{means.shape[-1]} dimensions; give one direction (p,) a class"
            )
        return self.directions.to(means)


@dataclass(frozen=True, eq=False)
class GeneralModel:
    """Any similarity blocks H_ij, ``blocks (K, K, p, p)``: row i is moved along H_ij X̄_j. Regression only.

    Raises:
        ValueError: blocks of another shape, or not finite.

    >>> identity = torch.eye(2).expand(3, 3, 2, 2)
    >>> U, V = GeneralModel(identity).regressors(torch.ones(3, 2), sampling_matrix(3))
    >>> V[0]
    tensor([0.6667, 0.6667])
    """

    blocks: Tensor = field(repr=False)
    name: str = "general"

    def __post_init__(self) -> None:
        H = self.blocks
        if H.ndim != 4 or H.shape[0] != H.shape[1] or H.shape[2] != H.shape[3]:
            raise ValueError(
                f"blocks must have shape (K, K, p, p), got {tuple(H.shape)}; H[i, j] maps X̄_j to a pull on i"
            )
        if not bool(torch.isfinite(H).all()):
            raise ValueError("blocks must be finite; look for NaN in H")

    def min_dimensions(self, num_classes: int) -> int:  # noqa: D102
        return self.blocks.shape[-1]

    def coordinates(self, means: Tensor) -> Tensor:  # noqa: D102
        return means

    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        return features

    def has_modes(self, num_classes: int) -> bool:  # noqa: D102
        return False

    def mode_weights(self, num_classes: int) -> ModeWeights:  # noqa: D102
        raise ValueError('a model of general similarity blocks has no two modes; use method="regression"')

    def pulls(self, means: Tensor, row: int) -> Tensor:  # noqa: D102
        return torch.einsum("jab,...jb->...ja", self._matching(means)[row], means)

    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        P = P.to(means)
        all_pulls = torch.einsum("...ij,ijab,...jb->...ia", P, self._matching(means), means)
        own_blocks = self.blocks.diagonal(dim1=0, dim2=1).permute(2, 0, 1).to(means)
        own = torch.einsum("...i,iab,...ib->...ia", P.diagonal(dim1=-2, dim2=-1), own_blocks, means)
        return own, all_pulls - own

    def _matching(self, means: Tensor) -> Tensor:
        K, p = means.shape[-2:]
        if self.blocks.shape != (K, K, p, p):
            raise ValueError(
                f"blocks of shape {tuple(self.blocks.shape)} do not fit means of {K} classes in {p} dimensions; "
                f"give shape {(K, K, p, p)}"
            )
        return self.blocks.to(means)
