"""The registry of tags as tables for the documentation.

    python -m le_callback.report.reference docs/tags.md [--check]

rewrites what stands between ``<!-- tags: essential -->`` or ``<!-- tags: all -->`` and ``<!-- end of tags -->``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from le_callback.report.tags import GROUPS, LEVELS, Level
from le_callback.values import Tag

_UNITS = {"1/time": "per step"}


def tag_table(level: Level) -> str:
    """Markdown table of the tags of a level: those that loggers get by default, or all.

    >>> print(tag_table("essential").splitlines()[2][:46])
    | `le/<model>/A` with `_low`, `_high` (`I_logi
    """
    rows = list(_essential_rows() if level == "essential" else _rows())
    return "\n".join([*_head(level), *("| " + " | ".join(cells) + " |" for cells in rows)]) + "\n"


def _head(level: Level) -> list[str]:
    names = ["tag", "meaning", "what to look for"]
    if level == "all":
        names = ["tag", "unit", "meaning", "what to look for", "good", "by default"]
    return ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]


def _essential_rows() -> Iterator[list[str]]:
    for tag in _tags():
        if tag.essential:
            only = "" if isinstance(tag.essential, bool) else f" ({', '.join(f'`{key}`' for key in tag.essential)})"
            yield [f"{_name(tag)}{only}", tag.meaning, tag.look_for]


def _rows() -> Iterator[list[str]]:
    for tag in _tags():
        default = "yes" if tag.essential is True else ", ".join(tag.essential or ())
        better = "" if tag.better == "neither" else tag.better
        yield [_name(tag), _UNITS.get(tag.unit, tag.unit), tag.meaning, tag.look_for, better, default]


def _tags() -> Iterator[Tag]:
    return (tag for group in GROUPS for tag in group.tags)


def _name(tag: Tag) -> str:
    name = re.sub(r"{(\w+)}", r"<\1>", tag.name)
    return f"`{name}` with `_low`, `_high`" if tag.interval else f"`{name}`"


def with_tables(text: str) -> str:
    """``text`` with the tables between its marks renewed.

    >>> with_tables("no marks")
    'no marks'
    """
    for level in LEVELS:
        place = re.compile(rf"(<!-- tags: {level} -->\n).*?(<!-- end of tags -->)", re.DOTALL)
        table = tag_table(level).replace("\\", r"\\")
        text = place.sub(rf"\g<1>{table}\g<2>", text)
    return text


def main(argv: list[str] | None = None) -> int:
    """Renew the tables of files, or with ``--check`` say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    stale = [path for path in options.files if path.read_text() != with_tables(path.read_text())]
    for path in stale:
        print(f"{path}: {'out of date' if options.check else 'renewed'}")
        if not options.check:
            path.write_text(with_tables(path.read_text()))
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
