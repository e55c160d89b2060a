"""What one loss of a step says. K classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from le_callback.capture.batches import BatchPath
from le_callback.capture.calls import Site
from le_callback.capture.slot import Captured
from le_callback.capture.sources import Match


@dataclass(frozen=True)
class InStep:
    """Labels that a step makes of its batch: they are read where the loss is given them.

    Attributes:
        roots: what they are made of.
        moved: whether only their order, or which there are, differs from that in the batch.
    """

    roots: tuple[BatchPath, ...]
    moved: bool = False

    def __str__(self) -> str:
        shown = " and ".join(map(str, self.roots[:3])) + (" and others" if len(self.roots) > 3 else "")
        return shown if self.moved else f"that the step makes of {shown}"


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
        site: from which the loss is called.
        near: layer of another width that the logits come from, and that width.
        number: how many losses from there, on logits of that head, came before in the pass.
        share: factor with which it enters the sum that is minimised; None where that is not known.
        seen: features and logits of the rows that the loss saw, where ``value`` are their labels.
    """

    loss: str
    match: Match | None
    labels: BatchPath | InStep | None
    num_classes: int
    ignore_index: int | None = None
    start: int = 0
    told: bool = True
    problem: str = ""
    shape: tuple[int, ...] = ()
    value: Tensor | None = None
    turn: int = 0
    node: Any = None
    site: Site | None = None
    near: tuple[str, int] | None = None
    number: int = 0
    share: Any = None
    seen: Captured | None = None

    @property
    def head(self) -> str | None:
        """Name of the layer."""
        return None if self.match is None else self.match.name

    @property
    def samples(self) -> tuple[Captured, Tensor] | None:
        """Features (rows, p), logits (rows, K) and their labels, (rows,) or (rows, K), in this batch; None if gone."""
        captured, value = self.rows, self.value
        if captured is None or value is None:
            return None
        rows = len(captured.features)
        if value.numel() not in (rows, rows * self.num_classes):
            return None
        return captured, value.reshape(rows, -1) if value.numel() > rows else value.reshape(rows)

    @property
    def rows(self) -> Captured | None:
        """Features (rows, p) and logits (rows, K) that the loss was given; None if they are gone."""
        captured = self.seen
        if captured is None and self.match is not None and self.match.by_layer:
            captured = self.match.captured
        return None if captured is None else Captured(*(x.flatten(0, -2) for x in captured))
