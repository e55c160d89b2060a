"""The table at the end as Rich draws it, where Lightning's own tables are drawn by it."""

from __future__ import annotations

from collections.abc import Sequence

from le_callback.report.table import Block, laid_out
from le_callback.report.terminal import show, spelled, terminal_encoding


def show_table(blocks: Sequence[Block], pretty: bool) -> None:
    """Print the table.

    Args:
        blocks: of it.
        pretty: whether Rich draws it, if it is installed; without it, and where it fails, it is plain text.

    >>> show_table(["Verdict: separated", [["", "logits"], ["accuracy", "0.99"]]], pretty=False)
    <BLANKLINE>
    Verdict: separated
              logits
    accuracy  0.99
    <BLANKLINE>
    """
    if not pretty or not _drawn_by_rich(blocks):
        show(f"\n{laid_out(blocks, terminal_encoding())}\n")


def _drawn_by_rich(blocks: Sequence[Block]) -> bool:
    """Whether Rich drew it; false where it is not installed or fails, and for a file, whose lines stay as they are."""
    try:
        from rich import box
        from rich.console import Console, Group
        from rich.table import Column, Table
        from rich.text import Text

        console, encoding = Console(), terminal_encoding()
        if not (console.is_terminal or console.is_jupyter):
            return False
        parts: list[Text | Table] = []
        for block in blocks:
            if isinstance(block, str):
                title, colon, rest = spelled(block, encoding).partition(": ")  # no markup: names may hold brackets
                parts.append(Text.assemble((title + colon, "bold"), rest))
                continue
            head, *body = [[Text(spelled(cell, encoding)) for cell in row] for row in block]
            table = Table(*(Column(cell) for cell in head), box=box.SIMPLE_HEAD, pad_edge=False)
            for row in body:
                table.add_row(*row)
            parts.append(table)
        console.print(Group("", *parts, ""))
    except Exception:
        return False
    return True
