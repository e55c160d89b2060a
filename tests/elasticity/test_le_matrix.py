"""The LE matrix against planted ones."""

import numpy as np
import pytest
import simulators
import torch

from le_callback.elasticity.le_matrix import estimate_le_matrix
from le_callback.similarity import IModel


def balanced(K):
    return np.full((K, K), 1 / K)


def test_planted_matrix_is_recovered_within_its_errors():
    rng = np.random.default_rng(2)
    K, p, t = 5, 8, np.arange(150.0)
    E = simulators.le_matrix(0.06, -0.01, K)
    E[1, 3] = 0.08  # the pair that stands out
    E[3, 1] = 0.07
    start = 2 * rng.standard_normal((K, p))
    variance = 1e-4
    paths = simulators.simulate(
        lambda s: E, balanced(K), simulators.identity_blocks(K, p), start, t, sigma=0.01, runs=40, rng=rng, substeps=1
    )
    paths = paths + np.sqrt(variance) * rng.standard_normal(paths.shape)
    found = [estimate_le_matrix(X, t, model=IModel(), noise=np.full(K, p * variance)) for X in paths]
    z = np.array([(f.E[0] - E) / f.error[0] for f in found])
    assert 0.8 <= np.sqrt((z**2).mean()) <= 1.2
    off = found[0].E[0] - np.diag(np.diag(found[0].E[0]))
    assert set(np.argsort(np.abs(off), axis=None)[-2:]) == {1 * K + 3, 3 * K + 1}


def test_symmetric_matrix_and_windows():
    rng = np.random.default_rng(4)
    E = simulators.le_matrix(0.06, 0.01, 3)
    t = np.arange(60.0)
    path = simulators.simulate(
        lambda s: E,
        balanced(3),
        simulators.identity_blocks(3, 4),
        rng.standard_normal((3, 4)),
        t,
        sigma=0.01,
        runs=1,
        rng=rng,
    )[0]
    found = estimate_le_matrix(path, t, model=IModel(), window=20, symmetric=True)
    assert found.E.shape == (2, 3, 3)
    np.testing.assert_allclose(found.E, np.swapaxes(found.E, 1, 2))
    path[30] = np.nan
    assert "not finite" in estimate_le_matrix(path, t, model=IModel(), window=20).status
    path[:, 1] = path[:, 0]
    assert "told apart" in estimate_le_matrix(path[:29], t[:29], model=IModel()).status
    assert "no window" in estimate_le_matrix(path, t, model=IModel(), window=99).status


@pytest.mark.parametrize(
    "form",
    [lambda a: a.tolist(), lambda a: a[..., ::-1].copy()[..., ::-1], lambda a: torch.tensor(a)],
    ids=["list", "negative strides", "tensor"],
)
def test_any_form_of_array_and_models_by_name(form):
    rng = np.random.default_rng(4)
    t = np.arange(30.0)
    X = rng.standard_normal((30, 3, 4)).cumsum(0)
    priors, noise = rng.uniform(0.5, 2, 3), np.full(3, 1e-3)
    expected = estimate_le_matrix(X, t, model=IModel(), priors=priors, noise=noise)
    found = estimate_le_matrix(form(X), form(t), model="I", priors=form(priors), noise=form(noise))
    np.testing.assert_array_equal(found.E, expected.E)
    np.testing.assert_array_equal(found.error, expected.error)
    single = estimate_le_matrix(X.astype(np.float32)[..., ::-1], t, model="I")
    np.testing.assert_allclose(single.E, estimate_le_matrix(X[..., ::-1], t, model="I").E, rtol=1e-4, atol=1e-4)


def test_wrong_arguments_are_named():
    X = np.ones((30, 3, 4))
    with pytest.raises(TypeError, match="Expected argument `model`"):
        estimate_le_matrix(X, model="E")
    with pytest.raises(ValueError, match="Expected argument `window` to be at least 2 steps, but got 1"):
        estimate_le_matrix(X, model="I", window=1)
    with pytest.raises(ValueError, match="Expected argument `priors` to be of 30 rows"):
        estimate_le_matrix(X, model="I", priors=np.ones((7, 3)))
