"""Which rows of a layer's output are those of a loss, read off the graph of gradients between the two.

A row is a sample, position or pixel. Views, transpositions and selections are followed; what leaves each number where
it is, is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from le_callback.capture.slot import Captured

_LONGEST, _MOST = 60, 400  # nodes on the way, nodes that are looked at
_ELEMENTWISE = frozenset(
    """Mul Div Add Sub Rsub Neg Pow Exp Log Sqrt Sigmoid LogSigmoid Tanh Clamp ClampMin ClampMax Cos Sin Acos LogSoftmax
    Softmax Clone ToCopy Copy Alias Detach Contiguous MaskedFill Where Relu NativeDropout Maximum Minimum
    DDPSink""".split()  # noqa: SIM905 -- a list that is read, not one that is computed
)


_RESHAPED = frozenset(("View", "UnsafeView", "ReshapeAlias", "Reshape", "Squeeze", "Unsqueeze"))
ALL = slice(None)
Rows = Tensor | slice


def trace(logits: Tensor, node: Any, shape: torch.Size, channel: int | None, axis: int) -> Rows | None:
    """For each row of a loss the number of the row of a layer's output, counted with the channel left out.

    Args:
        logits: that the loss was given.
        node: of the layer's output in the graph of gradients.
        shape: of the layer's output.
        channel: its axis of the classes; None if it has none.
        axis: that of the logits.

    Returns:
        (rows,), or a slice if these are all rows in their order; None where that cannot be told.

    >>> output = torch.zeros(2, 3, 4, requires_grad=True) * 1
    >>> chosen = output.transpose(0, 1)[torch.tensor([2, 0])]
    >>> trace(chosen, output.grad_fn, output.shape, 2, 2)
    tensor([2, 5, 0, 3])
    """
    path = _path(logits, node)
    if path is None:
        return None
    names = {_name(step) for step, _ in path}
    last = channel in (None, -1, len(shape) - 1) and axis in (-1, logits.ndim - 1)
    if names <= _ELEMENTWISE or (last and names <= _ELEMENTWISE | _RESHAPED):
        return ALL
    shapes: list[Any] = [logits.shape]
    for step in path:
        shapes.append(_shape_before(step[0], shapes[-1]))
        if shapes[-1] is None:
            return None
    if tuple(shapes[-1]) != tuple(shape):
        return None
    if channel is None:
        return None
    channel = channel % len(shape)
    width = shape[channel]
    if thin := width == 1 or all(list(s).count(width) == 1 for s in shapes):  # one number a row is enough
        shapes = [tuple(1 if size == width else size for size in s) for s in shapes]
    lead = [size for d, size in enumerate(shape) if d != channel]
    rows = torch.arange(torch.Size(lead).numel(), device=logits.device).reshape(lead).unsqueeze(channel)
    rows = rows if thin else rows.expand(shape)
    for (step, number), after in zip(reversed(path), reversed(shapes[:-1]), strict=True):
        rows = _replay(step, number, rows, after)
    if tuple(rows.shape) != tuple(shapes[0]):
        return None
    return rows.flatten() if width == 1 or rows.ndim < 2 else rows.movedim(axis, -1)[..., 0].flatten()


def chosen(captured: Captured, rows: Rows) -> Captured:
    """The rows of features (…, p) and logits (…, K) by their numbers."""
    return Captured(*(x.flatten(0, -2)[rows] for x in captured))


def nearest(labels: Tensor, lead: torch.Size) -> Tensor:
    """Labels (N, …) at the coarser positions ``lead``, each that of the nearest position before it.

    >>> nearest(torch.arange(6)[None], torch.Size([1, 3]))
    tensor([[0, 2, 4]])
    """
    for d in range(1, len(lead)):
        places = torch.arange(lead[d], device=labels.device) * labels.shape[d] // lead[d]
        labels = labels.index_select(d, places)
    return labels


def _path(logits: Tensor, end: Any) -> list[tuple[Any, int]] | None:
    """The nodes from ``logits`` to before ``end``, each with the number of its output."""
    start = logits.grad_fn
    if start is None or end is None:
        return None
    came: dict[Any, Any] = {start: None}
    numbers, queue = {start: logits.output_nr}, [start]
    while queue and len(came) < _MOST:
        node: Any = queue.pop(0)
        if node is end:
            path = []
            while (node := came[node]) is not None:
                path.append((node, numbers[node]))
            return path[::-1] if len(path) < _LONGEST else None
        for inner, number in node.next_functions:
            if inner is not None and inner not in came:
                came[inner], numbers[inner] = node, number
                queue.append(inner)
    return None


def _name(node: Any) -> str:
    return str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward")


def _moved(value: int, n: int) -> int:
    """A dimension as the graph saves it: negative ones as huge numbers."""
    return _signed(value) % n


def _shape_before(node: Any, after: Any) -> Any:
    name, n = _name(node), len(after)
    if name in _ELEMENTWISE:
        return after
    if name in _SIZED:
        return tuple(node._saved_self_sym_sizes)
    if name == "T":
        return tuple(after)[::-1]
    if name == "Transpose":
        shape = list(after)
        a, b = _moved(node._saved_dim0, n), _moved(node._saved_dim1, n)
        shape[a], shape[b] = shape[b], shape[a]
        return tuple(shape)
    if name == "Permute":
        shape = [0] * n
        for place, d in enumerate(node._saved_dims):
            shape[_moved(d, n)] = after[place]
        return tuple(shape)
    if name == "Unsqueeze":
        d = _moved(node._saved_dim, n)
        return (*after[:d], *after[d + 1 :])
    return None


def _slice(node: Any, _: int, rows: Tensor) -> Tensor:
    whole: list[Any] = [slice(None)] * rows.ndim
    ends = _signed(node._saved_start), _signed(node._saved_end)
    whole[_moved(node._saved_dim, rows.ndim)] = slice(*ends, node._saved_step)
    return rows[tuple(whole)]


def _index(node: Any, _: int, rows: Tensor) -> Tensor:
    return rows[tuple(slice(None) if i is None else i for i in node._saved_indices)]


def _transpose(node: Any, _: int, rows: Tensor) -> Tensor:
    return rows.transpose(_moved(node._saved_dim0, rows.ndim), _moved(node._saved_dim1, rows.ndim))


_SIZED = frozenset(
    """View UnsafeView ReshapeAlias Reshape Squeeze Expand Slice Index Select IndexSelect Split SplitWithSizes
    """.split()  # noqa: SIM905 -- a list that is read, not one that is computed
)
_REPLAYED: Mapping[str, Callable[[Any, int, Tensor], Tensor]] = {
    "Slice": _slice,
    "Index": _index,
    "Transpose": _transpose,
    "Select": lambda node, _, rows: rows.select(_moved(node._saved_dim, rows.ndim), _signed(node._saved_index)),
    "IndexSelect": lambda node, _, rows: rows.index_select(_moved(node._saved_dim, rows.ndim), node._saved_index),
    "Split": lambda node, i, rows: torch.split(rows, node._saved_split_size, _moved(node._saved_dim, rows.ndim))[i],
    "SplitWithSizes": lambda node, i, rows: torch.split(
        rows, list(node._saved_split_sizes), _moved(node._saved_dim, rows.ndim)
    )[i],
    "T": lambda node, _, rows: rows.t(),
    "Permute": lambda node, _, rows: rows.permute([_moved(d, rows.ndim) for d in node._saved_dims]),
}


def _signed(value: int) -> int:
    return value - 2**64 if value > 2**63 else value


def _replay(node: Any, number: int, rows: Tensor, after: Any) -> Tensor:
    name = _name(node)
    if name in _REPLAYED:
        return _REPLAYED[name](node, number, rows)
    if name == "Expand":
        return rows.expand(after)
    return rows if name in _ELEMENTWISE else rows.reshape(after)
