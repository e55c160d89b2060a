"""States of rules as tensors and plain values, which ``torch.load(weights_only=True)`` reads, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch


def to_plain(value: Any) -> Any:
    """Dataclasses become dicts, arrays tensors, tuples lists; nothing is shared with ``value``.

    >>> to_plain({"sums": (np.zeros(2), 1.5)})
    {'sums': [tensor([0., 0.], dtype=torch.float64), 1.5]}
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def from_plain(value: Any, kind: Any = None) -> Any:
    """The inverse of ``to_plain``.

    Args:
        value: what ``to_plain`` returned.
        kind: annotation of what it was: a dataclass or named tuple, or a list, tuple or mapping of some; else lists and
            dicts stay.

    Raises:
        KeyError: if a field of a dataclass is missing.
        TypeError: if a dataclass is wanted and ``value`` is no mapping.

    >>> from_plain([torch.zeros(2), 1.5])
    [array([0., 0.], dtype=float32), 1.5]
    >>> from_plain([1, 2], tuple[int, ...])
    (1, 2)
    """
    if isinstance(kind, UnionType):  # of something and None
        kind = next((part for part in get_args(kind) if value is not None and part is not type(None)), None)
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{f.name: from_plain(value[f.name], hints[f.name]) for f in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(*(from_plain(v, hints[name]) for name, v in zip(kind._fields, value, strict=True)))
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(from_plain(v, k) for v, k in zip(value, kinds, strict=True))
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, Mapping):
        return {key: from_plain(v, inner[1] if origin in (Mapping, dict) else None) for key, v in value.items()}
    if isinstance(value, list):
        return [from_plain(v, inner[0] if origin is list else None) for v in value]
    return value
