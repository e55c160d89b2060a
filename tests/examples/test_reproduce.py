"""The paper's experiments with one command, made tiny."""

import importlib
import io
import json
import math
import pickle
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

PAPER = Path(__file__).parents[2] / "examples" / "paper"


@pytest.fixture(scope="module")
def paper():
    """The modules of the example, by name."""
    sys.path.insert(0, str(PAPER))
    try:
        names = ("reproduce", "experiments", "analysis", "figures", "jobs", "phase_transition", "tables")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(PAPER))


def image_archive(path, per_class=30, classes=3):
    """CIFAR-10's layout with classes that differ in colour."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            labels = rng.permutation(np.repeat(np.arange(classes), per_class))
            pixels = rng.integers(0, 120, (len(labels), 3, 32, 32))
            pixels[np.arange(len(labels)), labels] += 120
            data = pixels.reshape(len(labels), -1).astype(np.uint8)
            content = pickle.dumps({b"data": data, b"labels": labels.tolist()}, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_geomnist_command_trains_draws_and_resumes(paper, tmp_path):
    command = ["--only", "geomnist_k2_batch16", "--steps", "200", "--processes", "1", "--no-phase"]
    command += ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    main = paper["reproduce"].main
    main(command)
    (run_file,) = (tmp_path / "cache").rglob("*.npz")
    for number in ("1_separation", "2_coefficients", "4_imitation", "5_relative_difference"):
        assert (tmp_path / "results" / f"figure{number}.png").stat().st_size > 20_000
    assert "GeoMNIST, K = 2, batch 16" in (tmp_path / "results" / "README.md").read_text()
    written = run_file.stat().st_mtime_ns
    main([*command, "--runs", "2"])
    assert run_file.stat().st_mtime_ns == written
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 2
    assert "averaged over the trainings" in (tmp_path / "results" / "README.md").read_text()


def test_cifar_command(paper, tmp_path):
    archive = image_archive(tmp_path / "tiny.tar.gz")
    command = ["--only", "cifar10_k3_batch16", "--cifar", str(archive), "--steps", "200", "--processes", "1"]
    command += ["--no-phase", "--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    paper["reproduce"].main(command)
    run = paper["experiments"].Run.load(next((tmp_path / "cache").rglob("*.npz")))
    assert run.means.shape == (26, 3, 3)
    assert run.logits.shape == (90, 3)
    assert "CIFAR-10, K = 3" in (tmp_path / "results" / "README.md").read_text()


def test_command_says_what_is_missing(paper, tmp_path, capsys):
    main = paper["reproduce"].main
    with pytest.raises(SystemExit, match="No experiment is left"):
        main(["--only", "cifar10_k3_batch16"])
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="There is no file"):
        main(["--cifar", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        main(["--runs", "0"])
    assert "--runs must be at least 1, but got 0" in capsys.readouterr().err


def test_a_run_of_other_settings_is_not_taken(paper, tmp_path):
    small = replace(paper["experiments"].EXPERIMENTS[0], steps=60, per_class=20, probe_per_class=10)
    ((first, second),) = paper["reproduce"].collect([small], 2, tmp_path, None, 1)
    assert not np.array_equal(first.means, second.means)
    path = tmp_path / small.name / "seed0.npz"
    load = paper["experiments"].load_if_same
    np.testing.assert_array_equal(load(path, small, 0).means, first.means)
    assert load(path, replace(small, lr=0.1), 0) is None
    assert load(path, small, 1) is None


@pytest.mark.parametrize("processes", [1, 2])
def test_jobs_report_their_steps_and_give_their_results(paper, tmp_path, monkeypatch, capsys, processes):
    (tmp_path / "small_jobs.py").write_text("def double(n, report):\n    report(n)\n    return 2 * n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    double = importlib.import_module("small_jobs").double
    jobs = [paper["jobs"].Job(f"job {n}", double, (n,), n) for n in (3, 4, 5)]
    assert sorted(paper["jobs"].run_jobs(jobs, processes)) == [6, 8, 10]
    assert "12/12" in capsys.readouterr().err


@pytest.fixture
def planted(paper):
    """A run that follows the L-model's LE-ODE with A = 6√(t/T), B = −3√(t/T), K = 3, without noise."""
    from scipy.linalg import expm

    K, t = 3, np.arange(0.0, 2001.0, 20.0)
    d = np.eye(K) - 1 / K
    H = d[:, :, None] * d[:, None, :] / (d**2).sum(1)[:, None, None]
    start = d * np.array([[0.2], [0.3], [0.25]]) + 0.05 * np.random.default_rng(1).standard_normal((K, K))

    def means(s):
        A, B = 6 * math.sqrt(s / 2000), -3 * math.sqrt(s / 2000)
        E = np.full((K, K), B) + (A - B) * np.eye(K)
        M = np.block([[E[i, j] / K * H[j] for j in range(K)] for i in range(K)])
        return (expm(M) @ start.ravel()).reshape(K, K)

    x = np.stack([means(s) for s in t])
    about = {"experiment": {"name": "planted"}, "seed": 0, "seconds": 1.0, "torch": torch.__version__}
    windows = np.arange(25.0, 2000.0, 50.0)
    seen = np.stack([means(s) for s in windows]).astype(np.float32)
    noise = np.full((len(windows), K), 1e-6, dtype=np.float32)
    run = paper["experiments"].Run
    return run(about, t, x.astype(np.float32), windows, seen, noise, x[-1].astype(np.float32), np.arange(K))


def test_analysis_recovers_a_planted_run(paper, planted):
    (found,) = paper["analysis"].analyse([planted])
    assert found.times[0] == 60  # the first reading after one window
    L = found.coefficients["L"]
    grown = math.sqrt(found.times[-1] / 2000) - math.sqrt(60 / 2000)
    assert L.A[-1] == pytest.approx(6 * grown, abs=1e-3)
    assert L.B[-1] == pytest.approx(-3 * grown, abs=1e-3)
    assert found.imitations["L, modes"].full.max() < 1e-3
    assert found.imitations["L, projected"].full.max() < 1e-3
    assert found.imitations["I, modes"].mean > 0.05


def test_run_that_is_never_identifiable_is_refused(paper, planted):
    with pytest.raises(ValueError, match="planted, seed 0, never rise above the sampling noise"):
        paper["analysis"].analyse([replace(planted, window_noise=planted.window_noise + 1e3)])


def test_phase_transition_figure_copes_with_old_rows(paper, tmp_path):
    """Rows of earlier versions have no loss: they are drawn where they can be and trained again by the command."""
    phase = paper["phase_transition"]
    small = ["--steps", "100", "--per-class", "20", "--seeds", "1", "--ratios", "0", "--results", str(tmp_path)]
    (row,) = phase.main(small)
    assert row["loss_train"] == pytest.approx(math.log(3), abs=0.2)
    old = {key: value for key, value in row.items() if not key.startswith("loss")}
    phase.draw([row, old | {"ratio": 0.5}])
    (tmp_path / "phase_transition.json").write_text(json.dumps([old]))
    assert phase.main(small) == [row]
