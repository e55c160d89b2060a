"""Several runs in one table: what each came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from le_callback.page.reading import read_run
from le_callback.page.report import answers, run_names

_COLUMNS = {
    "γ": "le/I_logits/gamma",
    "accuracy": "separation/logits/nearest_mean_accuracy",
    "worst pair, D": "separation/logits/discriminability_min",
    "from ETF, °": "etf/logits/angle_deviation_deg",
}


def comparison(paths: Sequence[Path]) -> str:
    """A row for each run, with its last values.

    Raises:
        OSError, ValueError: as ``report.write_report``.
    """
    table = [["run", "step", "verdict", "since", *_COLUMNS, "worst pair", "alerts"]]
    for name, path in zip(run_names(paths), paths, strict=True):
        run = read_run(path)
        if not run.rows:
            table.append([name, *["–"] * (len(table[0]) - 1)])
            continue
        row = run.rows[-1]
        told = answers(run, row)
        numbers = [_number(run.column(_full(run.head["columns"], tag))[-1]) for tag in _COLUMNS.values()]
        pair = told["Which pair is worst?"].split(",")[0]
        since = row.get("since")
        alerts = row.get("alerts")
        table.append(
            [
                name,
                f"{row['step']:,}",
                str(row.get("verdict") or "–"),
                f"{since:,}" if isinstance(since, int) else "–",
                *numbers,
                pair,
                ", ".join(map(str, alerts)) if isinstance(alerts, list) and alerts else "none",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table) + "\n"


def _full(columns: Sequence[str], tag: str) -> str:
    """The tag, with the unit of time that a run has in it."""
    return next((c for c in columns if c == tag or c.startswith(f"{tag}_per_")), tag)


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("inf", "∞")
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "–"
    return f"{value:.3g}"
