"""Shooting: against scipy's optimiser, known strengths, and growth that would run away."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import least_squares

from le_callback.simulation import simulate_ode
from le_callback.simulation.pulls import MODELS, pulls_of
from le_callback.simulation.shooting import _squares, fit, step, task_of

TIMES = np.linspace(0, 3, 31)
ENDS = [0, 6, 12, 20, 30]


def start(seed, K=3):
    rng = np.random.default_rng(seed)
    return 0.5 * (np.eye(K) - 1 / K) + 0.1 * rng.standard_normal((K, K))


def simulated(pulls, x, strengths, ends=ENDS, times=TIMES):
    """A reading after each step, window after window."""
    path = [x]
    for w, (a, b) in enumerate(pairwise(ends)):
        for i in range(a, b):
            path.append(step(pulls, path[-1][None], times[i + 1] - times[i], strengths[w][None])[0])
    return np.stack(path)


def left_by_straight_lines(X):
    """Mean relative differences, of class means and centred, by dense least squares."""
    hats = np.stack([np.interp(TIMES, TIMES[ENDS], row) for row in np.eye(len(ENDS))], axis=1)
    weight = 1 / np.linalg.norm(X, axis=(1, 2))
    corners = np.linalg.lstsq(hats * weight[:, None], (X * weight[:, None, None]).reshape(len(X), -1), rcond=None)[0]
    lines, found = (hats @ corners).reshape(X.shape), []
    for centre in (0, 1):
        Z, Y = (z - centre * z.mean(1, keepdims=True) for z in (X, lines))
        sizes = (np.linalg.norm(Z, axis=-1) + np.linalg.norm(Y, axis=-1)) / 2
        found.append((np.linalg.norm(Z - Y, axis=-1) / sizes).mean())
    return found


def residuals(pulls, X, strengths, tie):
    """All that is squared in the cost, written out."""
    path = simulated(pulls, X[0], strengths)
    full, between_ = left_by_straight_lines(X)
    share = np.clip(between_ / full, 0.1, 1)
    found = []
    for i in range(1, len(X)):
        d, e = X[i] - X[i].mean(0), path[i] - path[i].mean(0)
        for k in range(len(X[i])):
            found.append(share * (path[i, k] - X[i, k]) / np.linalg.norm(X[i, k]))
            found.append((e[k] - d[k]) / np.linalg.norm(d[k]))
    before = np.zeros(pulls.count)
    for w, (a, b) in enumerate(pairwise(ENDS)):
        x, d = X[a], X[a] - X[a].mean(0)
        for g, term in enumerate(pulls.terms(x[None])[0]):
            whole = [share * term[k] / np.linalg.norm(x[k]) for k in range(len(x))]
            between = [(term - term.mean(0))[k] / np.linalg.norm(d[k]) for k in range(len(x))]
            effect = np.sqrt((np.square([whole, between])).sum() / (2 * len(x)))
            length = TIMES[b] - TIMES[a]
            found.append(np.atleast_1d(tie * effect * length * (strengths[w, g] - before[g])))
        found.append(2 * between_ * length * strengths[w] * pulls.sensitivity(x[None])[0])
        before = strengths[w]
    return np.concatenate(found)


@pytest.mark.parametrize(("model", "offset"), [("alpha", False), ("row_beta", True), ("softmax", False)])
def test_the_minimum_is_that_of_a_general_optimiser(model, offset):
    """Classes of even sizes, so that none is small beside the others."""
    pulls, tie = pulls_of(model, 3, offset=offset), 0.1
    rng = np.random.default_rng(1)
    X = simulate_ode(start(1), np.diag([0.8, 0.6, 0.5]) - 0.1, "L", TIMES).numpy()
    X = X * (1 + 0.05 * rng.standard_normal(X.shape))
    task = task_of(pulls, X, TIMES, ENDS, tie)
    grown, path = _squares(replace(task, calm=2 * task.calm), None)
    strengths = grown / task.lengths[:, None]
    assert np.allclose(path, simulated(pulls, X[0], strengths))
    ours = (residuals(pulls, X, strengths, tie) ** 2).sum()
    best = least_squares(
        lambda s: residuals(pulls, X, s.reshape(strengths.shape), tie), strengths.ravel(), method="trf", max_nfev=50
    )
    assert ours < 1.02 * 2 * best.cost


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("offset", [False, True])
def test_what_the_model_has_made_is_followed(model, offset):
    pulls = pulls_of(model, 3, offset=offset)
    rng = np.random.default_rng(2)
    strengths = np.abs(1 + 0.3 * rng.standard_normal((4, pulls.count)))
    entries = int(pulls.groups.max()) + 1
    for g in range(entries):  # own strengths up, the others down, as in trainings
        if not np.diagonal(pulls.groups == g).any():
            strengths[:, g] *= -0.3
    strengths[:, entries:] *= 0.1
    X = simulated(pulls, start(3), strengths)
    _, path = fit(task_of(pulls, X, TIMES, ENDS, 1e-3))
    assert (np.linalg.norm(path - X, axis=-1) / np.linalg.norm(X, axis=-1)).mean() < 2e-3


def test_readings_far_away_do_not_lead_astray():
    """One reading in seven is anywhere: least squares follow it, the mean relative difference does not."""
    rng = np.random.default_rng(6)
    pulls = pulls_of("alpha_k", 3)
    genuine = simulated(pulls, start(6), np.repeat([[0.9, 0.7, 0.5, -0.2]], 4, axis=0))
    X = genuine.copy()
    X[4::7] += 2 * np.linalg.norm(X[4::7], axis=(1, 2), keepdims=True) * rng.standard_normal(X[4::7].shape)
    task = task_of(pulls, X, TIMES, ENDS, 0.03)
    least, found = _squares(replace(task, calm=2 * task.calm), None)[1], fit(task)[1]
    assert np.linalg.norm(found - genuine) < 0.7 * np.linalg.norm(least - genuine)


def test_growth_by_a_million_does_not_run_away():
    """Sixty windows, with noise in all readings: the simulation from the first one alone stays with them."""
    times = np.linspace(0, 20, 241)
    rng = np.random.default_rng(4)
    X = simulate_ode(1e-3 * start(4), np.diag([2.1, 2.0, 1.8]), "L", times).numpy()
    assert np.linalg.norm(X[-1]) > 1e5 * np.linalg.norm(X[0])
    X = X * (1 + 0.05 * rng.standard_normal(X.shape))
    ends = [*range(0, 240, 4), 240]
    _, path = fit(task_of(pulls_of("matrix", 3, offset=True), X, times, ends, 0.03))
    assert (np.linalg.norm(path - X, axis=-1) / np.linalg.norm(X, axis=-1)).mean() < 0.06


def test_a_guess_is_never_made_worse():
    pulls = pulls_of("alpha_k", 3)
    strengths = np.repeat([[0.9, 0.7, 0.5, -0.2]], 4, axis=0)
    X = simulated(pulls, start(5), strengths)
    task = task_of(pulls, X, TIMES, ENDS, 1e-6)
    _, path = fit(task, strengths)
    assert np.abs(path / X - 1).max() < 1e-6
