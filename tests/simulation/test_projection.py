"""Projected integrals: exact on LE-ODEs, and the nearest of all in least squares elsewhere."""

import numpy as np
import pytest
import torch

from le_callback import IModel, LModel
from le_callback.simulation import project_integrals, simulate_ode


@pytest.mark.parametrize("model", [IModel(), LModel()])
def test_recovers_the_integrals_of_an_le_ode(model):
    rng = np.random.default_rng(0)
    times = np.linspace(0, 3, 7)
    start = rng.standard_normal((4, 4))
    path = simulate_ode(start, (lambda t: 0.8 + t, lambda t: -0.3 * t), model, times)
    found = project_integrals(path, times, model=model)
    np.testing.assert_allclose(found.A, 0.8 * times + times**2 / 2, atol=1e-9)
    np.testing.assert_allclose(found.B, -0.15 * times**2, atol=1e-9)


@pytest.mark.parametrize("model", [IModel(), LModel()])
def test_no_other_scale_of_the_modes_comes_nearer_to_a_mode_that_turns(model):
    rng = np.random.default_rng(1)
    means = torch.tensor(rng.standard_normal((2, 3, 3)) + 3 * np.eye(3))
    found = project_integrals(means, model=model)
    weights = model.mode_weights(3)
    z = model.coordinates(means)

    def distance(du, dv):
        A = found.A + np.array([0, weights.common_in_A * du + weights.difference_in_A * dv])
        B = found.B + np.array([0, weights.common_in_B * du + weights.difference_in_B * dv])
        path = simulate_ode(means[0], type(found)(found.times, A, B), model, [0.0, 1.0])
        return float((model.coordinates(path)[1] - z[1]).square().sum())

    best = distance(0, 0)
    assert all(distance(du, dv) > best for du, dv in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)))


def test_turned_modes_stop_at_the_floor():
    means = np.array([[[1.0], [3.0]], [[3.0], [1.0]]])
    found = project_integrals(means, model=IModel(), floor=0.05)
    assert found.A[1] - found.B[1] == pytest.approx(2 * np.log(0.05))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`floor`"):
        project_integrals(np.ones((2, 2, 1)), model=IModel(), floor=0)
    with pytest.raises(ValueError, match="`means` to be such that no mode is zero"):
        project_integrals(np.ones((2, 2, 1)), model=IModel())
    with pytest.raises(ValueError, match="`means` to be finite"):
        project_integrals(np.full((2, 2, 1), np.nan), model=IModel())
