"""The page as one file that needs no network, and the same data as JSON and as text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from le_callback.page.advice import ADVICE
from le_callback.page.folders import run_name
from le_callback.page.reading import Line, RunData, read_run

_MOST_DATA = 4 * 2**20  # of a report, for all its runs together, compressed and in base64
_ASSETS = Path(__file__).parent / "assets"
# each uses only those before it
_MODULES = (
    "data.js",
    "plots.js",
    "classes.js",
    "charts.js",
    "answers.js",
    "outlook.js",
    "more.js",
    "page.js",
    "mount.js",
)
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def write_report(paths: Sequence[Path], target: Path) -> None:
    """Write one self-contained HTML file with the runs of these data files.

    Args:
        paths: of the data files.
        target: is overwritten.

    Raises:
        OSError: if a file cannot be read or written.
        ValueError: if one of ``paths`` is no data file that this version reads.
    """
    runs = [{"run": name, "lines": _lines(read_run(path))} for name, path in zip(run_names(paths), paths, strict=True)]
    target.write_text(page({"runs": _fitting(runs)}), encoding="utf-8")


def page(content: dict[str, Any]) -> str:
    """The page with its data inside.

    Data are compressed and in base64, so that no text of theirs can be taken for markup; the policy of the page lets
    only its own script run and nothing be loaded.
    """
    packed = base64.b64encode(gzip.compress(_json(content).encode(), mtime=0)).decode("ascii")
    code = f"{script()}\nrenderReport(document.body, document.getElementById('data').textContent);\n"
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
    style = (_ASSETS / "style.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Separability</title>\n<style>{style}</style></head>\n<body>"
        f'<script type="text/plain" id="data">{packed}</script>\n<script type="module">{code}</script></body></html>\n'
    )


def script() -> str:
    """The modules of the page as one script."""
    texts = [(_ASSETS / name).read_text(encoding="utf-8") for name in _MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in texts)


def as_json(paths: Sequence[Path]) -> str:
    """The data of runs as one JSON document: head, rows, frames and events of each.

    Raises:
        OSError, ValueError: as ``write_report``.
    """
    return _json(
        {"runs": [{"run": n, **vars(read_run(path))} for n, path in zip(run_names(paths), paths, strict=True)]}
    )


def as_text(path: Path) -> str:
    """What the first screen of the page says of a run, as lines of text.

    Raises:
        OSError, ValueError: as ``write_report``.
    """
    run = read_run(path)
    if not run.rows:
        return "No window has closed yet.\n"
    last = run.rows[-1]
    questions = answers(run, last)
    lines = [f"{run_names([path])[0]}: step {last['step']:,}, {len(run.head.get('classes', ()))} classes", ""]
    width = max(map(len, questions))
    lines += [f"{question:{width}}  {answer}" for question, answer in questions.items()]
    return "\n".join(lines) + "\n"


def answers(run: RunData, row: Line) -> dict[str, str]:
    """The five questions and what the data say at a row.

    >>> run = RunData({"columns": [], "classes": ["cat", "dog"], "unit": "step"})
    >>> row = {"step": 9, "verdict": "separating", "rate": "fast", "worst": {"logits": [0, 1, 3.0]}, "since": 4}
    >>> answers(run, row)["Which pair is worst?"]
    'cat / dog, 3 deviations apart'
    """
    alerts = standing(run, row)
    word = str(row.get("verdict") or "")
    advice = [f"{alert['rule']}: {alert.get('cause', '')} {alert.get('advice', '')}" for alert in alerts]
    since = row.get("since")
    told = {
        "Is it separating?": word or "not known yet",
        "How fast?": str(row.get("rate") or "not known yet"),
        "Which pair is worst?": _pair(run, row),
        "Since when?": f"since step {since:,}" if isinstance(since, int) else "not known yet",
        "What to do?": " ".join([*_advice(run, row, bool(alerts)), *advice]),
    }
    return {question: " ".join(answer.split()) for question, answer in told.items()}


def standing(run: RunData, row: Line) -> list[Line]:
    """The newest alert of each rule that stands at a row."""
    rules = row.get("alerts")
    if not isinstance(rules, list):
        return []
    found = {}
    for event in run.events:
        if event["kind"] == "alert" and event["rule"] in rules and event["step"] <= row["step"]:
            found[event["rule"]] = event
    return list(found.values())


def _keys(row: Line) -> list[str]:
    keys = row.get("todo")
    found = keys if isinstance(keys, list) else [row.get("verdict")]
    return [key for key in found if isinstance(key, str)]


def _advice(run: RunData, row: Line, alerted: bool) -> list[str]:
    """What the row says; beside alerts only that the learning rate jumped, as that may be their cause."""
    told, jump = run.head.get("advice"), row.get("jump")
    texts = told if isinstance(told, dict) else ADVICE
    filled = {"pair": _pair(run, row).rpartition(",")[0], "step": "", "factor": ""}
    if isinstance(jump, list) and len(jump) == 2 and all(isinstance(n, (int, float)) for n in jump):
        filled |= {"step": f"{jump[0]:,}", "factor": f"{jump[1]:.3g}"}
    keys = [key for key in _keys(row) if key == "jump" or not alerted]
    return [re.sub(r"{(pair|step|factor)}", lambda found: filled[found.group(1)], str(texts.get(k, ""))) for k in keys]


def _pair(run: RunData, row: Line) -> str:
    if "alike" in _keys(row):
        return "no pair stands out: half of all pairs are mixed"
    worst = row.get("worst")
    found = worst.get("logits") or worst.get("features") if isinstance(worst, dict) else None
    if not (isinstance(found, list) and len(found) == 3 and isinstance(found[2], (int, float))):
        return "not known yet"
    names = run.head.get("classes")
    shown = [
        str(names[k]) if isinstance(names, list) and isinstance(k, int) and 0 <= k < len(names) else str(k)
        for k in found[:2]
    ]
    return f"{' / '.join(shown)}, {found[2]:.3g} deviations apart"


def run_names(paths: Sequence[Path]) -> list[str]:
    """Short names of runs that differ: their paths from the folder that they have in common."""
    if len(paths) == 1:
        return [run_name(Path(paths[0].absolute().parent.name, paths[0].name))]
    whole = [path.absolute() for path in paths]
    shared = 0
    for parts in zip(*(path.parent.parts for path in whole), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [run_name(Path(*path.parts[shared:])) for path in whole]


def _lines(run: RunData) -> list[Line]:
    return [run.head, *run.rows, *run.frames, *run.events]


def _fitting(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with as many frames as the report has room for: every one, or every second, fourth, …, and the last."""
    stride = 1
    while True:
        thinned = [{**run, "lines": _every(run["lines"], stride)} for run in runs]
        size = len(gzip.compress(_json(thinned).encode(), 1)) * 4 / 3
        if size <= _MOST_DATA or stride > 512:
            return thinned
        stride *= 2


def _every(lines: list[Line], stride: int) -> list[Line]:
    frames = [line for line in lines if line["kind"] == "frame"]
    kept = {id(line) for line in [*frames[::stride], *frames[-1:]]}
    return [line for line in lines if line["kind"] != "frame" or id(line) in kept]


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
