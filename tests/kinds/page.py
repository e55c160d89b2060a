"""The table of all kinds for ``docs/kinds.md``: ``python tests/kinds/page.py docs/kinds.md`` writes it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from kinds import batches, heads, labels, loops, losses, multiple, sequences, traps, unlabelled, unseen
from kinds.frame import FOUND, REFUSED

ROOMS = (batches, labels, losses, heads, multiple, sequences, loops, unseen, traps, unlabelled)
BEGIN = """# Kinds of training

What `LECallback()` does without arguments in trainings of every kind, and which argument settles it where it cannot
know. Each row is a training in [tests/kinds](../tests/kinds) that knows what is right: the class means and counts of
every window are compared with its own (relative error below 1e-5), and parameters and random state with those of the
same training without the callback. None may measure something else without a word.

- **found**: head and labels are found, and the log says which, by which loss.
- **refused**: an error on the first batch says why, and names the argument in the last column; with that argument the
  row is measured. `LE_CALLBACK=1` tells it in a line instead, and the training goes on unwatched.
- **nothing**: the training computes no loss of a classification. The error says which losses were seen.

`outputs=` needs a `training_step` that returns the named tensors beside the loss:
`return {"loss": loss, "features": features, "logits": logits}`.
"""


def page():
    """The whole file."""
    parts = [BEGIN]
    for room in ROOMS:
        title, _, text = room.__doc__.strip().partition(".")
        parts.append(f"\n## {title}\n{chr(10) + text.strip() + chr(10) if text.strip() else ''}")
        parts.append("\n| training | the callback | settled by |\n| --- | --- | --- |\n")
        parts += [row(kind) for kind in room.KINDS]
    return "".join(parts)


def row(kind):
    word = {FOUND: "found", REFUSED: "refused"}.get(kind.expected, "nothing")
    note = (vars(kind.make).get("__doc__") or "").strip().rstrip(".")
    settled = f"`{kind.settles}`".replace("|", "\\|") if kind.settles else ""
    return f"| {kind.title} | {word}{f'. {note}' if note else ''} | {settled} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
