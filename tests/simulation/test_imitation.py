"""Imitation and prediction: trajectories of known strengths, permuted classes, the floor."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from le_callback.simulation import imitate, simulate_ode
from le_callback.simulation.imitation import _follow, _windows
from le_callback.simulation.pulls import MODELS, pulls_of
from le_callback.simulation.scores import centred

TIMES = np.linspace(0, 4, 81)


def run(means, times=TIMES, noise=0.0):
    return SimpleNamespace(times=times, means=means, mean_noise=np.full(means.shape[:2], noise))


def start(seed, K=3):
    rng = np.random.default_rng(seed)
    return 0.5 * (np.eye(K) - 1 / K) + 0.1 * rng.standard_normal((K, K))


def slow(pulls, x, strengths):
    """The drift written out."""
    K = len(x)
    d = np.eye(K) - 1 / K
    if pulls.saturating:
        pull = [np.eye(K)[j] - np.exp(x[j]) / np.exp(x[j]).sum() for j in range(K)]
    else:
        pull = [d[j] * (d[j] @ x[j]) / (d[j] @ d[j]) for j in range(K)]
    moved = np.zeros((K, K))
    for k in range(K):
        for j in range(K):
            moved[k] += strengths[pulls.groups[k, j]] * pull[j] / K
        if pulls.offset:
            moved[k] += strengths[-2 * K : -K] + strengths[-K + k]
    return moved


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("offset", [False, True])
def test_the_drift_and_its_terms(model, offset):
    pulls, x = pulls_of(model, 4, offset=offset), start(1, 4)
    strengths = np.random.default_rng(0).standard_normal(pulls.count)
    expected = slow(pulls, x, strengths)
    assert np.allclose(pulls.drift(x[None], strengths[None])[0], expected)
    assert np.allclose(np.tensordot(strengths, pulls.terms(x[None])[0], 1), expected)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("offset", [False, True])
def test_the_sensitivity_is_the_norm_of_the_jacobian(model, offset):
    """Entries of E add up in squares, since each moves another class or by another one."""
    pulls, x = pulls_of(model, 3, offset=offset), 3 * start(7)
    strengths, h = np.random.default_rng(0).standard_normal(pulls.count), 1e-5
    moved = [(slow(pulls, x + e, strengths) - slow(pulls, x - e, strengths)) / (2 * h) for e in h * units(3)]
    found = np.linalg.norm(strengths * pulls.sensitivity(x[None])[0])
    assert found == pytest.approx(np.linalg.norm(moved), rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_offsets_alone_move_classes_as_they_may(model):
    rng = np.random.default_rng(0)
    c, mu = rng.standard_normal((5, 1, 4)), rng.standard_normal((5, 4, 1))
    pulls = pulls_of(model, 4, offset=True)
    moved = pulls.drift(rng.standard_normal((5, 4, 4)), pulls.offsets_of(c + mu))
    assert np.allclose(moved, c + mu)


def test_strengths_that_change_slowly_have_long_windows():
    t, rng = np.arange(300.0), np.random.default_rng(0)
    walk = np.eye(3) * 9 + 0.5 * np.cumsum(rng.standard_normal((300, 3, 3)), axis=0)
    short, long = (_windows(walk, t, tie) for tie in (0.03, 4.0))
    assert len(short) > 2 * len(long)


def units(K):
    return np.eye(K * K).reshape(-1, K, K)


@pytest.mark.parametrize("model", MODELS)
def test_classes_in_another_order_move_in_that_order(model):
    pulls, x, order = pulls_of(model, 4, offset=True), start(2, 4), np.array([2, 0, 3, 1])
    strengths = np.random.default_rng(0).standard_normal(pulls.count)
    moved = pulls.drift(x[order][:, order][None], pulls.permuted(strengths, order)[None])[0]
    assert np.allclose(moved, pulls.drift(x[None], strengths[None])[0][order][:, order])


@pytest.mark.parametrize(
    ("model", "E"),
    [
        ("alpha", np.diag([0.9] * 3) - 0.3),
        ("alpha_k", np.diag([1.0, 0.7, 0.4]) - 0.2),
        ("matrix", np.eye(3) - [0.3, 0.1, 0.2]),
    ],
)
def test_linear_models_imitate_what_they_can(model, E):
    """Against the exact LE-ODE; the other run starts elsewhere."""
    genuine, other = (simulate_ode(start(seed), E, "L", TIMES).numpy() for seed in (0, 1))
    found = imitate(run(genuine), model=model, offset=False, other=run(other))
    assert found.in_sample.full < 3e-3
    assert found.held_out.full < 0.01
    assert found.matched.full < 0.03
    if model == "alpha":  # whichever class is which
        assert found.other.full == pytest.approx(found.matched.full)
        assert np.allclose(found.strengths[-1], [0.6, -0.3], atol=0.1)
    else:
        assert found.other.full > 3 * found.matched.full


def test_the_saturating_pull():
    pulls, strengths = pulls_of("softmax", 3), np.array([3.0, -0.5])
    solved = solve_ivp(
        lambda _, x: slow(pulls, x.reshape(3, 3), strengths).ravel(), (0, 4), start(0).ravel(), t_eval=TIMES, rtol=1e-9
    )
    genuine = solved.y.T.reshape(-1, 3, 3)
    assert imitate(run(genuine), model="softmax", offset=False).in_sample.full < 2e-3
    follow = _follow(pulls, start(0), TIMES, np.array([0.0, 4.0]), strengths[None])
    assert np.allclose(follow, genuine, atol=1e-5)


def test_what_all_classes_do_alike_needs_the_offset():
    own = simulate_ode(start(0), np.diag([0.5] * 3), "L", TIMES).numpy()
    drifting = own + (3 * np.sin(2 * TIMES)[:, None] * [1.0, -0.5, 0.2])[:, None, :]
    without, with_ = (imitate(run(drifting), model="row_beta", offset=c).in_sample for c in (False, True))
    assert with_.full < 0.3 * without.full


def wobbling(seed=3, size=1e-3):
    """Small differences of classes that grow as they like, on a common walk a thousand times as large."""
    rng = np.random.default_rng(seed)
    common = 0.3 * np.cumsum(rng.standard_normal((81, 1, 3)), axis=0) * np.sqrt(TIMES[1])
    own = simulate_ode(size * start(seed), np.diag([0.9, 0.5, 0.2]), "I", TIMES).numpy()
    return 1.0 + common - common.mean(-1, keepdims=True) + own - own.mean(1, keepdims=True)


@pytest.mark.parametrize("model", ["row_beta", "matrix", "softmax_matrix"])
def test_small_differences_count_as_much_as_the_common_wobble(model):
    """Of least squares of the class means the differences would be a millionth, and nothing of them imitated."""
    assert imitate(run(wobbling()), model=model, held_out=False).in_sample.centred < 0.05


@pytest.mark.parametrize("model", ["alpha_k", "row_beta", "matrix", "softmax_matrix"])
@pytest.mark.parametrize("seed", [3, 4])
def test_no_path_runs_away_between_the_readings_that_it_was_fitted_to(model, seed):
    """Without every third reading, steps are longer in the fit: a path that hung on their errors would run away.

    Class means that grow a millionfold and level off, with noise of 5 %.
    """
    rng = np.random.default_rng(seed)
    means = simulate_ode(1e-3 * start(seed), np.diag([4.2, 4.0, 3.6]), "L", np.linspace(0, 10, 81)).numpy()
    means = means / (1 + np.linalg.norm(means, axis=(1, 2), keepdims=True) / 3)
    found = imitate(run(means * (1 + 0.05 * rng.standard_normal(means.shape))), model=model)
    assert found.held_out.full < 0.065
    assert found.held_out.centred < 0.065


@pytest.mark.parametrize("chain", [["alpha", "alpha_k", "row_beta", "matrix"], ["softmax", "softmax_matrix"]])
def test_a_larger_model_is_at_least_as_close(chain):
    """Each starts from the smaller one's strengths too; and with the offset, from those without."""
    noise = 0.02 * np.random.default_rng(5).standard_normal((81, 3, 3))
    E = [[0.9, -0.2, -0.4], [0.0, 0.7, -0.3], [-0.1, -0.3, 0.4]]
    genuine = simulate_ode(start(4), E, "L", TIMES).numpy() * (1 + noise) + 0.1 * np.sin(3 * TIMES)[:, None, None]
    found, costs = None, []
    for model, offset in [*((name, False) for name in chain), (chain[-1], True)]:
        found = imitate(run(genuine), model=model, offset=offset, smaller=found, held_out=False)
        X, Y = genuine[1:], found.path[1:]
        ratios = [(a - b) ** 2 / (a**2).sum(-1, keepdims=True) for a, b in ((X, Y), (centred(X), centred(Y)))]
        costs.append(sum(float(r.sum()) for r in ratios))
    assert all(later < 1.01 * before for before, later in pairwise(costs))  # but for the tie
    assert costs[-1] < 0.5 * costs[0]


@pytest.mark.parametrize(
    ("model", "offset", "message"),
    [
        ("alpha", True, "`smaller` to be a model that alpha contains"),
        ("softmax_matrix", True, "`smaller` to be a model that softmax_matrix contains"),
        ("matrix", False, "`smaller` to be a model that matrix contains"),
    ],
)
def test_only_a_smaller_model_of_the_same_run_is_gone_on_from(model, offset, message):
    genuine = simulate_ode(start(0), np.diag([0.5] * 3), "L", TIMES).numpy()
    smaller = imitate(run(genuine), model="row_beta", offset=True, held_out=False)
    with pytest.raises(ValueError, match=message):
        imitate(run(genuine), model=model, offset=offset, smaller=smaller)
    with pytest.raises(ValueError, match="`smaller` to be fitted to the same readings"):
        imitate(run(genuine), model="matrix", smaller=smaller, start=0.5)


def test_the_floor_is_that_of_the_sampling_noise():
    """E‖e‖ of three normal dimensions is σ √(8/π), and RD divides by means of size 10."""
    means = np.broadcast_to(10 * np.eye(3), (81, 3, 3))
    found = imitate(run(means, noise=3 * 0.2**2), model="alpha")
    assert found.floor.full == pytest.approx(0.2 * np.sqrt(8 / np.pi) / 10, rel=0.03)
    assert np.isnan(found.other.full)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "beta"}, "`model` to be one of alpha, alpha_k, softmax, row_beta, matrix, softmax_matrix"),
        ({"trajectory": run(np.ones((81, 3, 4)))}, r"`trajectory` to be of logits"),
        ({"tie": 0.0}, "`tie` to be positive"),
        ({"start": 3.9}, "`trajectory` to be of at least 8 readings"),
        ({"other": run(np.ones((81, 4, 4)))}, "`other` to be of 3 classes"),
    ],
)
def test_wrong_arguments(change, message):
    given = {"trajectory": run(np.broadcast_to(np.eye(3), (81, 3, 3)))} | change
    with pytest.raises(ValueError, match=message):
        imitate(given.pop("trajectory"), **given)
