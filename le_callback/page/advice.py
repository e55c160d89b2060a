"""What to do where no alert says it, by keys that the rows hold."""

from __future__ import annotations

ADVICE: dict[str, str] = {
    "": "Wait: the verdict needs a few more windows.",
    "separating": "Nothing: keep training.",
    "separated": "Nothing: the classes are apart. More training changes little.",
    "converged": "Nothing: the classes are apart and the loss is nearly spent. More training changes little.",
    "at chance": "If this lasts: check the labels, then raise the learning rate or look at the initialisation.",
    "stalled": "If the worst pair is not apart yet: check the learning rate and its schedule.",
    "critical": "Wait. If the worst pair stays mixed: train longer, or let the learning rate decay more slowly.",
    "losing": "Lower the learning rate, or go back to a checkpoint from before this began.",
    "not separating": "If the worst pair is not apart yet: check the labels and the learning rate.",
    "cannot tell": "Wait for more windows. A probe, LECallback(probe=50), sees smaller gaps than batches do.",
    "not identifiable": "Wait for more windows. A probe, LECallback(probe=50), sees smaller gaps than batches do.",
    "alike": "If this lasts: check the labels, then raise the learning rate or look at the initialisation.",
    "lagging": "{pair} are far behind the other pairs: look at the labels and at samples of these two classes.",
    "jump": "The learning rate rose {factor} times at step {step}: lower it if the worst pair fell then.",
}
"""A sentence for each word of the verdict, and for what else there is to say. ``{pair}``, ``{factor}`` and ``{step}``
are filled in where it is shown."""
