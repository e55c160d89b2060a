"""Windows of strengths: against dense least squares, and readings that need short or long ones."""

from itertools import pairwise

import numpy as np
import pytest

from le_callback.simulation.windows import (
    LONGEST,
    SHARE,
    SHORTEST,
    held_out_readings,
    longest_window,
    straight_lines,
    window_ends,
)


@pytest.mark.parametrize("longest", LONGEST)
def test_windows_grow_with_time(longest):
    shortest = min(SHORTEST, longest)
    for count in (8, 50, 300, 1001):
        ends = window_ends(count, longest)
        assert ends[0] == 0
        assert ends[-1] == count - 1
        for a, b in pairwise(ends[:-2]):
            assert b - a == min(max(a // SHARE, shortest), longest)
        assert np.diff(ends).min() >= shortest


def test_straight_lines_are_the_closest():
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.uniform(0.5, 2, 61))
    X = 1 + np.cumsum(rng.standard_normal((61, 3, 2)), axis=0)
    ends, at = window_ends(61, 8), np.sort(rng.uniform(t[0], t[-1], 30))
    hats = [np.stack([np.interp(s, t[ends], row) for row in np.eye(len(ends))], axis=1) for s in (t, at)]
    weight = 1 / np.sqrt((X**2).sum((1, 2)))
    corners = np.linalg.lstsq(hats[0] * weight[:, None], (X * weight[:, None, None]).reshape(61, -1), rcond=None)[0]
    assert np.allclose(straight_lines(X, t, ends, at), (hats[1] @ corners).reshape(30, 3, 2))


def test_straight_lines_of_means_that_start_at_zero():
    X = np.arange(20.0)[:, None, None] * np.ones((2, 2))
    found = straight_lines(X, np.arange(20.0), [0, 10, 19], np.array([0.0, 5.5]))
    assert np.allclose(found, np.array([0.0, 5.5])[:, None, None])


@pytest.mark.parametrize("seed", range(5))
def test_noise_asks_for_long_windows_and_jumps_for_short_ones(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(600.0)
    ramp = (5 + 0.01 * t)[:, None, None] * np.eye(3)
    noisy = ramp + 0.5 * rng.standard_normal(ramp.shape)
    walk = ramp + np.cumsum(0.5 * rng.standard_normal(ramp.shape), axis=0)
    assert longest_window(noisy, t) >= 15
    assert longest_window(walk, t) <= 4


def test_every_third_reading_is_held_out_and_never_the_first():
    assert held_out_readings(9).nonzero()[0].tolist() == [2, 5, 8]
