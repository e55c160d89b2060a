"""The tab's routes: what they serve, and what they refuse."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from tensorboard.backend import application

from le_callback.page import plugin as module
from le_callback.page.datafile import DataFile
from le_callback.page.folders import data_name, find_runs
from le_callback.page.plugin import SeparabilityPlugin

HEAD = {"columns": ["a"], "classes": ["cat", "dog"]}


def made(folder, rows=3, name=None):
    file = DataFile(Path(folder) / data_name(name), HEAD, after=0)
    for step in range(1, rows + 1):
        file.add("row", {"step": step, "values": [step]})
    return file


def opened(root):
    return SeparabilityPlugin(SimpleNamespace(logdir=str(root)))


def ask(plugin, route, **query):
    seen = []
    body = plugin.get_plugin_apps()[route](
        {"QUERY_STRING": urlencode(query)}, lambda status, headers: seen.append((status, dict(headers)))
    )
    ((status, headers),) = seen
    content = b"".join(body)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert int(headers["Content-Length"]) == len(content)
    return status, content


def listed(plugin):
    return [run["run"] for run in json.loads(ask(plugin, "/runs")[1])["runs"]]


def test_runs_are_listed_in_the_order_of_their_numbers(tmp_path):
    for name in ("version_10", "version_2", "version_0"):
        made(tmp_path / "logs" / name)
    made(tmp_path / "logs" / "version_2", name="ranks")
    expected = ["logs/version_0", "logs/version_2", "logs/version_2 (ranks)", "logs/version_10"]
    assert listed(opened(tmp_path)) == expected


def test_a_run_that_is_being_written_is_read_on(tmp_path):
    file, plugin = made(tmp_path / "run"), opened(tmp_path)
    status, content = ask(plugin, "/data", run="run")
    about, *lines = content.splitlines()
    about = json.loads(about)
    assert status == "200 OK"
    assert [json.loads(line)["kind"] for line in lines] == ["file", "head", "row", "row", "row"]
    file.add("row", {"step": 4, "values": [4]})
    with file.path.open("a") as half:
        half.write('{"kind":"row","st')
    follow = {"run": "run", "id": about["id"], "from": about["next"]}
    second, *lines = ask(plugin, "/data", **follow)[1].splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]
    follow["from"] = json.loads(second)["next"]
    third, *lines = ask(plugin, "/data", **follow)[1].splitlines()
    assert (lines, json.loads(third)["next"]) == ([], follow["from"])
    made(tmp_path / "run", rows=1)  # written anew: all of it is sent
    assert len(ask(plugin, "/data", **follow)[1].splitlines()) == 4


def test_long_files_come_in_pieces(tmp_path, monkeypatch):
    file, plugin = made(tmp_path / "run", rows=200), opened(tmp_path)
    monkeypatch.setattr(module, "MOST_SENT", 1000)
    parts, about = b"", {"id": "", "next": 0, "size": 1}
    while about["next"] < about["size"]:
        first, _, rest = ask(plugin, "/data", run="run", id=about["id"], **{"from": about["next"]})[1].partition(b"\n")
        about = json.loads(first)
        assert len(rest) <= 1000
        parts += rest
    assert parts == file.path.read_bytes()


@pytest.mark.parametrize(
    "run",
    [
        "../outside",
        "inside/../../outside",
        "/etc/passwd",
        "..",
        "",
        ".",
        "%2e%2e/outside",
        "inside/" + data_name(None),
        "inside\x00",
        "inside/",
        "linked",
        "linked/deep",
        "file link",
        "a" * 100_000,
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path, run):
    root = tmp_path / "root"
    made(tmp_path / "outside")
    made(tmp_path / "outside" / "deep")
    made(root / "inside")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "file link").mkdir()
    (root / "file link" / data_name(None)).symlink_to(tmp_path / "outside" / data_name(None))
    plugin = opened(root)
    assert listed(plugin) == ["inside"]
    status, content = ask(plugin, "/data", run=run)
    assert status == "404 Not Found"
    assert json.loads(content) == {"error": "There is no such run."}


def test_a_folder_that_becomes_a_link_after_it_was_found_is_refused(tmp_path, monkeypatch):
    """As a link that is set between the look and the reading would be."""
    root = tmp_path / "root"
    made(tmp_path / "outside")
    root.mkdir()
    (root / "run").symlink_to(tmp_path / "outside")
    found = {"run": root / "run" / data_name(None)}
    monkeypatch.setattr(module, "find_runs", lambda folder: found)
    assert ask(opened(root), "/data", run="run")[0] == "404 Not Found"


def test_a_log_directory_that_is_a_link_itself_is_fine(tmp_path):
    made(tmp_path / "real" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    plugin = opened(tmp_path / "link")
    assert listed(plugin) == ["run"]
    assert ask(plugin, "/data", run="run")[0] == "200 OK"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"hello\n", "no data file"),
        (b'{"kind":"file","format":7}\n', "format 7; this version reads 1"),
        (b"", "no data file"),
        (b"{" * 10_000_000, "no data file"),
    ],
)
def test_what_is_no_data_file_is_said_so(tmp_path, content, told):
    path = made(tmp_path / "run").path
    path.write_bytes(content)
    status, answer = ask(opened(tmp_path), "/data", run="run")
    assert status == "200 OK"
    assert told in json.loads(answer)["error"]


def test_a_gigabyte_is_refused_before_it_is_read(tmp_path):
    path = made(tmp_path / "run").path
    os.truncate(path, 2**30)
    began = time.perf_counter()
    status, answer = ask(opened(tmp_path), "/data", run="run")
    assert time.perf_counter() - began < 1
    assert status == "200 OK"
    assert "1,073,741,824 bytes" in json.loads(answer)["error"]


@pytest.mark.parametrize("offset", ["-5", "1e9", "99999999999", "9" * 5000, "٣", "x", "0x10"])
def test_an_offset_that_makes_no_sense_reads_from_the_start(tmp_path, offset):
    path, plugin = made(tmp_path / "run").path, opened(tmp_path)
    identity = json.loads(path.read_text().splitlines()[0])["id"]
    about = json.loads(ask(plugin, "/data", run="run", id=identity, **{"from": offset})[1].splitlines()[0])
    assert about["from"] == 0


@pytest.mark.parametrize("logdir", ["", None, "/nowhere/at/all", "gs://bucket/runs"])
def test_without_a_folder_it_is_inactive(logdir):
    plugin = SeparabilityPlugin(SimpleNamespace(logdir=logdir))
    assert not plugin.is_active()
    assert listed(plugin) == []
    assert ask(plugin, "/data", run="run")[0] == "404 Not Found"


def test_runs_may_come_while_it_is_open(tmp_path, monkeypatch):
    plugin = opened(tmp_path)
    assert not plugin.is_active()
    made(tmp_path / "run")
    monkeypatch.setattr(module, "_FRESH", -1.0)
    assert plugin.is_active()


def test_names_of_runs_are_sent_as_they_are(tmp_path):
    name = "<img src=x onerror=alert(1)> & \N{FOX FACE}"
    made(tmp_path / name)
    plugin = opened(tmp_path)
    assert listed(plugin) == [name]
    assert ask(plugin, "/data", run=name)[0] == "200 OK"


def test_a_thousand_runs_are_enough(tmp_path):
    for i in range(1010):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / data_name(None)).touch()
    assert len(find_runs(tmp_path)) == 1000


def test_tensorboard_takes_it_without_a_warning(tmp_path, caplog):
    """Through the middleware of TensorBoard, which looks at the headers of each answer."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from werkzeug.test import Client

    made(tmp_path / "run")
    provider = data_provider.MultiplexerDataProvider(plugin_event_multiplexer.EventMultiplexer(), str(tmp_path))
    context = TBContext(data_provider=provider, logdir=str(tmp_path))
    client = Client(application.TensorBoardWSGI([SeparabilityPlugin(context)], data_provider=provider))
    listing = client.get("/data/plugins_listing").json["le_callback"]
    assert listing["enabled"]
    assert listing["tab_name"] == "Separability"
    for route in ("index.js", "mount.js", "page.js", "more.js", "style.css", "runs", "data?run=run"):
        answer = client.get(f"/data/plugin/le_callback/{route}")
        assert answer.status_code == 200, route
    assert not caplog.records
    for route in ("__init__.py", "../plugin.py", "%2e%2e/plugin.py", "assets/../plugin.py", "index.js/../plugin.py"):
        assert client.get(f"/data/plugin/le_callback/{route}").status_code == 404, route


IMPORT = """
import sys, time
import tensorboard.plugins.base_plugin
before = set(sys.modules)
began = time.process_time()
import le_callback.page.plugin
spent = time.process_time() - began
heavy = {"torch", "numpy", "scipy", "matplotlib", "lightning", "pytorch_lightning", "torchmetrics"}
print(spent, sorted(heavy & (set(sys.modules) - before)))
"""


def test_importing_it_is_quick_and_takes_no_torch():
    found = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split(" ", 1)
        for _ in range(3)
    ]
    assert all(heavy.strip() == "[]" for _, heavy in found)
    assert min(float(spent) for spent, _ in found) < 0.05


def test_the_entry_point_names_it():
    tomllib = pytest.importorskip("tomllib")
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    home, _, name = declared["project"]["entry-points"]["tensorboard_plugins"]["le_callback"].partition(":")
    assert getattr(sys.modules[home], name) is SeparabilityPlugin
