"""How well a model imitates a run, and how well it predicts: the same readings, held-out ones, another run.

A model with more strengths describes the run better that it was fitted to, and may predict another one worse. So each
is scored three times, by the relative difference of the class means and of their differences from their centre, beside
the floor that the sampling of the means alone sets.

Legend: T readings, K classes (p = K, logits), W windows, m strengths of a window (``pulls``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations
from typing import Any, Protocol

import numpy as np

from le_callback.elasticity.inputs import as_array, check_means
from le_callback.errors import require
from le_callback.similarity import LModel
from le_callback.simulation.pulls import Pulls, pulls_of
from le_callback.simulation.scores import Score, mean_score
from le_callback.simulation.shooting import fit, step, task_of
from le_callback.simulation.windows import LONGEST, held_out_readings, longest_window, window_ends
from le_callback.values import NAN, Array

_ORDERS = 6  # of the classes, at most, in which strengths are put on another run
_DRAWS = 20  # of the floor
_SLOW = 1.0  # tie from which strengths change slowly


class Readings(Protocol):
    """Class means over time, as ``SourceTrajectory`` holds them."""

    times: Any
    means: Any
    mean_noise: Any


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
        matched: the strengths put on another run from its first reading, each class where it is; NaN without one.
        other: the same, mean over the orders of the classes, as if which class is which meant nothing.
        floor: of the genuine means against means of samples drawn anew.

    >>> none = Score(0.0, 0.0)
    >>> Imitation("alpha", np.zeros(2), np.zeros((1, 2)), np.zeros((2, 3, 3)), *[none] * 5).in_sample.full
    0.0
    """

    model: str
    edges: Array = field(repr=False)
    strengths: Array = field(repr=False)
    path: Array = field(repr=False)
    in_sample: Score
    held_out: Score
    matched: Score
    other: Score
    floor: Score


def imitate(
    trajectory: Readings,
    *,
    model: str = "row_beta",
    other: Readings | None = None,
    offset: bool = True,
    start: float = 0.0,
    tie: float = 0.03,
    smaller: Imitation | None = None,
    held_out: bool = True,
) -> Imitation:
    """Fit a model to the logits of a run by shooting, and score what it imitates and what it predicts.

    dX̄_k/dt = Σ_j E_kj S_j/K + c + μ_k 1 with S_j = y_j d_j of the L-model, or e_j − softmax(X̄_j). Strengths are
    constant in windows, which hold a tenth of the readings before them, at most 30, 15, 8, 4 or 2: the shortest with
    which straight lines, fitted without every third reading, come within 1 % as close to these as with any. The
    simulation runs from the first reading alone, and all strengths together minimise the squares of its relative
    differences, of the class means and of the differences δ_k of the classes from their centre, however small these
    are beside the means:
    Σ_t Σ_k c² ‖X̃_k − X̄_k‖²/‖X̄_k‖² + ‖δ̃_k − δ_k‖²/‖δ_k‖², c ≤ 1 by what straight lines in the windows leave of either,
    plus, times the square of ``tie``, the squares of what changes of the strengths from window to window move, relative
    to these sizes, plus the squares of the log growth of small errors, by what straight lines leave
    (``shooting.task_of``); then readings are weighted anew, so that the mean of the relative differences falls, not of
    their squares. No pull moves the mean of a class's logits over the outputs, which cross-entropy does not see; μ_k
    does.

    On another run the strengths are put at the same times, with the classes where they are, and in each order of
    the classes (at most six orders).

    Args:
        trajectory: class means of logits ``(T, K, K)`` with their times, such as ``Trajectory.sources["logits"]``.
        model: ``"alpha"``, ``"alpha_k"``, ``"softmax"``, ``"row_beta"``, ``"matrix"`` or ``"softmax_matrix"``, see
            ``pulls.MODELS``.
        other: another run of the same task.
        offset: whether all classes move by a common c besides, and each one's mean over the outputs by μ_k: 2K more
            strengths.
        start: first time that is used.
        tie: the default describes a run, 4 makes strengths change slowly and predicts others better. From 1 on windows
            hold up to 30 readings whatever straight lines leave.
        smaller: the imitation of the same run by a model that this one contains. The fit also starts from there, and
            comes out as close or closer but for a few thousandths.
        held_out: whether to fit once more, without every third reading; otherwise that score is NaN.

    Raises:
        ValueError: shapes, readings that are not finite, fewer than 8 readings, another name of a model, a ``tie`` that
            is not positive, a ``smaller`` model of other readings or that is not contained.

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
    require(tie > 0, "tie", tie, "positive")
    pulls = pulls_of(model, X.shape[1], offset=offset)
    ends = _windows(X, t, tie)
    guess = _embedded(smaller, pulls, len(t), t[ends])
    edges, (strengths, path) = t[ends], fit(task_of(pulls, X, t, ends, tie), guess)
    elsewhere = (Score(NAN, NAN), Score(NAN, NAN))
    if other is not None:
        Y, s, _ = _readings(other, start, "other")
        require(Y.shape[1] == X.shape[1], "other", Y.shape, f"of {X.shape[1]} classes, as `trajectory`")
        elsewhere = _on_another(pulls, edges, strengths, Y, s)
    foreseen = _held_out(pulls, X, t, tie) if held_out else Score(NAN, NAN)
    in_sample, floor = mean_score(X[1:], path[1:]), _floor(X[1:], noise[1:])
    return Imitation(model, edges, strengths, path, in_sample, foreseen, *elsewhere, floor)


def _readings(given: Readings, start: float, argument: str) -> tuple[Array, Array, Array]:
    X, t = check_means(given.means, given.times, LModel())
    require(X.shape[1] == X.shape[2], argument, X.shape, "of logits, class means (T, K, K)")
    noise = np.nan_to_num(as_array(given.mean_noise))
    later = t >= start
    X, t, noise = X[later], t[later], noise[later]
    require(len(t) >= 8, argument, len(t), "of at least 8 readings")
    require(bool(np.isfinite(X).all()), argument, X, "finite", "Start at a later time.")
    return X, t, noise


def _windows(X: Array, t: Array, tie: float) -> list[int]:
    return window_ends(len(t), LONGEST[0] if tie >= _SLOW else longest_window(X, t))


def _held_out(pulls: Pulls, X: Array, t: Array, tie: float) -> Score:
    """Score of every third reading, of windows and strengths chosen without them."""
    out = held_out_readings(len(t))
    kept, s = X[~out], t[~out]
    ends = _windows(kept, s, tie)
    strengths, _ = fit(task_of(pulls, kept, s, ends, tie))
    with np.errstate(over="ignore", invalid="ignore"):
        return mean_score(X[out], _follow(pulls, X[0], t, s[ends], strengths)[out])


def _embedded(smaller: Imitation | None, pulls: Pulls, count: int, edges: Array) -> Array | None:
    """Strengths ``(W, m)`` of the larger model that move classes as those of the smaller one do."""
    if smaller is None:
        return None
    K = len(pulls.groups)
    same = smaller.path.shape == (count, K, K) and np.array_equal(smaller.edges, edges)
    require(same, "smaller", smaller.edges, "fitted to the same readings")
    inner = pulls_of(smaller.model, K)
    inner = replace(inner, offset=smaller.strengths.shape[1] > inner.count)
    strengths = np.zeros((len(smaller.strengths), pulls.count))
    E = smaller.strengths[:, inner.groups]
    strengths[:, pulls.groups.ravel()] = E.reshape(len(E), -1)
    contained = inner.saturating == pulls.saturating and inner.offset <= pulls.offset
    contained = contained and np.array_equal(strengths[:, pulls.groups], E)
    require(contained, "smaller", smaller.model, f"a model that {pulls.name} contains")
    if inner.offset:
        strengths[:, -2 * K :] = smaller.strengths[:, -2 * K :]
    return strengths


def _follow(pulls: Pulls, x: Array, t: Array, edges: Array, strengths: Array) -> Array:
    """The path ``(T, K, K)`` at times t; the first and the last window go on."""
    grid = np.union1d(t, edges[(edges > t[0]) & (edges < t[-1])])
    state, path = x[None], {grid[0]: x}
    for a, b in pairwise(grid):
        window = int(np.clip(np.searchsorted(edges, (a + b) / 2) - 1, 0, len(strengths) - 1))
        state = step(pulls, state, b - a, strengths[window][None])
        path[b] = state[0]
    return np.stack([path[s] for s in t])


def _on_another(pulls: Pulls, edges: Array, strengths: Array, Y: Array, s: Array) -> tuple[Score, Score]:
    """Score with the classes as they are, and its mean over orders of the classes."""
    K = Y.shape[1]
    orders = np.array(list(permutations(range(K)))) if K <= 3 else None
    if orders is None:
        rng = np.random.default_rng(0)
        orders = np.array([rng.permutation(K) for _ in range(_ORDERS)])

    def score(order: Any) -> Score:
        return mean_score(Y[1:], _follow(pulls, Y[0], s, edges, pulls.permuted(strengths, order))[1:])

    with np.errstate(over="ignore", invalid="ignore"):  # a path that runs away scores 2, the largest there is
        scores = [score(order) for order in orders]
        return score(np.arange(K)), _mean(scores)


def _floor(X: Array, noise: Array) -> Score:
    """Scores of the genuine means against means of samples drawn anew, errors alike in all dimensions."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(noise / X.shape[-1])[..., None]
    return _mean([mean_score(X, X + scale * rng.standard_normal(X.shape)) for _ in range(_DRAWS)])


def _mean(scores: list[Score]) -> Score:
    return Score(float(np.mean([x.full for x in scores])), float(np.mean([x.centred for x in scores])))
