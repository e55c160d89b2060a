"""The page as a file, and the commands that make it."""

import base64
import gzip
import hashlib
import html
import json
import re

import numpy as np
import pytest

from le_callback.__main__ import main
from le_callback.page.datafile import DataFile
from le_callback.page.folders import data_name
from le_callback.page.report import page, script

NASTY = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "a & 'b' \"c\"",
    "\N{FOX FACE}",
    "{classes}",
]


def made(folder, rows=3, classes=NASTY, verdict="separating", alerts=()):
    head = {"columns": ["le/I_logits/gamma", "x"], "classes": classes, "unit": "step", "version": "0.1"}
    file = DataFile(folder / data_name(None), head, after=0)
    for alert in alerts:
        file.add("alert", {"step": 1, "rule": alert, "cause": "It is bad.", "advice": "Do better."})
    for step in range(1, rows + 1):
        row = {"step": step, "values": [0.1 * step, None], "verdict": verdict, "rate": "gap grows", "since": 1}
        file.add("row", row | {"worst": {"logits": [0, 1, 1.5]}, "alerts": list(alerts)})
    return file


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_file_needs_nothing_else_and_lets_nothing_else_run(tmp_path, capsys):
    made(tmp_path / "run")
    target = tmp_path / "report.html"
    status, out, _ = run(capsys, "report", tmp_path / "run", "-o", target)
    assert status == 0
    assert "report.html" in out
    text = target.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
    code = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy
    assert re.findall(r"<script", text) == ["<script"] * 2
    assert not re.search(r'(src|href)="', text.split("<script", 1)[0])
    for name in NASTY[:2]:
        assert name not in text
    packed = re.search(r'id="data">([A-Za-z0-9+/=]*)</script>', text).group(1)
    content = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert content["runs"][0]["run"] == "run"
    assert content["runs"][0]["lines"][0]["classes"] == NASTY


def test_the_script_has_no_imports_left():
    assert not re.search(r"^(import|export)\b", script(), re.MULTILINE)
    assert "</script" not in script()


def test_the_same_data_give_the_same_file(tmp_path):
    assert page({"runs": []}) == page({"runs": []})


def test_json_and_text(tmp_path, capsys):
    made(tmp_path / "run", alerts=("PairMerging",))
    status, out, _ = run(capsys, "report", tmp_path / "run", "--format", "json")
    (found,) = json.loads(out)["runs"]
    assert status == 0
    assert [row["step"] for row in found["rows"]] == [1, 2, 3]
    assert found["events"][0]["rule"] == "PairMerging"
    _, out, _ = run(capsys, "report", tmp_path / "run", "--format", "text")
    for told in ("separating", "gap grows", "1.5 deviations", "since step 1", "PairMerging: It is bad. Do better."):
        assert told in out


def test_compare_has_a_row_for_each_run_and_a_page_with_all(tmp_path, capsys):
    for name, verdict in (("one", "separating"), ("two", "stalled")):
        made(tmp_path / "runs" / name, verdict=verdict, classes=["cat", "dog"])
    target = tmp_path / "compare.html"
    status, out, _ = run(capsys, "compare", tmp_path / "runs" / "one", tmp_path / "runs" / "two", "-o", target)
    assert status == 0
    table = [line.split() for line in out.splitlines() if line.startswith(("one", "two"))]
    assert [row[2] for row in table] == ["separating", "stalled"]
    assert all("0.3" in row and "cat" in row for row in table)
    assert target.stat().st_size < 200_000
    _, text, _ = run(capsys, "compare", tmp_path / "runs" / "one", tmp_path / "runs" / "two", "--format", "text")
    assert text.strip() in out


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda folder: None, "no file or folder"),
        (lambda folder: folder.mkdir(), "no data file (le_callback.separability.jsonl)"),
        (lambda folder: [made(folder / str(i)) for i in range(2)], "2 runs in"),
        (lambda folder: made(folder).path.write_text("nonsense\n"), "no data file of le_callback"),
        (lambda folder: made(folder).path.write_text('{"kind":"file","format":2}\n'), "format 2"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, capsys, prepare, told):
    prepare(tmp_path / "run")
    status, out, error = run(capsys, "report", tmp_path / "run", "-o", tmp_path / "out.html")
    assert (status, out) == (1, "")
    assert told in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out.html").exists()


def test_hostile_values_make_neither_command_fail(tmp_path, capsys):
    file = made(tmp_path / "run")
    for step, worst in enumerate(([0, 1], ["a", None, 2.0], [0, 99, "x"], {"logits": {}}, 5, [1e9, -1, 3.0]), start=10):
        content = {"verdict": {}, "rate": 3, "since": "x", "alerts": 7, "worst": {"logits": worst}, "cost": "x"}
        file.add("row", {"step": step, "values": [{"a": []}, True, 3], **content})
        for form in ("text", "json"):
            assert run(capsys, "report", tmp_path / "run", "--format", form)[0] == 0
        assert run(capsys, "compare", tmp_path / "run", "--format", "text")[0] == 0


def test_a_report_of_a_long_run_of_many_classes_stays_small(tmp_path, capsys):
    """Random numbers, which no compression makes smaller."""
    generator = np.random.default_rng(0)
    file = made(tmp_path / "run", classes=[f"class {k}" for k in range(100)])

    def packed(size):
        return base64.b64encode(generator.normal(size=size).astype("<f2").tobytes()).decode()

    for step in range(10, 260):
        layer = {"classes": list(range(100)), "D": packed(4950), "cosine": packed(4950), "worst": []}
        file.add("row", {"step": step, "values": [0.1, 0.2]})
        file.add("frame", {"step": step, "layers": {"logits": layer, "features": layer}})
    target = tmp_path / "report.html"
    assert run(capsys, "report", tmp_path / "run", "-o", target)[0] == 0
    assert target.stat().st_size < 5 * 2**20
