"""Two processes equal one: the windows of a data-parallel training are those of all its samples."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from collapse_oracles import collapse
from oracles import same_state
from trainings import Classifier, blobs

from le_callback import MonitorSettings, SeparationMonitor
from le_callback.report.tags import scalars

HERE = Path(__file__).parents[1]
EVERY = 6


def run(folder, case, processes=2):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    command = [sys.executable, str(HERE / "processes_run.py"), str(folder), case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{case}_{rank}.pt", weights_only=True) for rank in range(processes)], done.stderr


def oracle(*seen):
    """Metrics by step of one monitor that is fed what all processes saw, step by step."""
    monitor = SeparationMonitor(3, MonitorSettings(smoothing=4))
    rows = {}
    for t, batches in enumerate(zip(*seen, strict=True)):
        features, logits, target = (torch.cat(column) for column in zip(*[b for b in batches if b], strict=True))
        monitor.update(features=features, logits=logits, target=target, time=float(t))
        if (t + 1) % EVERY == 0:
            rows[t + 1] = scalars(monitor.close(t + 1))
    return rows


def assert_same(rows, expected, rel=1e-6):
    """All metrics to 1e-6 relative, where the training is in double precision."""
    assert rows.keys() == expected.keys()
    compared = 0
    for step, row in rows.items():
        for tag, value in expected[step].items():
            if "self_duality" in tag:
                assert math.isfinite(row[tag]), (step, tag)  # the oracle has no head
            elif "probe" not in tag and "measured" not in tag:
                # the ends of intervals are known to a part of their width
                width = row.get(tag.replace("_low", "_high"), 0.0) - row.get(tag.replace("_high", "_low"), 0.0)
                least = rel * width if width > 0 else rel / 1000
                assert row[tag] == pytest.approx(value, rel=rel, abs=least, nan_ok=True), (step, tag)
                compared += math.isfinite(value)
    assert compared >= 15 * len(rows)


@pytest.mark.parametrize("case", ["plain", "spawn", "uneven", "fsdp"])
def test_two_processes_equal_one(case, tmp_path):
    """Also where a process never sees a class (uneven), and where the parameters are sharded (fsdp)."""
    runs, _ = run(tmp_path, case)
    if case == "uneven":
        missing = [set(range(3)) - set(torch.cat([y for _, _, y in r["seen"][:EVERY]]).tolist()) for r in runs]
        assert missing[0] != missing[1]
    expected = oracle(*(r["seen"] for r in runs))
    for step, row in runs[0]["rows"].items():  # of a sharded head all processes gather the whole
        name = "collapse/features/self_duality"
        assert row[name] == pytest.approx(runs[1]["rows"][step][name], rel=1e-6)
    for result in runs:
        assert_same(result["rows"], expected, rel=1e-4 if case == "fsdp" else 1e-6)  # fsdp: single precision


def test_a_process_whose_head_is_not_called(tmp_path):
    """Nothing is logged until every process has seen a batch; then all samples since the start count."""
    runs, messages = run(tmp_path, "silent")
    assert messages.count("head was not called on every process yet") == 1
    for result in runs:
        assert sorted(result["rows"]) == [12, 18, 24]
    silent = runs[1]["seen"]
    assert [t for t, batch in enumerate(silent) if batch is None] == [*range(10)]


def test_processes_that_find_different_heads(tmp_path):
    runs, messages = run(tmp_path, "differ")
    assert messages.count("found different heads") == 1
    assert [r["rows"] for r in runs] == [{}, {}]


@pytest.mark.parametrize(
    ("case", "told"), [("regression", "nothing is measured"), ("added_regression", "nothing to follow")]
)
def test_no_classification_is_told_once_and_ends_no_training(case, told, tmp_path):
    """A warning where the callback was asked for, a line of information where the environment added it."""
    runs, messages = run(tmp_path, case)
    assert [(r["step"], r["rows"]) for r in runs] == [(24, {}), (24, {})]
    assert messages.count(told) == messages.count("no classification loss (seen: mse_loss)") == 1
    assert messages.count("DiagnosticWarning") == (case == "regression")
    assert "head was not called" not in messages


def test_a_stop_decided_on_one_process(tmp_path):
    runs, _ = run(tmp_path, "stop")
    assert [r["step"] for r in runs] == [11, 11]
    assert_same(runs[1]["rows"], {6: oracle(*(r["seen"] for r in runs))[6]})


def test_an_alert_is_that_of_the_first_process_on_all(tmp_path):
    runs, messages = run(tmp_path, "alert")
    assert [r["step"] for r in runs] == [12, 12]
    assert messages.count("OnFirstOnly at step 12") == 1


def test_verdict_alerts_and_what_they_remember_are_those_of_all_processes(tmp_path):
    """The labels of one process are wrong from step 60 on; both must say the same, in every window."""
    (first, second), messages = run(tmp_path, "rules")
    assert first["said"] == second["said"]
    assert len(first["said"]) == 18
    assert same_state(first["state"]["alerts"], second["state"]["alerts"])
    assert same_state(first["state"]["monitor"]["verdict"], second["state"]["monitor"]["verdict"])
    assert any("SeparabilityLost" in said for said in first["said"].values())
    assert messages.count("SeparabilityLost at step") == 1


def test_the_probe_counts_the_batches_of_all_processes(tmp_path):
    runs, _ = run(tmp_path, "probe")
    for result in runs:
        assert len(result["compositions"]) == 9  # of 12, the first 3 before the processes agreed
        labels = torch.cat([r["seen"][8][2] for r in runs])
        expected = torch.bincount(labels, minlength=3) / 16
        assert result["compositions"][1] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("case", ["exact", "exact_fsdp"])
def test_whole_data_at_the_end_of_epochs(case, tmp_path):
    """Both processes say the same of them, and that is what the definitions say of the model at the end."""
    runs, _ = run(tmp_path, case)
    model = Classifier()
    model.load_state_dict(runs[0]["parameters"])
    model.eval()
    (x, y), other = blobs(50, seed=3), blobs(20, seed=9)[0]
    with torch.no_grad():
        features, out = model.body(x), model.body(other)
        said = model.head(features).argmax(1).tolist()
    expected = collapse(features, y, model.head.weight.detach(), said, out)
    for result in runs:
        assert result["epoch"].keys() == expected.keys()
        assert {k: result["epoch"][k] for k in expected} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("first", "then"), [("save", "resume_one"), ("save_one", "resume")])
def test_resumes_on_another_number_of_processes(first, then, tmp_path):
    """Saved on two processes, resumed on one, and the reverse: as if one process had seen all of it."""
    before, _ = run(tmp_path, first, 1 if "one" in first else 2)
    after, _ = run(tmp_path, then, 1 if "one" in then else 2)
    width = max(len(before), len(after))
    seen = [[*(before * 2)[i]["seen"], *(after * 2)[i]["seen"]] for i in range(width)]
    for i, runs in ((0, before), (1, after)):  # where there is one process, its samples count once
        if len(runs) == 1:
            part = slice(0, 12) if i == 0 else slice(12, None)
            seen[1][part] = [None] * len(seen[1][part])
    expected = oracle(*seen)
    for result in after:
        assert_same(result["rows"], {step: expected[step] for step in result["rows"]})
        assert max(result["rows"]) == 24
