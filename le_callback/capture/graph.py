"""What the graph of gradients says of a loss whose calls cannot be watched, as those in compiled models.

Its nodes keep what they need for the backward pass: the log-probabilities or logits, and the target. The head is the
layer whose logits have these values. Code that was compiled down to its backward pass hides them. K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from le_callback.capture.batches import Ambiguous, leaves, locate
from le_callback.capture.detect import Decision
from le_callback.capture.evidence import NoClassificationError
from le_callback.capture.findings import Finding
from le_callback.capture.slot import Captured
from le_callback.capture.sources import Match

_LOSSES = {
    "NllLoss": "nll_loss",
    "NllLoss2D": "nll_loss",
    "LogSoftmax": "log_softmax",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits",
    "MultiMarginLoss": "multi_margin_loss",
}
_OTHERS = {
    "MseLoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "KlDiv": "kl_div",
    "BinaryCrossEntropy": "binary_cross_entropy",
}
_COMPILED = ("CompiledFunction", "ApplyTemplate")
_MOST_NODES = 20_000


@dataclass(frozen=True)
class Visible:
    """Losses that are seen in the graph of gradients.

    Attributes:
        losses: name, log-probabilities or logits, and target (None if unknown) of what may be a classification.
        others: names of losses that are none.
        hidden: whether compiled code hides a part of the graph.
    """

    losses: tuple[tuple[str, Tensor, Tensor | None], ...] = ()
    others: tuple[str, ...] = ()
    hidden: bool = False


def visible_losses(loss: Tensor) -> Visible:
    """The losses that ``loss`` is made of, as far as its graph of gradients shows them.

    >>> logits = torch.zeros(4, 3, requires_grad=True)
    >>> seen = visible_losses(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2, 1, 1])))
    >>> [name for name, _, _ in seen.losses], seen.hidden
    (['nll_loss', 'log_softmax'], False)
    """
    found: list[tuple[str, Tensor, Tensor | None]] = []
    others: list[str] = []
    hidden = False
    queue, visited = [loss.grad_fn], {loss.grad_fn}
    while queue and len(visited) < _MOST_NODES:
        node = queue.pop(0)
        if node is None:
            continue
        name = str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward")
        hidden = hidden or name.startswith(_COMPILED)
        if name in _OTHERS:
            others.append(_OTHERS[name])
        if name in _LOSSES:
            with suppress(Exception):  # gone, or packed away by the training
                found.append(_read(name, node))
        following = [n for n, _ in node.next_functions if n is not None and n not in visited]
        visited.update(following)
        queue += following
    return Visible(tuple(found), tuple(dict.fromkeys(others)), hidden)


def decide(seen: Visible, captured: Mapping[str, Captured], batch: Any, num_classes: int | None) -> Decision | None:
    """The head whose logits one of the losses was given, and the labels if they are found; None if that is not known.

    Args:
        seen: the losses.
        captured: features and logits of the layers that may be the head.
        batch: of the step.
        num_classes: K, if it was named.

    Raises:
        NoClassificationError: if only losses that are no classification are seen, and nothing is hidden.
    """
    held = leaves(batch)
    if not seen.losses and seen.others and not seen.hidden:
        raise NoClassificationError(
            f"this training computes no classification loss (seen: {', '.join(seen.others)}). If it is a"
            " classification, name the head with `head=` and the labels with `label=`"
        )
    for name, values, target in seen.losses:
        for layer in reversed(list(captured)):
            features, logits = captured[layer]
            width = logits.shape[-1]
            if num_classes not in (None, width, 2 if width == 1 else width) or not _same(name, values, logits):
                continue
            labels = None
            if target is not None:
                with suppress(Ambiguous):
                    labels = locate(target, held, max(width, 2), -100)
                if labels is None:
                    continue
            match = Match(layer, 0, (features.shape[-1], width), captured[layer], True)
            value = None if labels is None else labels(batch)
            return Decision(Finding(name, match, labels, max(width, 2), value=value, told=target is not None))
    return None


def _read(name: str, node: Any) -> tuple[str, Tensor, Tensor | None]:
    if name == "LogSoftmax":
        return _LOSSES[name], node._saved_result.detach(), None
    return _LOSSES[name], node._saved_self.detach(), node._saved_target.detach()


def _same(name: str, values: Tensor, logits: Tensor) -> bool:
    """Whether a loss was given these logits (…, K), as far as their values tell."""
    if values.numel() != logits.numel():
        return False
    logits = logits.float()
    if name in ("nll_loss", "log_softmax"):
        logits = logits.log_softmax(-1)
    rows = logits.reshape(-1, logits.shape[-1])
    forms = [values, values.movedim(1, -1)] if values.ndim > 2 else [values]
    return any(torch.allclose(x.float().reshape(-1, rows.shape[-1]), rows, rtol=1e-2, atol=1e-3) for x in forms)
