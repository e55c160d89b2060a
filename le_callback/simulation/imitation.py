"""How well a model imitates a run, and how well it predicts: the same readings, held-out ones, another run.

A model with more strengths describes the run better that it was fitted to, and may predict another one worse. So each
is scored three times, by the relative difference of the class means and of their differences from their centre, beside
the floor that the sampling of the means alone sets.

Legend: T readings, K classes (p = K, logits), W windows, m strengths of a window (``pulls``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any, Protocol

import numpy as np
import torch
from scipy.optimize import least_squares

from le_callback.elasticity.inputs import as_array, check_means
from le_callback.errors import require
from le_callback.similarity import LModel
from le_callback.simulation.pulls import Pulls, pulls_of
from le_callback.simulation.scores import relative_difference
from le_callback.values import NAN, Array

SHORTEST, LONGEST, SHARE = 3, 30, 10  # readings of a window: a tenth of those before it, within these bounds
_TIE = 0.1  # of the size of the means: what strengths cost that would move them by as much in a window
_LARGEST = 1.5  # log growth in a window
_HELD_OUT = 3  # every third reading
_ORDERS = 6  # of the classes, at most, in which strengths are put on another run
_DRAWS = 20  # of the floor
_STEP = 1e-6  # of the derivatives by strengths


class Readings(Protocol):
    """Class means over time, as ``SourceTrajectory`` holds them."""

    times: Any
    means: Any
    mean_noise: Any


@dataclass(frozen=True)
class Score:
    """Mean relative difference over classes and later readings.

    Attributes:
        full: of the class means.
        centred: of their differences from their centre.

    >>> Score(0.1, 0.05).full
    0.1
    """

    full: float
    centred: float


@dataclass(frozen=True)
class Imitation:
    """A model fitted to a run.

    Attributes:
        model: its name.
        edges: ends of the windows ``(W + 1,)``.
        strengths: ``(W, m)``, per unit of time.
        path: simulated from the first reading alone ``(T, K, K)``.
        in_sample: against the readings that it was fitted to.
        held_out: against every third reading, fitted to the others.
        other: the strengths put on another run from its first reading, NaN without one.
        floor: of the genuine means against means of samples drawn anew.

    >>> none = Score(0.0, 0.0)
    >>> Imitation("alpha", np.zeros(2), np.zeros((1, 2)), np.zeros((2, 3, 3)), none, none, none, none).in_sample.full
    0.0
    """

    model: str
    edges: Array = field(repr=False)
    strengths: Array = field(repr=False)
    path: Array = field(repr=False)
    in_sample: Score
    held_out: Score
    other: Score
    floor: Score


def imitate(
    trajectory: Readings,
    *,
    model: str = "row_beta",
    other: Readings | None = None,
    offset: bool = True,
    start: float = 0.0,
) -> Imitation:
    """Fit a model to the logits of a run by shooting, and score what it imitates and what it predicts.

    dX̄_k/dt = Σ_j E_kj S_j/K + c with S_j = y_j d_j of the L-model, or e_j − softmax(X̄_j). In each window the strengths
    are those that take the simulation from where it stands closest to the readings of the window. Windows hold a tenth
    of the readings before them, 3 to 30. On another run the strengths are put at the same times, once in each order of
    the classes (at most six orders), and the scores averaged: which class is which means nothing there.

    Args:
        trajectory: class means of logits ``(T, K, K)`` with their times, such as ``Trajectory.sources["logits"]``.
        model: ``"alpha"``, ``"alpha_k"``, ``"softmax"``, ``"row_beta"`` or ``"matrix"``, see ``pulls.MODELS``.
        other: another run of the same task.
        offset: whether all classes move by a common c besides, K more strengths.
        start: first time that is used.

    Raises:
        ValueError: shapes, readings that are not finite, fewer than 8 readings, another name of a model.

    Source: Zhang, Wang, Su 2021, section 4 (imitation) and eq. 20 (relative difference).

    >>> from types import SimpleNamespace
    >>> t = np.linspace(0, 2, 41)[:, None, None]
    >>> d = np.eye(3) - 1 / 3
    >>> run = SimpleNamespace(times=t.ravel(), means=np.exp(0.5 * t) * d, mean_noise=np.zeros((41, 3)))
    >>> found = imitate(run, model="alpha")
    >>> found.in_sample.full < 1e-4, found.floor.full
    (True, 0.0)
    """
    X, t, noise = _readings(trajectory, start, "trajectory")
    pulls = pulls_of(model, X.shape[1], offset=offset)
    edges, strengths, path = _fit(pulls, X, t)
    kept = np.arange(len(t)) % _HELD_OUT != _HELD_OUT - 1
    thin_edges, thin, _ = _fit(pulls, X[kept], t[kept])
    foreseen = _follow(pulls, X[0], t, thin_edges, thin)
    elsewhere = Score(NAN, NAN)
    if other is not None:
        Y, s, _ = _readings(other, start, "other")
        require(Y.shape[1] == X.shape[1], "other", Y.shape, f"of {X.shape[1]} classes, as `trajectory`")
        elsewhere = _on_another(pulls, edges, strengths, Y, s)
    return Imitation(
        model,
        edges,
        strengths,
        path,
        _score(X[1:], path[1:]),
        _score(X[~kept], foreseen[~kept]),
        elsewhere,
        _floor(X[1:], noise[1:]),
    )


def _readings(given: Readings, start: float, argument: str) -> tuple[Array, Array, Array]:
    X, t = check_means(given.means, given.times, LModel())
    require(X.shape[1] == X.shape[2], argument, X.shape, "of logits, class means (T, K, K)")
    noise = np.nan_to_num(as_array(given.mean_noise))
    later = t >= start
    X, t, noise = X[later], t[later], noise[later]
    require(len(t) >= 8, argument, len(t), "of at least 8 readings")
    require(bool(np.isfinite(X).all()), argument, X, "finite", "Start at a later time.")
    return X, t, noise


def _ends(count: int) -> list[int]:
    """Readings at which windows end, from 0 to the last."""
    ends = [0]
    while ends[-1] < count - 1:
        ends.append(min(ends[-1] + int(np.clip(ends[-1] // SHARE, SHORTEST, LONGEST)), count - 1))
    if len(ends) > 2 and ends[-1] - ends[-2] < SHORTEST:  # too short: with the one before
        del ends[-2]
    return ends


def _fit(pulls: Pulls, X: Array, t: Array) -> tuple[Array, Array, Array]:
    """Edges, strengths and path, window after window from where the simulation stands."""
    ends = _ends(len(t))
    x, rates, found, path = X[0], np.zeros(pulls.count), [], [X[:1]]
    for a, b in pairwise(ends):
        length = t[b] - t[a]
        times = (t[a : b + 1] - t[a]) / length
        grown = _shoot(pulls, x, times, X[a + 1 : b + 1], rates * length)
        steps = _paths(pulls, x, times, grown[None])[0]
        x, rates = steps[-1], grown / length
        found.append(rates)
        path.append(steps)
    return t[ends], np.stack(found), np.concatenate(path)


def _shoot(pulls: Pulls, x: Array, times: Array, genuine: Array, guess: Array) -> Array:
    """Strengths times the length of the window that take x closest to the ``genuine`` readings."""
    size = float(np.linalg.norm(genuine)) / np.sqrt(len(genuine))
    # what a strength of 1 moves in the window, so that strengths that do little are left as they were
    effect = np.linalg.norm(pulls.terms(x[None])[0], axis=(-2, -1)) + 1e-12
    tie = _TIE * np.maximum(effect, 1e-3 * size)
    bound = np.maximum(_LARGEST, 2 * np.abs(guess))
    bound[int(pulls.groups.max()) + 1 :] = np.inf  # an offset is no growth
    bound[: int(pulls.groups.max()) + 1] *= len(x)

    def missed(grown: Array) -> Array:
        return np.concatenate([(_paths(pulls, x, times, grown[None])[0] - genuine).ravel(), tie * (grown - guess)])

    def derivatives(grown: Array) -> Array:
        h = _STEP * np.maximum(np.abs(grown), 1.0)
        moved = _paths(pulls, x, times, np.vstack([grown, grown + np.diag(h)]))
        slopes = ((moved[1:] - moved[0]).reshape(len(h), -1) / h[:, None]).T
        return np.vstack([slopes, np.diag(tie)])

    first = np.clip(guess, -0.99 * bound, 0.99 * bound)
    return np.asarray(least_squares(missed, first, jac=derivatives, bounds=(-bound, bound), max_nfev=25).x)


def _paths(pulls: Pulls, x: Array, times: Array, strengths: Array) -> Array:
    """States ``(B, S, K, K)`` at ``times[1:]`` from x (K, K) with constant ``strengths (B, m)``, by Runge–Kutta."""
    state = np.broadcast_to(x, (len(strengths), *x.shape))
    path = []
    for h in np.diff(times):
        state = _step(pulls, state, h, strengths)
        path.append(state)
    return np.stack(path, axis=1)


def _step(pulls: Pulls, x: Array, h: float, strengths: Array) -> Array:
    k1 = pulls.drift(x, strengths)
    k2 = pulls.drift(x + h / 2 * k1, strengths)
    k3 = pulls.drift(x + h / 2 * k2, strengths)
    return np.asarray(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + pulls.drift(x + h * k3, strengths)))


def _follow(pulls: Pulls, x: Array, t: Array, edges: Array, strengths: Array) -> Array:
    """The path ``(T, K, K)`` at times t; the first and the last window go on."""
    grid = np.union1d(t, edges[(edges > t[0]) & (edges < t[-1])])
    state, path = x[None], {grid[0]: x}
    for a, b in pairwise(grid):
        window = int(np.clip(np.searchsorted(edges, (a + b) / 2) - 1, 0, len(strengths) - 1))
        state = _step(pulls, state, b - a, strengths[window][None])
        path[b] = state[0]
    return np.stack([path[s] for s in t])


def _on_another(pulls: Pulls, edges: Array, strengths: Array, Y: Array, s: Array) -> Score:
    """Mean score over orders of the classes."""
    K = Y.shape[1]
    orders = np.array(list(permutations(range(K)))) if K <= 3 else None
    if orders is None:
        rng = np.random.default_rng(0)
        orders = np.array([rng.permutation(K) for _ in range(_ORDERS)])
    with np.errstate(over="ignore", invalid="ignore"):  # a path that runs away scores 2, the largest there is
        scores = [
            _score(Y[1:], _follow(pulls, Y[0], s, edges, pulls.permuted(strengths, order))[1:]) for order in orders
        ]
    return Score(float(np.mean([x.full for x in scores])), float(np.mean([x.centred for x in scores])))


def _score(x: Array, y: Array) -> Score:
    return Score(*(_mean_difference(a, b) for a, b in ((x, y), (_centred(x), _centred(y)))))


def _mean_difference(x: Array, y: Array) -> float:
    known = np.asarray(np.isfinite(y).all((-2, -1)))
    found = relative_difference(torch.from_numpy(x), torch.from_numpy(np.nan_to_num(y))).numpy()
    return float(np.where(known[..., None], found, 2.0).mean())


def _centred(x: Array) -> Array:
    return np.asarray(x - x.mean(-2, keepdims=True))


def _floor(X: Array, noise: Array) -> Score:
    """Scores of the genuine means against means of samples drawn anew, errors alike in all dimensions."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(noise / X.shape[-1])[..., None]
    scores = [_score(X, X + scale * rng.standard_normal(X.shape)) for _ in range(_DRAWS)]
    return Score(float(np.mean([x.full for x in scores])), float(np.mean([x.centred for x in scores])))
