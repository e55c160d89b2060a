"""Local fits of several coefficient trackers, those of the same shape solved in one go."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from le_callback.elasticity.increments import Channels, ProcessHistory, no_history
from le_callback.elasticity.rates import estimate_rates, extend_history
from le_callback.values import Array, Estimate


@dataclass
class ProcessMemory:
    """What past windows say of the process noise: one window in ``smoothing − 1``, so that none share an increment.

    Attributes:
        history: None before the first of these windows.
        until: time at which the last of them ended.

    >>> ProcessMemory.from_state(ProcessMemory(until=3.0).state()).until
    3.0
    """

    history: ProcessHistory | None = None
    until: float = -math.inf

    def state(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        h = self.history
        return {"until": self.until, "history": h and [h.log_q.tolist(), h.log_likelihood.tolist()]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ProcessMemory:
        """The memory that ``state`` was taken of."""
        saved = state["history"]
        return cls(ProcessHistory(np.array(saved[0]), np.array(saved[1])) if saved else None, state["until"])


@dataclass(frozen=True)
class LocalFit:
    """One fit to be solved.

    Attributes:
        channels: of the window.
        functionals: of the coefficients, whose estimates are wanted, ``(F, c)``.
        memory: what past windows say of the process noise.
        remember: whether the memory takes this window in.
        confidence: of the intervals.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> LocalFit(channels, np.ones((1, 1)), ProcessMemory(), remember=False, confidence=0.95).functionals
    array([[1.]])
    """

    channels: Channels
    functionals: Array
    memory: ProcessMemory
    remember: bool
    confidence: float


def solve(fits: Mapping[str, LocalFit]) -> dict[str, list[Estimate]]:
    """Estimates of every functional of every fit, those of the same shape in one go; memories take their windows in.

    >>> channels = Channels(np.array([[1.0, 3.0, 2.0]]), np.ones((1, 3, 1)), np.ones((1, 3)), np.zeros((1, 4)))
    >>> one = LocalFit(channels, np.ones((1, 1)), ProcessMemory(), remember=True, confidence=0.95)
    >>> round(solve({"a": one})["a"][0].value, 6), one.memory.history is None
    (2.0, False)
    """
    alike: dict[Any, list[str]] = defaultdict(list)
    histories: dict[str, ProcessHistory] = {}
    for key, one in fits.items():
        history = no_history(one.channels) if one.memory.history is None else one.memory.history
        histories[key] = history
        shape = one.channels.design.shape, one.functionals.shape, len(history.log_q), one.confidence
        alike[shape, bool(one.channels.noise.any())].append(key)
    found: dict[str, list[Estimate]] = {}
    for keys in alike.values():
        group = [fits[key] for key in keys]
        names = ("response", "design", "process", "noise")
        together = Channels(*(np.stack([getattr(one.channels, name) for one in group]) for name in names))
        history = ProcessHistory(
            np.stack([histories[key].log_q for key in keys])[:, None],
            np.stack([histories[key].log_likelihood for key in keys]),
        )
        functionals = np.stack([one.functionals for one in group])
        rates = estimate_rates(together, functionals, history, group[0].confidence)
        for key, estimate, half in zip(keys, rates.estimate.tolist(), rates.half.tolist(), strict=True):
            found[key] = [Estimate(e, e - h, e + h) for e, h in zip(estimate, half, strict=True)]
    for one in fits.values():
        if one.remember:
            one.memory.history = extend_history(one.memory.history, one.channels)
    return found
