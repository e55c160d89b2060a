"""The weights of a linear classifier head. K classes, p feature dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PIECE = 2**21  # logits that are made at once


@dataclass(frozen=True)
class HeadWeights:
    """What a linear head maps features to logits with.

    Attributes:
        weight: (K, p), one row a class.
        bias: (K,); None without.

    >>> HeadWeights(torch.eye(2), torch.tensor([0.0, 1.0])).decisions(torch.tensor([[0.5, 0.0]]))
    tensor([1])
    """

    weight: Tensor
    bias: Tensor | None

    def like(self, x: Tensor) -> HeadWeights:
        """In the precision and on the device of ``x``."""
        return HeadWeights(self.weight.to(x), None if self.bias is None else self.bias.to(x))

    def decisions(self, features: Tensor) -> Tensor:
        """The class of the largest logit (N,) of features (N, p); few samples at once, as rows are wide."""
        found = [torch.zeros(0, dtype=torch.long, device=features.device)]
        for x in torch.split(features, max(1, _PIECE // len(self.weight))):
            logits = x @ self.weight.T
            found.append((logits if self.bias is None else logits.add_(self.bias)).argmax(1))
        return torch.cat(found)


def read_head(
    module: nn.Module | None, num_classes: int, num_features: int, device: torch.device | None = None
) -> HeadWeights | None:
    """The weights of a linear layer, or of a convolution with kernel size 1, as its forward pass has them now.

    Tied and normalised weights are read as the layer's attribute ``weight``. Of a weight that is split over processes
    (FSDP2) the whole is gathered, which all processes have to do together. A single logit of two classes is a row of
    zeros and its own.

    Args:
        module: the head.
        num_classes: K.
        num_features: p.
        device: where they are needed; where they are, if left out.

    Returns:
        None where the module has no weight of K rows of p numbers: no linear layer, or one whose weights lie elsewhere
        at the moment (FSDP1, ZeRO-3, quantised).

    >>> read_head(nn.Conv1d(4, 3, 1, bias=False), 3, 4).weight.shape
    torch.Size([3, 4])
    >>> read_head(nn.ReLU(), 3, 4) is None
    True
    """
    weight, bias = (_gathered(getattr(module, name, None)) for name in ("weight", "bias"))
    if weight is None or weight.ndim < 2 or not weight.is_floating_point():
        return None
    if any(size != 1 for size in weight.shape[2:]):
        return None
    weight = weight.flatten(1)
    rows = 1 if num_classes == 2 and len(weight) == 1 else num_classes
    if tuple(weight.shape) != (rows, num_features) or (bias is not None and tuple(bias.shape) != (rows,)):
        return None
    if rows < num_classes:
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = None if bias is None else torch.cat([torch.zeros_like(bias), bias])
    return HeadWeights(weight.to(device), None if bias is None else bias.to(device))


def _gathered(parameter: object) -> Tensor | None:
    if not isinstance(parameter, Tensor):
        return None
    whole = getattr(parameter, "full_tensor", None)
    found: Tensor = whole() if callable(whole) else parameter
    return found.detach()
