"""Which layer of a model a tensor comes from. p feature dimensions, K classes.

In the step in which the head is looked for, each call of a layer leaves its shapes and weak references behind, no
activations; only the last call is held, as its features may be gone when its logits meet the loss.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.capture.calls import Site, channel_of_product, features_of
from le_callback.capture.rows import trace
from le_callback.capture.slot import Captured, detached, shares_storage
from le_callback.capture.sources import POOLED, Match, Product, Seen, channel_of, pooled_match, reached_from

Whole = Callable[[Tensor], bool]


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
        self._running: list[str] = []
        self._held: deque[tuple[Seen, Tensor, Tensor]] = deque(maxlen=1)
        self._products: deque[tuple[Seen, Tensor, Tensor]] = deque(maxlen=2)
        self.calls: list[Seen] = []

    def attach(self) -> None:
        """Watch the layers."""
        if not self._handles:
            for name, (module, _) in self._layers.items():
                self._handles.append(module.register_forward_pre_hook(StartHook(self, name)))
                self._handles.append(module.register_forward_hook(SearchHook(self, name), with_kwargs=True))

    def detach(self) -> None:
        """Leave the layers as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._running.clear()

    def restart(self) -> None:
        """Count the calls from 0 again: another pass of the same step begins."""
        self._counts.clear()

    @property
    def last(self) -> Captured | None:
        """Of the last call of a linear-like layer."""
        return None if not self._held else detached(self._held[0][0].module, *self._held[0][1:])

    def forget(self) -> None:
        """Give up every reference to tensors and graphs; shapes stay."""
        self._held.clear()
        self._products.clear()
        for seen in self.calls:
            seen.node = seen.source = None

    def start(self, name: str) -> None:
        """A layer is called."""
        self._running.append(name)

    def end(self, name: str) -> None:
        """A layer was called."""
        if name in self._running:
            del self._running[self._running.index(name) :]

    def add(self, name: str, module: nn.Module, features: Tensor, output: Tensor) -> None:
        """A layer was called with these features."""
        graded, linear = torch.is_grad_enabled(), self._layers[name][1]
        call = self._counted(name, graded)
        if features.ndim == 0 or output.ndim == 0:
            return
        channel = channel_of(module)
        widths = features.shape[channel], output.shape[channel]
        references, source = (weakref.ref(features), weakref.ref(output)), (id(features), features.grad_fn)
        inside = tuple(self._running)
        seen = Seen(
            name, module, linear, widths, call, graded, *references, output.grad_fn, inside, source, output.shape
        )
        self.calls.append(seen)
        if linear:
            self._held.append((seen, features.detach(), output.detach()))

    def add_product(
        self, function: Callable[..., Any], args: tuple[Any, ...], which: int, site: Site, out: Any
    ) -> None:
        """Features, operand ``which``, were multiplied with vectors that are no samples of the batch."""
        features = features_of(function, args, which)
        if features is None or not isinstance(out, Tensor) or out.grad_fn is None or out.ndim == 0:
            return
        if self._running and self._layers[self._running[-1]][1]:
            return  # what a layer does
        channel = channel_of_product(function, args, which, out.ndim)
        product = Product(function, which, site, channel)
        call = self._counted(str(product), True)
        widths = features.shape[-1], 1 if channel is None else out.shape[channel]
        references, inside = (weakref.ref(features), weakref.ref(out)), tuple(self._running)
        seen = Seen(str(product), None, False, widths, call, True, *references, out.grad_fn, inside, product=product)
        self.calls.append(seen)
        self._products.append((seen, features.detach(), out.detach()))

    def times(self, match: Match) -> int:
        """How often the layer of a match was called in one pass."""
        return self._most.get(match.name, 0)

    def match(
        self, logits: Tensor, widths: set[int], axis: int = -1, whole: Whole = lambda features: False
    ) -> Match | None:
        """The call that gave ``logits``; ``None`` if none did, or several did.

        Looked for by identity, by storage, then along the graph of gradients through operations that leave the classes
        where they are. Linear-like layers come first, then layers with weights of their own, then products that no
        layer makes; then layers made of others.

        Args:
            logits: what a loss was given.
            widths: the K that are possible.
            axis: of the classes.
            whole: whether what enters a layer is so far untouched by any other.
        """
        fitting = [seen for seen in self.calls if seen.widths[1] in widths]
        same = [seen for seen in fitting if _is(seen, logits)]
        if linear := [seen for seen in same if seen.linear]:
            return self._traced(linear[0], True, logits, axis)
        passed: list[str] = []
        reached = reached_from(logits, [seen for seen in fitting if seen.node is not None], passed)
        firm = self._firm(same, reached)
        if (match := self._of(firm, logits, axis, passed)) is not None:
            return match
        if len(firm) > 1 and len({seen.product or seen.name for seen in firm}) == 1:
            return None  # a sum over several calls
        for seen, is_same in [*((seen, True) for seen in same), *((seen, False) for seen in reached)]:
            features, output = seen.features(), seen.output()
            if seen.module is None or features is None or output is None or whole(features):
                continue
            if not seen.linear and _rows_belong(features, output):
                return self._traced(seen, is_same, logits, axis)
        return None

    def nearest(self, logits: Tensor) -> tuple[str, int] | None:
        """The linear-like layer of any width that ``logits`` come from, and its width; None if there are several."""
        reached = reached_from(logits, [seen for seen in self.calls if seen.linear and seen.node is not None])
        return (reached[0].name, reached[0].widths[1]) if len(reached) == 1 else None

    def _firm(self, same: list[Seen], reached: list[Seen]) -> list[Seen]:
        """Linear-like layers, layers with weights of their own that multiply, and products of no layer."""
        found = [seen for seen in reached if seen.linear]
        nodes = {seen.node for seen in found}
        for product in (seen for seen in reached if seen.product is not None and seen.node not in nodes):
            around = [
                s for s in (*same, *reached) if s.module is not None and s.name in product.inside and _leaf(s.module)
            ]
            features, output = (around[0].features(), around[0].output()) if around else (None, None)
            if features is not None and output is not None and _rows_belong(features, output):
                found.append(around[0])
            else:
                found.append(product)
        return found

    def _of(self, firm: list[Seen], logits: Tensor, axis: int, passed: list[str]) -> Match | None:
        if not firm:
            return None
        if len(firm) == 1 and firm[0].product is not None:
            return self._multiplied(firm[0], logits, axis)
        names = {seen.name for seen in firm}
        if len(firm) == 1:
            match = self._traced(firm[0], False, logits, axis)
            if any(name.startswith("Upsample") for name in passed):
                match = replace(match, resized=True)
            return match if not any(name in POOLED for name in passed) else pooled_match(match, logits, axis)
        sources = {seen.source for seen in firm}
        if len(names) == len(firm) and len(sources) == 1 and firm[0].source is not None:
            firm = sorted(firm, key=self.calls.index)
            first = self._traced(firm[0], False, logits, axis)
            known = first.captured is None or first.rows is not None
            return replace(first, others=tuple(seen.name for seen in firm[1:])) if known else None
        return None

    def _multiplied(self, seen: Seen, logits: Tensor, axis: int) -> Match | None:
        held = [(features, output) for other, features, output in self._products if other is seen]
        before = [s.name for s in self.calls[: self.calls.index(seen)] if s.module is not None]
        found = Match(seen.name, seen.call, seen.widths, None, False, seen.product, after=before[-1] if before else "")
        if not held:
            return found
        rows = trace(logits, seen.node, held[0][1].shape, seen.channel, axis)
        return None if rows is None else replace(found, captured=Captured(*held[0]), rows=rows)

    def _traced(self, seen: Seen, same: bool, logits: Tensor, axis: int) -> Match:
        match = self._found(seen, same)
        if match.captured is None or seen.node is None or seen.shape is None:
            return match
        with suppress(RuntimeError, AttributeError, IndexError):  # of a graph that is otherwise than expected
            return replace(match, rows=trace(logits, seen.node, seen.shape, seen.channel, axis))
        return match

    def _counted(self, name: str, graded: bool) -> int:
        call = self._counts.get((name, graded), 0)
        self._counts[name, graded] = call + 1
        self._most[name] = max(self._most.get(name, 0), call + 1)
        return call

    def _found(self, seen: Seen, same: bool) -> Match:
        features, output = seen.features(), seen.output()
        for held in self._held:
            if held[0] is seen:
                _, features, output = held
        captured = None if features is None or output is None else detached(seen.module, features, output)
        return Match(seen.name, seen.call, seen.widths, captured, same)


class StartHook:
    """Forward pre-hook that tells a search of a call before it; a copy of it does nothing."""

    def __init__(self, search: Search | None, name: str) -> None:
        self.search, self.name = search, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Tell the search."""
        if self.search is not None:
            self.search.start(self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> StartHook:
        return StartHook(None, self.name)

    def __reduce__(self) -> tuple[Callable[..., StartHook], tuple[None, str]]:
        return StartHook, (None, self.name)


class SearchHook:
    """Forward hook that tells a search of a call; a copy of it does nothing."""

    def __init__(self, search: Search | None, name: str) -> None:
        self.search, self.name = search, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Tell the search."""
        features = args[0] if args else next(iter(kwargs.values()), None)
        if self.search is not None:
            self.search.end(self.name)
        if self.search is not None and isinstance(features, Tensor) and isinstance(output, Tensor):
            self.search.add(self.name, module, features, output)

    def __deepcopy__(self, memo: dict[int, Any]) -> SearchHook:
        return SearchHook(None, self.name)

    def __reduce__(self) -> tuple[Callable[..., SearchHook], tuple[None, str]]:
        return SearchHook, (None, self.name)


def _leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _is(seen: Seen, logits: Tensor) -> bool:
    output = seen.output()
    if output is None:
        return False
    return output is logits or shares_storage(output, logits)


def _rows_belong(features: Tensor, output: Tensor) -> bool:
    if not features.is_floating_point():
        return False
    convolution = features.ndim == output.ndim > 2 and features.shape[0] == output.shape[0]
    return features.shape[:-1] == output.shape[:-1] or convolution
