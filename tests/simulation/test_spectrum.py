"""The spectrum of M(t) and what it does to pairs: closed forms, scipy's exponential, simulated LE-SDEs."""

import numpy as np
import pytest
import simulators
import torch
from scipy.linalg import expm

from le_callback.similarity import GeneralModel, IModel, LModel
from le_callback.simulation import separation_spectrum, simulate_sde

PAIRS = np.stack(np.triu_indices(3, 1), axis=1)


def gap(x):
    return np.linalg.norm(x[:, PAIRS[:, 0]] - x[:, PAIRS[:, 1]], axis=-1)


@pytest.mark.parametrize(("alpha", "beta"), [(0.9, 0.3), (0.3, 0.9), (-0.2, -0.5)])
def test_the_papers_case(alpha, beta):
    K, t = 3, np.linspace(1, 9, 17)
    found = separation_spectrum(simulators.le_matrix(alpha, beta, K), np.eye(K), t, model="I")
    expected = sorted([(alpha + 2 * beta) / 3, *[(alpha - beta) / 3] * 2], reverse=True)
    assert np.allclose(found.eigenvalues, expected)
    assert np.allclose(found.predicted.growth, ((alpha - beta) / 3 * (t - 1))[:, None])
    assert (found.predicted.separates == (alpha > beta)).all()
    assert found.measured is None
    assert np.isnan(found.agreement)


@pytest.mark.parametrize("model", [IModel(), LModel()], ids=["I", "L"])
def test_any_matrix_against_scipy(model):
    """A random E, neither symmetric nor definite, and unequal frequencies."""
    rng = np.random.default_rng(3)
    K, t, pi = 3, np.linspace(1, 6, 11), np.array([0.5, 0.3, 0.2])
    E, x0 = rng.standard_normal((K, K)), rng.standard_normal((K, K))
    d = np.eye(K) - 1 / K
    H = np.stack([np.eye(K)] * K) if isinstance(model, IModel) else np.stack([np.outer(v, v) / (v @ v) for v in d])
    M = np.block([[E[i, j] * pi[j] * H[j] for j in range(K)] for i in range(K)])
    path = np.stack([(expm(M * (s - 1)) @ x0.ravel()).reshape(K, K) for s in t])
    found = separation_spectrum(E, path, t, model=model, priors=pi)
    assert np.allclose(found.predicted.growth, np.log(gap(path) / gap(path)[0]), atol=1e-8)
    assert np.allclose(found.measured.growth, found.predicted.growth, atol=1e-8)
    assert found.agreement == 1
    everything = np.linalg.eigvals(M).real
    assert all(np.abs(everything - value).min() < 1e-8 for value in found.eigenvalues[0].real)


def test_an_indefinite_matrix_takes_some_pairs_apart():
    """Classes 0 and 1 pull each other harder than themselves, γ < 0 between them; class 2 goes its own way."""
    E = np.array([[0.5, 0.9, -0.3], [0.9, 0.5, -0.3], [-0.3, -0.3, 0.8]])
    assert np.linalg.eigvalsh(E).min() < 0
    start = np.array([[1.0, 0.2], [0.8, -0.3], [-1.0, 0.1]])
    found = separation_spectrum(E, start, np.linspace(1, 12, 23), model="I")
    assert found.predicted.separates.tolist() == [False, True, True]
    assert found.predicted.rate[0] == pytest.approx((0.5 - 0.9) / 3, rel=1e-6)


@pytest.mark.parametrize(("power", "separates"), [(0.5, True), (0.9, True), (1.1, False), (1.5, False)])
def test_against_one_over_t(power, separates):
    t = np.geomspace(10, 3000, 60)
    E = np.stack([s**-power * np.eye(3) for s in t])
    found = separation_spectrum(E, np.eye(3), t, model="I").predicted
    assert found.index == pytest.approx(power, abs=0.03)
    assert (found.separates == separates).all()


@pytest.mark.parametrize("model", [IModel(), LModel()], ids=["I", "L"])
def test_signal_is_that_of_simulated_samples(model):
    """4,000 paths: the deviation along the gap has an error of 1.1 %, 5 % is 4.5 standard errors."""
    K, t, S = 3, np.linspace(1, 4, 7), 4000
    E = np.array([[0.5, 0.2, 0.1], [0.0, 0.6, 0.3], [0.2, -0.1, 0.4]])
    x0, sigma = np.random.default_rng(0).standard_normal((K, K)), np.array([0.3, 0.5, 0.4])
    found = separation_spectrum(E, x0, t, model=model, noise=sigma)
    source = torch.Generator().manual_seed(0)
    last = simulate_sde(x0, E, model, t, noise=sigma, samples=S, generator=source)[:, -1].numpy()
    for pair, signal in zip(PAIRS, found.signal, strict=True):
        apart = last[:, pair[0]] - last[:, pair[1]]
        mean = apart.mean(0)
        along = apart @ mean / np.linalg.norm(mean)
        assert signal == pytest.approx(np.linalg.norm(mean) / along.std(), rel=0.05)


def test_general_blocks():
    H = torch.eye(2).expand(3, 3, 2, 2)
    x0, t = np.random.default_rng(1).standard_normal((3, 2)), np.linspace(1, 5, 9)
    E = np.diag([0.3, 0.2, 0.1])
    special, general = (separation_spectrum(E, x0, t, model=m, noise=0.2) for m in (IModel(), GeneralModel(H)))
    assert np.allclose(special.predicted.growth, general.predicted.growth)
    assert np.allclose(special.signal, general.signal)


def test_a_difference_lost_to_rounding_is_not_known():
    E = simulators.le_matrix(1.0, 0.9, 3)
    found = separation_spectrum(E, np.eye(3), np.linspace(1, 80, 40), model="I").predicted
    assert np.isnan(found.growth[-1]).all()
    assert not found.separates.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.arange(9.0)}, "`times` to be above zero"),
        ({"tail": 0.1}, "`tail` to be a share with 3 times or more"),
        ({"means": np.ones((4, 3, 3))}, r"`means` to be of shape \(K, p\) or \(9, K, p\)"),
        ({"coefficients": np.ones((2, 2))}, "coefficients"),
    ],
)
def test_wrong_arguments(change, message):
    given = {"coefficients": np.eye(3), "means": np.eye(3), "times": np.arange(1.0, 10.0), "model": "I"} | change
    with pytest.raises(ValueError, match=message):
        separation_spectrum(**given)
