"""Chance as a test: the same for any number of classes and any frequencies."""

import math

import numpy as np
import pytest

from le_callback.verdict.chance import ABOVE, Recent, Tally, above_chance


@pytest.mark.parametrize("K", [2, 10, 200])
@pytest.mark.parametrize("skew", [1.0, 100.0])
@pytest.mark.parametrize("guess", ["uniform", "majority", "mixed"])
def test_a_guess_is_at_chance(K, skew, guess):
    """300 windows of guesses that do not look at the sample: each is above with probability below 1e-3."""
    rng = np.random.default_rng(K)
    share = skew ** (-np.arange(K) / (K - 1))
    q = {"uniform": np.full(K, 1 / K), "majority": np.eye(K)[0], "mixed": share / share.sum()}[guess]
    above = 0
    for _ in range(300):
        tried = rng.multinomial(1000, share / share.sum()).astype(float)
        above += above_chance(Tally(tried, rng.binomial(tried.astype(int), q).astype(float))) > ABOVE
    assert above <= 3


def test_five_percent_of_two_hundred_classes_is_far_above_chance():
    tried = np.full(200, 16.0)
    hits = np.random.default_rng(0).binomial(16, 0.054, 200).astype(float)
    assert above_chance(Tally(tried, hits)) > ABOVE


def test_the_variance_is_that_of_the_mean_over_classes():
    found = above_chance(Tally(np.array([98.0, 48.0]), np.array([89.0, 24.0])))
    error = math.sqrt(0.9 * 0.1 / 98 + 0.5 * 0.5 / 48) / 2
    assert found == pytest.approx(((89 / 98 + 0.5) / 2 - 0.5) / error)


def test_one_class_or_none_says_nothing():
    assert math.isnan(above_chance(Tally(np.array([9.0, 0.0]), np.array([9.0, 0.0]))))
    assert Recent().at_chance


def test_recent_windows_count_more():
    right, wrong = Tally(np.full(2, 40.0), np.full(2, 40.0)), Tally(np.full(2, 40.0), np.full(2, 20.0))
    recent = Recent().add({"head": right}).add({"head": wrong})
    assert recent.accuracy("head") == pytest.approx((0.5 * 80 + 40) / 120)
    assert not recent.at_chance
    for _ in range(8):
        recent = recent.add({"head": wrong})
    assert recent.at_chance
    assert math.isnan(recent.accuracy("features"))
    assert math.isnan(recent.nearest)
