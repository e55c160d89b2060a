"""Slow, obvious versions of what the package computes: loops over numpy rows, in double precision."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch


def to_weights(target, num_classes):
    """Class weights (N, K) of integer labels (N,); a row of zeros for a label outside the classes."""
    target = np.asarray(target)
    if target.ndim == 2:
        return target.astype(np.float64)
    weights = np.zeros((len(target), num_classes))
    for i, label in enumerate(target):
        if 0 <= label < num_classes:
            weights[i, label] = 1.0
    return weights


def class_moments(features, target, num_classes, ignore_index=None):
    """Weight, mean, tr Σ (unbiased, NaN below two samples) and noise of the mean of every class; NaN where unseen.

    Rows with a feature that is not finite, with a label outside the classes or with ``ignore_index`` are left out.
    """
    x = np.asarray(features, dtype=np.float64)
    weights = to_weights(target, num_classes)
    K, p = num_classes, x.shape[1]
    weight, mean = np.zeros(K), np.full((K, p), np.nan)
    variance, noise = np.full(K, np.nan), np.full(K, np.nan)
    squares, freedoms = np.zeros(K), np.zeros(K)
    for k in range(K):
        rows = []
        for i in range(len(x)):
            ignored = np.ndim(target) == 1 and ignore_index is not None and target[i] == ignore_index
            if np.isfinite(x[i]).all() and not ignored and weights[i, k] > 0:
                rows.append((weights[i, k], x[i]))
        if not rows:
            continue
        weight[k] = math.fsum(w for w, _ in rows)
        mean[k] = sum(w * row for w, row in rows) / weight[k]
        squares[k] = math.fsum(w * float((row - mean[k]) @ (row - mean[k])) for w, row in rows)
        share = math.fsum(w * w for w, _ in rows) / weight[k] ** 2
        freedoms[k] = weight[k] * (1 - share)
        noise[k] = share
    spread = freedoms > 1e-3
    for k in range(K):
        if spread[k]:
            variance[k] = squares[k] / freedoms[k]
        elif weight[k] > 0 and spread.any():
            variance[k] = squares[spread].sum() / freedoms[spread].sum()
    return {"seen": weight > 0, "weight": weight, "mean": mean, "variance": variance, "mean_noise": variance * noise}


def angles_between(means):
    """Angle in degrees of every pair of centred rows, by atan2 of the chord, with the pairs."""
    rows = np.asarray(means, dtype=np.float64)
    centred = [row - rows.mean(0) for row in rows]
    found = {}
    for i, j in combinations(range(len(rows)), 2):
        u, v = centred[i] / math.hypot(*centred[i]), centred[j] / math.hypot(*centred[j])
        found[i, j] = math.degrees(2 * math.atan2(math.hypot(*(u - v)), math.hypot(*(u + v))))
    return found


def nearest_mean_accuracy(features, labels, means):
    """Share of rows whose closest mean, by its plain distance, is that of their label."""
    hits = 0
    for x, label in zip(np.asarray(features, float), labels, strict=True):
        distances = [math.dist(x, m) if np.isfinite(m).all() else math.inf for m in np.asarray(means, float)]
        hits += int(np.argmin(distances) == label)
    return hits / len(labels)


def discriminability(features, labels, means):
    """Distance of two means over the pooled deviation of the samples along their difference, pair by pair."""
    x, y, m = np.asarray(features, float), np.asarray(labels), np.asarray(means, float)
    K = len(m)
    result = np.full((K, K), np.nan)
    for k in range(K):
        for j in range(K):
            own, other = x[y == k], x[y == j]
            if k == j or len(own) == 0 or len(other) == 0 or len(own) + len(other) < 3:
                continue
            d = m[k] - m[j]
            unit = d / np.linalg.norm(d)
            squares = 0.0
            for group in (own, other):
                along = np.array([row @ unit for row in group])
                squares += ((along - along.mean()) ** 2).sum()
            sigma = math.sqrt(squares / (len(own) + len(other) - 2))
            result[k, j] = np.linalg.norm(d) / sigma if sigma > 0 else math.inf
    return result


def held_out_discriminability(features, labels, means):
    """(K, K): gap of two classes over their pooled deviation along the difference of given means; a loop over pairs."""
    x, y, m = (np.asarray(v, dtype=np.float64) for v in (features, labels, means))
    found = np.full((len(m), len(m)), np.nan)
    for k in range(len(m)):
        for j in range(len(m)):
            a, b = (x[y == c] @ (m[k] - m[j]) for c in (k, j))
            if k != j and len(a) and len(b) and len(a) + len(b) > 2 and a.mean() != b.mean():
                squares = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
                with np.errstate(divide="ignore"):
                    found[k, j] = (a.mean() - b.mean()) / np.sqrt(squares / (len(a) + len(b) - 2))
    return found


def simplex_etf(num_classes, dimensions, rng):
    """A simplex equiangular tight frame of K vectors, rotated at random into p ≥ K dimensions."""
    rotation, _ = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    frame = np.eye(num_classes) - 1 / num_classes
    return (rotation[:, :num_classes] @ frame).T


def same_state(a, b):
    """Whether two saved states are equal, number by number; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(nan=-7.5), b.nan_to_num(nan=-7.5))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b or (a != a and b != b)
