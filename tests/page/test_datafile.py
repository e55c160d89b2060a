"""The data file: what was written is read, whatever happened in between."""

import json
import os

import pytest

from le_callback.page import datafile
from le_callback.page.datafile import DataFile, encoded
from le_callback.page.reading import MOST_BYTES, read_run

HEAD = {"columns": ["a"], "classes": ["cat", "dog"]}


def add_rows(file, steps):
    for step in steps:
        file.add("row", {"step": step, "values": [step / 7]})
        file.add("frame", {"step": step})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "le_callback.separability.jsonl"


def steps(lines):
    return [line["step"] for line in lines]


def test_what_was_added_is_read(path):
    file = DataFile(path, HEAD, after=0)
    add_rows(file, [5, 10])
    file.add("alert", {"step": 10, "rule": "Late", "cause": "c", "advice": "a"})
    run = read_run(path)
    assert run.head["classes"] == ["cat", "dog"]
    assert run.column("a") == [0.71429, 1.4286]
    assert run.column("b") == [None, None]
    assert steps(run.frames) == [5, 10]
    assert run.events[0]["rule"] == "Late"


def test_a_crash_in_a_line_loses_that_line_alone(path):
    add_rows(DataFile(path, HEAD, after=0), range(5, 55, 5))
    whole = path.read_bytes()
    for cut in range(1, 60):
        path.write_bytes(whole[:-cut])
        run = read_run(path)
        assert steps(run.rows) in ([*range(5, 55, 5)], [*range(5, 50, 5)])


def test_a_training_that_goes_on_takes_back_what_came_after_its_checkpoint(path):
    file = DataFile(path, HEAD, after=0)
    add_rows(file, range(5, 55, 5))
    file.add("alert", {"step": 12, "rule": "Early"})
    file.add("alert", {"step": 42, "rule": "Late"})
    again = DataFile(path, HEAD, after=30)
    assert again.before["step"] == 30
    add_rows(again, [35])
    run = read_run(path)
    assert steps(run.rows) == steps(run.frames) == [5, 10, 15, 20, 25, 30, 35]
    assert [event["rule"] for event in run.events] == ["Early"]


def test_the_half_line_of_a_crash_does_not_swallow_the_next(path):
    add_rows(DataFile(path, HEAD, after=0), [5, 10])
    with path.open("a") as file:
        file.write('{"kind":"row","step":15,"val')
    add_rows(DataFile(path, HEAD, after=10), [15])
    assert steps(read_run(path).rows) == [5, 10, 15]


def test_a_new_training_in_the_same_folder_starts_anew(path):
    add_rows(DataFile(path, HEAD, after=0), [5, 10])
    add_rows(DataFile(path, HEAD, after=0), [5])
    assert steps(read_run(path).rows) == [5]


@pytest.mark.parametrize("content", [b"", b"something else\n", b'{"kind":"file","format":99}\n', b"\xff\xfe\x00"])
def test_what_is_there_and_is_no_data_file_is_replaced(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    add_rows(DataFile(path, HEAD, after=10), [15])
    assert steps(read_run(path).rows) == [15]


def test_it_stays_bounded_and_even(path, monkeypatch):
    monkeypatch.setattr(datafile, "MOST_ROWS", 32)
    monkeypatch.setattr(datafile, "MOST_FRAMES", 16)
    file = DataFile(path, HEAD, after=0)
    for step in range(1, 1001):
        add_rows(file, [step])
        file.add("verdict", {"step": step, "name": "losing"})
        rows = read_run(path).rows if step % 97 == 0 else []
        assert len(rows) < 32
    file.finish()
    run = read_run(path)
    assert steps(run.rows)[0] == 1
    assert steps(run.rows)[-1] == 1000
    gaps = {b - a for a, b in zip(steps(run.rows)[:-2], steps(run.rows)[1:-1], strict=True)}
    assert gaps == {64}
    assert 8 <= len(run.frames) <= 17
    assert len(run.events) <= 400 + 600  # thinned when the file is written anew
    assert os.listdir(path.parent) == [path.name]


def test_a_resumed_run_keeps_its_stride(path, monkeypatch):
    monkeypatch.setattr(datafile, "MOST_ROWS", 8)
    whole, halves = path, path.with_name("other.jsonl")
    file = DataFile(whole, HEAD, after=0)
    add_rows(file, range(1, 61))
    first = DataFile(halves, HEAD, after=0)
    add_rows(first, range(1, 33))
    add_rows(DataFile(halves, HEAD, after=32), range(33, 61))
    distances = {b - a for a, b in zip(steps(read_run(halves).rows), steps(read_run(halves).rows)[1:], strict=False)}
    assert len(read_run(halves).rows) <= 8
    assert distances <= {8, 16}
    assert {b - a for a, b in zip(steps(read_run(whole).rows), steps(read_run(whole).rows)[1:], strict=False)} == {16}


def test_readers_see_that_it_was_written_anew(path):
    DataFile(path, HEAD, after=0)
    first = json.loads(path.read_text().splitlines()[0])
    DataFile(path, HEAD, after=0)
    second = json.loads(path.read_text().splitlines()[0])
    assert first["id"] != second["id"]


def test_lines_are_json_of_today():
    text = encoded({"a": [float("nan"), float("inf"), 1e-12, 3, True, None], "b": {"c": ("<i>", "\u2028\n")}})
    assert "\n" not in text
    assert json.loads(text) == {"a": [None, "inf", 1e-12, 3, True, None], "b": {"c": ["<i>", "\u2028\n"]}}


def test_the_bounds_leave_room_below_what_is_read():
    assert datafile.MOST_ROWS * 4000 + datafile.FRAME_BYTES * 2 < MOST_BYTES / 2
