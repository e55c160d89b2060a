"""Forward hooks and what they leave behind. p feature dimensions, K classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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

    def get(self, name: str) -> Captured | None:
        """The capture of one module."""
        return self.graded.get(name) or self.plain.get(name)

    def clear(self) -> None:
        """Forget all captures."""
        self.graded.clear()
        self.plain.clear()
        self.calls = [0, 0]

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
        self.keep(module, args, kwargs, output, graded=torch.is_grad_enabled())

    def keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, graded: bool) -> None:
        """Overwrite the entry of a pass with or without gradients."""
        features = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(features, Tensor) and isinstance(output, Tensor):
            entries = self.slot.graded if graded else self.slot.plain
            entries.pop(self.name, None)  # the order is that of the last calls
            entries[self.name] = detached(module, features, output)


class CallHook(CaptureHook):
    """Leaves alone the calls of a training pass that do not count."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Overwrite the entry if this is the call that is wanted."""
        slot, graded = self.slot, torch.is_grad_enabled()
        slot.calls[graded] += 1
        if slot.wanted is None or slot.calls[graded] == slot.wanted + 1:
            self.keep(module, args, kwargs, output, graded)


class Switch:
    """Puts a forward hook on a module and takes it off again, in every step.

    Registering takes tens of microseconds each time, so it is done once. From then on the hook goes into the module's
    own table of hooks and out of it, under the number that it was given; in a module without such a table it is
    registered anew.

    >>> module, seen = nn.Linear(2, 1), []
    >>> switch = Switch(module, lambda module, args, kwargs, output: seen.append(args))
    >>> for _ in range(2):
    ...     switch.on()
    ...     _ = module(torch.zeros(1, 2))
    ...     switch.off()
    ...     _ = module(torch.zeros(1, 2))
    >>> len(seen), len(module._forward_hooks)
    (2, 0)
    """

    def __init__(self, module: nn.Module, hook: Callable[..., None]) -> None:
        self.module, self.hook = module, hook
        self._handle: RemovableHandle | None = None
        self._own_tables = False  # whether the module's tables are as expected

    def on(self) -> None:
        """Put the hook on the module."""
        if self._own_tables and self._handle is not None:
            for table, entry in zip(self._tables(), (self.hook, True), strict=True):
                table[self._handle.id] = entry
            return
        self.off()
        self._handle = self.module.register_forward_hook(self.hook, with_kwargs=True)
        self._own_tables = all(self._handle.id in table for table in self._tables())

    def off(self) -> None:
        """Take it off, if it is on."""
        if self._own_tables and self._handle is not None:
            for table in self._tables():
                table.pop(self._handle.id, None)
        elif self._handle is not None:
            self._handle.remove()

    def _tables(self) -> tuple[dict[int, Any], dict[int, Any]]:
        own = vars(self.module)
        return own.get("_forward_hooks", {}), own.get("_forward_hooks_with_kwargs", {})


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
