"""What a forecast reads from class means: modes, gaps of pairs, the worst pair, each class along its direction.

Legend: T times, K classes, p dimensions, P pairs, n quantities = P gaps, K coordinates, worst gap, worst ratio;
u, v log size of the common and the difference mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from le_callback.elasticity.amplitudes import mode_noise, norm_series, split_modes
from le_callback.elasticity.sampling_noise import SamplingNoise, coordinate_variance
from le_callback.similarity import LEModel
from le_callback.values import Array

_LEAST_SHARE = 0.01  # of its start that a coordinate along a direction may shrink to before logarithms


@dataclass(frozen=True)
class Frame:
    """By what quantities are measured: fixed at the time from which a forecast starts.

    Attributes:
        pairs: ``(P, 2)``.
        directions: unit vectors ``(K, p)`` from the centre to each class mean.
        size: ‖X̄_k − X̌‖ ``(K,)``.
        deviation: within-class deviation of each pair ``(P,)``, √((tr Σ_k + tr Σ_l)/2); ones where unknown.

    >>> Frame(pairs_of(2), np.array([[1.0], [-1.0]]), np.full(2, 2.0), np.ones(1)).pairs
    array([[0, 1]])
    """

    pairs: Array
    directions: Array
    size: Array
    deviation: Array


def pairs_of(num_classes: int) -> Array:
    """All pairs ``(P, 2)`` with k < l.

    >>> pairs_of(3).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    return np.stack(np.triu_indices(num_classes, 1), axis=1)


def pair_deviation(spread: Array, pairs: Array) -> Array:
    """√((tr Σ_k + tr Σ_l)/2) ``(..., P)`` from tr Σ_k ``(..., K)``.

    >>> pair_deviation(np.array([1.0, 7.0]), pairs_of(2))
    array([2.])
    """
    return np.asarray(np.sqrt((spread[..., pairs[:, 0]] + spread[..., pairs[:, 1]]) / 2))


def frame_at(means: Array, deviation: Array, pairs: Array) -> Frame:
    """The frame of class means.

    Args:
        means: ``(K, p)``.
        deviation: of each pair ``(P,)``.
        pairs: ``(P, 2)``.

    >>> frame_at(np.array([[3.0], [-1.0]]), np.ones(1), pairs_of(2)).size
    array([2., 2.])
    """
    centred = means - means.mean(0)
    size = np.linalg.norm(centred, axis=1)
    return Frame(pairs, centred / np.maximum(size, 1e-300)[:, None], size, deviation)


def squared_gaps(means: Array, pairs: Array) -> Array:
    """‖X̄_k − X̄_l‖² ``(..., P)`` of ``means (..., K, p)``.

    >>> squared_gaps(np.array([[0.0, 0.0], [3.0, 4.0]]), pairs_of(2))
    array([25.])
    """
    centred = means - means.mean(-2, keepdims=True)
    gram = centred @ np.swapaxes(centred, -1, -2)
    own = np.diagonal(gram, axis1=-2, axis2=-1)
    k, l = pairs.T  # noqa: E741
    return np.asarray(np.maximum(own[..., k] + own[..., l] - 2 * gram[..., k, l], 0))


def quantities(
    means: Array,
    frame: Frame,
    *,
    deviation: Array | None = None,
    across: Array | float = 0.0,
    noise: Array | None = None,
) -> Array:
    """Log quantities ``(..., n)`` of ``means (..., K, p)``.

    Args:
        means: class means.
        frame: fixes pairs and directions.
        deviation: of each pair ``(..., P)``, if not that of the frame.
        across: added to the squared gaps ``(..., P)``: what lies outside of the p dimensions.
        noise: expected squared error of the means ``(..., K)``, taken off the squared gaps.

    >>> x = np.array([[3.0], [-1.0]])
    >>> np.exp(quantities(x, frame_at(x, np.full(1, 2.0), pairs_of(2)))).round(6)  # gap, two coordinates, gap, gap/2
    array([4., 2., 2., 4., 2.])
    """
    square = squared_gaps(means, frame.pairs) + across
    if noise is not None:
        k, l = frame.pairs.T  # noqa: E741
        square = np.maximum(square - noise[..., k] - noise[..., l], 0.05 * square)
    gap = 0.5 * np.log(np.maximum(square, 1e-300))
    along = ((means - means.mean(-2, keepdims=True)) * frame.directions).sum(-1)
    along = np.log(np.maximum(along, _LEAST_SHARE * np.maximum(frame.size, 1e-300)))
    ratio = gap - np.log(frame.deviation if deviation is None else deviation)
    return np.concatenate([gap, along, gap.min(-1, keepdims=True), ratio.min(-1, keepdims=True)], axis=-1)


def mode_curves(means: Array, noise: Array, model: LEModel) -> tuple[Array, Array]:
    """Log sizes u and v ``(T,)`` of both modes; NaN where a mode is not above three times its sampling noise.

    Args:
        means: ``(T, K, p)``.
        noise: expected squared error of each mean ``(T, K)``.
        model: with two modes.

    >>> from le_callback.similarity import IModel
    >>> u, v = mode_curves(np.array([[[1.0], [3.0]]]), np.zeros((1, 2)), IModel())
    >>> np.exp(u), np.exp(v).round(3)
    (array([2.]), array([1.414]))
    """
    p = means.shape[-1]
    z = model.coordinates(torch.from_numpy(means)).numpy()
    noise = coordinate_variance(SamplingNoise(noise), model, p)
    found = [
        norm_series(mode, variance, max(1, mode[0].size)).log_amplitude
        for mode, variance in zip(split_modes(z), mode_noise(noise), strict=True)
    ]
    return found[0], found[1]
