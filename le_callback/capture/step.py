"""Read features, logits and labels where a loss is given them, in every step. p feature dimensions, K classes.

For trainings in which a forward hook and a rule for the labels do not tell these: heads that are no layer, labels that
the step makes of its batch. A step is watched only from the layer before the loss, or before the product, on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from le_callback.capture.base import Capture, check_width
from le_callback.capture.calls import KNOWN, LossCall, Site, features_of, read_call, site_of_call
from le_callback.capture.detect import Decision, mixed_weights
from le_callback.capture.evidence import target_rows
from le_callback.capture.findings import InStep
from le_callback.capture.flow import shares_of
from le_callback.capture.rows import ALL, Rows, nearest, trace
from le_callback.capture.slot import Captured, detached
from le_callback.capture.sources import Match, channel_of, loss_rows, reached_from
from le_callback.capture.watching import Watch

_MOST_CALLS = 64  # of the head in one pass


@dataclass(frozen=True)
class Reading:
    """What is read in each step.

    Attributes:
        match: where the logits come from, without tensors.
        sites: from which the loss is called; several where the same logits are trained on several targets.
        num_classes: K.
        labels: whether the labels are read too.
        mixed: whether the same logits are trained on several targets.
        numbers: which calls of the loss in a pass count; None for all.
    """

    match: Match
    sites: tuple[Site, ...]
    num_classes: int
    labels: bool
    mixed: bool
    numbers: frozenset[int] | None = None

    @classmethod
    def of(cls, decision: Decision) -> Reading | None:
        """What has to be read where a decision was taken; None where hooks of layers are enough."""
        finding = decision.finding
        match, site = finding.match, finding.site
        told = not decision.named and (isinstance(finding.labels, InStep) or decision.mixed)
        if match is None or site is None or (match.by_layer and not told):
            return None
        sites = tuple(dict.fromkeys(f.site for f in decision.together if f.site is not None))
        return cls(match.bare, sites, finding.num_classes, told, decision.mixed, decision.numbers)


@dataclass
class _Call:
    """A call of the layer, or of the product, in this pass."""

    node: Any
    captured: Captured
    shape: torch.Size
    channel: int | None
    linear: bool = True
    product: Any = None


@dataclass
class _Read:
    """What one loss was given."""

    seen: Captured
    target: Tensor | None
    node: Any
    logits: Any


class StepCapture(Capture):
    """Captures what a loss is given.

    Args:
        module: the model.
        decision: of the first step.
        reading: what is read.
        num_classes: K, if it was named.
    """

    lasting = False

    def __init__(self, module: nn.Module, decision: Decision, reading: Reading, num_classes: int | None) -> None:
        match = reading.match
        wanted = check_width(f"head `{match.name}`", match.widths[1], num_classes or reading.num_classes)
        super().__init__(wanted)
        self.name = str(match)
        self._reading = reading
        layer = match.name if match.product is None else match.after
        self._layer = module.get_submodule(layer) if layer else None
        functions = {f for f, (name, _) in KNOWN.items() if name == decision.finding.loss}
        self._losses = frozenset(functions)
        products = [match.product.function] if match.product is not None else []
        self._watch = Watch(self._called, self._losses | frozenset(products))
        self._handle: RemovableHandle | None = None
        self._calls: list[_Call] = []
        self._reads: list[_Read] = []
        self._counts: dict[Site, int] = {}
        self._fresh = True
        self._first = decision.samples() if reading.labels else _without_labels(decision)

    @property
    def absence(self) -> str:
        """Why there may be nothing to take, and what to do."""
        return (
            "the loss was not called as in the first training batch, or not on the output of the same layers. Return"
            ' features and logits from `training_step` in a dict and pass `outputs=("features", "logits")`'
        )

    def attach(self) -> None:
        """Begin to capture."""
        self.pause()
        if self._layer is None:
            self._watch.enter()
        else:
            self._handle = self._layer.register_forward_hook(LayerHook(self), with_kwargs=True)

    def pause(self) -> None:
        """Leave module and modes as they were, and keep what was captured."""
        self._watch.leave()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self._calls.clear()

    def clear(self) -> None:
        """Forget the captures of the last forward pass."""
        self._calls.clear()
        self._reads.clear()
        self._counts.clear()
        self._first, self._fresh = None, True

    def after_forward(self) -> None:
        """Clearing the gradients of many parameters need not be watched."""
        self._watch.leave()

    def before_backward(self, loss: Tensor, *, closures: bool) -> None:
        """A backward pass from ``loss``: where logits have several targets, their parts in it are the class weights.

        What another pass of the step reads replaces what was read.
        """
        self._watch.leave()
        self._calls.clear()
        if self._reading.mixed and self._reads:
            reads, self._reads = self._reads, []
            with suppress(Exception):
                self._reads = _mixed(reads, loss, self._reading.num_classes)
        for read in self._reads:
            read.node = read.logits = None
        self._fresh = True
        self._counts.clear()

    def after_backward(self) -> None:
        """Another forward pass may follow."""
        if self._layer is None:
            self._watch.enter()

    def take(self) -> Captured | None:
        """What was read in this step."""
        if self._first is not None:
            return self._first[0]
        if not self._reads:
            return None
        if len(self._reads) == 1:
            return self._reads[0].seen
        return Captured(*(torch.cat([getattr(r.seen, name) for r in self._reads]) for name in Captured._fields))

    def labels(self) -> Tensor | None:
        """The labels that the loss was given; None where these are read in the batch."""
        if not self._reading.labels:
            return None
        if self._first is not None:
            return self._first[1]
        if not self._reads or any(read.target is None for read in self._reads):
            return None
        targets = [read.target for read in self._reads if read.target is not None]
        return targets[0] if len(targets) == 1 else torch.cat(targets)

    def settle(self, labels: Tensor) -> str | None:
        """The name of the head; ``None`` if nothing was captured."""
        return None if self.take() is None else self.name

    def called_layer(self, module: nn.Module, features: Any, output: Any) -> None:
        """The layer was called: what follows is watched."""
        if torch._C._current_graph_task_id() != -1 or not torch.is_grad_enabled():
            return  # a layer that runs again in the backward pass, or not for the training
        layer = self._reading.match.product is None
        if layer and isinstance(features, Tensor) and isinstance(output, Tensor) and len(self._calls) < _MOST_CALLS:
            captured = detached(module, features, output)
            self._calls.append(_Call(output.grad_fn, captured, output.shape, channel_of(module)))
        self._watch.enter()

    def _called(self, function: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
        product = self._reading.match.product
        if function not in self._losses:
            if product is not None and site_of_call() == product.site:
                self._multiplied(features_of(function, args, product.which), result, product.channel)
            return
        site = site_of_call()
        if site not in self._reading.sites or (call := read_call(function, args, kwargs)) is None:
            return
        reached = reached_from(call.inputs, self._calls)
        if len(reached) != 1:
            return
        number = self._counts[site] = self._counts.get(site, -1) + 1
        numbers = self._reading.numbers
        if (numbers is None or number in numbers) and (read := self._read(call, reached[0], result)) is not None:
            if self._fresh:
                self._reads.clear()
                self._fresh = False
            self._reads.append(read)

    def _multiplied(self, features: Tensor | None, result: Any, channel: int | None) -> None:
        if features is None or not isinstance(result, Tensor) or result.grad_fn is None:
            return
        captured = Captured(features.detach(), result.detach())
        self._calls.append(_Call(result.grad_fn, captured, result.shape, channel))

    def _read(self, call: LossCall, layer: _Call, result: Any) -> _Read | None:
        match, x = self._reading.match, call.inputs
        rows: Rows | None = None
        if x.grad_fn is layer.node and layer.channel == -1 and x.ndim == 2 and call.axis in (-1, 1):
            rows = ALL
        elif not match.pooled and not match.resized:
            with suppress(RuntimeError, AttributeError, IndexError):
                rows = trace(x, layer.node, layer.shape, layer.channel, call.axis)
        seen = loss_rows(match, layer.captured, rows, x, call.axis)
        if seen is None:
            return None
        target = target_rows(call, self._reading.num_classes) if self._reading.labels else None
        if target is not None and match.resized and call.target is not None:
            target = nearest(call.target, seen.logits.shape[:-1]).flatten()
        if match.resized:
            seen = Captured(*(part.flatten(0, -2) for part in seen))
        return _Read(seen, target, getattr(result, "grad_fn", None), x.grad_fn)


def _without_labels(decision: Decision) -> tuple[Captured, None] | None:
    seen = decision.finding.rows
    return None if seen is None else (seen, None)


def _mixed(reads: list[_Read], loss: Tensor, num_classes: int) -> list[_Read]:
    """One reading for each logits, with the class weights that their targets make by their parts in the loss."""
    shares = shares_of(loss, {read.node for read in reads})
    groups: dict[Any, list[_Read]] = {}
    for read in reads:
        groups.setdefault(read.logits, []).append(read)
    found = []
    for group in groups.values():
        parts = [(read.target, shares.get(read.node)) for read in group if read.target is not None]
        if (weights := mixed_weights(parts, num_classes)) is not None:
            found.append(_Read(group[0].seen, weights, None, None))
    return found


class LayerHook:
    """Forward hook that tells a capture of a call; a copy of it does nothing."""

    def __init__(self, capture: StepCapture | None) -> None:
        self.capture = capture

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Tell the capture."""
        if self.capture is not None:
            self.capture.called_layer(module, args[0] if args else next(iter(kwargs.values()), None), output)

    def __deepcopy__(self, memo: dict[int, Any]) -> LayerHook:
        return LayerHook(None)

    def __reduce__(self) -> tuple[type[LayerHook], tuple[None]]:
        return LayerHook, (None,)
