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
        if self.times.ndim != 1 or len(self.times) < 2 or self.A.shape != self.times.shape:
            raise ValueError(
                f"Expected arguments `times`, `A` to have one shape (T,) with T ≥ 2, but got {self.times.shape} and "
                f"{self.A.shape}."
            )
        if self.B.shape != self.A.shape:
            raise ValueError(f"Expected argument `B` to have the shape {self.A.shape} of `A`, but got {self.B.shape}.")
        if not (np.isfinite([self.times, self.A, self.B]).all() and (np.diff(self.times) > 0).all()):
            raise ValueError("Expected `times`, `A`, `B` to be finite and `times` to increase strictly.")

    @classmethod
    def of(cls, record: LECoefficients) -> LEIntegrals:
        """From an estimate, where A and B are known; gaps are bridged linearly.

        Raises:
            ValueError: fewer than two known times.
        """
        known = np.isfinite(record.A) & np.isfinite(record.B)
        if known.sum() < 2:
            raise ValueError(
                f"Expected argument `coefficients` to know A and B at two times at least, but got {int(known.sum())}: "
                f"{record.status}"
            )
        return cls(record.times[known], record.A[known], record.B[known])


@dataclass(frozen=True)
class Strengths:
    """E(t) for a simulation.

    Attributes:
        matrix: times ``(n,)`` to E ``(n, K, K)``.
        pair: times ``(n,)`` to α, β ``(n,)`` each; None where E is not made of two numbers.
        breaks: times at which E is not smooth.
        constant: E is constant between breaks.
    """

    matrix: Rate
    pair: Callable[[Array], tuple[Array, Array]] | None
    breaks: Array
    constant: bool


def as_strengths(coefficients: Any, times: Array, num_classes: int, model: LEModel) -> Strengths:
    """E(t) from ``coefficients``, as described in :func:`le_callback.simulation.ode.simulate_ode`.

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
        if coefficients.model != model.name:
            raise ValueError(
                f"Expected argument `coefficients` to be estimated for the {model.name}-model, but they are those of "
                f"the {coefficients.model}-model."
            )
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

    >>> as_sampling(None, np.arange(2.0), 2)[1]
    True

    Raises:
        ValueError: as ``models.sampling_matrix``, or priors of another number of times.
    """
    P = sampling_matrix(num_classes, None if priors is None else torch.as_tensor(_numbers(priors))).numpy()
    if P.ndim == 3 and len(P) != len(times):
        raise ValueError(
            f"Expected argument `priors` that changes with time to have one row for each of the {len(times)} times, "
            f"but got {len(P)}."
        )
    return _interpolated(P, times), bool(np.allclose(P, 1 / num_classes, rtol=0, atol=1e-14))


def as_affine(affine: Any, times: Array, shape: tuple[int, int]) -> tuple[Rate, bool]:
    """R(t) ``(n, K, p)`` and whether it is constant, from ``(K, p)``, ``(T, K, p)`` or a function of time.

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
    if callable(value) and not isinstance(value, (Tensor, np.ndarray)):

        def call(t: Array) -> Array:
            rows = [_numbers(value(float(s))) for s in t]
            for s, row in zip(t, rows, strict=True):
                if row.shape != shape or not np.isfinite(row).all():
                    raise ValueError(
                        f"Expected argument `{name}` to return finite numbers of shape {shape}, but at t = {s:g} got "
                        f"{'NaN or infinity' if row.shape == shape else f'shape {row.shape}'}."
                    )
            return np.stack(rows) if rows else np.zeros((0, *shape))

        return call, False
    array = _numbers(value)
    T = len(times)
    if array.shape not in (shape, (T, *shape)):
        wanted = f"{shape or 'a number'} or {(T, *shape)}"
        raise ValueError(
            f"Expected argument `{name}` to have shape {wanted} or to be a function of time, but got {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"Expected argument `{name}` to be finite, but it holds NaN or infinity.")
    return _interpolated(
        array if array.shape == shape else array.reshape(T, *shape), times, shape
    ), array.shape == shape


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
    if len(times) > 1 and (times[0] < t[0] - slack or times[-1] > t[-1] + slack):
        raise ValueError(
            f"Expected argument `times` to lie within {t[0]:g} … {t[-1]:g}, where A and B are known, but got "
            f"{times[0]:g} … {times[-1]:g}; use other times, or `forecast` for later ones."
        )
    alpha, beta = np.diff(given.A) / np.diff(t), np.diff(given.B) / np.diff(t)

    def pair(s: Array) -> tuple[Array, Array]:
        i = np.clip(np.searchsorted(t, s, side="right") - 1, 0, len(t) - 2)
        return alpha[i], beta[i]

    return _of_pair(pair, t, True, K)


def _from_windows(windows: LEMatrix, K: int) -> Strengths:
    """Constant in each window, which ends half-way to the next centre; the first and last go on outside."""
    known = np.isfinite(windows.E).all((1, 2)) if windows.E.ndim == 3 else np.zeros(0, dtype=bool)
    if not known.any() or windows.E.shape[1:] != (K, K):
        raise ValueError(
            f"Expected argument `coefficients` to hold a ({K}, {K}) matrix of one window at least, but got shape "
            f"{windows.E.shape} with {int(known.sum())} windows known: {windows.status}"
        )
    centres, E = windows.times[known], windows.E[known]
    edges = (centres[1:] + centres[:-1]) / 2
    return Strengths(lambda t: E[np.searchsorted(edges, t, side="right")], None, edges, True)
