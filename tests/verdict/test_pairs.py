"""Courses of the worst pairs: their choice does not bend them, and classes that are missing move nothing."""

import numpy as np
import pytest

from le_callback.measures import Discriminability
from le_callback.verdict.jumps import last_jump
from le_callback.verdict.pairs import KEPT, MOST_CLASSES, PairSeries, discriminability_at, stabilised
from le_callback.verdict.trend import slope


def window(D, classes=None):
    C = len(D)
    return Discriminability(tuple(classes or range(C)), np.full(C, 20.0), D, True, ())


def symmetric(values, K):
    D = np.full((K, K), np.nan)
    D[np.triu_indices(K, 1)] = values
    return np.fmax(D, D.T)


def test_the_transform_makes_the_error_equal():
    """The error of D is √(2/n)·√(1 + D²/8): that of y is half of √(1/n)."""
    for D in (0.0, 1.0, 8.0):
        slope_of_y = (stabilised(np.array(D + 1e-6)) - stabilised(np.array(D))) / 1e-6
        assert slope_of_y * np.sqrt(2) * np.sqrt(1 + D**2 / 8) == pytest.approx(0.5, rel=1e-4)
        assert discriminability_at(float(stabilised(np.array(D)))) == pytest.approx(D)


def test_choosing_the_worst_pairs_does_not_bend_their_course():
    """400 series of pure noise of 45 pairs: the mean slope is within 4 standard errors of 0."""
    rng, K, slopes = np.random.default_rng(0), 10, []
    for _ in range(400):
        series = PairSeries.of(K, range(K))
        for t in range(10):
            series = series.add(float(t), window(symmetric(3 + 0.3 * rng.standard_normal(45), K)))
        times, values, level, pair = series.worst(10)
        assert pair is None
        slopes.append(slope(times, values).value)
    assert abs(np.mean(slopes)) < 4 * np.std(slopes) / 20
    assert discriminability_at(level) < 3  # the lowest of equals


def test_the_worst_tenth_is_followed_by_name_where_it_is_one_pair():
    series = PairSeries.of(3, range(3))
    for t in range(6):
        series = series.add(float(t), window(symmetric([5.0, 1.0 + 0.1 * t, 6.0], 3)))
    times, values, level, pair = series.worst(6)
    assert pair == (0, 2)
    np.testing.assert_allclose(values, stabilised(1 + 0.1 * times), atol=1e-6)
    assert level == pytest.approx(values.mean())
    assert series.lowest()[1] == ((0, 2),) * 6


def test_missing_classes_move_nothing():
    """Class 2, much farther away, is missing in every other window; the course of the others stays flat."""
    series, rows = PairSeries.of(3, range(3)), np.ix_([0, 1], [0, 1])
    for t in range(8):
        D = symmetric([3.0, 3.5, 4.0], 3)
        series = series.add(float(t), window(D) if t % 2 else window(D[rows], [0, 1]))
    _, values, _, _ = series.worst(8)
    assert np.ptp(values) < 1e-6


def test_only_so_many_windows_and_classes_are_kept():
    series = PairSeries.of(2, range(2))
    for t in range(3 * KEPT):
        series = series.add(float(t), window(symmetric([2.0], 2)))
    assert len(series.times) == len(series.pairs) == KEPT
    assert series.times[-1] == 3 * KEPT - 1
    assert len(PairSeries.of(1000, range(3)).classes) <= MOST_CLASSES
    assert PairSeries.of(1000, range(3)).classes[:2] == (0, 8)
    assert PairSeries.of(33_000, range(0, 33_000, 65)).classes[:2] == (0, 260)


def test_nothing_known_is_an_empty_course():
    series = PairSeries.of(2, range(2)).add(1.0, window(symmetric([np.nan], 2)))
    assert len(series.worst(1)[0]) == 0
    assert np.isnan(series.lowest()[0]).all()


@pytest.mark.parametrize("after", [(0.2, 0.1), (0.2, 0.9), (1.9, 2.0), (0.8, 0.8)])
def test_a_jump_needs_two_windows_that_are_far_off(after):
    past = np.array([1.0, 1.05, 0.95, 1.0, 1.02, np.nan])
    jump = last_jump(np.array([*past, *after]))
    assert (jump is not None) is (after in ((0.2, 0.1), (1.9, 2.0)))
    assert jump is None or jump.falls is (after[0] < 1)
    assert last_jump(np.array([1.0, 1.0, 1.0, *after])) is None  # too few before


def test_jumps_are_rare_in_noise():
    """4,000 windows of independent noise: both of two windows beyond 1 in 2,000, and by 0.35: none."""
    noise = 0.3 * np.random.default_rng(0).standard_normal(4000)
    assert sum(last_jump(noise[max(0, i - 10) : i]) is not None for i in range(6, 4000)) <= 2


def test_lowest_and_lowest_tenth_against_one_window_at_a_time():
    """With classes missing here and there, and a window in which no pair is known."""
    rng, K = np.random.default_rng(4), 9
    series = PairSeries.of(K, range(K))
    for t in range(7):
        values = rng.normal(3, 1, 36)
        values[rng.random(36) < (0.3 if t < 5 else t - 5)] = np.nan  # the last window knows nothing
        series = series.add(float(t), window(symmetric(values, K)))
    first, second = np.triu_indices(K, 1)
    lowest, names = series.lowest()
    tenth = series.lowest_tenth()
    for i, y in enumerate(series.pairs):
        known = np.sort(y[~np.isnan(y)])
        if not len(known):
            assert np.isnan([lowest[i], tenth[i]]).all()
            assert names[i] == (0, 0)
            continue
        assert lowest[i] == known[0]
        assert names[i] == (first[np.nanargmin(y)], second[np.nanargmin(y)])
        assert tenth[i] == pytest.approx(known[: -(-len(known) // 10)].mean(), rel=1e-6)
    assert np.isnan(tenth[-1])
