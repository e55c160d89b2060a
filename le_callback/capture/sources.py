"""Where the logits of a loss come from, and how to get there. p feature dimensions, K classes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.capture.calls import PRODUCTS, Site
from le_callback.capture.rows import ALL, Rows, chosen
from le_callback.capture.slot import CONVOLUTIONS, Captured

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
POOLED = frozenset(("Mean", "AdaptiveAvgPool2D", "AdaptiveAvgPool1D", "AdaptiveAvgPool3D", "AvgPool2D", "Sum"))


@dataclass(frozen=True)
class Product:
    """A product of features with a vector for each class, written in a step: a head without a layer.

    Attributes:
        function: that multiplies.
        which: of its operands are the features.
        site: from which it is called.
        channel: axis of the classes in the result; None if it has none.
    """

    function: Callable[..., Any]
    which: int
    site: Site
    channel: int | None = -1

    def __str__(self) -> str:
        return f"{PRODUCTS[self.function]} in {self.site}"


@dataclass
class Seen:
    """One call of a layer, or of a product that no layer makes.

    Attributes:
        name: of the layer.
        module: the layer; None of a product.
        linear: whether it is linear-like.
        widths: p and K.
        call: how many calls of that layer, with or without gradients as this one, came before.
        graded: whether gradients were on.
        features: what went in, if it is still there.
        output: what came out, if it is still there.
        node: of the output in the graph of gradients.
        inside: names of the layers that were running.
        source: that tells the features from others.
        shape: of the output.
        product: how features and logits are multiplied; None of a layer.
    """

    name: str
    module: nn.Module | None
    linear: bool
    widths: tuple[int, int]
    call: int
    graded: bool
    features: weakref.ref[Tensor]
    output: weakref.ref[Tensor]
    node: Any
    inside: tuple[str, ...] = ()
    source: Any = None
    shape: torch.Size | None = None
    product: Product | None = None

    @property
    def channel(self) -> int | None:
        """The axis of the classes in the output."""
        return channel_of(self.module) if self.product is None else self.product.channel


@dataclass(frozen=True)
class Match:
    """Where the logits of a loss come from.

    Attributes:
        name: of the layer, or of the product.
        call: of that layer, counted from 0 in one pass.
        widths: p and K.
        captured: features and logits; None if the features were given up already.
        same: whether the loss saw the layer's output itself, or a view of it.
        product: how features and logits are multiplied; None of a layer.
        others: layers that have the same features and part in the logits, which are those that the loss was given.
        pooled: whether the loss was given the mean over all positions.
        resized: whether positions of the loss are finer than those of the layer.
        rows: of the layer's output, in the order of the loss; None where that is not known.
        after: layer that was called before, where the match is no layer.
    """

    name: str
    call: int
    widths: tuple[int, int]
    captured: Captured | None
    same: bool
    product: Product | None = None
    others: tuple[str, ...] = ()
    pooled: bool = False
    resized: bool = False
    rows: Rows | None = None
    after: str = ""

    @property
    def moved(self) -> bool:
        """Whether the loss was given all rows, in another order than the layer has them."""
        if not isinstance(self.rows, Tensor) or self.captured is None:
            return False
        there = torch.arange(self.captured.features.shape[:-1].numel(), device=self.rows.device)
        return len(there) == len(self.rows) and not torch.equal(self.rows, there)

    @property
    def bare(self) -> Match:
        """Without tensors."""
        return replace(self, captured=None, rows=None)

    @property
    def by_layer(self) -> bool:
        """Whether features and logits are what enters and leaves a layer."""
        return self.product is None and not self.others and not self.pooled

    def __str__(self) -> str:
        return " + ".join((self.name, *self.others)) + (", mean over all positions" if self.pooled else "")


def reached_from(logits: Tensor, calls: list[Any], passed: list[str] | None = None) -> list[Any]:
    """Those ``calls``, by their ``node``, that ``logits`` were made of by operations that leave the classes alone.

    Args:
        logits: of a loss.
        calls: of layers and products.
        passed: takes the names of the operations between.
    """
    by_node: dict[Any, list[Any]] = {}
    for seen in calls:
        by_node.setdefault(seen.node, []).append(seen)
    found: list[Any] = []
    queue, visited = [logits.grad_fn], {logits.grad_fn}
    while queue and len(visited) < _MOST_NODES:
        node = queue.pop(0)
        if node is None:
            continue
        here = by_node.get(node, [])
        found += here
        name = str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward")
        if any(seen.linear or seen.product for seen in here) or name not in _PASSED | POOLED:
            continue
        if passed is not None:
            passed.append(name)
        following = [n for n, _ in node.next_functions if n is not None and n not in visited]
        visited.update(following)
        queue += following
    return found


def channel_of(module: nn.Module | None) -> int:
    """The axis of the classes in the output of a layer."""
    return 1 if isinstance(module, CONVOLUTIONS) else -1


def loss_rows(match: Match, captured: Captured, rows: Rows | None, logits: Tensor, axis: int) -> Captured | None:
    """Features (rows, p) and logits (rows, K) of the rows that a loss saw, in their order; None if that is not known.

    Args:
        match: where the logits come from.
        captured: what entered and left the layer or product.
        rows: as ``trace`` gives them.
        logits: that the loss was given.
        axis: of the classes in them.
    """
    if match.pooled:
        return given(over_positions(captured).features, logits, axis)
    if match.resized:
        return captured
    if rows is None:
        return None
    if match.by_layer:
        return chosen(captured, rows)
    features = captured.features.flatten(0, -2) if captured.features.ndim != 2 else captured.features
    return given(features if rows is ALL else features[rows], logits, axis)


def given(features: Tensor, logits: Tensor, axis: int) -> Captured | None:
    """Features (rows, p) with the logits that a loss was given; None if their rows do not belong together."""
    rows = rows_of(logits, axis, len(features))
    return None if rows is None else Captured(features, rows)


def rows_of(logits: Tensor, axis: int, count: int) -> Tensor | None:
    """Logits (``count``, K), of which K may be 1 and have no axis; None where there are more or fewer rows."""
    logits = logits.detach()
    if logits.ndim == 2 and axis in (-1, 1) and len(logits) == count:
        return logits
    if logits.numel() == count:
        return logits.reshape(count, 1)
    rows = logits.movedim(axis, -1).flatten(0, -2)
    return rows if len(rows) == count else None


def pooled_match(match: Match, logits: Tensor, axis: int) -> Match | None:
    """The match whose features and logits are the means over all positions, if these logits are."""
    if match.captured is None:
        return None
    pooled = over_positions(match.captured)
    seen = given(pooled.features, logits, axis)
    if seen is None or seen.logits.shape != pooled.logits.shape:
        return None
    same = torch.allclose(seen.logits.float(), pooled.logits.float(), rtol=1e-2, atol=1e-3)
    return replace(match, pooled=True) if same else None


def over_positions(captured: Captured) -> Captured:
    """Means of features (N, …, p) and logits (N, …, K) over all positions of a sample."""
    features, logits = (x.flatten(1, -2).mean(1) if x.ndim > 2 else x for x in captured)
    return Captured(features, logits)
