"""Forward hooks and what they leave behind. p feature dimensions, K classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Captured(NamedTuple):
    """Input and output of the head in one forward pass, detached; the last dimension is features or classes.

    Attributes:
        features: (..., p).
        logits: (..., K).
    """

    features: Tensor
    logits: Tensor


class Slot:
    """Holds the last capture of each watched module, in the order of the calls. A copy of it is empty.

    A pass without gradients does not replace one with gradients: it is kept aside, for models that have no other.

    Attributes:
        wanted: which call of a training pass counts, from 0; None for the last.
    """

    def __init__(self) -> None:
        self.graded: dict[str, Captured] = {}
        self.plain: dict[str, Captured] = {}
        self.wanted: int | None = None
        self.calls = [0, 0]

    @property
    def captured(self) -> dict[str, Captured]:
        """Captures by the name of the module, those of passes with gradients first."""
        return self.graded | {name: seen for name, seen in self.plain.items() if name not in self.graded}

    def clear(self) -> None:
        """Forget all captures."""
        self.graded.clear()
        self.plain.clear()
        self.restart()

    def restart(self) -> None:
        """Count the calls from 0 again: another pass of the same step begins."""
        self.calls = [0, 0]

    def __deepcopy__(self, memo: dict[int, Any]) -> Slot:
        return Slot()

    def __reduce__(self) -> tuple[type[Slot], tuple[()]]:
        return Slot, ()


class CaptureHook:
    """Forward hook that overwrites one entry of a slot. A module-level class, so that hooked modules stay picklable."""

    def __init__(self, slot: Slot, name: str) -> None:
        self.slot = slot
        self.name = name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Overwrite the entry."""
        features = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(features, Tensor) or not isinstance(output, Tensor):
            return
        entries = self.slot.graded if torch.is_grad_enabled() else self.slot.plain
        entries.pop(self.name, None)
        entries[self.name] = detached(module, features, output)


class CallHook(CaptureHook):
    """Leaves alone the calls of a training pass that do not count."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Overwrite the entry if this is the call that is wanted."""
        calls, mode = self.slot.calls, int(torch.is_grad_enabled())
        calls[mode] += 1
        if self.slot.wanted is None or calls[mode] == self.slot.wanted + 1:
            super().__call__(module, args, kwargs, output)


def detached(module: nn.Module | None, features: Tensor, output: Tensor) -> Captured:
    """Features (…, p) and logits (…, K) of a call without their graph; channels go last.

    >>> [tuple(x.shape) for x in detached(nn.Conv1d(2, 3, 1), torch.zeros(5, 2, 7), torch.zeros(5, 3, 7))]
    [(5, 7, 2), (5, 7, 3)]
    """
    features, output = features.detach(), output.detach()
    if isinstance(module, CONVOLUTIONS):
        features, output = features.movedim(1, -1), output.movedim(1, -1)
    return Captured(features, output)


def width_fits(width: int, num_classes: int) -> bool:
    """Whether logits of that width are those of so many classes: one logit is enough for two.

    >>> width_fits(3, 3), width_fits(1, 2), width_fits(1, 3)
    (True, True, False)
    """
    return width == num_classes or (width == 1 and num_classes == 2)


def shares_storage(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are views of the same memory.

    >>> x = torch.zeros(2, 3)
    >>> shares_storage(x, x.T), shares_storage(x, x.clone())
    (True, False)
    """
    try:
        return a.device == b.device and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0
    except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage
        return False
