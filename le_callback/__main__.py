"""``python -m le_callback report RUN`` and ``compare RUN RUN …``: the page of runs as a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from le_callback.page.compare import comparison
from le_callback.page.folders import locate_file
from le_callback.page.report import as_json, as_text, write_report
from le_callback.report.terminal import show


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = _parser().parse_args(argv)
    runs = arguments.run if arguments.command == "compare" else [arguments.run]
    try:
        paths = [locate_file(run) for run in runs]
        if arguments.format == "html":
            target = arguments.output or Path(f"{arguments.command}.html")
            write_report(paths, target)
            show(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
            if arguments.command == "compare":
                show(comparison(paths))
            return 0
        if arguments.format == "json":
            text = as_json(paths)
        else:
            text = comparison(paths) if arguments.command == "compare" else as_text(paths[0])
        if arguments.output is None:
            show(text.rstrip("\n"))
        else:
            arguments.output.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"le_callback: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m le_callback", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="one run: a self-contained HTML page, JSON or text")
    report.add_argument("run", type=Path, help="a run's folder, or its data file")
    compare = commands.add_parser("compare", help="several runs on one page, and a table of them")
    compare.add_argument("run", type=Path, nargs="+", help="folders or data files of runs")
    for command in (report, compare):
        command.add_argument("-o", "--output", type=Path, help="file to write")
        command.add_argument("--format", choices=("html", "json", "text"), default="html")
    return parser


if __name__ == "__main__":
    sys.exit(main())
