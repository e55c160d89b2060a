"""Hostile files: refused, or what can be used is used."""

import json
import os
import threading

import pytest

from le_callback.page.reading import current, is_usable, parsed_lines, read_run

FIRST = b'{"kind":"file","format":1,"id":"x"}\n'
HEAD = b'{"kind":"head","after":0,"columns":["a"]}\n'
ROW = b'{"kind":"row","step":3,"values":[1]}\n'


def written(tmp_path, *lines):
    path = tmp_path / "le_callback.separability.jsonl"
    path.write_bytes(b"".join(lines))
    return path


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[1, 2]\n",
        b'"text"\n',
        b'{"kind":"row","step":"3","values":[]}\n',
        b'{"kind":"row","step":3,"values":{}}\n',
        b'{"kind":"row","step":true,"values":[]}\n',
        b'{"kind":["row"],"step":3,"values":[]}\n',
        b'{"kind":"head","after":null,"columns":[]}\n',
        b'{"kind":"head","after":0,"columns":null}\n',
        b'{"kind":"head","after":0,"columns":[1]}\n',
        b'{"kind":"__proto__","step":3}\n',
        b"[" * 200_000 + b"\n",
        b"{" + b'"a":{' * 100_000 + b"\n",
        b"\xff\xfe\xfd\n",
        b"\x00" * 5000 + b"\n",
        b"1" * 100_000 + b"\n",
        b'{"kind":"row","step":1' + b"0" * 5000 + b',"values":[]}\n',
        b'{"kind":"row","step":3.0,"values":[]}\n',
    ],
)
def test_a_line_that_cannot_be_used_is_left_out(tmp_path, line):
    path = written(tmp_path, FIRST, HEAD, line, ROW)
    assert [row["step"] for row in read_run(path).rows] == [3]


def test_a_file_of_one_gigabyte_is_refused_at_once(tmp_path):
    path = written(tmp_path, FIRST)
    os.truncate(path, 2**30)
    with pytest.raises(ValueError, match="1,073,741,824 bytes"):
        read_run(path)


def test_a_line_without_end_is_read_in_pieces(tmp_path):
    path = written(tmp_path, FIRST, HEAD, b'{"kind":"row","x":"' + b"a" * (9 * 2**20) + b'"}\n', ROW)
    assert len(read_run(path).rows) == 1


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.separability.jsonl"
    os.mkfifo(path)
    found = []

    def read():
        with pytest.raises(ValueError, match="no regular file"):
            read_run(path)
        found.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert found


def test_other_formats_are_named(tmp_path):
    with pytest.raises(ValueError, match="format 2; this version reads 1"):
        read_run(written(tmp_path, b'{"kind":"file","format":2}\n', ROW))
    with pytest.raises(ValueError, match="no data file"):
        read_run(written(tmp_path, ROW))
    with pytest.raises(ValueError, match="no training"):
        read_run(written(tmp_path, FIRST, ROW))


def test_unknown_kinds_and_keys_of_later_versions_are_let_be(tmp_path):
    extended = json.dumps({"kind": "row", "step": 3, "values": [1], "new": {"a": [1]}}).encode() + b"\n"
    path = written(tmp_path, FIRST, HEAD, b'{"kind":"new","step":1}\n', extended)
    assert read_run(path).rows[0]["new"] == {"a": [1]}
    assert len(list(parsed_lines(path))) == 2


def test_a_head_takes_back_later_lines_of_every_kind():
    lines = [{"kind": kind, "step": step} for step in (1, 2, 3) for kind in ("row", "frame", "alert")]
    kept = current([*lines, {"kind": "head", "after": 1}])
    assert [line.get("step") for line in kept] == [1, 1, 1, None]


def test_a_step_is_a_whole_number():
    assert not is_usable({"kind": "frame", "step": 1.5})
    assert is_usable({"kind": "frame", "step": 1})
