"""What to do, by the verdict, where no alert says it. Plain text only: the plugin and the reports read it, too."""

from __future__ import annotations

NOTHING_YET = "Wait: the verdict needs a few more windows."
ADVICE: dict[str, str] = {
    "separating": "Nothing: keep training.",
    "separated": "Nothing: the classes are apart. More training changes little.",
    "converged": "Nothing: the classes are apart and the loss is nearly spent. More training changes little.",
    "at chance": "If this lasts: check the labels, then raise the learning rate or look at the initialisation.",
    "stalled": "Look at the worst pair. If it is not apart yet: check the learning rate and its schedule.",
    "critical": "Wait. If the worst pair stays mixed: train longer, or let the learning rate decay more slowly.",
    "losing": "Lower the learning rate, or go back to a checkpoint from before this began.",
    "not separating": "If the worst pair is mixed: check the labels, and whether the learning rate is far off.",
    "cannot tell": "Wait for more windows. A probe (`probe=50`) sees smaller gaps than batches do.",
    "not identifiable": "Wait for more windows. A probe (`probe=50`) sees smaller gaps than batches do.",
}
"""A sentence for each word of the verdict."""
