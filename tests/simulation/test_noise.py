"""Noise estimates on simulated LE-SDEs with known σ; fixed seeds, within 5 standard errors."""

import numpy as np
import pytest
import torch

from le_callback import DirectionModel, IModel, LModel
from le_callback.simulation import estimate_mean_noise, estimate_sample_noise, simulate_sde

SIGMA = np.array([0.3, 0.5, 0.2])
DIRECTIONS = torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, -1.0], [-1.0, -0.5, 0.0, 1.0]], dtype=torch.float64)
MODELS = [(IModel(), 3), (LModel(), 3), (DirectionModel(DIRECTIONS), 4)]


@pytest.mark.parametrize(("model", "p"), MODELS)
def test_noise_of_means(model, p):
    """σ̂² of class k has the standard error σ² (2/(pT))^½, besides terms of first order in the drift of one step."""
    times = np.arange(801.0)
    g = torch.Generator().manual_seed(0)
    x = simulate_sde(torch.eye(3, p).double(), (0.004, -0.002), model, times, noise=SIGMA, generator=g)[0].numpy()
    found = estimate_mean_noise(x, times, (0.004, -0.002), model)
    assert np.abs(found.sigma**2 / SIGMA**2 - 1).max() < 5 * np.sqrt(2 / (p * 800)) + 0.01
    r = np.full((801, 3), p * 0.04)
    noisy = x + 0.2 * np.random.default_rng(0).standard_normal(x.shape)
    corrected = estimate_mean_noise(noisy, times, (0.004, -0.002), model, sampling_variance=r)
    total = SIGMA**2 + 2 * 0.04
    assert (np.abs(corrected.sigma**2 - SIGMA**2) < 5 * total * np.sqrt(3 / (p * 800)) + 0.002).all()


@pytest.mark.parametrize(("model", "p"), MODELS)
@pytest.mark.parametrize("coefficients", [(0.3, -0.2), (lambda t: 0.6 / (1 + t), 0.1)])
def test_noise_of_samples(model, p, coefficients):
    S, times = 6000, np.linspace(0, 4, 9)
    g = torch.Generator().manual_seed(1)
    starts = torch.randn(3, S, p, generator=g, dtype=torch.float64) * 0.1
    x = simulate_sde(starts, coefficients, model, times, noise=SIGMA, generator=g, substeps=4).numpy()
    found = estimate_sample_noise(x.var(0).sum(-1), times, coefficients, model, dimensions=p)
    assert np.abs(found.sigma / SIGMA - 1).max() < 5 * np.sqrt(2 / (p * S)) + 0.02
    assert found.unexplained < 0.02


def test_no_noise_is_found_where_there_is_none():
    times = np.linspace(0, 4, 9)
    v = np.exp(2 * 0.2 * times)[:, None] * np.ones(2)  # grows, and not in proportion to time
    assert estimate_sample_noise(np.ones((9, 2)), times, (0.0, 0.0), IModel(), dimensions=2).sigma.max() < 1e-9
    assert estimate_sample_noise(v, times, (0.0, 0.0), IModel(), dimensions=2).unexplained > 0.05


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`within_variance`"):
        estimate_sample_noise(np.ones((3, 2)), [0.0, 1.0], (0.0, 0.0), IModel(), dimensions=2)
    with pytest.raises(ValueError, match="`sampling_variance`"):
        estimate_mean_noise(np.ones((3, 2, 1)), None, (0.0, 0.0), IModel(), sampling_variance=np.ones(3))
    with pytest.raises(ValueError, match="`means`"):
        estimate_mean_noise(np.full((3, 2, 1), np.nan), None, (0.0, 0.0), IModel())
