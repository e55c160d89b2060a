"""What share of the mutants of `make mutants` the tests noticed, per file, and which ones they did not.

python .ci/mutants.py [mutants]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SURVIVED, UNTESTED, NOT_RUN = 0, (5, 33), (None, 2, 34)


def sum_up(folder: Path) -> list[tuple[str, int, int, list[str]]]:
    """Of each file that ran: its path, mutants noticed, mutants run, and the names of those not noticed.

    A mutant that no test reaches counts as not noticed, one that hangs or crashes as noticed.
    """
    rows = []
    for path in sorted(folder.rglob("*.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        run = {name: code for name, code in codes.items() if code not in NOT_RUN}
        missed = [name for name, code in run.items() if code == SURVIVED or code in UNTESTED]
        if run:
            rows.append((str(path.relative_to(folder).with_suffix("")), len(run) - len(missed), len(run), missed))
    return rows


def main(folder: str = "mutants") -> None:
    """Print the names of the mutants that were not noticed and a table."""
    rows = sum_up(Path(folder))
    for *_, missed in rows:
        print(*missed, sep="\n", end="\n" if missed else "")
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    width = max(len(row[0]) for row in [*rows, total])
    for name, noticed, run, *_ in [*rows, total]:
        print(f"{name:{width}}  {noticed:5d} of {run:5d}  {noticed / max(run, 1):6.1%}")
    print("`mutmut show NAME` prints the change of a mutant")


if __name__ == "__main__":
    main(*sys.argv[1:])
