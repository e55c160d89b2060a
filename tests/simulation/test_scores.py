"""Relative difference of two trajectories against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from le_callback import DirectionModel, IModel, LModel
from le_callback.similarity import GeneralModel
from le_callback.simulation import relative_difference


@given(st.integers(0, 1000), st.integers(2, 5))
def test_relative_difference_equals_the_formula(seed, K):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 4, K, K))
    d = rng.standard_normal((K, K))
    root = rng.standard_normal((K, K, K, K))
    blocks = root @ root.transpose(0, 1, 3, 2)
    L = np.eye(K) - 1 / K
    models = {
        LModel(): [np.outer(L[k], L[k]) / (L[k] @ L[k]) for k in range(K)],
        DirectionModel(torch.tensor(d)): [np.outer(d[k], d[k]) / (d[k] @ d[k]) for k in range(K)],
        GeneralModel(torch.tensor(blocks)): [blocks[k, k] for k in range(K)],
        IModel(): [np.eye(K)] * K,
        None: [np.eye(K)] * K,
    }
    for model, H in models.items():
        found = relative_difference(x, y, model)
        for t in range(4):
            for k in range(K):
                z = x[t, k] - y[t, k]
                scale = (np.linalg.norm(x[t, k]) + np.linalg.norm(y[t, k])) / 2
                assert found[t, k] == pytest.approx(math.sqrt(z @ H[k] @ z) / scale, rel=1e-9, abs=1e-12)


def test_relative_difference_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"`y` to be of shape \(2, 3\), as `x`"):
        relative_difference(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"`x` to be of shape \(\.\.\., K, p\)"):
        relative_difference(torch.ones(2), torch.ones(2))


def test_models_go_by_their_names():
    x, y = np.random.default_rng(0).standard_normal((2, 3, 3))
    assert torch.equal(relative_difference(x, y, "L"), relative_difference(x, y, LModel()))
    with pytest.raises(TypeError, match="`model`"):
        relative_difference(x, y, "linear")
