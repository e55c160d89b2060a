"""Held-out accuracy of the nearest class mean. K classes, p feature dimensions, N samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.geometry import nearest_by, projections_on
from le_callback.values import NAN, Array, Tag


@dataclass(frozen=True)
class NearestMean:
    """A window's samples classified by the nearest of the class means of the window before.

    Attributes:
        classes: (K,) of the rows.
        tried: (K,) samples that were classified; 0 for a class without a mean from before.
        hits: (K,) of which rightly.

    >>> NearestMean((0, 1), tried=np.array([4.0, 4.0]), hits=np.array([4.0, 3.0])).accuracy
    0.875
    """

    classes: tuple[int, ...]
    tried: Array
    hits: Array

    @property
    def accuracy(self) -> float:
        """Share of all samples; NaN where nothing was classified."""
        return float(self.hits.sum() / self.tried.sum()) if self.tried.any() else NAN

    @property
    def class_accuracy(self) -> Array:
        """Share of the samples of each class (K,), NaN where none was classified."""
        return share(self.hits, self.tried)


def nearest_mean_accuracy(features: Tensor, labels: Tensor, means: Tensor) -> float:
    """Share of samples whose nearest class mean is that of their label.

    argmin_k ‖x − m_k‖ = y. Held out if ``means`` comes from other samples, such as those of the window before. Samples
    of a class without a mean count as wrong. NaN without samples or means.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p); rows with NaN are no candidates.

    >>> nearest_mean_accuracy(torch.tensor([[0.1], [0.9]]), torch.tensor([0, 1]), torch.tensor([[0.0], [1.0]]))
    1.0
    """
    if len(labels) == 0 or bool(means.isnan().any(1).all()):
        return NAN
    return int((nearest_by(*projections_on(features, means)) == labels).sum()) / len(labels)


def nearest_mean(nearest: Tensor | None, labels: Tensor, means: Tensor | None, classes: Sequence[int]) -> NearestMean:
    """Samples of each class, and how many of them have their own class mean as the nearest.

    Args:
        nearest: (N,) rows of ``means``; None where there are none.
        labels: (N,) rows of ``means``.
        means: (K, p) from other samples; rows with NaN are no candidates.
        classes: (K,) names of the rows as class indices.

    >>> nearest_mean(torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1]), torch.tensor([[0.0], [1.0]]), (0, 1)).hits
    array([1., 1.])
    """
    if nearest is None or means is None:
        return NearestMean(tuple(classes), np.zeros(len(classes)), np.zeros(len(classes)))
    tried, hits = tally(labels, nearest == labels, ~means.sum(1).isnan())
    return NearestMean(tuple(classes), on_host(tried), on_host(hits))


def tally(labels: Tensor, right: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Samples of each class (K,), and how many of them are ``right`` (N,); zero for classes not ``known`` (K,).

    >>> tally(torch.tensor([0, 1, 1]), torch.tensor([True, True, False]), torch.tensor([True, True, False]))
    (tensor([1, 2, 0]), tensor([1, 1, 0]))
    """
    K = len(known)
    return torch.bincount(labels, minlength=K) * known, torch.bincount(labels[right], minlength=K) * known


def share(part: Array, whole: Array) -> Array:
    """Element-wise part/whole, NaN where the whole is zero.

    >>> share(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), NAN)


def on_host(x: Tensor) -> Array:
    """As an array in double precision.

    >>> on_host(torch.tensor([1, 2]))
    array([1., 2.])
    """
    return np.asarray(x.double().cpu().numpy())


def _of_window(window: SourceWindow) -> NearestMean:
    return nearest_mean(window.nearest, window.judged_labels, window.previous, window.classes)


MEASURE = Measure(
    "nearest_mean",
    _of_window,
    (
        Tag(
            name="separation/{source}/nearest_mean_accuracy",
            label="nearest-class-mean accuracy",
            unit="",
            meaning="Share of a window's samples that are nearest to their own class mean of the window before.",
            look_for="chance is 1/K",
            better="higher",
            chart="accuracy",
            read=lambda found: found.accuracy,
            essential=True,
            row="nearest-class-mean accuracy",
        ),
    ),
)
