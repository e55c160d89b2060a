"""The pseudo-inverse of the scatter between classes, by its smaller side. K classes, p feature dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from le_callback.measures.geometry import WIDE_NUMBERS
from le_callback.measures.mean_geometry import WIDEST, MeanGeometry

_NOTHING = {torch.float64: 1e-12, torch.float32: 1e-6}  # of the largest eigenvalue: counts as zero


class Span:
    """The span of the class means: maps deviations d to coordinates in which S = Σ_k m_k m_kᵀ is the identity.

    With M the (K, p) means about their centre: ‖``apply``(d)‖² = dᵀ S⁺ d, without any (p, p) matrix where K ≤ p: there
    S⁺ = Mᵀ (M Mᵀ)⁺² M.

    Args:
        geometry: of the class means.

    >>> geometry = MeanGeometry(torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64))
    >>> Span(geometry).apply(torch.tensor([[1.0, 5.0]])).square().sum()  # S = diag(8, 0)
    tensor(0.1250, dtype=torch.float64)
    """

    def __init__(self, geometry: MeanGeometry) -> None:
        self._geometry = geometry
        self._by_dimension = geometry.by_dimension
        K = geometry.num_classes
        # the mean over the classes of M is zero: on the ones its products, which have no part there, are made regular
        scatter = geometry.second if self._by_dimension else geometry.gram
        ones = 0.0 if self._by_dimension else float(scatter.diagonal().mean()) / K
        factor, info = torch.linalg.cholesky_ex(scatter + ones if ones else scatter)
        pivots = factor.diagonal().square()
        regular = bool((info == 0) & (pivots.amin() > _NOTHING[scatter.dtype] * pivots.amax()))
        self._factor = factor if regular else None
        self._inverse = None if regular else _pseudo_inverse(scatter, root=self._by_dimension)

    @classmethod
    def of(cls, geometry: MeanGeometry) -> Span | None:
        """None where neither classes nor dimensions are few enough for their products."""
        return cls(geometry) if geometry.by_dimension or (geometry.exact and geometry.num_classes <= WIDEST) else None

    def apply(self, deviations: Tensor) -> Tensor:
        """Coordinates (N, r) of deviations (N, p)."""
        return self.solved(self.projected(deviations)).T

    def projected(self, deviations: Tensor) -> Tensor:
        """Products with the means (K, N) of deviations (N, p), or these themselves (p, N): what ``solved`` takes."""
        means, scale = self._geometry.centred, self._geometry.scale
        if self._by_dimension:
            return deviations.to(means).T / scale
        # many deviations stay in their precision until they are few numbers
        d = deviations.to(means.device) if deviations.numel() > WIDE_NUMBERS else deviations.to(means)
        return (means.to(d.dtype) @ d.T).to(means.dtype).div_(scale)

    def solved(self, projected: Tensor) -> Tensor:
        """Coordinates (r, N)."""
        if self._factor is None:
            assert self._inverse is not None
            return (self._inverse.T if self._by_dimension else self._inverse) @ projected
        found: Tensor = (
            torch.linalg.solve_triangular(self._factor, projected, upper=False)
            if self._by_dimension
            else torch.cholesky_solve(projected, self._factor)
        )
        return found


def _pseudo_inverse(scatter: Tensor, root: bool) -> Tensor:
    """S⁺, or its symmetric root; eigenvalues that are nothing but rounding count as zero."""
    values, vectors = torch.linalg.eigh(scatter.double() if scatter.device.type == "cpu" else scatter)
    kept = values > _NOTHING[scatter.dtype] * values[-1]
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    found: Tensor = (vectors * (inverse.sqrt() if root else inverse)) @ vectors.T
    return found.to(scatter.dtype)
