"""The data of the page as a file: one JSON object a line, appended beside the logger's own file.

Lines of JSON, since a line is written by one call, a line cut off by a crash is seen as such and left out, a page that
is open reads on from where it was, and a browser needs no reader for it. Matrices are half-precision numbers in base64.
Only the standard library is used.

Kinds of lines, by their ``kind``:

- ``file``: the first; ``format``, and an ``id`` that changes whenever the file is written anew, not appended to.
- ``head``: a training starts or goes on after step ``after``; lines before it that are of later steps do not count.
  Versions, settings, class names, and what the ``columns`` of the rows are.
- ``row``: numbers and verdict of a window. ``frame``: matrices of a window.
- ``alert``, ``over``, ``verdict``, ``forecast``, ``rate``: what happened at a step.
- ``strides``: every how many-th row and frame is kept from here on.

Its length is bounded: when rows or frames fill their share, every second one is dropped, and from then on every second
one is written, as a trajectory does.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from le_callback.page.reading import FORMAT, Line, current, parsed_lines

MOST_ROWS = 2048
MOST_FRAMES, FRAME_BYTES = 256, 6 * 2**20
_FEWEST_FRAMES = 16
_MOST_EVENTS = 400  # of each kind
_EVENTS = ("alert", "over", "verdict", "forecast", "rate")
_DIGITS = 5
_SIMPLE = (str, int, bool)


class DataFile:
    """Appends to a data file; what is there of an earlier training stays where this one continues it.

    Each call opens and closes the file, so nothing is left open, and two processes of one folder do not share a handle.

    Args:
        path: of the file; its folder is made.
        head: what is told of the training, without ``kind`` and ``after``.
        after: optimizer step after which this training goes on; 0 for a new one.

    Attributes:
        framed: whether the newest window has a frame, written or to be written by ``finish``.
        before: the last row of the training that is continued; empty where there is none.

    Raises:
        OSError: if it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = DataFile(Path(folder) / "run.jsonl", {"columns": ["a"]}, after=0)
    ...     file.add("row", {"step": 50, "values": [0.123456789]})
    ...     _, first, row = file.path.read_text().splitlines()
    >>> row
    '{"kind":"row","step":50,"values":[0.12346]}'
    """

    def __init__(self, path: Path, head: Mapping[str, Any], after: int) -> None:
        self.path = path
        self._added = {"row": 0, "frame": 0}
        self._kept = {"row": 0, "frame": 0}
        self._strides = {"row": 1, "frame": 1}
        self._last: dict[str, str] = {}  # the newest row and frame that the stride left out
        self._most_frames = MOST_FRAMES
        self.framed = True
        path.parent.mkdir(parents=True, exist_ok=True)
        before = _before(path, after)
        for line in before:
            if line["kind"] == "strides":
                self._strides = {kind: int(line[kind]) for kind in self._strides}
        self.before: Line = next((line for line in reversed(before) if line["kind"] == "row"), {})
        self._rewrite([encoded(line) + "\n" for line in [*before, {"kind": "head", **head, "after": after}]])

    def add(self, kind: str, content: Mapping[str, Any]) -> None:
        """Write a line, unless the stride of its kind leaves it out.

        Args:
            kind: of the line.
            content: what it holds beside its kind: plain values; numbers get five digits, NaN becomes null.
        """
        line = encoded({"kind": kind, **content})
        if kind not in self._added:
            self._append(line)
            return
        self.framed |= kind == "frame"
        count = self._added[kind]
        self._added[kind] = count + 1
        if count % self._strides[kind]:
            self._last[kind] = line
            return
        self._last.pop(kind, None)
        self._append(line)
        self._kept[kind] += 1
        if kind == "frame":
            self._most_frames = max(_FEWEST_FRAMES, min(MOST_FRAMES, FRAME_BYTES // len(line)))
        if self._kept[kind] >= (MOST_ROWS if kind == "row" else self._most_frames):
            self._thin(kind)

    def wants(self, kind: str) -> bool:
        """Whether the next row or frame will be written; another need not be made, but ``skip`` has to be called."""
        return self._added[kind] % self._strides[kind] == 0

    def skip(self, kind: str) -> None:
        """A row or frame passes that ``wants`` did not ask for."""
        self._added[kind] += 1
        self.framed &= kind != "frame"

    def write(self, kind: str, content: Mapping[str, Any]) -> None:
        """Write a line whatever the stride of its kind."""
        self._append(encoded({"kind": kind, **content}))

    def finish(self) -> None:
        """The training ends: what the strides left out last is written, so that the file ends where the run does."""
        for line in self._last.values():
            self._append(line)
        self._last = {}

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _thin(self, kind: str) -> None:
        """Drop every second line of a kind. All lines are our own: what they are is seen from their beginning."""
        self._strides[kind] *= 2
        kept, seen = [], 0
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith(_beginning(kind)):
                    seen += 1
                    if seen % 2 == 0:
                        continue
                kept.append(line)
        self._rewrite(kept)

    def _rewrite(self, lines: Sequence[str]) -> None:
        """Replace the file at once: a reader sees the old one or the new one, and a crash leaves one of them."""
        kept = [line for line in lines if not line.startswith((_beginning("file"), _beginning("strides")))]
        for kind in _EVENTS:
            surplus = sum(line.startswith(_beginning(kind)) for line in kept) - _MOST_EVENTS
            if surplus > 0:
                events = (i for i, line in enumerate(kept) if line.startswith(_beginning(kind)))
                oldest = set(islice(events, surplus))
                kept = [line for i, line in enumerate(kept) if i not in oldest]
        for kind in self._kept:
            self._kept[kind] = sum(line.startswith(_beginning(kind)) for line in kept)
        first = encoded({"kind": "file", "format": FORMAT, "id": uuid.uuid4().hex}) + "\n"
        strides = [encoded({"kind": "strides", **self._strides}) + "\n"] if max(self._strides.values()) > 1 else []
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            partial.write_text("".join([first, *kept, *strides]), encoding="utf-8")
            os.replace(partial, self.path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


def _beginning(kind: str) -> str:
    return f'{{"kind":"{kind}"'


def _before(path: Path, after: int) -> list[Line]:
    """What an earlier training left that this one continues; nothing of one that starts anew, or of another format."""
    if after <= 0 or not path.exists():
        return []
    try:
        lines = list(current(parsed_lines(path)))
    except ValueError:
        return []
    kept = [line for line in lines if line["kind"] in ("head", "strides") or line.get("step", math.inf) <= after]
    return [{"kind": line.pop("kind"), **line} for line in kept]


def encoded(content: Any) -> str:
    """As one line of JSON: numbers with five digits, NaN as null, infinities as the texts ``inf`` and ``-inf``.

    >>> encoded({"a": [1.23456789, float("nan"), -float("inf")], "b": "é"})
    '{"a":[1.2346,null,"-inf"],"b":"é"}'
    """
    return json.dumps(_plain(content), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return float(f"{value:.{_DIGITS}g}")
        return None if math.isnan(value) else f"{value}"
    if value is None or isinstance(value, _SIMPLE):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else str(value)
