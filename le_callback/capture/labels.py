"""Find the labels in a batch and line them up with features and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from le_callback.capture.batches import LABEL_KEYS, BatchPath
from le_callback.capture.slot import Captured
from le_callback.errors import require_type

LabelSource = int | str | Callable[[Any], Tensor] | None  # int first: command lines take the first that fits


class LabelReader:
    """Reads the labels of a batch.

    Args:
        source: a key of a mapping, an index of a tuple or list, a callable of the batch, or ``None`` to look: the
            second element of a tuple or list, the first of ``label, labels, target, targets, y`` in a mapping.

    Raises:
        TypeError: if ``source`` is none of these.

    >>> LabelReader()({"image": torch.zeros(2, 3), "target": torch.tensor([0, 1])})
    tensor([0, 1])
    """

    def __init__(self, source: LabelSource = None) -> None:
        known = source is None or callable(source) or (isinstance(source, str | int) and not isinstance(source, bool))
        require_type(known, "label", source, "a key, an index, a callable or None")
        self.source = source
        self._item: Callable[[Any], Any] | None = None  # where the source is a single step into the batch
        if isinstance(source, str | int):
            self._item = itemgetter(source)
        self._peeked: Any = None
        self._before: Any = None
        self._read: tuple[Any, Tensor] | None = None

    def peek(self, batch: Any) -> None:
        """Look at the labels before a step, which may take them out of the batch.

        A callable of the user's is asked once a batch, after the step, which may make what it returns; if it fails, it
        is asked about what the batch held before.
        """
        self._peeked = self._before = self._read = None
        try:
            if self._item is not None:
                self._peeked = self._item(batch)
            elif callable(self.source) and not isinstance(self.source, BatchPath):
                self._before = copy(batch) if isinstance(batch, Mapping | list) else None
            else:
                self._peeked = self._locate(batch)
        except Exception:  # it is told after the step
            return

    def follow(self, place: BatchPath, labels: Tensor | None) -> None:
        """Look at ``place`` from now on; ``labels`` are those of this step."""
        self.source, self._peeked, self._read = place, labels, None
        self._item = place.item

    def forget(self) -> None:
        """The step is over."""
        self._peeked = self._before = self._read = None

    def __call__(self, batch: Any) -> Tensor:
        """The labels of ``batch``.

        Raises:
            ValueError: if they are not where they were looked for; says what the batch holds.
        """
        if self._read is not None and self._read[0] is batch:
            return self._read[1]
        try:
            found = self._locate(batch) if self._item is None else self._item(batch)
        except Exception:
            if self._peeked is None and self._before is None:
                _ = self._locate(batch)  # says what is wrong
                raise
            found = self._peeked if self._peeked is not None else self._locate(self._before)
        labels = found if isinstance(found, Tensor) else self._tensor(found, batch)
        self._read = batch, labels
        return labels

    def _tensor(self, found: Any, batch: Any) -> Tensor:
        try:
            return torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"Expected the labels to be a tensor, but found {describe(found)} in a batch of {describe(batch)}."
                " Pass `label=` a key, an index or a callable that takes the batch and returns the label tensor."
            ) from None

    def _locate(self, batch: Any) -> Any:
        if callable(self.source):
            return self.source(batch)
        if self.source is not None:
            try:
                return batch[self.source]
            except (KeyError, IndexError, TypeError):
                raise ValueError(
                    f"Expected `label={self.source!r}` to select the labels, but the batch is {describe(batch)}."
                ) from None
        if isinstance(batch, Mapping):
            for key in LABEL_KEYS:
                if key in batch:
                    return batch[key]
        elif isinstance(batch, Sequence) and not isinstance(batch, str | bytes) and len(batch) >= 2:
            return batch[1]
        raise ValueError(
            f"Found no labels in the batch, which is {describe(batch)}. Looked for the second element of a tuple or"
            f" list and for the keys {', '.join(LABEL_KEYS)} of a mapping. Pass `label=` a key, an index or a callable"
            " that takes the batch and returns the label tensor."
        )


def describe(value: Any) -> str:
    """A short description of what a batch holds, for messages.

    >>> describe((torch.zeros(2, 3), {"y": 1}))
    'a tuple of (float32 tensor (2, 3), a mapping with keys y)'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a mapping with keys {', '.join(map(str, value))}" if value else "an empty mapping"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of ({', '.join(describe(item) for item in value)})"
    return f"an object of type {type(value).__name__}"


def one_each(captured: Captured, labels: Tensor) -> bool:
    """Whether rows and labels need no reshaping: features (N, p), logits (N, K) and N integer labels beside them."""
    x, z, y = captured.features.shape, captured.logits.shape, labels.shape
    plain = len(x) == len(z) == 2 and len(y) == 1 and x[0] == z[0] == y[0]
    return plain and labels.dtype == torch.int64 and labels.device == captured.features.device


def align(features: Tensor, logits: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flatten sequence and spatial dimensions: features (N, p), logits (N, K), labels (N,) or class weights (N, K).

    Args:
        features: (..., p).
        logits: (..., K).
        labels: the leading shape of the features, optionally with a trailing 1; or with a trailing K of weights.
            Floating labels of two classes are the weight of class 1.
        num_classes: K.

    Raises:
        ValueError: if the shapes do not belong together.

    >>> shapes = align(torch.zeros(2, 5, 8), torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.long), 3)
    >>> [tuple(t.shape) for t in shapes]
    [(10, 8), (10, 3), (10,)]
    """
    lead = features.shape[:-1]
    labels = labels.detach()
    if labels.shape == lead or labels.shape == (*lead, 1):
        flat = labels.reshape(-1)
        binary = num_classes == 2 and flat.is_floating_point()
        target = torch.stack([1 - flat, flat], dim=1) if binary else flat.long()
    elif labels.shape == (*lead, num_classes):
        target = labels.reshape(-1, num_classes)
    else:
        raise ValueError(
            f"The labels, {describe(labels)}, do not belong to features {tuple(features.shape)} with {num_classes}"
            f" classes: expected {tuple(lead)} integer labels or {(*lead, num_classes)} class weights. If the batch"
            " holds several label tensors, select one with `label=`; if this is not the classifier, name it with"
            " `head=`."
        )
    return features.reshape(-1, features.shape[-1]), logits.reshape(-1, logits.shape[-1]), target.to(features.device)
