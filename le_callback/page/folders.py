"""Runs in a folder: which data files there are, and only those that lie in it.

Only the standard library is used.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

SUFFIX = ".separability.jsonl"
MOST_FOLDERS, MOST_RUNS = 20_000, 1_000


def data_name(name: str | None) -> str:
    """Name of the data file of a callback.

    >>> data_name(None), data_name("fine/ranks")
    ('le_callback.separability.jsonl', 'le_callback-fine_ranks.separability.jsonl')
    """
    own = re.sub(r"[^\w.-]", "_", name or "")
    return f"le_callback{'-' if own else ''}{own}{SUFFIX}"


def find_runs(root: Path) -> dict[str, Path]:
    """Data files below a folder, by a name for each run: its path from there, and the callback's name where it has one.

    Links are not followed, neither to folders nor to files; at most 20,000 folders are looked at, and 1,000 runs found.

    Args:
        root: the log directory; it may be a link itself.
    """
    found: dict[str, Path] = {}
    for path in _data_files(root):
        found[run_name(path.relative_to(root))] = path
        if len(found) == MOST_RUNS:
            break
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def run_name(path: Path) -> str:
    """What a data file is called on the page, by its path from the log directory.

    >>> run_name(Path("a/version_0") / data_name(None)), run_name(Path(data_name("ranks")))
    ('a/version_0', '. (ranks)')
    """
    own = path.name.removesuffix(SUFFIX).removeprefix("le_callback").removeprefix("-")
    return path.parent.as_posix() + (f" ({own})" if own else "")


def locate(root: Path, run: str, runs: Mapping[str, Path]) -> Path:
    """The data file of a run, by its name.

    The name is looked up, never joined to a path, so that no name can lead out of the folder; and the file is looked at
    again, as a link may have come since.

    Args:
        root: the log directory.
        run: the name.
        runs: those found in it.

    Raises:
        LookupError: if there is no such run.
    """
    path = runs.get(run)
    if path is None or not _is_inside(root, path):
        raise LookupError("There is no such run.")
    return path


def locate_file(place: Path) -> Path:
    """The data file of a run that a user names: the file, or a folder in or below which there is one.

    Raises:
        ValueError: if there is none, or more than one.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise ValueError(f"There is no file or folder {place}.")
    runs = find_runs(place)
    if not runs:
        raise ValueError(f"There is no data file ({data_name(None)}) in {place} or below.")
    if len(runs) > 1:
        names = ", ".join(list(runs)[:5]) + (", …" if len(runs) > 5 else "")
        raise ValueError(f"There are {len(runs)} runs in {place}: name one of {names}.")
    return next(iter(runs.values()))


def _data_files(root: Path) -> Iterator[Path]:
    folders = 0
    for folder, inner, files in os.walk(root, followlinks=False):
        inner.sort()
        folders += 1
        if folders > MOST_FOLDERS:
            return
        for name in sorted(files):
            if name.endswith(SUFFIX) and not name.startswith("."):
                path = Path(folder, name)
                try:
                    plain = stat.S_ISREG(path.lstat().st_mode)
                except OSError:
                    continue
                if plain:
                    yield path


def _is_inside(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _natural(name: str) -> list[tuple[int, int | str]]:
    """So that version_10 comes after version_2."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]
