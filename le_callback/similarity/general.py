"""Any similarity blocks. K classes, p feature dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from le_callback.errors import require
from le_callback.similarity.base import LEModel


@dataclass(frozen=True, eq=False)
class GeneralModel(LEModel):
    """Any similarity blocks H_ij, ``blocks (K, K, p, p)``: row i is moved along H_ij X̄_j. Regression only.

    Raises:
        ValueError: blocks of another shape, or not finite.

    >>> from le_callback.similarity.sampling_matrix import sampling_matrix
    >>> identity = torch.eye(2).expand(3, 3, 2, 2)
    >>> U, V = GeneralModel(identity).regressors(torch.ones(3, 2), sampling_matrix(3))
    >>> V[0]
    tensor([0.6667, 0.6667])
    """

    blocks: Tensor = field(repr=False)
    name: str = "general"

    def __post_init__(self) -> None:
        H = self.blocks
        square = H.ndim == 4 and H.shape[0] == H.shape[1] and H.shape[2] == H.shape[3]
        expected = "of shape (K, K, p, p), where H[i, j] maps X̄_j to a pull on i"
        require(square, "blocks", tuple(H.shape), expected)
        require(bool(torch.isfinite(H).all()), "blocks", H, "finite")

    @override
    def min_dimensions(self, num_classes: int) -> int:
        return self.blocks.shape[-1]

    @override
    def coordinates(self, means: Tensor) -> Tensor:
        return means

    @override
    def sample_coordinates(self, features: Tensor, labels: Tensor) -> Tensor:
        return features

    @override
    def pulls(self, means: Tensor, row: int) -> Tensor:
        return torch.einsum("jab,...jb->...ja", self._matching(means)[row], means)

    @override
    def regressors(self, means: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        P = P.to(means)
        all_pulls = torch.einsum("...ij,ijab,...jb->...ia", P, self._matching(means), means)
        own_blocks = self.blocks.diagonal(dim1=0, dim2=1).permute(2, 0, 1).to(means)
        own = torch.einsum("...i,iab,...ib->...ia", P.diagonal(dim1=-2, dim2=-1), own_blocks, means)
        return own, all_pulls - own

    def _matching(self, means: Tensor) -> Tensor:
        K, p = means.shape[-2:]
        shape = tuple(self.blocks.shape)
        require(shape == (K, K, p, p), "blocks", shape, f"of shape {(K, K, p, p)}, as the class means")
        return self.blocks.to(means)
