"""What the gradients of the weights say of a loss that compiled code hides. K classes, p feature dimensions, N samples.

The weights of a linear head get (P − Y)ᵀ X/N from the cross entropy, with P the softmax of its logits, Y the labels and
X its features: the layer and the labels of which this holds are those of the loss. A layer whose weights get nothing
is none that the loss was computed of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.capture.batches import leaves
from le_callback.capture.detect import Decision
from le_callback.capture.findings import Finding
from le_callback.capture.slot import Captured, width_fits
from le_callback.capture.sources import Match

_SAME = 0.999  # cosine of two gradients that count as proportional
_LOSS = "cross_entropy (by the gradient of its weights, as compiled code hides the loss)"


def reached(layers: Mapping[str, nn.Module], module: nn.Module) -> set[str] | None:
    """The layers through which the gradient of the loss flows, or may flow as their weights are frozen.

    None where nothing of their ``module`` has a gradient: it is gone, or lies elsewhere.

    >>> a, b, frozen = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3).requires_grad_(False)
    >>> a(torch.ones(1, 2)).sum().backward()
    >>> sorted(reached({"a": a, "b": b, "frozen": frozen}, nn.ModuleList([a, b, frozen])))
    ['a', 'frozen']
    """
    trained = {name: own for name, m in layers.items() if (own := [p for p in m.parameters() if p.requires_grad])}
    if not any(map(_moved, module.parameters())):
        return None
    return {name for name in layers if name not in trained or any(map(_moved, trained[name]))}


def decide(
    layers: Mapping[str, nn.Module],
    captured: Mapping[str, Captured],
    batch: Any,
    num_classes: int | None,
    ignore_index: int | None,
) -> Decision | None:
    """The head whose weights have the gradient of a cross entropy on labels of the batch; None if none has.

    Args:
        layers: that may be the head.
        captured: their features and logits.
        batch: of the step, whose gradients are not cleared yet.
        num_classes: K, if it was named.
        ignore_index: label that is left out.

    >>> x, wrong, y = torch.randn(8, 4), torch.arange(8) % 3, torch.tensor([0, 2, 1, 2, 0, 1, 1, 0])
    >>> head = nn.Linear(4, 3)
    >>> logits = head(x)
    >>> nn.functional.cross_entropy(logits, y).backward()
    >>> print(decide({"head": head}, {"head": Captured(x, logits.detach())}, (x, wrong, y), None, -100).finding.labels)
    batch[2]
    """
    found: list[Finding] = []
    for name in reversed(list(captured)):
        gradient = getattr(getattr(layers.get(name), "weight", None), "grad", None)
        features, logits = (x.flatten(0, -2).float() for x in captured[name])
        p, width = features.shape[1], logits.shape[1]
        if not isinstance(gradient, Tensor) or gradient.numel() != width * p:
            continue
        if num_classes is not None and not width_fits(width, num_classes):
            continue
        for path, leaf in leaves(batch):
            expected = _of_cross_entropy(features, logits, leaf, ignore_index)
            if expected is not None and _proportional(gradient.flatten(1).float(), expected):
                match = Match(name, 0, (p, width), captured[name], True)
                found.append(Finding(_LOSS, match, path, max(width, 2), value=path(batch)))
                break
    if not found:
        return None
    return Decision(found[0], tuple(f"`head={f.head!r}`" for f in found[1:]))


def _of_cross_entropy(features: Tensor, logits: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor | None:
    """What the weights would get, (K, p), up to a factor; None where these cannot be labels."""
    N, width = logits.shape
    K = max(width, 2)
    labels = labels.detach().to(logits.device)
    if labels.is_floating_point() and labels.numel() == N * K and labels.shape[-1] == K:
        target, kept = labels.reshape(N, K).float(), torch.ones(N, dtype=torch.bool, device=logits.device)
    elif labels.numel() == N and not (labels.is_complex() or (labels.is_floating_point() and width > 1)):
        flat = labels.reshape(N)
        kept = torch.ones_like(flat, dtype=torch.bool) if ignore_index is None else flat != ignore_index
        if bool(((flat < 0) | (flat >= K))[kept].any()):
            return None
        target = nn.functional.one_hot(torch.where(kept, flat, 0).long(), K).float()
    else:
        return None
    said = torch.stack([-logits[:, 0], logits[:, 0]], dim=1) / 2 if width == 1 else logits
    differences = (said.softmax(1) - target) * kept.unsqueeze(1)
    return differences[:, K - width :].T @ features


def _moved(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool((parameter.grad != 0).any())


def _proportional(a: Tensor, b: Tensor) -> bool:
    cosine = (a * b).sum() / (torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return bool(cosine > _SAME)
