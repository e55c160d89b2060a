"""Growth rates that may change at any window, from paths that are read with noise: a bank of change-point filters.

Each channel is a path Y = ∫g of a rate g, read once a window with sampling noise of known variance r, while the path
itself wanders. With Δ the time since the last reading, in windows:

    y' = y + gΔ + N(0, (ρ r + q²)Δ + τ²Δ³/3),   g' = g (t/t')^c + N(0, τ²Δ),   reading = y + N(0, κ r),

and at each reading, with probability h, g starts anew from N(0, s²). What is not known is summed over: ρ, q (how much
the path wanders), κ (how far the sampling noise is misjudged), τ (drift of the rate), c (its decay) on a grid; s and
the window of the last change by a mixture of Kalman filters, of which the likeliest are kept (Adams and MacKay 2007,
"Bayesian online changepoint detection"). The drift may be another in any window, too, as trainings drift fast at first
and slowly later (fixed share, Herbster and Warmuth 1998); a steady rate is held likelier than each drift. The rest of
the grid is forgotten slowly. What was predicted some windows ago is compared with what came: intervals widen where that
was wrong.

That h falls where few changes were seen, or that intervals narrow where predictions were needlessly wide, makes them a
tenth shorter on steady growth, and too short in the windows after a change (89 % in place of 95 %): neither is done.

Legend: C channels, H grid points, L filters of a grid point, S values of s.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.mixtures import Mixtures, largest, likeliest
from le_callback.values import Array

FILTERS = 40
SCALES = (0.06, 0.3)  # s, growth in a window
_WALKS = ((0.1, 0.0), (1.0, 0.0), (5.0, 0.0), (25.0, 0.0), (0.1, 0.003))  # ρ, q
_NOISES = (0.2, 1.0)  # κ
_DRIFTS = ((0.0, 0.0), (0.0, 0.5), (0.001, 0.0), (0.003, 0.5), (0.02, 0.0), (0.1, 0.0))
GRID = np.array([(*w, k, *d) for w, k, d in itertools.product(_WALKS, _NOISES, _DRIFTS)]).T
_RHO, _Q, _KAPPA, _TAU, _DECAY = GRID
AHEAD = 4  # windows after which a prediction is compared with what came
_TRUST, _WORST = 10, 25.0  # windows that the comparison goes back; squared errors above this are a change, no fault
_FORGET = 0.02  # of the weights of the grid, a window
_SWITCH = 0.06  # probability that the drift is drawn anew after a window
_LEAST = 1e-200  # share of a point of the grid
_STEADY = 4.0  # times as likely as each other drift is none
_FAST, _RARE = 0.1, 0.5  # as likely is a drift so fast
_KEPT = ("gap", "wandered", "_grid", "_predicted", "_readings", "_squared")
_STATE = ("log_weight", "level", "rate", "var_level", "covariance", "var_rate")


@dataclass(frozen=True)
class PathReading:
    """What one window adds to the path of a channel.

    Attributes:
        time: of the window, since the training began.
        dt: time since the last reading.
        level: Y now.
        noise: sampling variance r of Y now.
        jump: variance that comes with this window on top, as where other classes are read than before.
        start: sampling variance of level 0 at the last reading, where the path begins with it.
        lasting: standard deviation of its growth that no later window averages; the filters know nothing of it.
    """

    time: float
    dt: float
    level: float
    noise: float
    jump: float = 0.0
    start: float | None = None
    lasting: float = 0.0


class RateFilters:
    """Change-point filters of C channels, updated together.

    Args:
        channels: C.
        hazard: h, probability of a change in a window.

    >>> filters = RateFilters(1, hazard=0.05)
    >>> for n in range(1, 9):
    ...     found = filters.update({0: PathReading(n + 1.0, 1.0, 0.04 * n, 1e-6, start=1e-6 if n == 1 else None)})
    >>> round(float(found.mean()[0]), 3)
    0.04
    """

    def __init__(self, channels: int, hazard: float) -> None:
        self.hazard = hazard
        self._switch = _switches()
        shape = channels, GRID.shape[1], FILTERS
        self._state = {name: np.zeros(shape) for name in _STATE}
        self.gap = np.zeros(channels)  # usual time between readings
        self.wandered = np.zeros(shape[:2])  # variance of the walk since the start
        self._grid = np.zeros(shape[:2])  # weights of the grid
        self._predicted = np.ones((channels, AHEAD, 8))
        self._readings = np.zeros(channels, dtype=np.int64)
        self._squared = np.ones(channels)
        self.errors = np.full(channels, np.nan)  # of the last prediction for the next reading, in deviations

    def _start(self, channel: int, noise: float) -> None:
        """Begin the path of a channel at level 0, read with variance ``noise``."""
        S = len(SCALES)
        s = self._state
        for x in s.values():
            x[channel] = 0.0
        s["log_weight"][channel] = -np.inf
        prior = _drift_prior()
        s["log_weight"][channel, :, :S] = np.log(prior / prior.sum() / S)[:, None]
        s["var_level"][channel] = _KAPPA[:, None] * noise + 1e-15
        s["var_rate"][channel] = 1.0
        s["var_rate"][channel, :, :S] = np.square(SCALES)
        self.gap[channel], self.wandered[channel] = np.nan, 0.0
        self._readings[channel], self._squared[channel] = 0, 1.0

    def update(self, readings: Mapping[int, PathReading]) -> Mixtures:
        """Take in readings of some channels; returns what is known of their rates, per unit of time, in that order."""
        for channel, reading in readings.items():
            if reading.start is not None:
                self._start(channel, reading.start)
        index = np.array(list(readings))
        fields = [(r.time, r.dt, r.level, r.noise, r.jump) for r in readings.values()]
        time, dt, level, noise, jump = np.array(fields).T
        every = len(index) == len(self.gap) and bool((index == np.arange(len(index))).all())
        state = self._state if every else {name: x[index] for name, x in self._state.items()}
        self._resize(index, dt, state)
        self._restart(state)
        self._predict(index, time, dt, noise, jump, state)
        weight = _correct(state, level, noise, self._switch).reshape(len(index), -1)
        if not every:
            for name, x in state.items():
                self._state[name][index] = x
        flat = {name: x.reshape(len(index), -1) for name, x in state.items()}
        self._grid[index] = weight.reshape(state["level"].shape).sum(-1)
        top = largest(weight)
        places = top + np.arange(len(index))[:, None] * weight.shape[1]
        now = {name: x.take(places) for name, x in flat.items() if name != "log_weight"}
        known = likeliest(weight, flat["rate"], flat["var_rate"], top)
        widening = self._backtest(index, time, level, noise, weight.take(places), now)
        return known.widened(widening).scaled(1 / self.gap[index])

    def _backtest(
        self, index: Array, time: Array, level: Array, noise: Array, weight: Array, now: Mapping[str, Array]
    ) -> Array:
        """How much wider the intervals must be for what was predicted ``AHEAD`` readings ago, at least 1: ``(n,)``.

        The prediction goes on at the rate of then. Its squared error over its variance is averaged, with 1 before.
        """
        weight = weight / weight.sum(-1, keepdims=True)
        slot = self._readings[index] % AHEAD
        squared = np.minimum(_off(self._predicted[index, slot], time, level, noise) ** 2, _WORST)
        self.errors[:] = np.nan
        off = _off(self._predicted[index, slot - 1], time, level, noise)
        self.errors[index] = np.where(self._readings[index] > 0, off, np.nan)
        ready = self._readings[index] >= AHEAD
        self._squared[index] += np.where(ready, (squared - self._squared[index]) / _TRUST, 0.0)
        y, g = ((weight * now[name]).sum(-1) for name in ("level", "rate"))
        dy, dg = now["level"] - y[:, None], now["rate"] - g[:, None]
        moments = [
            (weight * (now[name] + product)).sum(-1)
            for name, product in (("var_level", dy**2), ("covariance", dy * dg), ("var_rate", dg**2))
        ]
        walk = (self._grid[index] * (_RHO * noise[:, None] + _Q**2)).sum(-1)
        self._predicted[index, slot] = np.stack([time, y, g, *moments, self.gap[index], walk], -1)
        self._readings[index] += 1
        return np.asarray(np.sqrt(np.maximum(1.0, self._squared[index])))

    def _resize(self, index: Array, dt: Array, state: Mapping[str, Array]) -> None:
        """Rates are per usual gap; the usual gap follows the gaps."""
        old = self.gap[index]
        new = np.where(np.isnan(old), dt, old * (dt / np.where(old > 0, old, 1.0)) ** 0.1)
        factor = np.where(np.isnan(old), 1.0, new / old)[:, None, None]
        self.gap[index] = new
        if (factor != 1).any():
            state["rate"][:] *= factor
            state["covariance"][:] *= factor
            state["var_rate"][:] *= factor**2

    def _restart(self, state: Mapping[str, Array]) -> None:
        """The S least likely filters of each channel make room for rates that start anew."""
        lw, S = state["log_weight"], len(SCALES)
        top = lw.max(-1)
        share = np.exp(lw - top[..., None])
        total = share.sum(-1)
        share /= total[..., None]
        level = (share * state["level"]).sum(-1)
        spread = (share * (state["var_level"] + (state["level"] - level[..., None]) ** 2)).sum(-1)
        worst = np.argpartition(lw.max(1), S - 1, axis=-1)[:, :S]
        at = np.arange(len(lw))[:, None, None], np.arange(lw.shape[1])[:, None], worst[:, None, :]
        lw += np.log(1 - self.hazard)
        lw[at] = (top + np.log(total * self.hazard / S))[..., None]
        state["level"][at] = level[..., None]
        state["var_level"][at] = spread[..., None]
        state["rate"][at] = state["covariance"][at] = 0.0
        state["var_rate"][at] = np.square(SCALES)

    def _predict(
        self, index: Array, time: Array, dt: Array, noise: Array, jump: Array, state: Mapping[str, Array]
    ) -> None:
        d = (dt / self.gap[index])[:, None]
        walk = (_RHO * noise[:, None] + _Q**2) * d + jump[:, None]
        self.wandered[index] += walk
        began = np.maximum(time - dt, 0.5 * dt)[:, None]
        slower, slower_on_average = ((began / (began + x * dt[:, None])) ** _DECAY for x in (1.0, 0.5))
        drift = _TAU**2 * d
        D, slower = (d * slower_on_average)[..., None], slower[..., None]
        state["level"][:] += state["rate"] * D
        state["var_level"][:] += (2 * state["covariance"] + state["var_rate"] * D) * D
        state["var_level"][:] += (walk + drift * d**2 / 3)[..., None]
        state["covariance"][:] += state["var_rate"] * D
        state["covariance"][:] *= slower
        state["covariance"][:] += (drift * d / 2)[..., None]
        state["rate"][:] *= slower
        state["var_rate"][:] *= slower**2
        state["var_rate"][:] += drift[..., None]

    def growth_cumulants(self, channel: int, noise: float, before: Array | None) -> tuple[float, float]:
        """Second and fourth cumulant of the growth that was read, less the integral of the rate.

        The grid's weights now make it a mixture of normal distributions about zero.

        Args:
            channel: its number.
            noise: sampling variances of first and last reading, together.
            before: ``wandered`` of the channel at the first reading; None: the start of its path.
        """
        walk = self.wandered[channel] if before is None else self.wandered[channel] - before
        variances, weights = walk + _KAPPA * noise, self._grid[channel]
        mean = float(weights @ variances)
        return mean, 3 * max(0.0, float(weights @ variances**2) - mean**2)

    def state_dict(self) -> dict[str, Any]:
        """Tensors."""
        arrays = {**self._state, **{name: getattr(self, name) for name in _KEPT}}
        return {name: torch.from_numpy(x.copy()) for name, x in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any], channels: Sequence[tuple[int, int]]) -> None:
        """Continue where ``state_dict`` was taken; ``channels`` pairs numbers here with those of the state."""
        for here, there in channels:
            for name, x in self._state.items():
                x[here] = state[name][there].numpy()
            for name in _KEPT:
                getattr(self, name)[here] = state[name][there].numpy()


def _off(then: Array, time: Array, level: Array, noise: Array) -> Array:
    """How far readings are off the predictions ``then (n, 8)`` of before, in their deviations; NaN without one."""
    at, y, g, var_y, cov, var_g, gap, walk = then.T
    d = (time - at) / gap
    variance = var_y + 2 * d * cov + d**2 * var_g + walk * d + noise
    return np.asarray((level - y - g * d) / np.sqrt(np.where(variance > 0, variance, np.nan)))


def _drift_prior() -> Array:
    """Of the points of the grid, not normalised."""
    return np.where(_TAU == 0, _STEADY, np.where(_TAU < _FAST, 1.0, _RARE))


def _switches() -> Array:
    """Probability ``(H, H)`` that a point of the grid (row) becomes another one (column) after a window."""
    same = (_RHO[:, None] == _RHO) & (_Q[:, None] == _Q) & (_KAPPA[:, None] == _KAPPA)
    drawn = same * _drift_prior()
    return np.asarray((1 - _SWITCH) * np.eye(len(_RHO)) + _SWITCH * drawn / drawn.sum(1, keepdims=True))


def _correct(state: Mapping[str, Array], level: Array, noise: Array, switch: Array) -> Array:
    """Take in readings; returns the weights of all filters, of sum 1 in each channel."""
    surprise = level[:, None, None] - state["level"]
    variance = state["var_level"] + (_KAPPA * noise[:, None])[..., None] + 1e-15
    by_level, by_rate = state["var_level"] / variance, state["covariance"] / variance
    lw = state["log_weight"]
    lw -= 0.5 * (np.log(variance) + surprise**2 / variance)
    state["level"][:] += by_level * surprise
    state["rate"][:] += by_rate * surprise
    state["var_rate"][:] -= by_rate * state["covariance"]
    state["covariance"][:] -= by_rate * state["var_level"]
    state["var_level"][:] -= by_level * state["var_level"]
    top = lw.max(-1)
    weight = np.exp(lw - top[..., None])
    each = weight.sum(-1)
    total = top + np.log(each)
    share = np.exp((1 - _FORGET) * (total - total.max(-1, keepdims=True)))
    share /= share.sum(-1, keepdims=True)
    lw += (np.log(np.maximum(share @ switch, _LEAST)) - total)[..., None]
    weight *= (share / each)[..., None]
    return np.asarray(weight)
