"""What the losses of a training step say about its classifier: which logits, trained on which labels.

K classes; ``…`` stands for samples, positions, pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from le_callback.capture.batches import (
    Ambiguous,
    BatchPath,
    are_class_weights,
    counts_rows,
    is_one_hot,
    leaves,
    locate,
)
from le_callback.capture.calls import KNOWN, PRODUCTS, LossCall, operands, read_call, site_of_call
from le_callback.capture.findings import Finding, InStep
from le_callback.capture.flow import Flow, shares_of
from le_callback.capture.rows import nearest
from le_callback.capture.search import Search
from le_callback.capture.sources import Match, loss_rows

MADE_UP = "its target is not in the batch, but was made up in the step"
UNTOLD = "it does not tell its labels, and no layer or loss was given those of the batch"
_MULTI_LABEL = "each of its {width} outputs has a target of its own (several labels a sample)"


class NoClassificationError(ValueError):
    """What is trained is no classifier: there is nothing to follow."""


class Evidence:
    """Collects what the losses of a step say.

    Args:
        batch: of that step.
        search: finds the layer that gave a tensor.

    >>> logits, y = torch.zeros(4, 3, requires_grad=True), torch.tensor([2, 0, 1, 1])
    >>> from le_callback.capture.watching import Watch
    >>> evidence = Evidence({"x": torch.zeros(4, 5), "digit": y}, Search({}))
    >>> watch = Watch(evidence.called)
    >>> watch.enter()
    >>> _ = torch.nn.functional.cross_entropy(logits, y)
    >>> watch.leave()
    >>> print(evidence.findings[0].loss, evidence.findings[0].labels)
    cross_entropy batch['digit']
    """

    def __init__(self, batch: Any, search: Search) -> None:
        self._held = leaves(batch)
        self._flow = Flow(self._held)
        self._search = search
        self._indices: list[Tensor] = []
        self._turn = 0
        self.findings: list[Finding] = []
        self.seen: list[str] = []

    @torch.no_grad()
    def called(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Take in the call of a function."""
        self._flow.add(function, args, kwargs, result)
        if function in KNOWN:
            if (call := read_call(function, args, kwargs)) is not None:
                self.add(replace(call, node=getattr(result, "grad_fn", None), site=site_of_call()))
        elif function in PRODUCTS and (pair := operands(function, args)) is not None:
            touched = [bool(self._flow.touched_by(x)) for x in pair]
            if sum(touched) == 1 and (site := site_of_call()) is not None:
                self._search.add_product(function, args, touched.index(True), site, result)

    def _match(self, logits: Tensor, widths: set[int], axis: int = -1) -> Match | None:
        return self._search.match(logits, widths, axis, lambda features: bool(self._flow.made_of(features)))

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
            finding = replace(finding, turn=self._turn, node=call.node, site=call.site, shape=tuple(call.inputs.shape))
            before = [f for f in self.findings if (f.turn, f.site, f.head) == (self._turn, call.site, finding.head)]
            self.findings.append(replace(finding, number=len(before)))

    def backward(self, loss: Tensor) -> None:
        """A backward pass from ``loss``: what it does not reach, such as a loss that is only logged, is no evidence."""
        waiting = {f.node for f in self.findings if f.node is not None}
        reached = reachable(loss.grad_fn, waiting)
        self.findings = [f for f in self.findings if f.node is None or f.node in reached]
        shares = shares_of(loss, waiting)
        told = [replace(f, share=shares.get(f.node)) if f.node is not None else f for f in self.findings]
        self.findings = [replace(f, node=None) for f in told]
        self._turn += 1

    def close(self) -> None:
        """The forward pass is over: complete what a loss written by hand says, and give up every tensor."""
        for i, finding in enumerate(self.findings):
            if not finding.told:
                with torch.no_grad():
                    self.findings[i] = self._complete(finding)
        self._indices.clear()
        self._flow.forget()
        self._held = []
        self.findings = [replace(f, node=None) for f in self.findings if f.told or f.match is not None]

    def _complete(self, finding: Finding) -> Finding:
        problem = UNTOLD
        for index in self._indices:
            place, problem = self._locate(index, self._held, finding.num_classes)
            if isinstance(place, BatchPath) and (finding.match is None or not finding.match.moved):
                return replace(finding, labels=place, value=self._value(place))
        return replace(finding, problem=problem)

    def _classes(self, call: LossCall) -> Finding | None:
        x, target = call.inputs, call.target
        classes = x.shape[call.axis]
        match = self._match(x, {classes}, call.axis)
        finding = Finding(call.name, match, None, classes, call.ignore_index)
        if match is None and (near := self._search.nearest(x)) is not None:
            finding = replace(finding, near=near)
        if target is None or classes < 2:
            return replace(finding, problem="its target is no tensor" if target is None else "it has one class")
        if target.is_floating_point() and not are_class_weights(target.movedim(call.axis, -1)):
            return replace(finding, problem="its floating target is no class weights (rows from 0 that sum to 1)")
        return self._placed(finding, call, *self._locate(target, self._held, classes, call.ignore_index))

    def _binary(self, call: LossCall) -> Finding | None:
        x, target = call.inputs, call.target
        last = x.shape[-1] if x.ndim > 1 else 1
        match = self._match(x, {1, last, x.shape[1] if x.ndim > 2 else last})
        width = match.widths[1] if match is not None else last
        if target is None:
            return None
        if width == 1 and not call.name.startswith("multilabel"):
            finding = Finding(call.name, match, None, 2)
            if problem := self._no_label(call.inputs, target):
                return replace(finding, problem=problem)
            return self._placed(finding, call, *self._locate(target, self._held, 2))
        finding = Finding(call.name, match, None, width)
        if target.shape == x.shape and is_one_hot(target):
            single = [(p, leaf) for p, leaf in self._held if leaf.numel() * width == x.numel()]
            place, problem = self._locate(target, single, width)
            if place is not None:
                return self._placed(finding, call, place, problem)
        finding = replace(finding, problem=_MULTI_LABEL.format(width=width))
        if target.shape != x.shape or not is_one_hot(target):
            return finding
        place = self._locate(target, self._held, width)[0]
        if not isinstance(place, BatchPath):
            return finding
        return replace(finding, labels=place, value=self._value(place))

    def _no_label(self, logits: Tensor, target: Tensor) -> str:
        """Why the targets of single logits are not the labels 0 and 1, or smoothed ones; empty if they may be."""
        values = target.detach().double()
        if not bool(((values >= 0) & (values <= 1)).all()):
            return "its targets are not between 0 and 1"
        if bool(((values != values.min()) & (values != values.max())).any()):
            return "its targets are not two values, one for each class"
        inputs = self._flow.touched_by(logits)
        rebuilt = [path for path, leaf in self._held if leaf.is_floating_point() and path in inputs]
        if any(path in rebuilt for path in self._flow.made_of(target)):
            return "its target is made of the input, as that of an autoencoder"
        return ""

    def _table(self, call: LossCall, fits: Callable[[Tensor], bool]) -> Finding | None:
        """A loss between two tables (…, K), whose target is labels of the batch where it ``fits``."""
        x, target = call.inputs, call.target
        if target is None or x.ndim < 2 or x.shape != target.shape or x.shape[-1] < 2 or not fits(target):
            return None
        place, problem = self._locate(target, self._held, x.shape[-1])
        match = self._match(x, {x.shape[-1]})
        if place is None or match is None:
            return None
        return self._placed(Finding(call.name, match, None, x.shape[-1]), call, place, problem)

    def _scores(self, call: LossCall) -> Finding | None:
        x = call.inputs
        if x.ndim < 2 or (classes := x.shape[call.axis]) < 2:
            return None
        match = self._match(x, {classes}, call.axis)
        if match is None:
            return None
        finding = Finding(call.name, match, None, classes, told=False)
        if match.by_layer or match.captured is None:
            return finding
        return replace(finding, seen=loss_rows(match, match.captured, match.rows, x, call.axis))

    def _locate(
        self, target: Tensor, held: list[tuple[BatchPath, Tensor]], classes: int, ignore_index: int | None = None
    ) -> tuple[BatchPath | InStep | None, str]:
        """Where a target is in the batch, or what of it the step makes the target of; else why that is not known."""
        roots = self._flow.made_of(target)
        among = [(path, leaf) for path, leaf in held if path in roots] if roots else held
        in_step = InStep(tuple(roots)) if among and roots and not (counts_rows(target) or _constant(target)) else None
        try:
            place = locate(target, among, classes, ignore_index)
        except Ambiguous as error:
            return (None, str(error)) if in_step is None else (in_step, "")
        if place is not None and (in_step is None or self._flow.is_plain(target)):
            return place, ""
        return in_step, "" if in_step is not None else MADE_UP

    def _placed(self, finding: Finding, call: LossCall, place: BatchPath | InStep | None, problem: str) -> Finding:
        """Add where the labels are, and of which rows."""
        match = finding.match
        captured = None if match is None else match.captured
        axis = call.axis
        rows = call.inputs.movedim(axis, -1) if finding.num_classes > 2 or call.kind == "classes" else None
        rows = call.inputs.reshape(-1, 1) if rows is None and call.kind == "binary" else rows
        if captured is not None and rows is not None and rows.shape[-1] == captured.logits.shape[-1]:
            start = first_row(captured.logits.flatten(0, -2), rows.reshape(-1, rows.shape[-1]))
            finding = replace(finding, start=start)
        if isinstance(place, BatchPath) and match is not None and (match.moved or not match.by_layer):
            place = InStep((place,), moved=True)
        needed = isinstance(place, InStep) or (match is not None and not match.by_layer)
        seen = None
        if needed and match is not None and captured is not None:
            seen = loss_rows(match, captured, match.rows, call.inputs, axis)
        if match is not None and not match.by_layer:
            finding = replace(finding, seen=seen)
        if place is None:
            return replace(finding, problem=problem)
        if isinstance(place, BatchPath):
            return self._at(finding, place)
        if match is None:
            return replace(finding, labels=place)
        if captured is not None and seen is None:
            return replace(finding, problem="which rows of the layer it sees is not known")
        target = target_rows(call, finding.num_classes)
        if seen is not None and match.resized and call.target is not None:
            target = nearest(call.target, seen.logits.shape[:-1])
        return replace(finding, labels=place, value=target, seen=seen)

    def _at(self, finding: Finding, place: BatchPath) -> Finding:
        """Labels at a place in the batch."""
        captured = None if finding.match is None else finding.match.captured
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


def target_rows(call: LossCall, num_classes: int) -> Tensor | None:
    """The target of a loss as labels (rows,) or class weights (rows, K) in the order of its rows."""
    x, target = call.inputs, call.target
    if target is None:
        return None
    target = target.detach()
    if target.shape != x.shape or (call.kind == "binary" and num_classes == 2 and x.shape[-1:] != (2,)):
        return target.reshape(-1)
    return target.movedim(call.axis, -1).flatten(0, -2) if target.ndim > 1 else target


def _constant(target: Tensor) -> bool:
    return target.numel() > 0 and bool((target == target.reshape(-1)[0]).all())


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
