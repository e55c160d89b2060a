"""What the estimators accept, checked once: class means, times, sampling noise and the sampling matrix.

Arrays, lists and tensors of any number type, stride and device become contiguous float64 arrays of their own.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.amplitudes import Flags
from le_callback.elasticity.sampling_noise import SamplingNoise, require_variances
from le_callback.errors import require
from le_callback.similarity import LEModel, sampling_matrix
from le_callback.values import Array


@dataclass(frozen=True)
class Run:
    """Class means of one run, checked, and what is known of their sampling noise.

    Attributes:
        means: X̄ ``(T, K, p)``, 0 at times that are not ``finite``.
        times: ``(T,)``.
        noise: ``(T, K)``.
        finite: ``(T,)``, whether all class means and their noise are known.

    >>> from le_callback.similarity import IModel
    >>> run = Run.of(torch.ones(3, 2, 1), None, None, IModel())
    >>> run.times, bool(run.finite.all())
    (array([0., 1., 2.]), True)
    """

    means: Array
    times: Array
    noise: SamplingNoise
    finite: Flags

    @classmethod
    def of(cls, means: Any, times: Any, noise: Any, model: LEModel) -> Run:
        """From what a caller gives.

        Raises:
            ValueError: as ``check_means`` and ``as_noise``.
        """
        X, t = check_means(means, times, model)
        known = as_noise(noise, *X.shape[:2])
        finite = np.asarray(np.isfinite(X).all((1, 2)) & np.isfinite(known.trace).all(1))
        return cls(np.where(finite[:, None, None], X, 0.0), t, known, finite)


def as_array(value: Any) -> Array:
    """A contiguous float64 copy of an array, a list or a tensor, whatever its strides, type and device.

    >>> as_array(np.arange(3, dtype=np.float32)[::-1])
    array([2., 1., 0.])
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().to("cpu", torch.float64).numpy()
    return np.array(value, dtype=np.float64, order="C")


def as_noise(noise: Any, T: int, K: int, argument: str = "noise") -> SamplingNoise:
    """What a caller says of the sampling noise, for T times and K classes.

    Args:
        noise: a ``SamplingNoise``, or its trace ``(T, K)`` or ``(K,)``; None: exact means.
        T: times.
        K: classes.
        argument: its name in errors.

    Raises:
        ValueError: a shape other than ``(T, K)`` or ``(K,)``, or negative variances.

    >>> as_noise([0.1, 0.2], 3, 2).trace.shape
    (3, 2)
    """
    expected = f"of shape ({T}, {K}) or ({K},)"
    remedy = "Give one variance for each time and class."
    if isinstance(noise, SamplingNoise):
        require(noise.trace.shape == (T, K), argument, noise.trace.shape, expected, remedy)
        return noise
    trace = np.zeros((T, K)) if noise is None else as_array(noise)
    require(trace.shape in ((K,), (T, K)), argument, trace.shape, expected, remedy)
    require_variances(trace, argument)
    return SamplingNoise(np.broadcast_to(trace, (T, K)))


def as_sampling(priors: Any, T: int, K: int) -> Array:
    """Sampling matrix P ``(K, K)`` or ``(T, K, K)``, see ``similarity.sampling_matrix`` for what ``priors`` may be.

    Raises:
        ValueError: as ``sampling_matrix``, or priors that change with time but not at T times.

    >>> as_sampling([3, 1], 5, 2)
    array([[0.75, 0.25],
           [0.75, 0.25]])
    """
    P = sampling_matrix(K, None if priors is None else torch.from_numpy(as_array(priors))).numpy()
    fits = P.ndim == 2 or len(P) == T
    require(fits, "priors", np.shape(priors), f"of {T} rows, one for each time, if they change with time")
    return np.asarray(P)


def check_times(times: Any, count: int | None = None) -> Array:
    """Times ``(T,)`` as float64.

    Args:
        times: list, array or tensor.
        count: T, if it is given by something else.

    Raises:
        ValueError: not one dimension, empty, of another number than ``count``, not finite, or not strictly increasing.

    >>> check_times([0, 1])
    array([0., 1.])
    """
    t = as_array(times)
    if count is None:
        require(t.ndim == 1 and len(t) > 0, "times", t.shape, "of shape (T,) with T ≥ 1")
    else:
        require(t.shape == (count,), "times", t.shape, f"of shape ({count},)", "Give one time for each matrix (K, p).")
    increasing = bool(np.isfinite(t).all()) and bool((np.diff(t) > 0).all())
    require(increasing, "times", t, "finite and strictly increasing", "Sort the times and drop repeated ones.")
    return t


def check_means(means: Any, times: Any, model: LEModel) -> tuple[Array, Array]:
    """Class means ``(T, K, p)`` and times ``(T,)`` as float64 arrays.

    Args:
        means: list, array or tensor.
        times: likewise; None counts 0, 1, …
        model: whose number of dimensions is asked for.

    Raises:
        ValueError: shapes, K = 1, too few dimensions, times that do not increase.

    >>> from le_callback.similarity import IModel
    >>> check_means(torch.ones(3, 2, 1), None, IModel())[1]
    array([0., 1., 2.])
    """
    X = as_array(means)
    shaped = X.ndim == 3 and len(X) > 0
    require(shaped, "means", X.shape, "of shape (T, K, p)", "Stack one matrix (K, p) for each time.")
    T, K, p = X.shape
    require(K >= 2, "means", X.shape, "of K ≥ 2 classes", "Local elasticity compares classes.")
    least = model.min_dimensions(K)
    require(
        p >= least,
        "means",
        X.shape,
        f"of p ≥ {least} dimensions for the {model.name}-model of {K} classes",
        "Use the I-model or a DirectionModel for other features.",
    )
    return X, np.arange(T, dtype=np.float64) if times is None else check_times(times, T)
