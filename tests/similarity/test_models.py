import numpy as np
import pytest
import simulators
import torch
from scipy.linalg import expm

from le_callback.similarity.directions import DirectionModel, LModel
from le_callback.similarity.general import GeneralModel
from le_callback.similarity.identity import IModel
from le_callback.similarity.sampling_matrix import sampling_matrix

K, P_DIM = 4, 6
rng = np.random.default_rng(0)
DIRECTIONS = rng.standard_normal((K, P_DIM))
DIRECTIONS -= DIRECTIONS.mean(0)


def simplex(K, p):
    """Directions of a simplex frame, rotated into p dimensions."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((p, p)))
    return np.eye(K, p) @ rotation - (np.eye(K, p) @ rotation).mean(0)


def cases():
    blocks = rng.standard_normal((K, K, P_DIM, P_DIM))
    return [
        (IModel(), simulators.identity_blocks(K, P_DIM)),
        (LModel(), simulators.direction_blocks(simulators.logit_directions(K))),
        (DirectionModel(torch.tensor(DIRECTIONS)), simulators.direction_blocks(DIRECTIONS)),
        (GeneralModel(torch.tensor(blocks)), blocks),
    ]


@pytest.mark.parametrize(("model", "blocks"), cases(), ids=lambda x: getattr(x, "name", ""))
@pytest.mark.parametrize(
    "priors", [None, [0.1, 0.2, 0.3, 0.4], rng.random((K, K))], ids=["balanced", "priors", "matrix"]
)
def test_regressors_are_the_drift_matrix(model, blocks, priors):
    P = sampling_matrix(K, None if priors is None else torch.tensor(priors))
    X = rng.standard_normal((3, K, blocks.shape[-1]))
    U, V = model.regressors(torch.tensor(X), P)
    M = simulators.drift(simulators.le_matrix(0.7, -0.3, K), P.numpy(), blocks)
    expected = (X.reshape(3, -1) @ M.T).reshape(X.shape)
    np.testing.assert_allclose(0.7 * U - 0.3 * V, expected, atol=1e-12)


@pytest.mark.parametrize(("model", "blocks"), cases(), ids=lambda x: getattr(x, "name", ""))
def test_pulls_are_blocks_times_means(model, blocks):
    X = rng.standard_normal((K, blocks.shape[-1]))
    for i in range(K):
        expected = np.stack([blocks[i, j] @ X[j] for j in range(K)])
        np.testing.assert_allclose(model.pulls(torch.tensor(X), i), expected, atol=1e-12)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_modes_grow_as_the_weights_say(K):
    A, B = 1.3, -0.4
    for model, directions in [(IModel(), None), (LModel(), None), (DirectionModel(torch.tensor(simplex(K, 8))), 8)]:
        p = 8 if directions or model.name == "I" else K
        if model.name == "I":
            blocks = simulators.identity_blocks(K, p)
        else:
            blocks = simulators.direction_blocks(simplex(K, 8) if directions else simulators.logit_directions(K))
        flow = expm(simulators.drift(simulators.le_matrix(A, B, K), np.full((K, K), 1 / K), blocks))
        X = rng.standard_normal((K, p))
        z = model.coordinates(torch.tensor(np.stack([X, (flow @ X.ravel()).reshape(K, p)]))).numpy()
        u = np.log(np.abs(z[1].mean(0) / z[0].mean(0))).mean()
        v = np.log(np.linalg.norm(z[1] - z[1].mean(0)) / np.linalg.norm(z[0] - z[0].mean(0)))
        w = model.mode_weights(K)
        assert w.common_in_A * u + w.difference_in_A * v == pytest.approx(A)
        assert w.common_in_B * u + w.difference_in_B * v == pytest.approx(B)
        assert w.gamma_weight * (u if w.gamma_mode == "common" else v) == pytest.approx(A - B)


def test_sample_coordinates_follow_the_label():
    model = DirectionModel(torch.tensor(DIRECTIONS))
    X = torch.tensor(rng.standard_normal((K, P_DIM)))
    labels = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model.sample_coordinates(X[labels], labels), model.coordinates(X)[labels])


def test_counts_become_frequencies():
    np.testing.assert_allclose(sampling_matrix(2, torch.tensor([[1, 3], [2, 2], [4, 0]]))[2], [[1, 0], [1, 0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DirectionModel(torch.ones(3)), "shape"),
        (lambda: DirectionModel(torch.ones(1, 3)), "K ≥ 2"),
        (lambda: DirectionModel(torch.tensor([[1.0, 0], [0, 0]])), "zero"),
        (lambda: DirectionModel(torch.tensor([[1.0, 0, 0], [2, 0, 0], [-3, 0, 0]])), "rank"),
        (lambda: DirectionModel(torch.tensor(DIRECTIONS)).mode_weights(K), "regression"),
        (lambda: DirectionModel(torch.tensor(DIRECTIONS)).coordinates(torch.ones(3, P_DIM)), "of 3 classes in 6"),
        (lambda: GeneralModel(torch.ones(2, 2, 3, 4)), "shape"),
        (lambda: GeneralModel(torch.full((2, 2, 1, 1), torch.nan)), "finite"),
        (lambda: GeneralModel(torch.ones(2, 2, 1, 1)).mode_weights(2), "regression"),
        (
            lambda: (
                GeneralModel(torch.ones(2, 2, 1, 1)).coordinates(torch.ones(2, 1))
                + GeneralModel(torch.ones(2, 2, 1, 1)).pulls(torch.ones(3, 1), 0)
            ),
            r"of shape \(3, 3, 1, 1\)",
        ),
        (lambda: sampling_matrix(2, torch.tensor([1.0, -1.0])), "negative"),
        (lambda: sampling_matrix(2, torch.zeros(2)), "some class is sampled"),
        (lambda: sampling_matrix(2, torch.ones(3)), "shape"),
    ],
)
def test_bad_configuration_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
