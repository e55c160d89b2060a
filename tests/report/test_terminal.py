"""A run in a terminal without our symbols goes on, and shows what it can."""

import io
import subprocess
import sys

import pytest

from le_callback.report.terminal import SPELLED, show, spelled

SCRIPT = """
from lightning.pytorch.callbacks import TQDMProgressBar
from trainings import Classifier, loader, trainer
from le_callback import LECallback
from le_callback.entry_point import AddedCallback
names = {"class_names": ["caf\\u00e9", "\\u65e5\\u672c", "dog"]}
for callback in (LECallback(**names), AddedCallback()):
    run = trainer(callbacks=[callback, TQDMProgressBar()], enable_progress_bar=True, max_epochs=8)
    run.fit(Classifier(dropout=0), loader())
    assert run.global_step == 96
    print("shown as", ascii([key for key in run.progress_bar_metrics if key != "v_num"]))
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_table_and_progress_bar(encoding):
    environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(p for p in ["tests", *sys.path] if p)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode(encoding)
    assert text.count("Local elasticity and separability, 3 classes") == 2
    if encoding == "utf-8":
        assert "γ = α − β  per step" in text
        assert text.count(r"shown as ['\u03b3']") == 2
    else:
        assert "gamma = alpha - beta  per step" in text
        assert text.count("shown as ['gamma']") == 2
        text.replace("café", "").encode("ascii")


def test_every_symbol_is_spelled_in_ascii():
    "".join(SPELLED.values()).encode("ascii")
    assert spelled("γ = α − β, ∞ at 120.0° ± 3 – …", "ascii") == "gamma = alpha - beta, inf at 120.0 deg +- 3 - ..."
    assert spelled("γ", None) == spelled("γ", "utf-8") == spelled("γ", "utf-16") == "γ"
    assert spelled("° · 犬", "shift-jis") == "deg * 犬".replace("deg", " deg")


class Closed(io.StringIO):
    encoding = "utf-8"

    def write(self, text):
        raise OSError("broken pipe")


@pytest.mark.parametrize("stream", [None, Closed()])
def test_a_print_never_raises(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    show("γ")
