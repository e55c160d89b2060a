"""When the order of two classes along a line is lost or reached.

Legend: S paths, T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from le_callback.elasticity.inputs import check_times
from le_callback.errors import require

EVENTS = ("lost", "reached")


def exit_times(paths: Tensor, times: Any, direction: Tensor, *, event: str = "lost", level: float = 0.0) -> Tensor:
    """First time at which ⟨ν_kl, x_k − x_l⟩ falls to ``level`` or below (lost), or rises above it (reached).

    Paths are seen at ``times`` only, linear in between: an excursion between two times that returns is not seen, so on
    a coarse grid exits come late. A pair that is already there at the first time exits then.

    Args:
        paths: ``(..., T, K, p)``.
        times: ``(T,)``, strictly increasing.
        direction: ν ``(p,)`` for all pairs, or ``(K, K, p)``, one for each; such as the difference of two means.
        event: ``"lost"`` or ``"reached"``.
        level: gap that counts as order, in the unit of the features times that of ν.

    Returns:
        ``(..., K, K)`` times, infinite where it does not happen, NaN on the diagonal.

    Raises:
        ValueError: other shapes, times that do not increase, paths that are not finite, another ``event``.

    >>> x = torch.tensor([[[1.0], [0.0]], [[-1.0], [0.0]]])  # 2 times, 2 classes
    >>> exit_times(x, [0.0, 1.0], torch.ones(1))[0, 1].item()
    0.5
    """
    t = torch.from_numpy(check_times(times)).to(paths.device)
    shape = tuple(paths.shape)
    fits = paths.ndim >= 3 and shape[-3] == len(t) and shape[-2] >= 2
    require(fits, "paths", shape, f"of shape (..., {len(t)}, K, p) with K ≥ 2")
    K, p = shape[-2:]
    given = tuple(direction.shape)
    require(given in ((p,), (K, K, p)), "direction", given, f"of shape ({p},) or ({K}, {K}, {p})")
    require(event in EVENTS, "event", event, f"one of {', '.join(EVENTS)}")
    require(bool(torch.isfinite(paths).all()), "paths", paths, "finite")
    nu = direction.to(paths).expand(K, K, p)
    of_k = torch.einsum("...kp,klp->...kl", paths, nu)
    gap = (of_k - torch.einsum("...lp,klp->...kl", paths, nu)).double() - level  # (..., T, K, K)
    found = _first_crossing(gap, gap <= 0 if event == "lost" else gap > 0, t)
    return found.masked_fill(torch.eye(K, dtype=torch.bool, device=paths.device), torch.nan)


def _first_crossing(gap: Tensor, there: Tensor, t: Tensor) -> Tensor:
    """Times ``(..., K, K)`` of the zero of ``gap (..., T, K, K)`` just before it is first ``there``; else infinite."""
    first = there.to(torch.uint8).argmax(-3, keepdim=True)  # 0 also where it never happens
    before = (first - 1).clamp(min=0)
    after_gap, before_gap = gap.gather(-3, first), gap.gather(-3, before)
    drop = before_gap - after_gap
    share = torch.where(drop == 0, 0.0, before_gap / torch.where(drop == 0, 1.0, drop))
    start = t[before]
    found = (start + share * (t[first] - start)).squeeze(-3)
    return torch.where(there.any(-3), found, torch.inf)
