"""The few scalars that TensorBoard shows first: under names that sort before those of others, in the order to read."""

from __future__ import annotations

import re
from collections.abc import Mapping

GROUP = "Separability"  # a capital letter: before alerts, etf, le, and what else begins with a small one
_CARDS = (
    ("gap", r"le/I_logits/amplitude_difference"),
    ("growth", r"le/I_logits/gamma(_per_\w+?)?"),
    ("worst_pair", r"separation/logits/discriminability_min"),
    ("accuracy", r"separation/logits/nearest_mean_accuracy"),
    ("ETF_angle", r"etf/logits/angle_deviation_deg"),
    ("alerts", r"alerts/active"),
)


def overview(metrics: Mapping[str, float], prefix: str = "") -> dict[str, str]:
    """Tags of the first group of TensorBoard, and the tag that each shows once more.

    Args:
        metrics: scalars of a window by tag.
        prefix: that all tags begin with, with its slash: the name of the callback.

    >>> overview({"le/I_logits/gamma": 0.1, "le/I_logits/gamma_low": 0.0, "alerts/active": 0.0})
    {'Separability/2_growth': 'le/I_logits/gamma', 'Separability/6_alerts': 'alerts/active'}
    """
    group = f"{GROUP} {prefix.rstrip('/')}".strip()
    found = {}
    for number, (name, pattern) in enumerate(_CARDS, 1):
        wanted = re.compile(re.escape(prefix) + pattern)
        tag = next((tag for tag in metrics if wanted.fullmatch(tag) and not tag.endswith(("_low", "_high"))), None)
        if tag is not None:
            found[f"{group}/{number}_{name}"] = tag
    return found
