"""Which layer of a model a tensor comes from. p feature dimensions, K classes.

In the step in which the head is looked for, each call of a layer leaves its shapes and weak references behind, no
activations; only the last call is held, as its features may be gone when its logits meet the loss.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.capture.slot import CONVOLUTIONS, Captured, detached, shares_storage

_MOST_NODES = 400
_PASSED = frozenset(
    """View UnsafeView ReshapeAlias Reshape T Transpose Permute Movedim Squeeze Unsqueeze Expand Alias Detach Clone
    ToCopy Copy CopySlices AsStrided Slice Select Index IndexSelect Narrow Split SplitWithSizes SplitSafe Unbind Chunk
    Cat Stack Flip Repeat
    Pad ConstantPadNd MaskedFill Where Scatter IndexPut Mul Div Add Sub Rsub Neg Pow Exp Log Sqrt Sigmoid LogSigmoid
    LogSigmoidForward Tanh Clamp ClampMin ClampMax Cos Sin Acos LogSoftmax Softmax UpsampleBilinear2D
    UpsampleNearest2D UpsampleBicubic2D UpsampleLinear1D UpsampleNearest1D UpsampleTrilinear3D UpsampleNearest3D
    UpsampleBilinear2DAa UpsampleNearestExact2D Masked MaskedSelect Float Flatten Unflatten DDPSink CheckpointFunction
    Contiguous Max Min Maximum Minimum""".split()  # noqa: SIM905 -- a list that is read, not one that is computed
)
"""Operations that leave the classes where they are, by the names of their gradients without ``Backward0``."""


@dataclass
class Seen:
    """One call of a layer.

    Attributes:
        name: of the layer.
        module: the layer.
        linear: whether it is linear-like.
        widths: p and K.
        call: how many calls of that layer, with or without gradients as this one, came before.
        graded: whether gradients were on.
        features: what went in, if it is still there.
        output: what came out, if it is still there.
        node: of the output in the graph of gradients.
    """

    name: str
    module: nn.Module
    linear: bool
    widths: tuple[int, int]
    call: int
    graded: bool
    features: weakref.ref[Tensor]
    output: weakref.ref[Tensor]
    node: Any


@dataclass(frozen=True)
class Match:
    """The call of a layer that gave a loss its logits.

    Attributes:
        name: of the layer.
        call: of that layer, counted from 0 in one pass.
        widths: p and K.
        captured: features and logits; None if the features were given up already.
        same: whether the loss saw the layer's output itself, or a view of it.
    """

    name: str
    call: int
    widths: tuple[int, int]
    captured: Captured | None
    same: bool


def may_be_head(module: nn.Module, linear: bool) -> bool:
    """Whether a layer's output can be logits: linear-like, with weights of its own, or made of several layers.

    >>> may_be_head(nn.Linear(2, 3), True), may_be_head(nn.ReLU(), False), may_be_head(nn.Sequential(nn.ReLU()), False)
    (True, False, False)
    """
    if linear or any(p is not None for p in module._parameters.values()):
        return True
    inside = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return not inside and next(module.children(), None) is not None


class Search:
    """Follows the calls of the layers of one training step.

    Args:
        layers: what is watched, by name: the layer, and whether it is linear-like.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> search = Search({name: (m, True) for name, m in model.named_children() if name != "1"})
    >>> search.attach()
    >>> logits = model(torch.zeros(5, 4))
    >>> search.detach()
    >>> search.match(2 * logits, {3}).name
    '2'
    """

    def __init__(self, layers: Mapping[str, tuple[nn.Module, bool]]) -> None:
        self._layers = layers
        self._handles: list[Any] = []
        self._counts: dict[tuple[str, bool], int] = {}
        self._most: dict[str, int] = {}
        self._last: tuple[Seen, Tensor, Tensor] | None = None
        self.calls: list[Seen] = []

    def attach(self) -> None:
        """Watch the layers."""
        if not self._handles:
            for name, (module, _) in self._layers.items():
                self._handles.append(module.register_forward_hook(SearchHook(self, name), with_kwargs=True))

    def detach(self) -> None:
        """Leave the layers as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def restart(self) -> None:
        """Count the calls from 0 again: another pass of the same step begins."""
        self._counts.clear()

    @property
    def last(self) -> Captured | None:
        """Of the last call of a linear-like layer."""
        return None if self._last is None else detached(self._last[0].module, *self._last[1:])

    def forget(self) -> None:
        """Give up every reference to tensors and graphs; shapes stay."""
        self._last = None
        for seen in self.calls:
            seen.node = None

    def add(self, name: str, module: nn.Module, features: Tensor, output: Tensor) -> None:
        """A layer was called."""
        graded, linear = torch.is_grad_enabled(), self._layers[name][1]
        call = self._counts.get((name, graded), 0)
        self._counts[name, graded] = call + 1
        self._most[name] = max(self._most.get(name, 0), call + 1)
        channel = 1 if isinstance(module, CONVOLUTIONS) else -1
        if features.ndim == 0 or output.ndim == 0:
            return
        widths = features.shape[channel], output.shape[channel]
        references = weakref.ref(features), weakref.ref(output)
        seen = Seen(name, module, linear, widths, call, graded, *references, output.grad_fn)
        self.calls.append(seen)
        if linear:
            self._last = seen, features.detach(), output.detach()

    def times(self, match: Match) -> int:
        """How often the layer of a match was called in one pass."""
        return self._most.get(match.name, 0)

    def match(self, logits: Tensor, widths: set[int]) -> Match | None:
        """The call that gave ``logits``; ``None`` if none did, or several did.

        Looked for by identity, by storage, then along the graph of gradients through operations that leave the classes
        where they are. Linear-like layers come first; then the innermost layer with a floating input.

        Args:
            logits: what a loss was given.
            widths: the K that are possible.
        """
        fitting = [seen for seen in self.calls if seen.widths[1] in widths]
        same = [seen for seen in fitting if _is(seen, logits)]
        if linear := [seen for seen in same if seen.linear]:
            return self._found(linear[0], True)
        reached = self._reached(logits, [seen for seen in fitting if seen.node is not None])
        names = {seen.name for seen in reached if seen.linear}
        calls = [seen for seen in reached if seen.linear]
        if len(calls) == 1:
            return self._found(calls[0], False)
        if len(names) == 1:
            return None  # a mean over several calls
        for seen, is_same in [*((seen, True) for seen in same), *((seen, False) for seen in reached)]:
            features, output = seen.features(), seen.output()
            if not seen.linear and features is not None and output is not None and _rows_belong(features, output):
                return self._found(seen, is_same)
        return None

    def _found(self, seen: Seen, same: bool) -> Match:
        features, output = seen.features(), seen.output()
        if self._last is not None and self._last[0] is seen:
            _, features, output = self._last
        captured = None if features is None or output is None else detached(seen.module, features, output)
        return Match(seen.name, seen.call, seen.widths, captured, same)

    def _reached(self, logits: Tensor, calls: list[Seen]) -> list[Seen]:
        by_node: dict[Any, list[Seen]] = {}
        for seen in calls:
            by_node.setdefault(seen.node, []).append(seen)
        found: list[Seen] = []
        queue, visited = [logits.grad_fn], {logits.grad_fn}
        while queue and len(visited) < _MOST_NODES:
            node = queue.pop(0)
            if node is None:
                continue
            here = by_node.get(node, [])
            found += here
            if any(seen.linear for seen in here) or not _is_passed(node):
                continue
            following = [n for n, _ in node.next_functions if n is not None and n not in visited]
            visited.update(following)
            queue += following
        return found


class SearchHook:
    """Forward hook that tells a search of a call; a copy of it does nothing."""

    def __init__(self, search: Search | None, name: str) -> None:
        self.search, self.name = search, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Tell the search."""
        features = args[0] if args else next(iter(kwargs.values()), None)
        if self.search is not None and isinstance(features, Tensor) and isinstance(output, Tensor):
            self.search.add(self.name, module, features, output)

    def __deepcopy__(self, memo: dict[int, Any]) -> SearchHook:
        return SearchHook(None, self.name)

    def __reduce__(self) -> tuple[Callable[..., SearchHook], tuple[None, str]]:
        return SearchHook, (None, self.name)


def _is(seen: Seen, logits: Tensor) -> bool:
    output = seen.output()
    if output is None:
        return False
    return output is logits or shares_storage(output, logits)


def _is_passed(node: Any) -> bool:
    return str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward") in _PASSED


def _rows_belong(features: Tensor, output: Tensor) -> bool:
    if not features.is_floating_point():
        return False
    convolution = features.ndim == output.ndim > 2 and features.shape[0] == output.shape[0]
    return features.shape[:-1] == output.shape[:-1] or convolution
