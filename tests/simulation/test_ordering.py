"""One direction for all classes: closed forms, exhaustive search, the sphere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from le_callback.simulation import common_direction


@pytest.mark.parametrize("K", [2, 3, 5, 6, 8, 12])
def test_orthonormal_means_are_spaced_evenly(K):
    """⟨ν, e_k⟩ = a(k − (K+1)/2) with ‖ν‖ = 1: a² K(K² − 1)/12 = 1, the same in any order."""
    found = common_direction(np.eye(K))
    assert found.margin == pytest.approx(np.sqrt(12 / (K * (K**2 - 1))), rel=1e-6)
    assert np.linalg.norm(found.direction) == pytest.approx(1)


@given(st.integers(2, 5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_no_direction_of_the_plane_does_better(K, seed):
    x = np.random.default_rng(seed).standard_normal((K, 2))
    angle = np.linspace(0, np.pi, 20001)
    at = np.sort(x @ np.stack([np.cos(angle), np.sin(angle)]), axis=0)
    best = np.diff(at, axis=0).min(0).max()
    found = common_direction(x)
    assert found.margin == pytest.approx(best, rel=1e-3, abs=1e-3 * np.abs(x).max())
    assert found.margin >= best - 1e-9
    along = x @ found.direction
    assert found.order == tuple(np.argsort(along))
    k, l = found.closest  # noqa: E741
    assert abs(along[k] - along[l]) == pytest.approx(found.margin)


def test_many_classes_are_in_order():
    """The margin is a lower bound: its gaps are there, and a linear program finds its order feasible."""
    x = np.random.default_rng(0).standard_normal((12, 20))
    found = common_direction(x)
    gaps = np.diff((x @ found.direction)[list(found.order)])
    assert gaps.min() == pytest.approx(found.margin)
    assert found.margin > 0
    D = np.diff(x[list(found.order)], axis=0)
    program = linprog(
        np.append(np.zeros(20), -1.0), A_ub=np.c_[-D, np.ones(11)], b_ub=np.zeros(11), bounds=[(-1, 1)] * 21
    )
    assert -program.fun >= found.margin / np.abs(found.direction).max() / np.sqrt(20)
    drawn = np.random.default_rng(1).standard_normal((20, 2000))
    at = np.sort(x @ (drawn / np.linalg.norm(drawn, axis=0)), axis=0)
    assert found.margin > np.diff(at, axis=0).min(0).max()


def test_equal_means_have_no_margin():
    found = common_direction([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert found.margin == 0
    assert found.closest == (0, 1)


def test_margins_in_deviations():
    x, s = np.random.default_rng(2).standard_normal((4, 3)), np.array([0.5, 2.0, 1.0])
    assert common_direction(x, deviation=s).margin == pytest.approx(common_direction(x / s).margin)
    with pytest.raises(ValueError, match="`deviation` to be positive"):
        common_direction(x, deviation=-s)
    with pytest.raises(ValueError, match=r"`means` to be of shape \(K, p\)"):
        common_direction(x[0])
