"""A log step of this code beside that of another revision, in turns; writes results/log_step.md.

    python benchmarks/log_step.py REVISION [--rounds 5]

Processes of both take turns, so that what else runs on the machine slows both alike: the ratios count. Times are those
of the process: closing a window with all measures, of a linear head, and reading its scalars; the estimator's part is
that of α, β, γ of all models and of the local tail index. Legend: K classes, p feature dimensions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "log_step.md"
SIZES = ((10, 512, 30), (1000, 2048, 5))  # K, p, windows that count
FIRST = 14  # windows before


def timed(owner: Any, name: str, spent: list[float]) -> None:
    """Add the time of every call of a method to the last of ``spent``."""
    plain = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        found = plain(*arguments, **named)
        spent[-1] += time.process_time() - start
        return found

    setattr(owner, name, call)


def alone(K: int, p: int, windows: int) -> list[float]:
    """Median ms of a log step, and of the estimator's part, by the package that is found first."""
    import torch

    from le_callback import monitor as engine
    from le_callback.elasticity.tracker import CoefficientTracker
    from le_callback.report.tags import scalars

    torch.set_num_threads(1)
    steps: list[float] = []
    estimator: list[float] = []
    timed(engine.LiveCoefficients, "add", estimator)
    timed(CoefficientTracker, "local_index", estimator)
    monitor, head = engine.SeparationMonitor(K), torch.nn.Linear(p, K)
    means = torch.randn(K, p, generator=torch.Generator().manual_seed(0))
    for window in range(FIRST + windows):
        g = torch.Generator().manual_seed(window)
        labels = torch.randperm(K, generator=g).repeat(max(2, 1024 // K))
        for y in torch.split(labels, 128):
            x = (1 + 0.1 * window) * means[y] + torch.randn(len(y), p, generator=g)
            z = torch.randn(len(y), K, generator=g)
            z[torch.arange(len(y)), y] += 3 + 0.1 * window
            monitor.update(features=x, logits=z, target=y)
        estimator.append(0.0)
        start = time.process_time()
        with torch.no_grad():
            scalars(monitor.close(8 * (window + 1), head))
        steps.append(time.process_time() - start)
    return [1e3 * statistics.median(times[FIRST:]) for times in (steps, estimator)]


def measured(root: Path, K: int, p: int, windows: int) -> list[float]:
    """``alone`` in a process of its own, of the package in ``root``."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--alone", str(K), str(p), str(windows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both and write the table."""
    from memory import family

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", help="of git, to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=3, type=int, help="for its own processes")
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(*options.alone)))
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", options.revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        for K, p, windows in SIZES:
            turns = [[measured(root, K, p, windows) for root in (Path(folder), ROOT)] for _ in range(options.rounds)]
            before, now = ([statistics.median(t) for t in zip(*one, strict=True)] for one in zip(*turns, strict=True))
            cells = [f"{a:.1f} | {b:.1f} | {b / a:.2f}" for a, b in zip(before, now, strict=True)]
            lines.append(f"| {K}, {p} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    text = [
        f"# A log step beside that of {options.revision}",
        "",
        f"{family()}, one thread; load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()}"
        f" processors. Medians of {options.rounds} turns, ms.",
        "Estimator: α, β, γ of all models and the local tail index.",
        "",
        "| K, p | log step then | now | ratio | estimator then | now | ratio |",
        "|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]
    RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
