"""The tab "Separability" in TensorBoard: serves the page and the data files of the runs below the log directory.

TensorBoard imports this module whenever it starts: only the standard library and its own base class are imported, and
nothing here raises. Routes are plain WSGI.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tensorboard.plugins import base_plugin

from le_callback.page.folders import find_runs, locate
from le_callback.page.reading import FORMAT, MOST_LINE_BYTES, open_plain, parsed

MOST_SENT = 8 * 2**20  # bytes of an answer; the page asks for the rest
_ASSETS = Path(__file__).parent / "assets"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_FRESH = 3.0  # seconds for which the list of runs is kept

Start = Callable[[str, list[tuple[str, str]]], Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


class SeparabilityPlugin(base_plugin.TBPlugin):  # type: ignore[misc]  # TensorBoard has no types
    """Registered by the entry point ``tensorboard_plugins``.

    Args:
        context: of TensorBoard; ``logdir`` is read.
    """

    plugin_name = "le_callback"

    def __init__(self, context: Any) -> None:
        self._root = Path(context.logdir) if getattr(context, "logdir", None) else None
        self._runs: dict[str, Path] = {}
        self._looked = -_FRESH

    def get_plugin_apps(self) -> dict[str, App]:
        """The routes: assets, the list of runs, and the data of a run."""
        apps: dict[str, App] = {f"/{path.name}": _serving(path) for path in _ASSETS.iterdir() if path.suffix in _TYPES}
        return apps | {"/runs": self._list_runs, "/data": self._send_data}

    def is_active(self) -> bool:
        """Whether there is a run with data."""
        return bool(self._known())

    def frontend_metadata(self) -> Any:
        """Name of the tab, and where its script is."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Separability")

    def _known(self) -> dict[str, Path]:
        if time.monotonic() - self._looked > _FRESH and self._root is not None:
            try:
                self._runs = find_runs(self._root)
            except OSError:
                self._runs = {}
            self._looked = time.monotonic()
        return self._runs

    def _list_runs(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        runs = []
        for name, path in self._known().items():
            try:
                about = path.lstat()
            except OSError:
                continue
            runs.append({"run": name, "bytes": about.st_size, "changed": about.st_mtime})
        return _answer(start, json.dumps({"runs": runs}).encode())

    def _send_data(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Whole lines of a data file from an offset on, after a line that says where they are from."""
        asked = parse_qs(str(environ.get("QUERY_STRING", "")))
        run, known, offset = (asked.get(key, [""])[0] for key in ("run", "id", "from"))
        if self._root is None:
            return _refusal(start, "404 Not Found", "There is no log directory.")
        try:
            path = locate(self._root, run, self._known())
            begin = int(offset) if offset.isascii() and offset.isdecimal() and len(offset) < 16 else 0
            return _answer(start, read_on(path, known, begin), "application/x-ndjson; charset=utf-8")
        except (LookupError, OSError):
            return _refusal(start, "404 Not Found", "There is no such run.")
        except ValueError as error:  # no failure of the request: the page tells it
            return _refusal(start, "200 OK", str(error))


def read_on(path: Path, known: str, offset: int) -> bytes:
    """What a page gets: a line of JSON with ``id``, ``from``, ``next`` and ``size``, then the whole lines between.

    Args:
        path: a data file.
        known: the ``id`` of the file that the page has read; of another file it gets all from the start.
        offset: bytes that the page has read of it.

    Raises:
        OSError: if it cannot be opened.
        ValueError: if it is no data file, too large, or of another format.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = parsed(file.readline(4096))
        if first is None or first.get("kind") != "file":
            raise ValueError(f"{path.name} is no data file of le_callback.")
        if first.get("format") != FORMAT:
            raise ValueError(f"{path.name} has format {first.get('format')!r}; this version reads {FORMAT}.")
        identity = str(first.get("id"))
        if identity != known or not 0 < offset <= size:
            offset = 0
        file.seek(offset)
        sent = file.read(MOST_SENT)
        end = sent.rfind(b"\n") + 1
        if end == 0 and len(sent) > MOST_LINE_BYTES:
            raise ValueError(f"{path.name} has a line of more than {MOST_LINE_BYTES:,} bytes.")
        about = {"id": identity, "from": offset, "next": offset + end, "size": size}
        return json.dumps(about).encode() + b"\n" + sent[:end]


def _serving(path: Path) -> App:
    """A route that serves one file of the package."""

    def serve(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        return _answer(start, path.read_bytes(), _TYPES[path.suffix])

    return serve


def _answer(
    start: Start, body: bytes, kind: str = "application/json; charset=utf-8", status: str = "200 OK"
) -> Iterable[bytes]:
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]
    start(status, headers)
    return [body]


def _refusal(start: Start, status: str, why: str) -> Iterable[bytes]:
    return _answer(start, json.dumps({"error": why}).encode(), status=status)
