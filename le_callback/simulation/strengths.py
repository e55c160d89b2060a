"""LE strengths over time, E(t), from all that may describe them.

Legend: T times, K classes, n points of time; E (K, K) LE matrix, rows: who is changed; P (K, K) sampling matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.le_matrix import LEMatrix
from le_callback.errors import require
from le_callback.similarity import LEModel, sampling_matrix
from le_callback.values import Array

Rate = Callable[[Array], Array]


@dataclass(frozen=True)
class LEIntegrals:
    """A = ∫α and B = ∫β at given times; linear in between, so that α and β are constant there.

    Attributes:
        times: ``(T,)``, strictly increasing, T ≥ 2.
        A, B: ``(T,)``; only differences matter.

    Raises:
        ValueError: other shapes, values that are not finite, or times that do not increase.

    >>> LEIntegrals([0, 10], [0, 2], [0, -1]).A
    array([0., 2.])
    """

    times: Array
    A: Array
    B: Array

    def __post_init__(self) -> None:
        for name in ("times", "A", "B"):
            object.__setattr__(self, name, _numbers(getattr(self, name)))
        shape = self.times.shape
        require(len(shape) == 1 and shape[0] >= 2, "times", shape, "of shape (T,) with T ≥ 2")
        increasing = bool(np.isfinite(self.times).all() and (np.diff(self.times) > 0).all())
        require(increasing, "times", self.times, "finite and to increase strictly")
        for name in ("A", "B"):
            values: Array = getattr(self, name)
            require(values.shape == shape, name, values.shape, f"of shape {shape}, one value for each time")
            require(bool(np.isfinite(values).all()), name, values, "finite")

    @classmethod
    def of(cls, record: LECoefficients) -> LEIntegrals:
        """From an estimate, where A and B are known; gaps are bridged linearly.

        Raises:
            ValueError: fewer than two known times.

        >>> from le_callback.elasticity.estimators import estimate_coefficients
        >>> from le_callback.similarity import IModel
        >>> grown = np.exp(0.1 * np.arange(20.0))[:, None, None] * np.array([[1.0], [3.0]])
        >>> float(LEIntegrals.of(estimate_coefficients(grown, model=IModel())).A[-1].round(2))  # A = u + v
        3.8
        """
        known = np.isfinite(record.A) & np.isfinite(record.B)
        expected = f"an estimate that knows A and B at two times at least (status: {record.status})"
        require(known.sum() >= 2, "coefficients", int(known.sum()), expected)
        return cls(record.times[known], record.A[known], record.B[known])


@dataclass(frozen=True)
class Strengths:
    """E(t) for a simulation, as ``as_strengths`` reads it.

    Attributes:
        matrix: times ``(n,)`` to E ``(n, K, K)``.
        pair: times ``(n,)`` to α, β ``(n,)`` each; None where E is not made of two numbers.
        breaks: times at which E is not smooth.
        constant: E is constant between breaks.

    >>> Strengths(lambda t: np.ones((len(t), 2, 2)), None, np.zeros(0), True).matrix(np.zeros(3)).shape
    (3, 2, 2)
    """

    matrix: Rate
    pair: Callable[[Array], tuple[Array, Array]] | None
    breaks: Array
    constant: bool


def as_strengths(coefficients: Any, times: Array, num_classes: int, model: LEModel) -> Strengths:
    """E(t) from ``coefficients``, as described in :func:`le_callback.simulation.ode.simulate_ode`.

    Args:
        coefficients: what the caller gave.
        times: ``(T,)`` of the simulation; arrays are linear between them.
        num_classes: K.
        model: that the coefficients must belong to.

    >>> from le_callback.similarity import IModel
    >>> as_strengths((2.0, 1.0), np.arange(3.0), 2, IModel()).matrix(np.zeros(1))[0]
    array([[2., 1.],
           [1., 2.]])

    Raises:
        ValueError: another shape, values that are not finite, an estimate for another model, or one that does not
            reach over ``times``.
    """
    K = num_classes
    if isinstance(coefficients, LECoefficients):
        given = coefficients.model
        require(given == model.name, "coefficients", f"{given}-model", f"estimated for the {model.name}-model")
        coefficients = LEIntegrals.of(coefficients)
    if isinstance(coefficients, LEIntegrals):
        return _from_integrals(coefficients, times, K)
    if isinstance(coefficients, LEMatrix):
        return _from_windows(coefficients, K)
    if isinstance(coefficients, tuple) and len(coefficients) == 2:
        alpha, beta = (_rate(c, times, (), name) for c, name in zip(coefficients, ("alpha", "beta"), strict=True))
        constant = alpha[1] and beta[1]
        breaks = np.zeros(0) if constant or all(callable(c) for c in coefficients) else times
        return _of_pair(lambda t: (alpha[0](t), beta[0](t)), breaks, constant, K)
    rate, constant = _rate(coefficients, times, (K, K), "coefficients")
    return Strengths(rate, None, np.zeros(0) if constant or callable(coefficients) else times, constant)


def as_sampling(priors: Any, times: Array, num_classes: int) -> tuple[Rate, bool]:
    """P(t) ``(n, K, K)``, linear between the times of priors that change, and whether it is 1/K everywhere.

    Args:
        priors: see ``similarity.sampling_matrix``.
        times: ``(T,)`` of the simulation.
        num_classes: K.

    >>> as_sampling(None, np.arange(2.0), 2)[1]
    True

    Raises:
        ValueError: as ``similarity.sampling_matrix``, or priors of another number of times.
    """
    P = sampling_matrix(num_classes, None if priors is None else torch.as_tensor(_numbers(priors))).numpy()
    fits = P.ndim == 2 or len(P) == len(times)
    expected = f"of one row for each of the {len(times)} times, where it changes with time"
    require(fits, "priors", len(P), expected)
    return _interpolated(P, times), bool(np.allclose(P, 1 / num_classes, rtol=0, atol=1e-14))


def as_affine(affine: Any, times: Array, shape: tuple[int, int]) -> tuple[Rate, bool]:
    """R(t) ``(n, K, p)`` and whether it is constant, from ``(K, p)``, ``(T, K, p)`` or a function of time.

    Args:
        affine: what the caller gave.
        times: ``(T,)`` of the simulation.
        shape: ``(K, p)``.

    Raises:
        ValueError: another shape, or values that are not finite.

    >>> as_affine(np.ones((2, 1)), np.arange(2.0), (2, 1))[0](np.zeros(3)).shape
    (3, 2, 1)
    """
    return _rate(affine, times, shape, "affine")


def _numbers(values: Any) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)


def _rate(value: Any, times: Array, shape: tuple[int, ...], name: str) -> tuple[Rate, bool]:
    """A function of times ``(n,)`` to ``(n, *shape)``, and whether it is constant."""
    if is_function(value):
        return _called(value, shape, name), False
    array = _numbers(value)
    T = len(times)
    one = f"of shape {shape}" if shape else "a number"
    expected = f"{one}, of shape {(T, *shape)} or a function of time"
    require(array.shape in (shape, (T, *shape)), name, array.shape, expected)
    require(bool(np.isfinite(array).all()), name, array, "finite")
    return _interpolated(array, times, shape), array.shape == shape


def is_function(value: Any) -> bool:
    """Whether a caller gave a function of time: tensors and arrays are none, whatever they say.

    >>> is_function(abs), is_function(np.ones(2))
    (True, False)
    """
    return callable(value) and not isinstance(value, (Tensor, np.ndarray))


def _called(function: Callable[[float], Any], shape: tuple[int, ...], name: str) -> Rate:
    def call(t: Array) -> Array:
        rows = [_numbers(function(float(s))) for s in t]
        for s, row in zip(t, rows, strict=True):
            usable = row.shape == shape and bool(np.isfinite(row).all())
            require(usable, name, row, f"finite and of shape {shape} at t = {s:g}")
        return np.stack(rows) if rows else np.zeros((0, *shape))

    return call


def _interpolated(array: Array, times: Array, shape: tuple[int, ...] | None = None) -> Rate:
    """Constant, or linear between ``times``."""
    shape = array.shape[-2:] if shape is None else shape
    if array.shape == shape:
        return lambda t: np.broadcast_to(array, (len(t), *shape))

    def at(t: Array) -> Array:
        if len(times) == 1:
            return np.repeat(array, len(t), axis=0)
        i = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
        share = ((t - times[i]) / (times[i + 1] - times[i])).reshape(-1, *[1] * len(shape))
        return np.asarray((1 - share) * array[i] + share * array[i + 1])

    return at


def _of_pair(pair: Callable[[Array], tuple[Array, Array]], breaks: Array, constant: bool, K: int) -> Strengths:
    def matrix(t: Array) -> Array:
        alpha, beta = (c[:, None, None] for c in pair(t))
        return np.asarray(beta + (alpha - beta) * np.eye(K))

    return Strengths(matrix, pair, breaks, constant)


def _from_integrals(given: LEIntegrals, times: Array, K: int) -> Strengths:
    t = given.times
    slack = 1e-9 * (t[-1] - t[0])
    within = len(times) == 1 or (times[0] >= t[0] - slack and times[-1] <= t[-1] + slack)
    expected = f"within {t[0]:g} … {t[-1]:g}, where A and B are known"
    require(within, "times", times, expected, "Use other times, or `forecast` for later ones.")
    alpha, beta = np.diff(given.A) / np.diff(t), np.diff(given.B) / np.diff(t)

    def pair(s: Array) -> tuple[Array, Array]:
        i = np.clip(np.searchsorted(t, s, side="right") - 1, 0, len(t) - 2)
        return alpha[i], beta[i]

    return _of_pair(pair, t, True, K)


def _from_windows(windows: LEMatrix, K: int) -> Strengths:
    """Constant in each window, which ends half-way to the next centre; the first and last go on outside."""
    known = np.isfinite(windows.E).all((1, 2)) if windows.E.ndim == 3 else np.zeros(0, dtype=bool)
    expected = f"of shape (W, {K}, {K}) with one window known at least (status: {windows.status})"
    require(bool(known.any()) and windows.E.shape[1:] == (K, K), "coefficients", windows.E.shape, expected)
    centres, E = windows.times[known], windows.E[known]
    edges = (centres[1:] + centres[:-1]) / 2
    return Strengths(lambda t: E[np.searchsorted(edges, t, side="right")], None, edges, True)
