"""Class means about their centre, and their products: what all measures of neural collapse read.

K classes, p feature dimensions. Of at most 2,048 classes the products of all pairs are held while a window is
evaluated; of more, only products of dimensions (p, p).
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from le_callback.measures.geometry import BLOCK, centre_of, in_cache, mirrored, products

EXACT_CLASSES = 2048  # of more, not all pairs are looked at
WIDEST = 4096  # dimensions (or classes) of which products are made
_ROWS = 8192  # that are read at once


class MeanGeometry:
    """Class means about their centre, divided by their largest entry so that no square over- or underflows.

    Args:
        means: (K, p), finite.

    >>> MeanGeometry(torch.tensor([[0.0, 0.0], [4.0, 0.0]])).norms
    tensor([1., 1.])
    """

    def __init__(self, means: Tensor) -> None:
        self.num_classes, self.num_features = means.shape
        self.centred = means - centre_of(means)
        low, high = torch.aminmax(self.centred)  # a norm of infinite order takes ten times as long
        largest = float(torch.maximum(-low, high))
        self.scale = largest if largest > 0 else 1.0
        self.centred.div_(self.scale)

    @property
    def exact(self) -> bool:
        """Whether all pairs are looked at."""
        return self.num_classes <= EXACT_CLASSES

    @cached_property
    def gram(self) -> Tensor:
        """(K, K) ⟨m_k, m_l⟩; of at most 2,048 classes."""
        assert self.exact
        return products(self.centred)

    @cached_property
    def norms(self) -> Tensor:
        """(K,) ‖m_k‖."""
        norms: Tensor = torch.linalg.vector_norm(self.centred, dim=1)
        return norms

    @cached_property
    def eigenvalue_variation(self) -> float:
        """Variance over squared mean of the K − 1 eigenvalues of M Mᵀ; NaN where there are too many for products.

        >>> MeanGeometry(torch.eye(3, dtype=torch.float64)).eigenvalue_variation < 1e-12
        True
        """
        K, p = self.num_classes, self.num_features
        if self.by_dimension:
            products, missing, shift = self.second, K - 1 - p, 0.0
        elif self.exact:
            products, missing, shift = self.gram, 0, 1 / K
        else:
            return torch.nan
        diagonal = products.diagonal()
        mean = float(diagonal.double().sum() if products.device.type == "cpu" else diagonal.sum()) / (K - 1)
        if not mean > 0:
            return torch.nan
        squares = []
        for rows in in_cache(products):
            rest = products[rows] + mean * shift
            rest.diagonal(rows.start).sub_(mean)
            squares.append(rest.square_().sum())
        total = float(torch.stack(squares).sum())
        return (total + missing * mean**2) / ((K - 1) * mean**2)

    @property
    def by_dimension(self) -> bool:
        """Whether products of dimensions (p, p) are the smaller ones."""
        return self.num_features < self.num_classes - 1 and self.num_features <= WIDEST

    @cached_property
    def second(self) -> Tensor:
        """(p, p) Σ_k m_k m_kᵀ."""
        return self._second(None)

    @cached_property
    def unit_second(self) -> Tensor:
        """(p, p) Σ_k û_k û_kᵀ of the unit rows."""
        return self._second(self.norms)

    def _second(self, norms: Tensor | None) -> Tensor:
        p = self.num_features
        total = self.centred.new_zeros(p, p)
        for start in range(0, self.num_classes, _ROWS):
            rows = self.centred[start : start + _ROWS]
            if norms is not None:
                rows = rows / norms[start : start + _ROWS].unsqueeze(1)
            for first in range(0, p, BLOCK):  # it is symmetric: half of it need not be computed
                total[first : first + BLOCK, first:].addmm_(rows[:, first : first + BLOCK].T, rows[:, first:])
        return mirrored(total)
