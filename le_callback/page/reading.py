"""Reads data files of runs, whoever wrote them: what is too large, of another format or damaged is refused or left out.

Only the standard library is used.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
MOST_BYTES = 64 * 2**20  # of a file; ours stay below a third of it
MOST_LINE_BYTES = 4 * 2**20
KINDS: dict[str, tuple[str, ...]] = {
    "head": ("after", "columns"),
    "row": ("step", "values"),
    "frame": ("step",),
    "alert": ("step", "rule"),
    "over": ("step", "rule"),
    "verdict": ("step", "name"),
    "forecast": ("step", "text"),
    "rate": ("step",),
    "strides": ("row", "frame"),
}
"""Kinds of lines after the first, and what each of them has at least."""

_NUMBERS = ("step", "after", "row", "frame")
_LISTS = ("columns", "values")

Line = dict[str, Any]


@dataclass
class RunData:
    """What a data file says.

    Attributes:
        head: of the last training in it.
        rows: of the windows, by step.
        frames: matrices of some of them, by step.
        events: alerts, their ends, changes of the verdict, forecasts, jumps of the learning rate, by step.
    """

    head: Line
    rows: list[Line] = field(default_factory=list)
    frames: list[Line] = field(default_factory=list)
    events: list[Line] = field(default_factory=list)

    def column(self, name: str) -> list[Any]:
        """Values of a tag in all rows; None where there is none."""
        columns = self.head["columns"]
        if name not in columns:
            return [None] * len(self.rows)
        place = columns.index(name)
        return [row["values"][place] if place < len(row["values"]) else None for row in self.rows]


def open_plain(path: Path) -> int:
    """A descriptor of a regular file of acceptable size; the caller closes it.

    A pipe or a device is not waited for, and none is read.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is no regular file, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    about = os.fstat(descriptor)
    why = ""
    if not stat.S_ISREG(about.st_mode):
        why = "is no regular file"
    elif about.st_size > MOST_BYTES:
        why = f"has {about.st_size:,} bytes; a data file has at most {MOST_BYTES:,}"
    if why:
        os.close(descriptor)
        raise ValueError(f"{path.name} {why}.")
    return descriptor


def parsed_lines(path: Path) -> Iterator[Line]:
    """The lines of a data file after the first that can be used; others are left out, as one that is half written.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is no data file, too large, or of another format.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        first = parsed(file.readline(MOST_LINE_BYTES))
        if first is None or first.get("kind") != "file":
            raise ValueError(f"{path.name} is no data file of le_callback.")
        if first.get("format") != FORMAT:
            raise ValueError(f"{path.name} has format {first.get('format')!r}; this version reads {FORMAT}.")
        while text := file.readline(MOST_LINE_BYTES):
            line = parsed(text)
            if line is not None and is_usable(line):
                yield line


def parsed(text: bytes) -> Line | None:
    r"""The object of a whole line; None where there is none.

    >>> parsed(b'{"kind":"row"}\n'), parsed(b'{"kind":"ro'), parsed(b'[]\n')
    ({'kind': 'row'}, None, None)
    """
    if not text.endswith(b"\n"):
        return None
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_usable(line: Line) -> bool:
    """Whether a line is of a known kind and has what that kind has.

    >>> is_usable({"kind": "row", "step": 1, "values": []}), is_usable({"kind": "row", "step": "1", "values": []})
    (True, False)
    """
    kind = line.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return False
    for key in KINDS[kind]:
        value = line.get(key)
        if key in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int):
                return False
        elif not isinstance(value, list if key in _LISTS else str):
            return False
    return kind != "head" or all(isinstance(column, str) for column in line["columns"])


def current(lines: Iterable[Line]) -> list[Line]:
    """Lines that count: a training that goes on after some step takes back what was written of later ones.

    >>> rows = [{"kind": "row", "step": s, "values": []} for s in (1, 2, 3)]
    >>> [line["step"] for line in current([*rows, {"kind": "head", "after": 2, "columns": []}]) if "step" in line]
    [1, 2]
    """
    kept: list[Line] = []
    for line in lines:
        if line["kind"] == "head":
            kept = [earlier for earlier in kept if earlier.get("step", -1) <= line["after"]]
        kept.append(line)
    return kept


def read_run(path: Path) -> RunData:
    """All of a data file.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is no data file, too large, of another format, or tells of no training.
    """
    lines = current(parsed_lines(path))
    heads = [line for line in lines if line["kind"] == "head"]
    if not heads:
        raise ValueError(f"{path.name} tells of no training.")
    found = RunData(heads[-1])
    for line in lines:
        if line["kind"] == "row":
            found.rows.append(line)
        elif line["kind"] == "frame":
            found.frames.append(line)
        elif line["kind"] in ("alert", "over", "verdict", "forecast", "rate"):
            found.events.append(line)
    return found
