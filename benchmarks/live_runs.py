"""Simulated LE-SDEs for ``live.py``: class means with known α(t), β(t), class frequencies and process noise."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import expm

WINDOW, WINDOWS, PARTS = 50, 80, 5  # steps a window, windows a run, parts that a window is integrated in
SAMPLES = 800  # of a window
JUMP = 40  # window after which the step changes the rates
JUDGED = {"early": (5,), "middle": (30,), "late": (79,)}
AFTER_JUMP = {"before": (38,), "+3": (JUMP + 2,), "+6": (JUMP + 5,), "late": (79,)}
ANY_TIME = {"early": (5, 8, 11, 14), "middle": tuple(range(20, 50, 5)), "late": tuple(range(50, 80, 5))}
SHAPES = ("constant", "t^-1/2", "step", "oscillation", "changes")
CHANGES = 1 / 22  # probability of a change in a window, of the shape that changes at random


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Attributes:
        model: "I" or "L".
        K: classes.
        imbalance: largest over smallest class.
        shape: of α and β over time.
        wander: variance of the process noise in a window over the sampling variance of a mean.
        follow: whether the drift follows the classes that were drawn in a window, not those that were expected.
        draw: number of the path, where the rates change at random.
    """

    model: str
    K: int
    imbalance: float
    shape: str
    wander: float
    follow: bool = False
    draw: int = 0

    @property
    def frequencies(self) -> np.ndarray:
        """π (K,)."""
        share = np.geomspace(1, self.imbalance, self.K)
        return share / share.sum()

    @property
    def judged(self) -> dict[str, tuple[int, ...]]:
        """Windows at which coefficients are compared with the truth."""
        return {"step": AFTER_JUMP, "changes": ANY_TIME}.get(self.shape, JUDGED)

    def factor(self, t: np.ndarray) -> np.ndarray:
        """Of α and β at times t, in windows."""
        if self.shape == "constant":
            return np.ones_like(t)
        if self.shape == "t^-1/2":
            return (20 / np.maximum(t, 0.5)) ** 0.5
        if self.shape == "step":
            return np.where(t < JUMP, 1.0, 0.0)
        if self.shape == "changes":
            return _changing(self.draw)[np.clip(t, 0, WINDOWS).astype(int)]
        return 1 + 0.6 * np.sin(2 * np.pi * t / 40)


@functools.cache
def _changing(draw: int) -> np.ndarray:
    """A factor a window: 1 at first; each new one is 0 one time in four, else 2^N(0, 1)."""
    rng = np.random.default_rng([draw, 77])
    new = np.where(rng.random(WINDOWS + 1) < 0.25, 0.0, 2 ** rng.standard_normal(WINDOWS + 1))
    new[0] = 1.0
    begun = np.where(rng.random(WINDOWS + 1) < CHANGES, np.arange(WINDOWS + 1), 0)
    return new[np.maximum.accumulate(begun)]


def rates(cell: Cell) -> tuple[float, float]:
    """α and β per step at factor 1: balanced, the difference mode grows by 0.04 a window, the common one by 0.02."""
    common, difference, K = 0.02 / WINDOW, 0.04 / WINDOW, cell.K
    if cell.model == "I":
        return common + (K - 1) * difference, common - difference
    return common + (K - 1) * difference, (K - 1) * (difference - common)


def truth(cell: Cell, windows: np.ndarray) -> np.ndarray:
    """α, β, γ (3, n) per step at the middle of windows."""
    a, b = rates(cell)
    return np.array([[a], [b], [a - b]]) * cell.factor(windows + 0.5 - 0.5 / WINDOW)


def growth(cell: Cell, start: float, stop: float) -> np.ndarray:
    """A, B, G (3,) between two times in windows."""
    t = np.linspace(start, stop, 20_001)
    f = cell.factor((t[1:] + t[:-1]) / 2).mean() * (stop - start) * WINDOW
    a, b = rates(cell)
    return np.array([a, b, a - b]) * f


def directions(cell: Cell) -> np.ndarray:
    """What class means start along: (K, p)."""
    K = cell.K
    return np.eye(K) - 1 / K if cell.model == "L" else np.eye(K, max(8, K))


def flow(cell: Cell, pi: np.ndarray, factor: float) -> np.ndarray:
    """Flow of the coordinates in one part of a window, (..., K, K)."""
    a, b = (r * factor for r in rates(cell))
    K = cell.K
    d = np.eye(K) - 1 / K
    c = np.ones((K, K)) if cell.model == "I" else d @ d.T / (d * d).sum(1)[:, None]
    E = np.full((K, K), b) + (a - b) * np.eye(K)
    return expm(E * c * pi[..., None, :] * WINDOW / PARTS / 2)


def simulate(cell: Cell, runs: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Window by window: means (R, K, p) with sampling noise, counts (R, K), within-class variance a coordinate."""
    pull, K, pi = directions(cell), cell.K, cell.frequencies
    p = pull.shape[1]
    X = rng.standard_normal((runs, K, p)) + 2 * pull
    within = SAMPLES / K / 20
    sigma = np.sqrt(cell.wander / 20 / PARTS)
    d = np.eye(K) - 1 / K
    for window in range(WINDOWS):
        counts = np.tile(rng.multinomial(SAMPLES, pi), (runs, 1))
        share = counts / SAMPLES if cell.follow else pi
        total = np.zeros_like(X)
        for part in range(PARTS):
            half = flow(cell, share, float(cell.factor(np.array(window + (part + 0.5) / PARTS))))
            for leg in range(2):
                if cell.model == "I":
                    X = half @ X
                else:
                    y = np.einsum("kp,rkp->rk", d, X) / (1 - 1 / K)
                    a, b = (r * cell.factor(np.array(window + (part + 0.5) / PARTS)) for r in rates(cell))
                    X = X + _logit_flow(half, y, a, b, share, d)
                if leg == 0:
                    X = X + sigma * rng.standard_normal(X.shape)
                    total += X
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.sqrt(within / np.maximum(counts, 1))[..., None]
        means = total / PARTS + deviation * rng.standard_normal(X.shape)
        dof = np.maximum(counts - 1, 1) * p
        yield np.where(counts[..., None] > 0, means, np.nan), counts, within * rng.chisquare(dof) / dof


def _logit_flow(half, y, a, b, share, d):
    """Change of the logits' means: dX_i = Σ_j E_ij π_j y_j d_j dt, with y at both ends of the leg (trapezoid)."""
    K = y.shape[1]
    E = np.full((K, K), float(b)) + float(a - b) * np.eye(K)
    later = (half @ y[..., None])[..., 0]
    # the coordinates are exact; what lies across them follows the trapezoid
    dt = WINDOW / PARTS / 2
    push = np.einsum("ij,rj,jp->rip", E, np.broadcast_to(share, y.shape) * (y + later) / 2, d) * dt
    along = np.einsum("kp,rkp->rk", d, push) / (1 - 1 / K)
    return push + (later - y - along)[..., None] * d


def sample_pools(cell: Cell, rng: np.random.Generator):
    """Samples about zero, from which the noise along directions is read."""
    K, within = cell.K, SAMPLES / cell.K / 20
    for _ in range(4):
        labels = rng.choice(K, SAMPLES, p=cell.frequencies)
        yield torch.from_numpy(np.sqrt(within) * rng.standard_normal((SAMPLES, K))), torch.from_numpy(labels)
