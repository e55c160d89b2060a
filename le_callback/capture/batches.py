"""What a batch holds, and where in it the labels are. N samples, K classes, T positions of a sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Number
from operator import itemgetter
from typing import Any, Literal

import torch
from torch import Tensor

from le_callback.capture.slot import shares_storage

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
_DEEPEST, _MOST_LEAVES, _LONGEST = 6, 256, 64
_FEWEST = 3  # labels that can tell how the step made its target of them

Kind = Literal["item", "attribute", "each", "all", "column", "next", "following", "plus", "repeat", "repeat_each"]
Step = tuple[Kind, Any]


@dataclass(frozen=True)
class BatchPath:
    """Where labels are in a batch, as a rule that can be followed in every batch; itself a callable of the batch.

    Attributes:
        steps: from the batch to the labels: an ``item``, an ``attribute``, or of a list of samples that step of
            ``each``, or ``all`` of a list of tensors; then a ``column`` of a tensor, what comes ``next`` in each
            sequence (N, T − 1), ``following``: the same with the last position left out, (N, T), or what the step
            makes of labels: ``plus`` a constant, ``repeat`` them all so many times, or ``repeat_each``.

    >>> path = BatchPath((("item", "text"), ("attribute", "T"), ("column", 0)))
    >>> print(path)
    batch['text'].T[:, 0]
    >>> path({"text": torch.tensor([[1, 2], [3, 4]])})
    tensor([1, 2])
    """

    steps: tuple[Step, ...] = ()

    def __call__(self, batch: Any) -> Any:
        """Follow the steps.

        Raises:
            ValueError: if the batch is of another form.
        """
        found = batch
        try:
            for kind, what in self.steps:
                found = _follow(found, kind, what)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"the labels are not at {self} in this batch ({type(error).__name__}: {error})") from None
        return found

    @property
    def item(self) -> Callable[[Any], Any] | None:
        """The same as a plain function where there is a single step, into an ``item``; else None."""
        if len(self.steps) == 1 and self.steps[0][0] == "item":
            return itemgetter(self.steps[0][1])
        return None

    def then(self, kind: Any, what: Any = None) -> BatchPath:
        """One step more."""
        return BatchPath((*self.steps, (kind, what)))

    def __str__(self) -> str:
        return "batch" + "".join(_written(kind, what) for kind, what in self.steps)


def _follow(found: Any, kind: str, what: Any) -> Any:
    if kind in _INTO:
        return _INTO[kind](found, what)
    labels = found if isinstance(found, Tensor) else torch.as_tensor(found)
    return _MADE_OF[kind](labels, what)


def _each(samples: Any, step: Step) -> Tensor:
    return torch.stack([torch.as_tensor(_follow(sample, *step)) for sample in samples])


def _following(labels: Tensor, last: int) -> Tensor:
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], last)], dim=1)


_INTO: Mapping[str, Callable[[Any, Any], Any]] = {
    "item": lambda value, key: value[key],
    "attribute": getattr,
    "each": _each,
    "all": lambda tensors, _: torch.stack(list(tensors)),
}
_MADE_OF: Mapping[str, Callable[[Tensor, Any], Tensor]] = {
    "column": lambda labels, column: labels[:, column],
    "next": lambda labels, _: labels[:, 1:],
    "following": _following,
    "plus": lambda labels, shift: labels.long() + shift,
    "repeat": lambda labels, times: labels.repeat(times),
    "repeat_each": lambda labels, times: labels.repeat_interleave(times),
}


def _written(kind: str, what: Any) -> str:
    if kind == "each":
        return f"[:]{_written(*what)}"
    if kind == "plus":
        return f" {'−' if what < 0 else '+'} {abs(what)}"
    forms = {"item": f"[{what!r}]", "attribute": f".{what}", "column": f"[:, {what}]", "next": "[:, 1:]", "all": ""}
    forms |= {"repeat": f".repeat({what})", "repeat_each": f".repeat_interleave({what})"}
    return forms.get(kind, " shifted by one")


def leaves(batch: Any) -> list[tuple[BatchPath, Tensor]]:
    """The tensors that a batch holds and where: in tuples, lists, mappings, data classes and other objects.

    >>> [(str(path), tuple(x.shape)) for path, x in leaves((torch.zeros(2, 3), {"y": [0, 1]}))]
    [('batch[0]', (2, 3)), ("batch[1]['y']", (2,))]
    """
    found = _of_samples(batch)
    for leaf in _walk(batch, BatchPath(), _DEEPEST):
        found.append(leaf)
        if len(found) == _MOST_LEAVES:
            break
    return found


def _of_samples(batch: Any) -> list[tuple[BatchPath, Tensor]]:
    """Numbers that a list of samples holds, one of each sample."""
    if not isinstance(batch, tuple | list) or len(batch) < 2 or isinstance(batch[0], Tensor | str | bytes | Number):
        return []
    if any(type(sample) is not type(batch[0]) for sample in batch):
        return []
    found = []
    for kind, name, value in _parts(batch[0])[:_LONGEST]:
        if not isinstance(value, Number) and not (isinstance(value, Tensor) and value.numel() == 1):
            continue
        path = BatchPath((("each", (kind, name)),))
        with suppress(Exception):  # samples of different form are no table
            found.append((path, path(batch)))
    return found


def _walk(value: Any, path: BatchPath, depth: int) -> Iterator[tuple[BatchPath, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
        return
    if depth == 0 or value is None or isinstance(value, str | bytes | Number | type):
        return
    if type(value).__module__ == "numpy" or _numbers(value):
        try:
            yield path, torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            return
        return
    if _single(value):
        yield path.then("all"), torch.stack(list(value))
        return
    for kind, name, inner in _parts(value):
        yield from _walk(inner, path.then(kind, name), depth - 1)


def _single(value: Any) -> bool:
    """Whether this is a list of tensors of one number each."""
    listed = isinstance(value, tuple | list) and len(value) > 0
    return listed and all(isinstance(item, Tensor) and item.numel() == 1 for item in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0 and all(isinstance(item, Number) for item in value)


def _parts(value: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        keys = value.keys
        return [("item", key, value[key]) for key in list(keys() if callable(keys) else keys)]
    if isinstance(value, Sequence):
        return [("item", i, item) for i, item in enumerate(value[:_LONGEST])]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = [name for name in getattr(value, "__dict__", {}) if not name.startswith("__")]
    return [("attribute", name, getattr(value, name)) for name in names if hasattr(value, name)]


class Ambiguous(ValueError):  # noqa: N818 -- a finding, not a failure
    """Several fields of a batch equal a target, and none is called as labels usually are."""


def locate(
    target: Tensor, held: Sequence[tuple[BatchPath, Tensor]], num_classes: int, ignore_index: int | None = None
) -> BatchPath | None:
    """Where a loss's target is in a batch: by identity, by storage, by equal values, then made of labels there.

    Labels that the step shifts by a constant, repeats, or smoothes alike are found. A target that merely counts the
    rows (0, 1, 2, …) is taken for one that was made up in the step, unless it is the batch's own tensor.

    Args:
        target: labels or class weights.
        held: the ``leaves`` of the batch.
        num_classes: K.
        ignore_index: label that is left out.

    Raises:
        Ambiguous: if several fields have the values of the target, and none of them is called as labels usually are.

    >>> batch = {"a": torch.tensor([2.0, 0.0]), "b": torch.eye(3)[[1, 2]]}
    >>> print(locate(torch.tensor([1, 2]), leaves(batch), num_classes=3))
    batch['b']
    """
    for path, leaf in held:
        if leaf is target:
            return path
    sharing = [(path, leaf) for path, leaf in held if shares_storage(leaf, target)]
    for candidates in (sharing, [] if counts_rows(target) else held):
        whole = [(path, leaf) for path, leaf in candidates if _is_whole(leaf, target, num_classes)]
        if whole:
            return _only(whole, target)
        parts = [(part, leaf) for path, leaf in candidates if (part := _part(path, leaf, target, ignore_index))]
        if parts:
            return _only(parts, target)
    if counts_rows(target):
        return None
    if target.is_floating_point():
        labels = _smoothed_labels(target)
        return None if labels is None else locate(labels, held, num_classes, ignore_index)
    made = [(found, leaf) for path, leaf in held if (found := _made_from(path, leaf, target))]
    if len(made) > 1:
        raise Ambiguous(f"its target can be made of several fields: {', '.join(str(path) for path, _ in made)}")
    return made[0][0] if made else None


def _made_from(path: BatchPath, leaf: Tensor, target: Tensor) -> BatchPath | None:
    """The target as labels plus a constant or as repeated labels."""
    if leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool or leaf.ndim > target.ndim:
        return None
    flat, wanted = leaf.detach().reshape(-1).long(), target.detach().reshape(-1).long().to(leaf.device)
    if len(flat) < _FEWEST or bool((flat == flat[0]).all()):
        return None
    if leaf.shape == target.shape:
        shift = int(wanted[0] - flat[0])
        return path.then("plus", shift) if torch.equal(flat + shift, wanted) else None
    times, rest = divmod(len(wanted), len(flat))
    if rest or times < 2 or leaf.ndim != 1:
        return None
    if torch.equal(flat.repeat(times), wanted):
        return path.then("repeat", times)
    return path.then("repeat_each", times) if torch.equal(flat.repeat_interleave(times), wanted) else None


def _smoothed_labels(table: Tensor) -> Tensor | None:
    """The labels of class weights (…, K) that are one-hot but for a smoothing that is the same in all rows."""
    if table.ndim < 2 or table.shape[-1] < 2 or not are_class_weights(table):
        return None
    rows = table.detach().double().reshape(-1, table.shape[-1]).sort(dim=-1, descending=True).values
    alike = torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-4)
    flat = torch.allclose(rows[:, 1:], rows[:, 1:2].expand_as(rows[:, 1:]), atol=1e-4)
    return table.detach().argmax(-1) if alike and flat and bool(rows[0, 0] > rows[0, 1] + 1e-3) else None


def _is_whole(leaf: Tensor, target: Tensor, num_classes: int) -> bool:
    return _equal(leaf, target) or _one_hot_of(leaf, target, num_classes) or _one_hot_of(target, leaf, num_classes)


def _only(found: list[tuple[BatchPath, Tensor]], target: Tensor) -> BatchPath:
    """The one place; of several in other memory that which is called as labels usually are."""
    usual = [path for path, _ in found if any(kind == "item" and what in LABEL_KEYS for kind, what in path.steps)]
    if len(usual) == 1:
        return usual[0]
    first = found[0][1]
    if all(leaf is first or shares_storage(leaf, first) for _, leaf in found):
        return found[0][0]
    if len(found) == 2 and {path.steps[:1] for path, _ in found} == {(("item", 0),), (("item", 1),)}:
        return next(path for path, _ in found if path.steps[0][1] == 1)
    raise Ambiguous(f"its target equals several fields of the batch: {', '.join(str(path) for path, _ in found)}")


def _part(path: BatchPath, leaf: Tensor, target: Tensor, ignore_index: int | None) -> BatchPath | None:
    """A column of a table, the next token of a sequence, or all labels but those that are left out."""
    if leaf.ndim < 2:
        return path if _equal_but_ignored(leaf, target, ignore_index) else None
    if leaf.ndim == 2 and leaf.shape[0] == target.numel() and leaf.shape[1] <= _LONGEST:
        for column in range(leaf.shape[1]):
            if _equal(leaf[:, column], target):
                return path.then("column", column)
    if leaf.ndim == 2 and leaf.shape[1] > 1:
        if _equal(leaf[:, 1:], target):
            return path.then("next")
        padded = path.then("following", -100 if ignore_index is None else ignore_index)
        if _equal(_follow(leaf, "following", padded.steps[-1][1]), target):
            return padded
    return path if _equal_but_ignored(leaf, target, ignore_index) else None


def _equal_but_ignored(leaf: Tensor, target: Tensor, ignore_index: int | None) -> bool:
    if ignore_index is None or leaf.is_floating_point() or leaf.numel() <= target.numel() or target.numel() == 0:
        return False
    return _equal(leaf[leaf != ignore_index], target)


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.numel() != b.numel() or a.numel() == 0 or a.is_complex() or b.is_complex():
        return False
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    return bool(torch.equal(a.double(), b.to(a.device).double()))


def _one_hot_of(table: Tensor, labels: Tensor, num_classes: int) -> bool:
    """Whether the rows of ``table`` (…, K) are one-hot, with their ones at ``labels`` (…)."""
    if table.ndim == 0 or num_classes < 2 or table.shape[-1] != num_classes or labels.is_floating_point():
        return False
    if table.numel() != labels.numel() * num_classes or not is_one_hot(table):
        return False
    return _equal(table.double().argmax(-1), labels)


def is_one_hot(table: Tensor) -> bool:
    """Whether each row (…, K) has a one and else zeros.

    >>> is_one_hot(torch.eye(3)), is_one_hot(torch.ones(3, 3))
    (True, False)
    """
    values = table.detach().double()
    return bool(((values == 0) | (values == 1)).all()) and bool((values.sum(-1) == 1).all())


def are_class_weights(table: Tensor) -> bool:
    """Whether rows (…, K) are not negative and sum to 1 within the precision of their numbers.

    >>> are_class_weights(torch.tensor([[0.2, 0.8]])), are_class_weights(torch.tensor([[0.2, 0.2]]))
    (True, False)
    """
    values = table.detach().double()
    tolerance = 0.02 if table.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return bool((values >= -1e-6).all()) and bool(((values.sum(-1) - 1).abs() <= tolerance).all())


def counts_rows(target: Tensor) -> bool:
    """Whether labels are 0, 1, 2, …: places in the batch rather than classes.

    >>> counts_rows(torch.arange(4)), counts_rows(torch.tensor([0, 1, 1]))
    (True, False)
    """
    if target.is_floating_point() or target.numel() < 3:
        return False
    flat = target.detach().reshape(-1)
    return bool(torch.equal(flat.long(), torch.arange(len(flat), device=flat.device)))
