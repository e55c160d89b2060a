"""Windows in which strengths are constant: how long they may be, and what straight lines leave of the readings in them.

Class means that move evenly in each window are a path with corners where windows end. No constant strengths can follow
much closer, so what such a path leaves says how long windows may be, and what of the readings a fit must give up.

Legend: T readings, W windows, K classes, p dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from le_callback.simulation.scores import mean_score
from le_callback.values import Array

SHORTEST, SHARE = 3, 10  # readings of a window: a tenth of those before it, and at least three
LONGEST = (30, 15, 8, 4, 2)  # at most one of these
HELD_OUT = 3  # every third reading
_WORTH, _ROUNDING = 0.01, 1e-9  # loss, relative and not, for which windows are made no longer


def window_ends(count: int, longest: int) -> list[int]:
    """Readings at which windows end, from 0 to the last.

    Args:
        count: T.
        longest: readings of a window at most.

    >>> window_ends(61, 4)[-4:], window_ends(9, 2)
    ([46, 50, 54, 60], [0, 2, 4, 6, 8])
    """
    shortest = min(SHORTEST, longest)
    ends = [0]
    while ends[-1] < count - 1:
        ends.append(min(ends[-1] + int(np.clip(ends[-1] // SHARE, shortest, longest)), count - 1))
    if len(ends) > 2 and ends[-1] - ends[-2] < shortest:  # too short: with the one before
        del ends[-2]
    return ends


def longest_window(X: Array, t: Array) -> int:
    """How many readings windows may hold, by how close straight lines come to every third reading, fitted to the rest.

    Closest in the sum of the relative differences of class means and of their differences from their centre; shorter
    windows, where that takes them no more than 1 % farther away.

    Args:
        X: class means ``(T, K, p)``.
        t: ``(T,)``.

    >>> t = np.arange(121.0)
    >>> longest_window((5 + np.cos(t))[:, None, None] * np.eye(2), t)
    2
    """
    out = held_out_readings(len(t))
    left = []
    for longest in LONGEST:
        path = straight_lines(X[~out], t[~out], window_ends(int((~out).sum()), longest), t)
        found = mean_score(X[out], path[out])
        left.append(float(np.nan_to_num(found.full + found.centred)))
    most = min(left) * (1 + _WORTH) + _ROUNDING
    return min(longest for longest, found in zip(LONGEST, left, strict=True) if found <= most)


def held_out_readings(count: int) -> NDArray[np.bool_]:
    """Which readings ``(T,)`` a held-out score leaves out of the fit.

    >>> held_out_readings(5)
    array([False, False,  True, False, False])
    """
    return np.asarray(np.arange(count) % HELD_OUT == HELD_OUT - 1)


def straight_lines(X: Array, t: Array, ends: Sequence[int], at: Array) -> Array:
    """The path with corners where windows end that is closest to X in relative squares, at other times ``(N, K, p)``.

    Args:
        X: ``(T, K, p)``.
        t: ``(T,)``.
        ends: from 0 to T − 1 ``(W + 1,)``.
        at: times ``(N,)``.

    >>> t = np.arange(5.0)
    >>> straight_lines(abs(t - 2)[:, None, None], t, [0, 2, 4], np.array([0.5, 3.0])).ravel().round(6)
    array([1.5, 1. ])
    """
    corners = t[list(ends)]
    size = np.linalg.norm(X, axis=(1, 2))
    weight = 1 / np.maximum(size, 1e-6 * size.mean() + 1e-300) ** 2
    window = np.clip(np.searchsorted(corners, t, side="right") - 1, 0, len(corners) - 2)
    later = (t - corners[window]) / np.diff(corners)[window]
    square, right = np.zeros((2, len(corners))), np.zeros((len(corners), X[0].size))
    for share, corner in ((1 - later, window), (later, window + 1)):
        np.add.at(square[1], corner, weight * share**2)
        np.add.at(right, corner, (weight * share)[:, None] * X.reshape(len(t), -1))
    np.add.at(square[0], window + 1, weight * later * (1 - later))
    found = solveh_banded(square, right)
    window = np.clip(np.searchsorted(corners, at, side="right") - 1, 0, len(corners) - 2)
    later = np.clip((at - corners[window]) / np.diff(corners)[window], 0, 1)[:, None]
    return np.asarray(((1 - later) * found[window] + later * found[window + 1]).reshape(len(at), *X.shape[1:]))
