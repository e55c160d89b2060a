"""Strengths of pulls, constant in windows, that take a simulation from its start alone closest to a recorded run.

Strengths are costly that let small errors grow: a path that only its own errors of integration keep near the readings
would run away between them. Where halved steps lead elsewhere, this cost is raised and the fit made once more.

A path that is wrong early is wrong for ever, and growth blows up what is wrong. So the fit goes in two passes. Forward:
window after window, each from where the simulation stands, by damped Gauss–Newton steps. Then over all windows at once:
backward, the best change of each window's strengths as a linear function of how far the path stands from the one before
(the Riccati recursion of linear-quadratic control), and forward again with this feedback, which keeps the path from
running away while strengths change.

Legend: T readings, W windows of at most S readings, K classes, p dimensions, n = K·p, m strengths; *grown*: strengths
times the length of their window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from le_callback.simulation.pulls import Pulls
from le_callback.simulation.scores import centred, mean_score
from le_callback.simulation.windows import straight_lines
from le_callback.values import Array

_SMALL = 0.05  # least square of a size, of the mean over the classes: a class near zero does not outweigh the others
_NUDGE = 1e-6  # of derivatives
_CALM = (2.0, 6.0, 20.0, 60.0)  # 1/log growth of small errors in a window that is usual
_ROUNDS, _AGAIN, _NEAR = 3, 2, 0.2  # of new weights; passes in each; share of the usual distance that counts at least
_POOR = 0.5  # share of the cost of offsets alone above which the fit starts from these too
_SAME, _EXACT = 0.02, 1e-4  # relative differences: that halved steps may make; of readings that count as exact
_SHARE = (0.1, 1.0)  # of the class means beside their differences
_DAMPING, _HARDER, _SOFTER, _ROUNDING = 1e-4, 10.0, 5.0, 1e-12
_FORWARD, _PASSES, _ENOUGH = 10, 8, 3e-3  # steps in a window, passes over all, relative gain that is too small to go on
_STIFFER = (1.0, 10.0, 100.0)  # ties in forward passes
_SHARES = (1.0, 0.5, 0.2, 0.05)  # of a step


@dataclass(frozen=True)
class Task:
    """What is fitted, see ``task_of``.

    Attributes:
        pulls: the model.
        X: recorded class means ``(T, K, p)``.
        ends: readings at which windows end ``(W + 1,)``.
        lengths: of the windows, in time ``(W,)``.
        steps: between readings, in shares of the window ``(W, S)``, 0 where it has fewer.
        readings: after each step ``(W, S)``.
        whole, between: c/‖X̄_k‖ and 1/‖X̄_k − X̌‖ ``(T, K)``.
        tie: cost of strengths that differ from those of the window before ``(W, m)``.
        calm: cost of strengths that let small errors grow ``(W, m)``.
    """

    pulls: Pulls
    X: Array
    ends: NDArray[np.intp]
    lengths: Array
    steps: Array
    readings: NDArray[np.intp]
    whole: Array
    between: Array
    tie: Array
    calm: Array


def task_of(pulls: Pulls, X: Array, t: Array, ends: Sequence[int], tie: float) -> Task:
    """The task: least squares of the relative differences of class means and of their differences from their centre.

    Σ_t Σ_k c² ‖X̃_k − X̄_k‖²/‖X̄_k‖² + ‖δ̃_k − δ_k‖²/‖δ_k‖² + Σ_w tie² ‖D_w (g_w − g_{w−1})‖² + ρ² ‖G_w g_w‖², with
    δ_k = X̄_k − X̌, g the strengths times the length of window w, D what they move in that time, relative to the sizes,
    and G g the log growth of a small error. Both parts count as they can be had: c is what straight lines in the
    windows leave of the differences over what they leave of the class means, at least 0.1 and at most 1. ρ is twice
    what they leave of the differences.

    Args:
        pulls: the model.
        X: ``(T, K, p)``.
        t: ``(T,)``.
        ends: from 0 to T − 1.
        tie: 0.03 holds strengths where the data say little of them, 1 makes them change slowly.

    >>> from le_callback.simulation.pulls import pulls_of
    >>> X = np.broadcast_to(np.eye(3), (7, 3, 3))
    >>> task_of(pulls_of("alpha", 3), X, np.arange(7.0), [0, 3, 6], 0.03).steps.round(2)
    array([[0.33, 0.33, 0.33],
           [0.33, 0.33, 0.33]])
    """
    ends_ = np.asarray(ends)
    counts = np.diff(ends_)
    steps = np.zeros((len(counts), counts.max()))
    readings = np.repeat(ends_[1:, None], counts.max(), axis=1)
    lengths = np.diff(t[ends_])
    for w, (a, b) in enumerate(pairwise(ends_)):
        steps[w, : b - a] = np.diff(t[a : b + 1]) / lengths[w]
        readings[w, : b - a] = np.arange(a + 1, b + 1)
    left = mean_score(X, straight_lines(X, t, ends, t))
    share = np.clip(left.centred / left.full, *_SHARE) if left.full > 0 else 1.0
    whole, between = share * _inverse_size(X), _inverse_size(centred(X))
    at = (whole[ends_[:-1], None], between[ends_[:-1], None])
    effect = np.sqrt((_weighted(pulls.terms(X[ends_[:-1]]), *at) ** 2).sum((-1, -2)) / (2 * X.shape[1]))
    costs = tie * np.clip(effect, 1e-6, 1e3)
    calm = max(np.nan_to_num(left.centred), _EXACT) * pulls.sensitivity(X[ends_[:-1]])
    return Task(pulls, X, ends_, lengths, steps, readings, whole, between, costs, calm)


def fit(task: Task, guess: Array | None = None) -> tuple[Array, Array]:
    """Strengths ``(W, m)`` per unit of time, and the path ``(T, K, p)``.

    Least squares, then weighted anew by what is left of each reading: closest in the mean relative difference, not in
    its squares.

    Args:
        task: see ``task_of``.
        guess: strengths ``(W, m)`` of another fit. The fit goes on from them where the forward passes lead no closer.

    >>> from le_callback.simulation.pulls import pulls_of
    >>> t, d = np.linspace(0, 2, 41), np.eye(3) - 1 / 3
    >>> X = np.exp(0.5 * t)[:, None, None] * d
    >>> strengths, path = fit(task_of(pulls_of("alpha", 3), X, t, [0, 20, 40], 0.01))
    >>> bool(np.allclose(path, X, rtol=1e-4))
    True
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a path that runs away costs too much to be taken
        for calm in _CALM:
            calmer = replace(task, calm=calm * task.calm)
            grown, path = _squares(calmer, guess)
            if _unchanged(task, grown, path):
                grown, path = _reweighted(calmer, grown, path)
                break
    return grown / task.lengths[:, None], path


def _reweighted(task: Task, grown: Array, path: Array) -> tuple[Array, Array]:
    """Closer in the mean than least squares are, which a few readings far away lead astray."""
    least = _distance(task, path)
    for _ in range(_ROUNDS):
        weights = [_evened(w, z) for w, z in ((task.whole, path - task.X), (task.between, centred(path - task.X)))]
        tried = _improve(replace(task, whole=weights[0], between=weights[1]), grown, _AGAIN)
        distance = _distance(task, tried[1])
        if distance >= least or not _unchanged(task, *tried):
            break
        (grown, path), least = tried, distance
    return grown, path


def _evened(weight: Array, missed: Array) -> Array:
    """Weights ``(T, K)`` that make the square of what was missed as large as this itself, with the same mean square."""
    size = np.linalg.norm(missed, axis=-1) * weight
    factor = 1 / np.sqrt(np.maximum(size, _NEAR * size[1:].mean() + 1e-300))
    return np.asarray(weight * factor / np.sqrt((factor[1:] ** 2).mean()))


def _unchanged(task: Task, grown: Array, path: Array) -> bool:
    """Whether halved steps lead along the same path: else it hangs on errors of the integration that grow."""
    halves = replace(task, steps=np.repeat(task.steps / 2, 2, axis=1), ends=2 * task.ends)
    found = mean_score(path[1:], _roll(halves, grown)[1][2::2])
    return found.full + found.centred < _SAME


def _squares(task: Task, guess: Array | None) -> tuple[Array, Array]:
    """Grown strengths and path of least cost."""
    starts = [_forward(task, stiffer) for stiffer in _STIFFER]
    if guess is not None:
        starts.append(guess * task.lengths[:, None])
    best = min(starts, key=lambda g: _cost(task, g, _roll(task, g)[1]))
    grown, path = _improve(task, best)
    if guess is not None and best is not starts[-1]:  # squares may fall where the mean difference rises
        kept = (starts[-1], _roll(task, starts[-1])[1])
        if _distance(task, path) > _distance(task, kept[1]):
            found = (kept, _improve(task, starts[-1]))
            grown, path = min(found, key=lambda f: _distance(task, f[1]))
    if task.pulls.offset:
        alone = task.pulls.offsets_of(np.diff(task.X[task.ends], axis=0))
        if _cost(task, grown, path) > _POOR * _cost(task, alone, _roll(task, alone)[1]):
            grown, path = min((grown, path), _improve(task, alone), key=lambda f: _cost(task, *f))
    return grown, path


def step(pulls: Pulls, x: Array, h: float | Array, strengths: Array) -> Array:
    """One step of Runge–Kutta, order 4, from ``x (B, K, p)`` with constant ``strengths (B, m)``.

    >>> from le_callback.simulation.pulls import pulls_of
    >>> grown = step(pulls_of("alpha", 2), np.array([[[0.5, -0.5], [-0.5, 0.5]]]), 0.1, np.array([[2.0, 0.0]]))
    >>> bool(np.allclose(grown, np.exp(0.1) * np.array([[0.5, -0.5], [-0.5, 0.5]])))
    True
    """
    k1 = pulls.drift(x, strengths)
    k2 = pulls.drift(x + h / 2 * k1, strengths)
    k3 = pulls.drift(x + h / 2 * k2, strengths)
    return np.asarray(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + pulls.drift(x + h * k3, strengths)))


def _inverse_size(x: Array) -> Array:
    """1/‖x‖ ``(T, K)``."""
    square = (x**2).sum(-1)
    least = np.maximum(_SMALL * square.mean(-1, keepdims=True), 1e-9 * square.mean() + 1e-300)
    return np.asarray(1 / np.sqrt(np.maximum(square, least)))


def _weighted(z: Array, whole: Array, between: Array) -> Array:
    """Both relative differences, one after the other ``(..., 2K, p)``."""
    return np.concatenate([z * whole[..., None], centred(z) * between[..., None]], axis=-2)


def _before(task: Task, grown: Array) -> Array:
    """Strengths of the window before, in terms of this window's length; zero before the first."""
    ratio = np.append(0.0, task.lengths[1:] / task.lengths[:-1])[:, None]
    return np.asarray(ratio * np.concatenate([np.zeros_like(grown[:1]), grown[:-1]]))


def _cost(task: Task, grown: Array, path: Array) -> float:
    missed = _weighted(path - task.X, task.whole, task.between)[1:]
    cost = float((missed**2).sum() + ((task.tie * (grown - _before(task, grown))) ** 2).sum())
    cost += float(((task.calm * grown) ** 2).sum())
    return cost if np.isfinite(cost) else np.inf


def _distance(task: Task, path: Array) -> float:
    """Mean of both relative differences."""
    missed = _weighted(path - task.X, task.whole, task.between)[1:]
    return float(np.nan_to_num(np.linalg.norm(missed, axis=-1), nan=np.inf).mean())


def _window(task: Task, w: int, x: Array, grown: Array) -> Array:
    """States ``(S_w, B, K, p)`` in window w from ``x (K, p)`` with each of ``grown (B, m)``."""
    state = np.broadcast_to(x, (len(grown), *x.shape))
    path = []
    for h in task.steps[w, : task.ends[w + 1] - task.ends[w]]:
        state = step(task.pulls, state, h, grown)
        path.append(state)
    return np.stack(path)


def _forward(task: Task, stiffer: float = 1.0) -> Array:
    """Window after window from where the simulation stands."""
    x, found, rates = task.X[0], [], np.zeros(task.pulls.count)
    for w, length in enumerate(task.lengths):
        grown = _shoot(task, w, x, rates * length, stiffer)
        x, rates = _window(task, w, x, grown[None])[-1, 0], grown / length
        found.append(grown)
    return np.stack(found)


def _shoot(task: Task, w: int, x: Array, guess: Array, stiffer: float) -> Array:
    """Strengths that take x closest to the readings of window w, by Levenberg–Marquardt."""
    later = task.readings[w, : task.ends[w + 1] - task.ends[w]]
    at = (task.whole[later][:, None], task.between[later][:, None])
    tie = stiffer * task.tie[w]

    def missed(grown: Array) -> Array:
        path = _window(task, w, x, grown)
        errors = _weighted(path - task.X[later][:, None], *at).swapaxes(0, 1).reshape(len(grown), -1)
        return np.concatenate([errors, tie * (grown - guess), task.calm[w] * grown], axis=1)

    grown: Array = guess.copy()
    damping = _DAMPING
    with np.errstate(over="ignore", invalid="ignore"):
        cost = float((missed(grown[None])[0] ** 2).sum())
        for _ in range(_FORWARD):
            h = _NUDGE * np.maximum(np.abs(grown), 1e-2)
            found = missed(np.vstack([grown, grown + np.diag(h)]))
            J = (found[1:] - found[0]) / h[:, None]
            square, slope = J @ J.T, J @ found[0]
            while damping < 1e6:
                tried: Array = grown - np.linalg.solve(square + damping * np.diag(np.diag(square)), slope)
                lower = float((missed(tried[None])[0] ** 2).sum())
                if lower < cost:  # never where the path runs away
                    break
                damping *= _HARDER
            else:
                return grown
            gain, grown, cost, damping = 1 - lower / cost, tried, lower, damping / _SOFTER
            if gain < _ENOUGH:
                return grown
    return grown


@dataclass(frozen=True)
class _Policy:
    """Change of the strengths in each window, from how far the path stands from the old one.

    Attributes:
        start: where the old path starts each window ``(W, K, p)``.
        feedback: ``(W, m, n + m)`` of the state and of the change in the window before.
        constant: ``(W, m)``.
    """

    start: Array
    feedback: Array
    constant: Array


def _roll(task: Task, grown: Array, policy: _Policy | None = None, share: float = 1.0) -> tuple[Array, Array, Array]:
    """New strengths, the path ``(T, K, p)`` and the starts of its windows ``(W, K, p)``."""
    x, change = task.X[0], np.zeros(task.pulls.count)
    new, starts, path = [], [], [task.X[:1]]
    for w in range(len(grown)):
        if policy is not None:
            away = np.concatenate([(x - policy.start[w]).ravel(), change])
            change = -(policy.feedback[w] @ away + share * policy.constant[w])
        new.append(grown[w] + change)
        starts.append(x)
        path.append(_window(task, w, x, new[-1][None])[:, 0])
        x = path[-1][-1]
    return np.stack(new), np.concatenate(path), np.stack(starts)


def _improve(task: Task, grown: Array, passes: int = _PASSES) -> tuple[Array, Array]:
    """Strengths and path after Gauss–Newton passes over all windows; the cost never rises."""
    grown, path, starts = _roll(task, grown)
    cost, damping = _cost(task, grown, path), _DAMPING
    for _ in range(passes):
        square, slope, flow = _derivatives(task, grown, starts)
        if not np.isfinite(square).all():
            break
        better = None
        while better is None and damping < 1e3:
            policy = _policy(task, grown, starts, square, slope, flow, damping)
            for share in _SHARES:
                tried = _roll(task, grown, policy, share)
                lower = _cost(task, *tried[:2])
                if lower < cost:
                    better = tried
                    break
            else:
                damping *= _HARDER**2
        if better is None:
            break
        (grown, path, starts), gain, cost, damping = better, 1 - lower / cost, lower, damping / _SOFTER
        if gain < _ENOUGH:
            break
    return grown, path


def _derivatives(task: Task, grown: Array, starts: Array) -> tuple[Array, Array, Array]:
    """Derivatives by the start and the strengths of each window.

    Of its cost, JᵀJ ``(W, n + m, n + m)`` and Jᵀr ``(W, n + m)``; of its end ``(W, n, n + m)``.
    """
    W, K, p = starts.shape
    n, m = K * p, grown.shape[1]
    size = np.sqrt((starts**2).mean((1, 2)))[:, None] + 1e-300
    h = _NUDGE * np.concatenate([np.repeat(size, n, axis=1), np.maximum(np.abs(grown), 1e-2)], axis=1)
    x = np.repeat(starts.reshape(W, 1, n), 1 + n + m, axis=1)  # the path itself, and one for each derivative
    each = np.repeat(grown[:, None], 1 + n + m, axis=1)
    coordinate, strength = np.arange(n), np.arange(m)
    x[:, 1 + coordinate, coordinate] += h[:, :n]
    each[:, 1 + n + strength, strength] += h[:, n:]
    state, each = x.reshape(-1, K, p), each.reshape(-1, m)
    square, slope = np.zeros((W, n + m, n + m)), np.zeros((W, n + m))
    for s, width in enumerate(task.steps.T):
        state = step(task.pulls, state, np.repeat(width, 1 + n + m)[:, None, None], each)
        path = state.reshape(W, 1 + n + m, K, p)
        moved = (path[:, 1:] - path[:, :1]) / h[:, :, None, None]
        later, counts = task.readings[:, s], (width > 0)[:, None]
        at = (task.whole[later] * counts, task.between[later] * counts)
        missed = _weighted(path[:, 0] - task.X[later], *at).reshape(W, -1)
        J = _weighted(moved, *(a[:, None] for a in at)).reshape(W, n + m, -1)
        square += J @ J.swapaxes(1, 2)
        slope += (J @ missed[..., None])[..., 0]
    return square, slope, moved.reshape(W, n + m, n).swapaxes(1, 2)


def _policy(
    task: Task, grown: Array, starts: Array, square: Array, slope: Array, flow: Array, damping: float
) -> _Policy:
    """Backward from the last window: the least cost to go, quadratic in the state and the last change (n + m)."""
    W, m = grown.shape
    n = flow.shape[1]
    before, ratio = _before(task, grown), np.append(0.0, task.lengths[1:] / task.lengths[:-1])
    togo, tilt = np.zeros((n + m, n + m)), np.zeros(n + m)
    feedback, constant = np.zeros((W, m, n + m)), np.zeros((W, m))
    known, free = slice(0, n + m), slice(n + m, n + 2 * m)  # of (state, change before, change now)
    use = np.concatenate([np.arange(n), np.arange(n + m, n + 2 * m)])
    for w in range(W - 1, -1, -1):
        Q, q = np.zeros((n + 2 * m, n + 2 * m)), np.zeros(n + 2 * m)
        Q[use[:, None], use] = square[w]
        q[use] = slope[w]
        change = np.zeros((m, n + 2 * m))  # what the tie costs: now less before
        change[:, n : n + m], change[:, free] = -ratio[w] * np.eye(m), np.eye(m)
        tied = task.tie[w][:, None] ** 2 * change
        Q += change.T @ tied
        q += tied.T @ (grown[w] - before[w])
        Q[free, free] += np.diag(task.calm[w] ** 2)
        q[free] += task.calm[w] ** 2 * grown[w]
        onward = np.zeros((n + m, n + 2 * m))
        onward[:n, use], onward[n:, free] = flow[w], np.eye(m)
        Q += onward.T @ togo @ onward
        q += onward.T @ tilt
        inner = Q[free, free] + np.diag((damping + _ROUNDING) * np.diag(Q[free, free]))
        feedback[w], constant[w] = np.linalg.solve(inner, Q[free, known]), np.linalg.solve(inner, q[free])
        togo = Q[known, known] - Q[known, free] @ feedback[w]
        togo, tilt = (togo + togo.T) / 2, q[known] - Q[known, free] @ constant[w]
    return _Policy(starts, feedback, constant)
