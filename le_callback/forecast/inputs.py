"""What a forecast accepts, checked once; and the part of a run that it looks at.

Legend: T times, K classes, p feature dimensions, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.inputs import as_noise
from le_callback.elasticity.sampling_noise import directions_of
from le_callback.errors import require
from le_callback.forecast.growth_laws import LONG
from le_callback.forecast.quantities import frame_at, pair_deviation, pairs_of, quantities, squared_gaps
from le_callback.similarity import LEModel
from le_callback.values import Array

MAX_CLASSES = 64
_MOST_TIMES = 256  # past times that are looked at
_MOST_PAIRS = 276  # of 24 classes
_FIRST = 3  # readings that say where a run began
_BEGUN = 1.0  # log growth of the median gap from which on the classes have begun to separate


@dataclass(frozen=True)
class Run:
    """Readings of a run at which everything is known.

    Attributes:
        times: ``(T,)``, above zero.
        means: ``(T, K, p)``.
        noise: expected squared error of each mean ``(T, K)``.
        spread: within-class variance tr Σ_k ``(T, K)``, or None.
        pairs: ``(P, 2)`` that are followed.
        model: I-model, or simplex directions.

    >>> from le_callback.similarity import IModel
    >>> means = np.array([[[0.0], [3.0]], [[0.0], [6.0]]])
    >>> Run(np.array([1.0, 2.0]), means, np.zeros((2, 2)), np.full((2, 2), 9.0), pairs_of(2), IModel()).worst()
    (array([3., 6.]), array([1., 2.]))
    """

    times: Array
    means: Array
    noise: Array
    spread: Array | None
    pairs: Array
    model: LEModel

    @cached_property
    def log_times(self) -> Array:
        """τ = log t ``(T,)``."""
        return np.asarray(np.log(self.times))

    @cached_property
    def directions(self) -> Array | None:
        """Class directions ``(K, p)``, None for the I-model."""
        return directions_of(self.model, self.means.shape[1])

    @cached_property
    def deviation(self) -> Array:
        """Of each pair ``(T, P)``; ones where unknown."""
        if self.spread is None:
            return np.ones((len(self.means), len(self.pairs)))
        return pair_deviation(self.spread, self.pairs)

    def at(self, chosen: Any) -> Run:
        """The readings that an index array or a mask chooses."""
        spread = None if self.spread is None else self.spread[chosen]
        return replace(
            self, times=self.times[chosen], means=self.means[chosen], noise=self.noise[chosen], spread=spread
        )

    def worst(self) -> tuple[Array, Array | None]:
        """Smallest gap ``(T,)`` and smallest gap over deviation ``(T,)``, None where the deviation is not known."""
        if not len(self.times):
            return np.zeros(0), None
        frame = frame_at(self.means[-1], np.ones(len(self.pairs)), self.pairs)
        deviation = None if self.spread is None else self.deviation
        curves = quantities(self.means, frame, deviation=deviation, noise=self.noise)
        return np.exp(curves[:, -2]), None if self.spread is None else np.exp(curves[:, -1])

    def median_log_ratio(self) -> float:
        """Log of the median over the pairs of gap over within-class deviation, at the last time."""
        square = np.maximum(squared_gaps(self.means[-1], self.pairs), 1e-300)
        return float(np.median(0.5 * np.log(square) - np.log(self.deviation[-1])))

    def too_early(self) -> str:
        """A sentence where the classes have not begun to separate; empty where they have, or this is not known."""
        if self.spread is None or not len(self.times):
            return ""
        frame = frame_at(self.means[-1], np.ones(len(self.pairs)), self.pairs)
        gaps = quantities(self.means, frame, noise=self.noise)[:, : len(self.pairs)]
        grown = float(np.median(gaps[-1] - gaps[:_FIRST].mean(0)))
        if grown >= _BEGUN or self.median_log_ratio() >= 0:
            return ""
        return "the classes have not begun to separate, and when they will cannot be told beforehand"

    def recent(self) -> Run:
        """The readings from ``exp(−0.8)`` of the last time on, thinned to 256."""
        if not len(self.times):
            return self
        chosen = np.flatnonzero(self.times >= self.times[-1] * np.exp(-LONG))
        if len(chosen) > _MOST_TIMES:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST_TIMES).round().astype(int)]
        return self.at(chosen)


def read_run(means: Array, times: Array, model: LEModel, *, spread: Any = None, sampling_noise: Any = None) -> Run:
    """The readings at times above zero at which all means, variances and errors are known.

    Args:
        means: ``(T, K, p)``, as ``check_means`` gives them.
        times: ``(T,)``, as there.
        model: with two modes.
        spread: ``(T, K)`` or None.
        sampling_noise: ``(T, K)`` or None.

    Raises:
        ValueError: shapes, more than 64 classes, or a model without two modes.

    >>> from le_callback.similarity import IModel
    >>> read_run(np.ones((3, 2, 1)), np.arange(3.0), IModel()).times
    array([1., 2.])
    """
    T, K, _ = means.shape
    require(K <= MAX_CLASSES, "means", K, f"of at most {MAX_CLASSES} classes", "Forecast those of interest.")
    remedy = "Use the I-model, the L-model or simplex directions."
    require(model.has_modes(K), "model", model.name, f"one with two modes for {K} classes", remedy)
    r = as_noise(sampling_noise, T, K).trace
    known = np.isfinite(means).all((1, 2)) & np.isfinite(r).all(1) & (times > 0)
    V = None
    if spread is not None:
        V = np.asarray(spread, dtype=np.float64)
        require(V.shape == (T, K), "spread", V.shape, f"of shape {(T, K)}")
        known &= np.isfinite(V).all(1) & (V > 0).all(1)
    run = Run(times, means, r, V, pairs_of(K), model).at(known)
    return run if len(run.pairs) <= _MOST_PAIRS or not known.any() else replace(run, pairs=_closest(run))


def _closest(run: Run) -> Array:
    """The pairs with the smallest gaps, or gaps over deviation, at the last time."""
    gap = squared_gaps(run.means[-1], run.pairs)
    ranks = np.stack([gap.argsort().argsort(), (gap / run.deviation[-1] ** 2).argsort().argsort()])
    return np.asarray(run.pairs[np.sort(ranks.min(0).argsort(kind="stable")[:_MOST_PAIRS])])


def check_bands(confidence: float, level: float) -> None:
    """Raise where ``confidence`` is not between 0 and 1, or ``level`` is not positive.

    >>> check_bands(0.9, 1.0)

    Raises:
        ValueError: as said.
    """
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    require(bool(np.isfinite(level)) and level > 0, "level", level, "positive and finite")


def check_end(until: float | None, last: float) -> float | None:
    """Last time of a forecast, which must be later than ``last``, that of the run.

    >>> check_end(20, 10.0)
    20.0

    Raises:
        ValueError: a time that is not later, or not finite.
    """
    if until is None:
        return None
    later = bool(np.isfinite(until)) and until > max(last, 0)
    require(later, "until", until, f"later than the last time {last:g}")
    return float(until)


def check_sigma(noise: Any, num_classes: int) -> Array:
    """σ_k ``(K,)`` from one number or one a class.

    >>> check_sigma(0.5, 2)
    array([0.5, 0.5])

    Raises:
        ValueError: another shape, not finite, or negative.
    """
    K = num_classes
    array = np.asarray(noise.detach().cpu() if isinstance(noise, torch.Tensor) else noise, dtype=np.float64)
    fits = array.shape in ((), (K,)) and bool(np.isfinite(array).all() and (array >= 0).all())
    require(fits, "noise", noise, f"a number or of shape ({K},), finite and not negative")
    return np.broadcast_to(array, (K,))
