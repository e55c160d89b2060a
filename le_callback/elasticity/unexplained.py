"""What the class means did between windows that neither drift nor sampling noise explains: walk, or wobble."""

from __future__ import annotations

import math
from typing import Any

import torch

from le_callback.values import Array

_BEFORE = 3.0  # windows that count as expected, before any was seen
_MEMORY, _WORST = 0.985, 4.0  # of what was seen, a window; more scatter than that is process noise or a change
_STAYS, _GOES = 0.25, -0.5  # of the squared change by a walk, and by a wobble, what it adds to ⟨r, Δz⟩


class Unexplained:
    """Follows the change off the drift of one path, from window to window, beside that of the window before.

    A walk makes means of windows change in the same direction twice, a wobble that is over within a window (batches
    leave one in the mean of all classes) makes them come back. What either adds to ⟨r, Δz⟩, as a share of its squared
    change: a quarter, −½. The product of successive changes, over their square, is just that share.

    Attributes:
        off: the last change, see ``Growth``; None: not known.

    >>> past = Unexplained()
    >>> past.walk_share(averaged=True), past.walk_share(averaged=False)
    (0.25, 0.0)
    >>> for _ in range(100):
    ...     past.add(scatter=3.0, echo=-1.0, off=None)
    >>> round(past.walk_share(averaged=True), 2), past.noise_share
    (-0.48, 1.0)
    """

    def __init__(self) -> None:
        self._scatter = self._scatters = self._loose = self._echo = 0.0
        self.off: Array | None = None

    @property
    def noise_share(self) -> float:
        """Share of the sampling noise that really is there, from the scatter about the drift, at most 1."""
        return min(1.0, (_BEFORE + self._scatter) / (_BEFORE + self._scatters))

    def walk_share(self, averaged: bool) -> float:
        """Of the squared change that is left, what it adds to ⟨r, Δz⟩; a walk until something else was seen.

        Args:
            averaged: whether means are averages over a window; those of one moment know nothing of the walk to come.
        """
        most = _STAYS if averaged else 0.0
        return min(most, max(_GOES, (_BEFORE * most + self._echo) / (_BEFORE + max(0.0, self._loose))))

    def add(self, scatter: float, echo: float, off: Array | None) -> None:
        """Take in ``scatter``, ``echo`` and ``off`` of a growth; NaN where they are not known."""
        self.off = off
        if not math.isfinite(scatter):
            return
        self._scatter = _MEMORY * self._scatter + min(scatter, _WORST)
        self._scatters = _MEMORY * self._scatters + 1
        if math.isfinite(echo):
            scale = max(1.0, scatter / _WORST)
            self._loose = _MEMORY * self._loose + (scatter - self.noise_share) / scale
            self._echo = _MEMORY * self._echo + echo / scale

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers."""
        return vars(self) | {"off": None if self.off is None else torch.from_numpy(self.off)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        off = state["off"]
        vars(self).update(state | {"off": None if off is None else off.numpy()})
