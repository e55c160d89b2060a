"""One direction for all classes: collinear means, all directions of a plane, all orders by linear programs."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from le_callback import SeparationMonitor
from le_callback.measures.common_margin import MOST_CLASSES, common_margin, likely_orders, margin_in_order


def samples(means, seed=0, each=200, deviation=1.0):
    """Normal samples (N, p) about means (K, p), and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(means)).repeat_interleave(each)
    noise = torch.randn(len(labels), means.shape[1], generator=generator, dtype=torch.float64)
    return means[labels] + deviation * noise, labels


@pytest.mark.parametrize("K", [2, 3, 7, 16])
def test_collinear_means_have_their_smallest_spacing(K):
    """On a line through the classes the margin is the smallest gap over σ, within the error of σ (N − K ≥ 398)."""
    rng = np.random.default_rng(K)
    places = rng.permutation(np.cumsum(rng.uniform(1, 3, K)))
    line = torch.from_numpy(rng.standard_normal(5))
    line /= line.norm()
    means = torch.from_numpy(places)[:, None] * line
    x, y = samples(means, deviation=0.5)
    found = common_margin(x, y, means, means)
    along = np.sort(places)
    assert found.margin == pytest.approx(np.diff(along).min() / 0.5, rel=0.15)
    assert list(found.order) in (np.argsort(places).tolist(), np.argsort(-places).tolist())
    k = int(np.diff(along).argmin())
    assert found.closest == tuple(sorted(np.argsort(places)[k : k + 2].tolist()))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_of_three_classes_no_direction_of_the_plane_does_better(seed):
    means = np.random.default_rng(seed).standard_normal((3, 2))
    angle = np.linspace(0, np.pi, 20001)
    at = np.sort(means @ np.stack([np.cos(angle), np.sin(angle)]), axis=0)
    best = np.diff(at, axis=0).min(0).max()
    margin, _ = margin_in_order(means, likely_orders(means, 3)[0])
    assert margin == pytest.approx(best, rel=0.03, abs=1e-3)


def test_the_margin_in_an_order_is_that_of_a_quadratic_program():
    """max t with D ν ≥ t, ‖ν‖ ≤ 1, by scipy from the centre of the differences."""
    rng = np.random.default_rng(1)
    for K, p in ((4, 6), (8, 10), (10, 5)):
        means = rng.standard_normal((K, p))
        order = likely_orders(means)[0]
        D = np.diff(means[list(order)], axis=0)
        margin, nu = margin_in_order(means, order)
        limits = [
            {"type": "ineq", "fun": lambda z, D=D: D @ z[:-1] - z[-1]},
            {"type": "ineq", "fun": lambda z: 1 - z[:-1] @ z[:-1]},
        ]
        solved = minimize(lambda z: -z[-1], np.append(D.mean(0), 0.0), constraints=limits, options={"maxiter": 500})
        assert margin == pytest.approx(max(-solved.fun, 0), abs=1e-4)
        assert (D @ nu).min() == pytest.approx(margin, abs=1e-9) or margin == 0


@pytest.mark.parametrize("K", [5, 6])
def test_the_order_found_is_near_the_best_of_all(K):
    """A linear program for every order (boxes in place of the sphere would be another norm: margins are compared)."""
    rng = np.random.default_rng(K)
    shares = []
    for _ in range(5):
        means = rng.standard_normal((K, 8))
        every = [o for o in permutations(range(K)) if o[0] < o[-1]]
        best = max(margin_in_order(means, order)[0] for order in every)
        shares.append(margin_in_order(means, likely_orders(means)[0])[0] / best)
    assert min(shares) > 0.8
    assert np.mean(shares) > 0.95


def test_an_order_of_many_classes_is_feasible():
    """A linear program finds a direction with gaps of at least 1 in that order."""
    means = np.random.default_rng(3).standard_normal((16, 20))
    order = likely_orders(means)[0]
    D = np.diff(means[list(order)], axis=0)
    program = linprog(np.zeros(20), A_ub=-D, b_ub=-np.ones(15), bounds=[(None, None)] * 20)
    assert program.status == 0
    margin, _ = margin_in_order(means, order)
    assert margin > 0
    drawn = np.random.default_rng(4).standard_normal((20, 5000))
    at = np.sort(means @ (drawn / np.linalg.norm(drawn, axis=0)), axis=0)
    assert margin > 2 * np.diff(at, axis=0).min(0).max()  # what 5,000 random directions find


def test_more_classes_than_dimensions_and_equal_means():
    means = np.random.default_rng(5).standard_normal((9, 2))
    assert margin_in_order(means, likely_orders(means, 8)[0])[0] >= 0
    assert likely_orders(np.ones((4, 3))) == [(0, 1, 2, 3)]
    assert margin_in_order(np.ones((4, 3)), (0, 1, 2, 3))[0] == 0


def test_classes_that_change_places_have_a_negative_margin():
    before = torch.tensor([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]], dtype=torch.float64)
    now = before[[1, 0, 2]]
    x, y = samples(now)
    found = common_margin(x, y, now, before)
    assert found.margin == pytest.approx(-4, rel=0.1)
    assert found.closest == (0, 1)


def test_equal_classes_have_no_margin_by_the_window_before():
    """Noise alone: along a direction of other samples the gap of two classes is none, up to 5 standard errors."""
    generator = torch.Generator().manual_seed(0)
    before = 0.1 * torch.randn(2, 50, generator=generator, dtype=torch.float64)
    x, y = samples(torch.zeros(2, 50, dtype=torch.float64), each=1000)
    means = torch.stack([x[y == k].mean(0) for k in range(2)])
    assert abs(common_margin(x, y, means, before).margin) < 5 * np.sqrt(2 / 1000)
    assert common_margin(x, y, means).margin > 5 * np.sqrt(2 / 1000)  # along their own difference there is one


def test_what_is_not_known_is_said():
    means = torch.eye(MOST_CLASSES + 1)
    many = common_margin(means, torch.arange(len(means)), means)
    assert np.isnan(many.margin)
    assert "at most 16 classes" in many.status
    single = common_margin(torch.eye(3), torch.arange(3), torch.eye(3))
    assert np.isnan(single.margin)
    assert "no deviation" in single.status
    broken = torch.eye(3).fill_(float("nan"))
    assert "not finite" in common_margin(torch.eye(3), torch.arange(3), broken).status
    assert common_margin(torch.ones(2, 3), torch.zeros(2, dtype=torch.long), torch.ones(1, 3)) is None


def test_live_it_is_of_the_features_with_the_names_of_the_classes():
    """Three of four classes seen, on a line; the second window is measured along the means of the first."""
    monitor = SeparationMonitor(num_classes=4)
    means = torch.tensor([[0.0, 0.0], [9.0, 9.0], [20.0, 0.0], [10.0, 0.0]], dtype=torch.float64)
    for window in range(2):
        x, y = samples(means, seed=window, each=50)
        seen = y != 1
        monitor.update(features=x[seen].float(), logits=x[seen].float() @ torch.ones(2, 4), target=y[seen])
        record = monitor.close(step=window + 1)
    assert set(record.measures["common_margin"]) == {"features"}
    found = record.measures["common_margin"]["features"]
    assert found.order in ((0, 3, 2), (2, 3, 0))
    assert found.margin == pytest.approx(10, rel=0.15)
    assert found.closest in ((0, 3), (2, 3))
