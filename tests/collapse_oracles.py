"""Definitions of neural collapse, pair by pair and sample by sample, in double precision."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from oracles import angles_between


def collapse(features, labels, weights=None, said=None, out=None):
    """Every measure by its definition, of the classes that are there."""
    x, y = np.asarray(features, np.float64), np.asarray(labels)
    classes = sorted(set(y.tolist()))
    K = len(classes)
    means = np.stack([x[y == k].mean(0) for k in classes])
    centred = means - means.mean(0)
    between = sum(np.outer(m, m) for m in centred) / K
    within, freedom, traces = np.zeros_like(between), 0, []
    for i, k in enumerate(classes):
        deviations = x[y == k] - means[i]
        within += sum(np.outer(d, d) for d in deviations)
        freedom += len(deviations) - 1
        traces.append((deviations**2).sum() / (len(deviations) - 1) if len(deviations) > 1 else math.nan)
    within = within / freedom if freedom else within * math.nan
    traces = [np.trace(within) if math.isnan(t) else t for t in traces]
    pairs = list(combinations(range(K), 2))
    angles = np.array(list(angles_between(means).values()))
    ideal = math.degrees(math.acos(-1 / (K - 1)))
    cosines = np.cos(np.radians(angles))
    norms = np.linalg.norm(centred, axis=1)
    gram, simplex = centred @ centred.T, (np.eye(K) - 1 / K) / math.sqrt(K - 1)
    d = min(x.shape[1], K - 1)
    eigenvalues = np.linalg.eigvalsh(between)
    found = {
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-11, hermitian=True)) / K,
        "nc1_trace": np.trace(within) / np.trace(between),
        "nc1_cdnv": np.mean([(traces[i] + traces[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i, j in pairs]),
        "nc2_angle_mean": angles.mean(),
        "nc2_angle_deviation": math.sqrt(((angles - ideal) ** 2).mean()),
        "nc2_angle_smallest": angles.min(),
        "nc2_norm_variation": norms.std() / norms.mean(),
        "nc2_etf_error": np.linalg.norm(gram / np.linalg.norm(gram) - simplex),
        "nc2_uniformity": math.log(np.mean(np.exp(-4 * (1 - cosines)))) + 4 * (1 + 1 / (K - 1)),
        "nc2_cosine_excess": math.sqrt((cosines**2).mean() / ((K - d) / (d * (K - 1)))),
        "effective_rank": np.trace(between) ** 2 / np.trace(between @ between),
        "stable_rank": np.trace(between) / eigenvalues.max(),
    }
    if weights is not None:
        w = np.asarray(weights, np.float64)[classes]
        w = w - w.mean(0)
        found["nc3_duality"] = np.linalg.norm(w / np.linalg.norm(w) - centred / np.linalg.norm(centred))
        found["nc3_cosine"] = np.mean([w[i] @ centred[i] / np.linalg.norm(w[i]) / norms[i] for i in range(K)])
    if said is not None:
        nearest = [classes[int(np.argmin([np.linalg.norm(row - m) for m in means]))] for row in x]
        found["nc4"] = np.mean([a == b for a, b in zip(nearest, said, strict=True)])
    if out is not None:
        mu = np.asarray(out, np.float64).mean(0)
        found["nc5"] = np.mean([abs(m @ mu) / np.linalg.norm(m) / np.linalg.norm(mu) for m in means])
    return found
