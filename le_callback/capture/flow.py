"""What the tensors of one training step were made of: of the batch alone, or of the batch and parameters."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from le_callback.capture.batches import BatchPath

_PLAIN = frozenset(
    """__get__ view reshape view_as reshape_as squeeze unsqueeze flatten unflatten ravel expand expand_as permute
    transpose movedim swapaxes t contiguous clone detach detach_ to type type_as long int short char byte float double
    half bool bfloat16 cpu cuda argmax one_hot nonzero repeat repeat_interleave stack scatter scatter_ add sub mul div
    __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ add_ sub_ mul_ div_ add_ squeeze_ unsqueeze_ tile
    true_divide as_tensor rsub""".split()  # noqa: SIM905 -- a list that is read, not one that is computed
)
_FORMED = frozenset(("type_as", "to", "expand_as", "view_as", "reshape_as"))  # the second tensor gives a form alone
_EMPTIED = frozenset(("fill_", "zero_", "random_", "bernoulli_", "normal_", "uniform_", "bernoulli", "multinomial"))


@dataclass(frozen=True)
class Made:
    """What a tensor was made of.

    Attributes:
        roots: the tensors of the batch.
        plain: whether the values are those of the batch but for their type, shape, or a constant.
        pure: whether no parameter had a part in it.
    """

    roots: frozenset[int]
    plain: bool
    pure: bool = True


class Flow:
    """Follows the tensors of a batch through a step.

    Args:
        held: the ``leaves`` of the batch.

    >>> import torch
    >>> from le_callback.capture.batches import leaves
    >>> x, y, weight = torch.zeros(4, 2), torch.tensor([0, 2, 1, 2]), nn.Parameter(torch.ones(3, 2))
    >>> flow = Flow(leaves((x, y)))
    >>> for function, args in [(torch.clamp, (y, 0, 1)), (torch.nn.functional.linear, (x, weight))]:
    ...     result = function(*args)
    ...     flow.add(function, args, {}, result)
    ...     print(*flow.made_of(result), *flow.touched_by(result))
    batch[1] batch[1]
    batch[0]
    """

    def __init__(self, held: list[tuple[BatchPath, Tensor]]) -> None:
        self._paths = [path for path, _ in held]
        self._known: dict[int, tuple[weakref.ref[Tensor], Made]] = {}
        for i, (_, leaf) in enumerate(held):
            self._keep(leaf, Made(frozenset([i]), True))

    def add(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """A function was called."""
        name = getattr(function, "__name__", "")
        given = [*_tensors(args[:1] if name in _FORMED else args), *_tensors(kwargs.values())]
        entries = [self._entry(tensor) for tensor in given]
        if not any(known for known, _ in entries) or name.startswith("new_") or name.endswith("_like"):
            return
        results = list(_tensors((result,))) or ([args[0]] if name == "__setitem__" else [])
        if name in _EMPTIED:
            for tensor in results:
                self._known.pop(id(tensor), None)
            return
        made = self._made(name, given, entries, args)
        for tensor in results:
            self._keep(tensor, replace(made, pure=made.pure and not tensor.requires_grad))

    def made_of(self, tensor: Tensor) -> list[BatchPath]:
        """The places in the batch that a tensor was made of, if no parameter had a part in it."""
        made = self._entry(tensor)[1]
        return self._places(made) if made is not None and made.pure else []

    def touched_by(self, tensor: Tensor) -> list[BatchPath]:
        """The places in the batch that had a part in a tensor."""
        made = self._entry(tensor)[1]
        return [] if made is None else self._places(made)

    def is_plain(self, tensor: Tensor) -> bool:
        """Whether its values are those of the batch but for their type, shape, or a constant."""
        made = self._entry(tensor)[1]
        return made is not None and made.pure and made.plain

    def forget(self) -> None:
        """Give up what is known."""
        self._known.clear()

    def _places(self, made: Made) -> list[BatchPath]:
        return [self._paths[i] for i in sorted(made.roots)]

    def _made(
        self, name: str, given: list[Tensor], entries: list[tuple[bool, Made | None]], args: tuple[Any, ...]
    ) -> Made:
        roots: frozenset[int] = frozenset()
        plain, pure = name in _PLAIN or (name == "__getitem__" and not list(_tensors(args[1:]))), True
        for tensor, (known, made) in zip(given, entries, strict=True):
            weights = not known and tensor.is_floating_point() and tensor.ndim > 1 and not name.startswith("scatter")
            pure = pure and not (tensor.requires_grad or isinstance(tensor, nn.Parameter) or weights)
            if made is not None:
                roots, plain, pure = roots | made.roots, plain and made.plain, pure and made.pure
        return Made(roots, plain, pure)

    def _entry(self, tensor: Tensor) -> tuple[bool, Made | None]:
        reference, made = self._known.get(id(tensor), (None, None))
        return (True, made) if reference is not None and reference() is tensor else (False, None)

    def _keep(self, tensor: Tensor, made: Made) -> None:
        self._known[id(tensor)] = weakref.ref(tensor), made


def _tensors(values: Any, depth: int = 3) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif depth and isinstance(value, tuple | list):
            yield from _tensors(value, depth - 1)
        elif depth and isinstance(value, Mapping):
            yield from _tensors(value.values(), depth - 1)


def shares_of(loss: Tensor, parts: set[Any], limit: int = 64) -> dict[Any, Any]:
    """With which factors ``parts``, nodes of the graph of gradients, enter a loss that is a weighted sum.

    Parts that enter it otherwise, or several times, are left out.

    >>> import torch
    >>> a, b = torch.ones(2, requires_grad=True).sum(), torch.ones(2, requires_grad=True).mean()
    >>> shares = shares_of(0.25 * a + b / 2, {a.grad_fn, b.grad_fn})
    >>> float(shares[a.grad_fn]), float(shares[b.grad_fn])
    (0.25, 0.5)
    """
    found: dict[Any, Any] = {}
    again: set[Any] = set()
    queue: list[tuple[Any, Any]] = [(loss.grad_fn, 1.0)]
    for _ in range(limit):
        if not queue:
            break
        node, factor = queue.pop()
        if node in parts:
            again |= {node} & found.keys()
            found[node] = factor
        elif node is not None:
            queue += _terms(node, factor)
    return {node: factor for node, factor in found.items() if node not in again and not queue}


def _terms(node: Any, factor: Any) -> list[tuple[Any, Any]]:
    """What a node of a weighted sum adds up; nothing for other nodes."""
    name, inputs = node.name(), [inner for inner, _ in node.next_functions]
    if name in ("AddBackward0", "SubBackward0"):
        second = factor * node._saved_alpha * (1 if name.startswith("Add") else -1)
        return [(n, f) for n, f in zip(inputs, (factor, second), strict=True) if n is not None]
    if name in ("MulBackward0", "DivBackward0"):
        first = inputs[0] is not None
        by = (node._saved_other if first else node._saved_self) if sum(n is not None for n in inputs) == 1 else None
        if by is None or by.ndim > 1 or (name.startswith("Div") and not first):
            return []
        return [(inputs[0] if first else inputs[1], factor * by if name.startswith("Mul") else factor / by)]
    if name in ("MeanBackward0", "SumBackward0", "CloneBackward0", "AliasBackward0", "ToCopyBackward0"):
        return [(inputs[0], factor)]
    return []
