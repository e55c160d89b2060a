"""See the calls of functions of ``torch`` while a step runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import _len_torch_function_stack
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

Told = Callable[[Any, Any, Any, Any], None]


class Watch(TorchFunctionMode):
    """Hands on the calls of functions and their results while it is on; the calls themselves are not changed.

    It goes below all modes that are on, so that these can be left in their order.

    Args:
        told: called with function, arguments, keyword arguments and result.
        only: functions that are told; None for all.

    >>> names = []
    >>> logits, labels = torch.zeros(1, 3), torch.tensor([2])
    >>> watch = Watch(lambda function, args, kwargs, result: names.append(function.__name__))
    >>> watch.enter()
    >>> _ = torch.nn.CrossEntropyLoss()(logits, labels)
    >>> watch.leave()
    >>> names
    ['cross_entropy']
    """

    def __init__(self, told: Told, only: frozenset[Any] | None = None) -> None:
        super().__init__()
        self._told, self._only = told, only
        self._on = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, then tell of it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (self._only is None or func in self._only) and not torch.compiler.is_compiling():
            self._tell(func, args, kwargs, result)
        return result

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _tell(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        try:
            self._told(func, args, kwargs, result)
        except Exception:  # a call that cannot be read is no evidence, and never ends the step
            return

    def enter(self) -> None:
        """Begin to listen."""
        if not self._on:
            self._rearrange(lambda modes: [self, *modes])
            self._on = True

    def leave(self) -> None:
        """Stop listening; other modes stay."""
        if self._on:
            self._rearrange(lambda modes: [mode for mode in modes if mode is not self])
            self._on = False

    def _rearrange(self, change: Callable[[list[Any]], list[Any]]) -> None:
        modes = [_pop_mode() for _ in range(_len_torch_function_stack())]  # type: ignore[no-untyped-call]
        for mode in change(modes[::-1]):
            _push_mode(mode)  # type: ignore[no-untyped-call]
