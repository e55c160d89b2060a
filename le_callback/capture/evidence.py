"""What the losses of a training step say about its classifier: which logits, trained on which labels.

K classes; ``…`` stands for samples, positions, pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from le_callback.capture.batches import Ambiguous, BatchPath, are_class_weights, is_one_hot, leaves, locate
from le_callback.capture.calls import KNOWN, LossCall, read_call
from le_callback.capture.search import Match

MADE_UP = "its target is not in the batch, but was made up in the step"
UNTOLD = "it does not tell its labels, and no layer or loss was given those of the batch"
_MULTI_LABEL = "each of its {width} outputs has a target of its own (several labels a sample)"


class NoClassificationError(ValueError):
    """What is trained is no classifier: there is nothing to follow."""


class LossWatch(TorchFunctionMode):
    """Hands on the calls of known loss functions while it is on; the calls themselves are not changed.

    >>> names = []
    >>> watch = LossWatch(lambda call: names.append(call.name))
    >>> watch.enter()
    >>> _ = torch.nn.CrossEntropyLoss()(torch.zeros(1, 3, requires_grad=True), torch.tensor([2]))
    >>> watch.leave()
    >>> names
    ['cross_entropy']
    """

    def __init__(self, told: Callable[[LossCall], None]) -> None:
        super().__init__()
        self._told = told
        self._on = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, then tell of it if it is known."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in KNOWN and not torch.compiler.is_compiling():
            self._tell(func, args, kwargs, result)
        return result

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _tell(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        try:
            with torch.no_grad():
                if (call := read_call(func, args, kwargs)) is not None:
                    self._told(replace(call, node=getattr(result, "grad_fn", None)))
        except Exception:  # a loss that cannot be read is no evidence, and never ends the step
            return

    def enter(self) -> None:
        """Begin to listen."""
        if not self._on:
            _push_mode(self)  # type: ignore[no-untyped-call]
            self._on = True

    def leave(self) -> None:
        """Stop listening; modes that were entered later stay."""
        if not self._on:
            return
        self._on = False
        above = []
        while (mode := _pop_mode()) is not self:  # type: ignore[no-untyped-call]
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Finding:
    """What one loss says.

    Attributes:
        loss: its name.
        match: the layer that gave the logits; None if none did.
        labels: where the target is in the batch; None if it is not there, or the loss does not tell.
        num_classes: K.
        ignore_index: label that the loss leaves out.
        start: of the rows that the loss saw, where it saw only some.
        told: whether the loss names its target.
        problem: why it cannot be followed; empty if it can.
        shape: of the logits.
        value: the labels of this batch.
        turn: how many backward passes came before it in the step.
        node: of the loss in the graph of gradients, while the step runs.
    """

    loss: str
    match: Match | None
    labels: BatchPath | None
    num_classes: int
    ignore_index: int | None = None
    start: int = 0
    told: bool = True
    problem: str = ""
    shape: tuple[int, ...] = ()
    value: Tensor | None = None
    turn: int = 0
    node: Any = None

    @property
    def head(self) -> str | None:
        """Name of the layer."""
        return None if self.match is None else self.match.name


class Evidence:
    """Collects what the losses of a step say.

    Args:
        batch: of that step.
        match: finds the layer that gave a tensor, of one of these widths.

    >>> logits, y = torch.zeros(4, 3, requires_grad=True), torch.tensor([2, 0, 1, 1])
    >>> evidence = Evidence({"x": torch.zeros(4, 5), "digit": y}, lambda tensor, widths: None)
    >>> watch = LossWatch(evidence.add)
    >>> watch.enter()
    >>> _ = torch.nn.functional.cross_entropy(logits, y)
    >>> watch.leave()
    >>> print(evidence.findings[0].loss, evidence.findings[0].labels)
    cross_entropy batch['digit']
    """

    def __init__(self, batch: Any, match: Callable[[Tensor, set[int]], Match | None]) -> None:
        self._held = leaves(batch)
        self._match = match
        self._indices: list[Tensor] = []
        self._turn = 0
        self.findings: list[Finding] = []
        self.seen: list[str] = []

    def add(self, call: LossCall) -> None:
        """Take in a call."""
        if call.kind == "index":
            if call.target is not None and not call.target.is_floating_point() and len(self._indices) < 8:
                self._indices.append(call.target)
            return
        if call.name not in self.seen:
            self.seen.append(call.name)
        readers: dict[str, Callable[[LossCall], Finding | None]] = {
            "classes": self._classes,
            "binary": self._binary,
            "weights": partial(self._table, fits=is_one_hot),
            "divergence": partial(self._table, fits=are_class_weights),
            "scores": self._scores,
        }
        reader = readers.get(call.kind)
        if reader is not None and (finding := reader(call)) is not None:
            self.findings.append(replace(finding, shape=tuple(call.inputs.shape), turn=self._turn, node=call.node))

    def backward(self, loss: Tensor) -> None:
        """A backward pass from ``loss``: what it does not reach, such as a loss that is only logged, is no evidence."""
        waiting = {f.node for f in self.findings if f.node is not None}
        reached = reachable(loss.grad_fn, waiting)
        self.findings = [f for f in self.findings if f.node is None or f.node in reached]
        self.findings = [replace(f, node=None) for f in self.findings]
        self._turn += 1

    def close(self) -> None:
        """The forward pass is over: complete what a loss written by hand says, and give up every tensor."""
        for i, finding in enumerate(self.findings):
            if not finding.told:
                with torch.no_grad():
                    self.findings[i] = self._complete(finding)
        self._indices.clear()
        self._held = []
        self.findings = [replace(f, node=None) for f in self.findings if f.told or f.match is not None]

    def _complete(self, finding: Finding) -> Finding:
        problem = UNTOLD
        for index in self._indices:
            place, problem = self._locate(index, self._held, finding.num_classes)
            if place is not None:
                return replace(finding, labels=place, value=self._value(place))
        return replace(finding, problem=problem)

    def _classes(self, call: LossCall) -> Finding | None:
        x, target = call.inputs, call.target
        classes = x.shape[call.axis]
        match = self._match(x, {classes})
        finding = Finding(call.name, match, None, classes, call.ignore_index)
        if target is None or classes < 2:
            return replace(finding, problem="its target is no tensor" if target is None else "it has one class")
        rows = x.movedim(call.axis, -1)
        if target.is_floating_point() and not are_class_weights(target.movedim(call.axis, -1)):
            return replace(finding, problem="its floating target is no class weights (rows from 0 that sum to 1)")
        return self._placed(finding, rows, *self._locate(target, self._held, classes, call.ignore_index))

    def _binary(self, call: LossCall) -> Finding | None:
        x, target = call.inputs, call.target
        last = x.shape[-1] if x.ndim > 1 else 1
        match = self._match(x, {1, last, x.shape[1] if x.ndim > 2 else last})
        width = match.widths[1] if match is not None else last
        if target is None:
            return None
        if width == 1 and not call.name.startswith("multilabel"):
            finding = Finding(call.name, match, None, 2)
            values = target.detach().double()
            if not bool(((values >= 0) & (values <= 1)).all()):
                return replace(finding, problem="its targets are not between 0 and 1")
            return self._placed(finding, x.reshape(-1, 1), *self._locate(target, self._held, 2))
        finding = Finding(call.name, match, None, width)
        if target.shape == x.shape and is_one_hot(target):
            single = [(p, leaf) for p, leaf in self._held if leaf.numel() * width == x.numel()]
            place, problem = self._locate(target, single, width)
            if place is not None:
                return self._placed(finding, x, place, problem)
        finding = replace(finding, problem=_MULTI_LABEL.format(width=width))
        if target.shape != x.shape or not is_one_hot(target):
            return finding
        place = self._locate(target, self._held, width)[0]
        return finding if place is None else replace(finding, labels=place, value=self._value(place))

    def _table(self, call: LossCall, fits: Callable[[Tensor], bool]) -> Finding | None:
        """A loss between two tables (…, K), whose target is labels of the batch where it ``fits``."""
        x, target = call.inputs, call.target
        if target is None or x.ndim < 2 or x.shape != target.shape or x.shape[-1] < 2 or not fits(target):
            return None
        place, problem = self._locate(target, self._held, x.shape[-1])
        match = self._match(x, {x.shape[-1]})
        if place is None or match is None:
            return None
        return self._placed(Finding(call.name, match, None, x.shape[-1]), x, place, problem)

    def _scores(self, call: LossCall) -> Finding | None:
        x = call.inputs
        if x.ndim < 2 or (classes := x.shape[call.axis]) < 2:
            return None
        match = self._match(x, {classes})
        return None if match is None else Finding(call.name, match, None, classes, told=False)

    def _locate(
        self, target: Tensor, held: list[tuple[BatchPath, Tensor]], classes: int, ignore_index: int | None = None
    ) -> tuple[BatchPath | None, str]:
        """Where a target is in the batch; else why that is not known."""
        try:
            place = locate(target, held, classes, ignore_index)
        except Ambiguous as error:
            return None, str(error)
        return place, "" if place is not None else MADE_UP

    def _placed(self, finding: Finding, rows: Tensor, place: BatchPath | None, problem: str) -> Finding:
        """``rows`` (…, K) are what the loss saw."""
        captured = None if finding.match is None else finding.match.captured
        if captured is not None and rows.shape[-1] == captured.logits.shape[-1]:
            start = first_row(captured.logits.flatten(0, -2), rows.reshape(-1, rows.shape[-1]))
            finding = replace(finding, start=start)
        if place is None:
            return replace(finding, problem=problem)
        value = self._value(place)
        if captured is not None and place.steps and place.steps[-1][0] == "next" and captured.logits.ndim == 3:
            longer = captured.logits.shape[1] == value.shape[1] + 1  # the model saw the last token too
            if longer:
                ignored = -100 if finding.ignore_index is None else finding.ignore_index
                place = BatchPath((*place.steps[:-1], ("following", ignored)))
                value = self._value(place)
        return replace(finding, labels=place, value=value)

    def _value(self, place: BatchPath) -> Tensor:
        """The labels at a place, also where the step has taken them out of the batch meanwhile."""
        for path, leaf in self._held:
            if path.steps == place.steps[: len(path.steps)]:
                return BatchPath(place.steps[len(path.steps) :])(leaf)  # type: ignore[no-any-return]
        raise KeyError(str(place))


def first_row(logits: Tensor, rows: Tensor) -> int:
    """Where ``rows`` (n, K) begin in ``logits`` (N, K): 0, or where the last n rows begin.

    >>> x = torch.arange(6.0).reshape(3, 2)
    >>> first_row(x, x[:2]), first_row(x, x[1:])
    (0, 1)
    """
    rest = len(logits) - len(rows)
    if rest <= 0 or rows.shape[1] != logits.shape[1]:
        return 0
    return rest if torch.equal(logits[rest:], rows.to(logits.dtype)) else 0


def reachable(start: Any, wanted: set[Any], limit: int = 100_000) -> set[Any]:
    """Those of the ``wanted`` nodes of a graph of gradients that a backward pass from ``start`` reaches."""
    found: set[Any] = set()
    queue, visited = [start], {start}
    while queue and len(found) < len(wanted) and len(visited) < limit:
        following = []
        for node in queue:
            if node is None:
                continue
            if node in wanted:
                found.add(node)
            for inner, _ in node.next_functions:
                if inner is not None and inner not in visited:
                    visited.add(inner)
                    following.append(inner)
        queue = following
    return found
