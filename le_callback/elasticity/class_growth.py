"""How far the class means moved between two windows, in terms of the two coefficients, for any class frequencies.

The coordinates z_k of both models, those of a simplex of directions included, obey

    dz_k = (δ π_k z_k + ε s) dt,   s = Σ_j π_j z_j,

I-model: δ = γ, ε = β. Directions with ⟨d_i, d_j⟩ = −‖d_i‖²/(K−1): δ = γ + β K/(K−1), ε = −β/(K−1). What all classes
share leaves their differences alone, so two projections tell δ and ε apart (⟨·,·⟩ sums over classes and coordinates):

    difference   ∫δ = ⟨r, Δz⟩ / ∫⟨r, πz⟩,   r = πz of the earlier window, less its mean over the classes,
    common       ∫(ε + ρδ) = ⟨z̄, Δz̄⟩ / ∫⟨z̄, s⟩,   z̄ = Σ v_k z_k of the earlier window,

with ρ = ∫⟨z̄, Σ v_k π_k z_k⟩ / ∫⟨z̄, s⟩.

The integrals take f to grow as an exponential between the windows, so that balanced growth is exact at any step, and
then both are the log growth of the two modes (times K for the difference), projected on what they were. The earlier
window knows nothing of the process noise that comes after it, which lets norms grow without any drift. Its sampling
noise is in both factors: what that adds on average, to second order, is taken off.

Legend: K classes, q coordinates a class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from le_callback.similarity import LEModel
from le_callback.values import Array

Flags = NDArray[np.bool_]
_MOST = 1e6  # growth between two windows


@dataclass(frozen=True)
class ClassReading:
    """Coordinates of the class means in one window.

    Attributes:
        z: ``(K, q)``; rows of classes not seen are 0.
        noise: expected squared error of each row ``(K,)``, 0 where not seen.
        seen: ``(K,)``.
        dimensions: directions that the noise of a class spreads over.
        averaged: whether means are averages over a window, not those of one moment.
    """

    z: Array
    noise: Array
    seen: Flags
    dimensions: float
    averaged: bool = True

    @classmethod
    def of(
        cls, model: LEModel, means: Tensor, noise: Tensor, dimensions: float | None = None, *, averaged: bool = True
    ) -> ClassReading:
        """From class means ``(K, p)``, NaN where not seen, and the noise of each class's coordinates ``(K,)``.

        >>> from le_callback.similarity import IModel
        >>> nan = math.nan
        >>> ClassReading.of(IModel(), torch.tensor([[1.0], [nan]]), torch.tensor([0.1, nan])).seen
        array([ True, False])
        """
        z = model.coordinates(means).cpu().numpy()
        s = noise.cpu().numpy()
        seen = np.isfinite(z).all(1) & np.isfinite(s)
        if not seen.all():
            z, s = np.where(seen[:, None], z, 0.0), np.where(seen, s, 0.0)
        return cls(z, s, seen, min(z.shape[1], dimensions or z.shape[1]), averaged)

    def state(self) -> list[Any]:
        """Tensors and numbers."""
        return [*(torch.from_numpy(x) for x in (self.z, self.noise, self.seen)), self.dimensions, self.averaged]

    @classmethod
    def from_state(cls, state: list[Any]) -> ClassReading:
        """The reading that ``state`` was taken of."""
        z, noise, seen, *rest = state
        return cls(z.numpy(), noise.numpy(), seen.numpy(), *rest)


@dataclass(frozen=True)
class Growth:
    """What two windows say of one path.

    Attributes:
        value: growth of the path; NaN where the two windows do not tell.
        noise_before, noise_after: share of each class in the sampling variance of the path at both ends ``(K,)``.
        doubt: variance by what is not known of the class frequencies.
        coupling: ρ; 0 for the difference.
    """

    value: float
    noise_before: Array
    noise_after: Array
    doubt: float = 0.0
    coupling: float = 0.0

    @classmethod
    def unknown(cls, K: int) -> Growth:
        """The windows do not tell."""
        return cls(math.nan, np.zeros(K), np.zeros(K))


def common_weights(frequencies: Array, uniform: bool) -> Array:
    """Weights v ``(K,)`` of the mean over classes: all alike, or class frequencies, which give it the least noise."""
    return np.full(len(frequencies), 1 / len(frequencies)) if uniform else frequencies


def contrast_weights(frequencies: Array) -> Array:
    """Weights w ``(K,)`` of the classes in the difference: like 1/noise for rare classes, bounded for frequent ones.

    >>> contrast_weights(np.array([0.5, 0.5]))
    array([0.5, 0.5])
    """
    with np.errstate(divide="ignore"):
        relative = 1 / np.maximum(frequencies, 1e-12)
    known = frequencies > 0
    weights = np.where(known, 1 / (relative + relative[known].mean()), 0.0)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class Frequencies:
    """Class frequencies between two windows.

    Attributes:
        share: π between them ``(K,)``.
        usual: over a longer time ``(K,)``, for weights that change slowly.
        doubt: variance of a share of them over its expectation: those that were drawn differ from π by chance.
    """

    share: Array
    usual: Array
    doubt: float = 0.0

    def variance(self, pulls: Array) -> float:
        """Of Σ π_k f_k relative to its square, for pulls f ``(K,)``.

        >>> Frequencies(np.array([0.5, 0.5]), np.array([0.5, 0.5]), doubt=0.01).variance(np.array([1.0, 1.0]))
        0.0
        """
        relative = np.square(pulls / (self.share @ pulls))
        return max(0.0, float(self.share @ relative) - 1) * self.doubt


def difference_growth(a: ClassReading, b: ClassReading, frequencies: Frequencies) -> Growth:
    """∫δ between two windows.

    Args:
        a: the earlier window.
        b: the later one.
        frequencies: of the classes.

    >>> z = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> one = ClassReading(z, np.zeros(2), np.ones(2, dtype=bool), 2)
    >>> other = ClassReading(z * np.exp(0.3), np.zeros(2), one.seen, 2)
    >>> half = np.full(2, 0.5)
    >>> round(difference_growth(one, other, Frequencies(half, half)).value, 4)
    0.6
    """
    share, usual = frequencies.share, frequencies.usual
    both = a.seen & b.seen & (usual > 0)
    if both.sum() < 2:
        return Growth.unknown(len(both))
    w = contrast_weights(np.where(both, usual, 0.0))

    def contrast(x: Array) -> Array:
        return np.asarray(w[:, None] * (x - w @ x))  # sums to 0 over the classes

    pulled0, pulled1 = share[:, None] * a.z, share[:, None] * b.z
    r = contrast(usual[:, None] * a.z)
    twice = w * (1 - w) * usual * a.noise  # of ⟨r, z⟩: both hold the noise of the earlier window
    along0, along1 = (r * a.z).sum(1) - twice, (r * b.z).sum(1)
    f0, f1 = float(share @ along0), float(share @ along1)
    if not _comparable(f0, f1):
        return Growth.unknown(len(both))
    F, F0, F1 = log_mean(f0, f1)
    x = float((along1 - along0).sum()) / F
    pull0 = F0 * share[:, None] * r + usual[:, None] * contrast(F0 * pulled0 + F1 * pulled1)
    sides = (
        _Side(usual[:, None] * contrast(b.z - a.z) - r, pull0, a),
        _Side(r, F1 * share[:, None] * r, b),
    )
    before, after = (side.variance(x, F) for side in sides)
    off = b.z - a.z - x * (pulled0 + pulled1) / 2
    loose = float((w * usual) @ np.square(off - w @ off).sum(1))
    from_noise = float((w * (1 - w) * usual) @ (a.noise + b.noise))
    x -= sum(side.bias(x, F) for side in sides) + _of_averages(loose, from_noise, a, int(both.sum()) - 1) / F
    return Growth(x, before, after, x**2 * frequencies.variance(along0 + along1))


def common_growth(a: ClassReading, b: ClassReading, frequencies: Frequencies, uniform: bool) -> Growth:
    """∫(ε + ρδ) between two windows, and ρ; arguments as ``difference_growth`` and ``common_weights``.

    >>> one = ClassReading(np.array([[1.0], [2.0]]), np.zeros(2), np.ones(2, dtype=bool), 1)
    >>> other = ClassReading(one.z * np.exp(0.3), np.zeros(2), one.seen, 1)
    >>> half = np.full(2, 0.5)
    >>> round(common_growth(one, other, Frequencies(half, half), uniform=True).value, 12)
    0.3
    """
    share, usual = frequencies.share, frequencies.usual
    both = a.seen & b.seen & ((usual > 0) | uniform)
    if not both.any():
        return Growth.unknown(len(both))
    v = np.where(both, common_weights(usual, uniform), 0.0)
    v = v / v.sum()
    r = v @ a.z
    # a class that only one of the windows holds pulls all the same: it is taken where it was seen
    z0, z1 = np.where(a.seen[:, None], a.z, b.z), np.where(b.seen[:, None], b.z, a.z)
    along0, along1 = z0 @ r - v * a.noise, z1 @ r  # r holds the noise of the earlier window
    pull = share / share.sum()  # of very many classes some are followed, for all
    h0, h1 = float(pull @ along0), float(pull @ along1)
    if not _comparable(h0, h1):
        return Growth.unknown(len(both))
    F, F0, F1 = log_mean(h0, h1)
    x = float(v @ (along1 - along0)) / F
    own, pulling = v[:, None], pull[:, None]
    sides = (
        _Side(own * (v @ (b.z - a.z) - r), F0 * pulling * r + own * (F0 * (pull @ z0) + F1 * (pull @ z1)), a),
        _Side(own * r, F1 * pulling * r, b),
    )
    before, after = (side.variance(x, F) for side in sides)
    loose = float(np.square(v @ (b.z - a.z) - x * (pull @ (z0 + z1)) / 2).sum())
    x -= sum(side.bias(x, F) for side in sides) + _of_averages(loose, float(v**2 @ (a.noise + b.noise)), a, 1) / F
    doubt = x**2 * frequencies.variance(along0 + along1)
    return Growth(x, before, after, doubt, float((v * share) @ (along0 + along1)) / (h0 + h1))


def _of_averages(loose: float, from_noise: float, a: ClassReading, parts: int) -> float:
    """What a walk adds to ⟨r, Δz⟩ where means are averages over windows.

    The average of a window and what follows on it share a sixth of the walk's variance in a window, the difference of
    two averages has two thirds of it: a quarter of the squared change that drift and sampling noise do not explain.

    Args:
        loose: squared change off the drift.
        from_noise: its expectation by sampling noise, before the fit of one coefficient.
        a: the earlier window.
        parts: independent parts of ``a.dimensions`` directions each.
    """
    directions = parts * a.dimensions
    if not a.averaged or directions <= 1:
        return 0.0
    return (loose - from_noise * (1 - 1 / directions)) / 4


@dataclass(frozen=True)
class _Side:
    """How the noise of one of the two windows moves top and bottom of x = T/F: derivatives ``(K, q)``."""

    top: Array
    bottom: Array
    reading: ClassReading

    def variance(self, x: float, F: float) -> Array:
        """Of x, by the noise of each class ``(K,)``, which spreads evenly over its directions."""
        return np.asarray(np.square((self.top - x * self.bottom) / F).sum(1) * self._each)

    def bias(self, x: float, F: float) -> float:
        """Of x to second order: −(Cov(T, F) − x Var(F))/F²."""
        return -float(((self.top - x * self.bottom) / F * (self.bottom / F)).sum(1) @ self._each)

    @property
    def _each(self) -> Array:
        return self.reading.noise / self.reading.dimensions


def _comparable(a: float, b: float) -> bool:
    """Whether growth from a to b can be read: both positive, and not more than a millionfold."""
    return a > 0 and b > 0 and 1 / _MOST < b / a < _MOST


def log_mean(a: float, b: float) -> tuple[float, float, float]:
    """Logarithmic mean (b − a)/log(b/a) of positive numbers, and its derivatives: the mean of an exponential.

    >>> [round(x, 6) for x in log_mean(1.0, math.e)]
    [1.718282, 0.718282, 0.367879]
    """
    step = math.log(b / a)
    if abs(step) < 1e-4:
        return (a + b) / 2, 0.5, 0.5
    mean = (b - a) / step
    return mean, (mean / a - 1) / step, (1 - mean / b) / step
