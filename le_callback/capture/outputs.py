"""Take features and logits from what ``training_step`` returns, where no hook can be used.

p feature dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from le_callback.capture.base import Capture, check_width
from le_callback.capture.labels import describe
from le_callback.capture.slot import Captured


class OutputsCapture(Capture):
    """Has the methods of ``HeadCapture``, but is offered the returned mapping instead of hooking a module.

    Args:
        keys: where features (…, p) and logits (…, K) are in the mapping.
        num_classes: K; the width of the logits if ``None``. May be 2 for logits of width 1.

    >>> import torch
    >>> capture = OutputsCapture(("features", "logits"))
    >>> capture.offer({"loss": torch.tensor(0.5), "features": torch.zeros(5, 8), "logits": torch.zeros(5, 3)})
    >>> capture.settle(torch.tensor([0, 1, 2, 0, 1]))
    'logits'
    >>> capture.take().features.shape
    torch.Size([5, 8])
    """

    def __init__(self, keys: tuple[str, str], num_classes: int | None = None) -> None:
        self._keys = keys
        super().__init__(num_classes)
        self._captured: Captured | None = None
        self._refused = "nothing"

    @property
    def absence(self) -> str:
        """What was found instead of features and logits, and what to do."""
        return (
            f"`training_step` has to return a dict with a tensor under each of the keys {' and '.join(self._keys)},"
            f" besides the loss, but returned {self._refused}"
        )

    def clear(self) -> None:
        """Forget the captures."""
        self._captured = None

    def offer(self, outputs: Any) -> None:
        """Take features and logits from ``outputs``, if they are there."""
        features, logits = (outputs.get(key) if isinstance(outputs, Mapping) else None for key in self._keys)
        if isinstance(features, Tensor) and isinstance(logits, Tensor):
            self._captured = Captured(features.detach(), logits.detach())
        else:
            self._refused = describe(outputs)

    def take(self) -> Captured | None:
        """What was offered last, or ``None``."""
        return self._captured

    def settle(self, labels: Tensor) -> str | None:
        """Fix the number of classes; the name of the logits, or ``None`` if nothing was captured.

        Raises:
            ValueError: if the width of the logits is not the number of classes.
        """
        if self._captured is None:
            return None
        name = self._keys[1]
        self._num_classes = check_width(f"output `{name}`", self._captured.logits.shape[-1], self._num_classes)
        return name
