"""Two stages of a training: a change point in the growth rate of a mode.

Legend: T times, n = T − 1 increments, b draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.signal import lfilter

from le_callback.elasticity.inputs import as_array, check_times
from le_callback.errors import require
from le_callback.values import NAN, Array

_LEAST = 16  # increments


@dataclass(frozen=True)
class Stages:
    """The most likely change of the growth rate, and whether there is one.

    Attributes:
        change: time of the change; NaN if none was found.
        before, after: growth rates per unit of time on both sides of the most likely change.
        p_value: share of draws without a change whose sup-F is as large.
        autocorrelation: of successive residuals.
        status: ``"two stages"`` or ``"one stage"``, or why nothing can be said.

    >>> Stages(change=40.0, before=0.01, after=0.1, p_value=0.001, autocorrelation=0.0, status="two stages").after
    0.1
    """

    change: float
    before: float
    after: float
    p_value: float
    autocorrelation: float
    status: str


def detect_stages(
    log_amplitude: Any, times: Any, *, level: float = 0.05, trim: float = 0.1, draws: int = 999, seed: int = 0
) -> Stages:
    """Find one change of the growth rate, as from de-randomisation to amplification (rate rises) or to saturation.

    Growth rates Δy/Δt are constant before and after a change; least squares, weighed by Δt, gives its place. Sup-F, the
    largest F over all places but the outer ``trim``, is compared with draws without a change whose residuals follow the
    autoregression of first order found beside the change. It is a test of one change of level: a rate that drifts, as
    α ~ t^(−r), also fails to be constant and will be called two stages; look at the rates.

    Args:
        log_amplitude: log amplitude of a mode, or A, B, G ``(T,)``; finite.
        times: ``(T,)``, strictly increasing; the autoregression takes them as even.
        level: probability of finding a change where there is none.
        trim: share of the increments at each end where no change is looked for.
        draws: draws without a change.
        seed: of the draws.

    Returns:
        The most likely change, and whether there is one.

    Raises:
        ValueError: shapes, values that are not finite, or settings out of range.

    >>> t = np.arange(100.0)
    >>> y = np.where(t < 40, 0.01 * t, 0.4 + 0.1 * (t - 40)) + 0.01 * np.random.default_rng(0).standard_normal(100)
    >>> found = detect_stages(y, t)
    >>> found.status, found.change
    ('two stages', 40.0)
    """
    t = check_times(times)
    y = as_array(log_amplitude)
    require(y.shape == t.shape, "log_amplitude", y.shape, f"of shape {t.shape}, as the times")
    require(bool(np.isfinite(y).all()), "log_amplitude", y, "finite")
    require(0 < level < 1, "level", level, "between 0 and 1")
    require(0 < trim < 0.5, "trim", trim, "between 0 and 0.5")
    least = 1 / level - 1
    enough = isinstance(draws, int) and not isinstance(draws, bool) and draws >= least
    require(enough, "draws", draws, f"a whole number, at least 1/level − 1 = {least:.0f}")
    n = len(t) - 1
    if n < _LEAST:
        return Stages(NAN, NAN, NAN, NAN, NAN, f"only {len(t)} times: at least {_LEAST + 1} are needed")
    w = np.diff(t)
    rate = np.diff(y) / w
    edge = max(int(np.ceil(trim * n)), 3)
    F, place = _sup_f(rate[None], w, edge)
    k = int(place[0])
    before, after = (float(np.average(rate[s], weights=w[s])) for s in (slice(None, k), slice(k, None)))
    residual = (rate - np.where(np.arange(n) < k, before, after)) * np.sqrt(w)
    power = float(residual @ residual)
    if power <= 1e-24 * float((rate**2 * w).sum()):
        changed = abs(after - before) > 1e-9 * max(abs(after), abs(before))
        p_value = 0.0 if changed else 1.0
        return Stages(float(t[k]) if changed else NAN, before, after, p_value, 0.0, _name(changed))
    phi = float(np.clip(residual[1:] @ residual[:-1] / power, -0.98, 0.98))
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((draws, n))
    noise[:, 0] /= np.sqrt(1 - phi**2)  # stationary from the start
    null = lfilter([1.0], [1.0, -phi], noise, axis=1) / np.sqrt(w)
    p_value = float((1 + (_sup_f(null, w, edge)[0] >= F[0]).sum()) / (1 + draws))
    changed = p_value <= level
    return Stages(float(t[k]) if changed else NAN, before, after, p_value, phi, _name(changed))


def _name(changed: bool) -> str:
    return "two stages" if changed else "one stage"


def _sup_f(rate: Array, w: Array, edge: int) -> tuple[Array, Array]:
    """Largest F ``(b,)`` of one change of the weighted mean of ``rate (b, n)``, and the first increment after it."""
    n = rate.shape[1]
    total, W = (rate * w).sum(1, keepdims=True), w.sum()
    centred = rate - total / W
    left, share = np.cumsum(centred * w, axis=1)[:, :-1], np.cumsum(w)[:-1]
    gain = left**2 * W / (share * (W - share))
    inside = gain[:, edge - 1 : n - edge]
    best = inside.argmax(1)
    most = inside[np.arange(len(rate)), best]
    rest = np.maximum((centred**2 * w).sum(1) - most, 1e-300)
    return np.asarray(most / rest * (n - 2)), np.asarray(best + edge)
