"""What neural collapse costs at any number of classes, beside a dense K × K implementation; writes results/collapse.md.

    python benchmarks/collapse.py [--quick]

Each size runs in a process of its own with one thread: an engine is fed until every class was seen, in several windows
that are closed with all measures. Times are those of the process, the smallest of the windows after the first; memory
is the largest resident set of the process, imports among it. The dense version computes the same quantities of the
features the plain way: all products K × K in one matrix, a pseudo-inverse (p, p), the distances of all kept samples to
all means. Legend: K classes, p feature dimensions.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results" / "collapse.md"

SIZES = ((10, 512), (100, 512), (1000, 512), (1000, 2048), (2000, 512), (10_000, 512), (30_000, 512), (100_000, 512))
AIMS = {(10, 512): "5 ms", (1000, 2048): "80 ms", (10_000, 512): "1 s, 1 GiB", (100_000, 512): "30 s, 1.5 GB"}
DENSE_AT_MOST = 10_000  # classes
LARGEST_PINV = 512  # dimensions of which the dense version takes a pseudo-inverse
BATCH = 512


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def dense(means: Any, samples: Any, labels: Any, weight: Any) -> dict[str, float]:
    """NC1 to NC4 with everything at once."""
    import torch

    K = len(means)
    centred = means - means.mean(0)
    gram = centred @ centred.T
    norms = gram.diagonal().sqrt()
    cosines = gram / norms.unsqueeze(1) / norms
    apart = ~torch.eye(K, dtype=torch.bool)
    angles = cosines[apart].clamp(-1, 1).acos().rad2deg()
    deviations = samples - means[labels]
    within = deviations.T @ deviations / max(len(samples) - K, 1)
    between = centred.T @ centred / K
    nearest = torch.cdist(samples, means).argmin(1)
    simplex = (torch.eye(K) - 1 / K) / (K - 1) ** 0.5
    found = {
        "deviation": (angles - 90).square().mean().sqrt(),
        "etf_error": torch.linalg.norm(gram / torch.linalg.norm(gram) - simplex),
        "uniformity": (-2 * torch.cdist(centred / norms[:, None], centred / norms[:, None]).square()).exp().mean(),
        "trace_ratio": within.trace() / between.trace(),
        "duality": torch.linalg.norm(weight / torch.linalg.norm(weight) - centred / torch.linalg.norm(centred)),
        "agreement": (nearest == (samples @ weight.T).argmax(1)).float().mean(),
    }
    if means.shape[1] <= LARGEST_PINV:
        found["nc1"] = (within @ torch.linalg.pinv(between, hermitian=True)).trace() / K
    return {name: float(value) for name, value in found.items()}


def run(K: int, p: int, which: str) -> dict[str, float]:
    """Seconds of a log step, and MiB, in this process."""
    import torch

    torch.set_num_threads(1)
    from le_callback import monitor as engine
    from le_callback.report.tags import scalars

    g = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(p, K)
    turns = 6.3 * torch.rand(p, generator=g)  # of the class means, which are made when they are needed
    measured: list[float] = []
    plain = engine._measure

    def timed(*sources: Any) -> dict[str, dict[str, Any]]:
        start = time.process_time()
        found = plain(*sources)
        measured.append(time.process_time() - start)
        return found

    engine._measure = timed
    monitor, wide = engine.SeparationMonitor(K), torch.randn(p, min(K, 2048), generator=g) / p**0.5

    closes: list[float] = []
    windows = 6 if K <= 2000 else 2

    def feed(scale: float) -> None:
        order = torch.randperm(K, generator=g).repeat(-(-max(4 * K, 2048) // K) if K <= 2000 else 2)
        for y in torch.split(order, BATCH):
            x = scale * torch.sin(turns * (1.0 + y.unsqueeze(1))) + 0.3 * torch.randn(len(y), p, generator=g)
            if monitor.every is not None:  # logits of all classes would be most of the work
                monitor.every.update({"features": x}, y)
                continue
            logits = torch.zeros(len(y), K)
            logits[:, :2048] = x @ wide
            logits[torch.arange(len(y)), y] += 3
            monitor.update(features=x, logits=logits, target=y)

    for window in range(1, windows + 1):
        feed(1 + 0.1 * window)
        y = torch.arange(0, K, max(1, K // 64))[:64]
        monitor.update(features=torch.sin(turns * (1.0 + y.unsqueeze(1))), logits=torch.zeros(len(y), K), target=y)
        gc.collect()
        if which == "dense" and window == windows:
            x, y = monitor.window.samples("features")  # type: ignore[union-attr]
            means = torch.randn(K, p, generator=g)
            start = time.process_time()
            dense(means, x, y.clamp(max=K - 1), head.weight.detach())
            return {"log": time.process_time() - start, "measures": 0.0, "memory": peak()}
        start = time.process_time()
        record = monitor.close(window, head)
        scalars(record)
        closes.append(time.process_time() - start)
    etf, collapse = record.etf["features"], record.collapse
    assert collapse is not None
    assert collapse.num_classes == K
    return {
        "log": min(closes[1:]),
        "measures": min(measured[1:]),
        "memory": peak(),
        "looked_at": etf.looked_at,
        "pairs": etf.pairs,
        "samples": collapse.samples,
        "judged": collapse.judged,
    }


def empty() -> dict[str, float]:
    """MiB of the imports alone."""
    import torch

    import le_callback

    assert torch.__version__
    assert le_callback.__version__
    return {"memory": peak()}


def alone(*arguments: str) -> dict[str, Any]:
    """A run in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--alone", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.returncode:
        return {"error": (found.stderr.splitlines() or [f"exit {found.returncode}"])[-1][:80]}
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


def span(seconds: float) -> str:
    """Three digits, in ms below a second."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def row(K: int, p: int) -> tuple[str, float]:
    """A line of the table, and the seconds of all measures."""
    own = alone(str(K), str(p), "own")
    if "error" in own:
        return f"| {K:,}, {p} | {own['error']} |", float("nan")
    cells = [f"{K:,}, {p}", span(own["measures"]), span(own["log"]), f"{own['memory']:.0f}", AIMS.get((K, p), "")]
    cells.append(f"{1e6 * own['measures'] / K:.1f}")
    cells += [f"{own['looked_at']:,} of {own['pairs']:,}", f"{own['samples']:,}, {own['judged']:,}"]
    if K <= DENSE_AT_MOST:
        other = alone(str(K), str(p), "dense")
        cells += [other["error"], ""] if "error" in other else [span(other["log"]), f"{other['memory']:.0f}"]
    else:
        cells += ["–", f"{4 * K * K / 2**20:,.0f} for one matrix"]
    return f"| {' | '.join(cells)} |", own["measures"]


def main() -> None:
    """Measure all sizes and write the table."""
    import platform

    import torch
    from memory import family

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 2,000 classes, nothing is written")
    parser.add_argument("--alone", nargs="+", help="for its own processes")
    options = parser.parse_args()
    if options.alone:
        found = empty() if options.alone == ["empty"] else run(*map(int, options.alone[:2]), options.alone[2])
        print(json.dumps(found))
        return
    load = os.getloadavg()[0]
    lines, seconds = [], {}
    for K, p in SIZES:
        if not (options.quick and K > 2000):
            line, seconds[K, p] = row(K, p)
            lines.append(line)
            print(line, flush=True)
    text = [
        "# Neural collapse at any number of classes",
        "",
        f"{family()}, one thread; torch {torch.__version__}, Python {platform.python_version()};"
        " `python benchmarks/collapse.py`",
        f"Load of the machine at the start: {load:.1f} on {os.cpu_count()} processors.",
        "",
        "One log step of features and logits. Measures: all of them, those of collapse among them. All: with means,",
        "coefficients and scalars. Memory: peak of the process in MiB; the imports alone take"
        f" {alone('empty')['memory']:.0f}. Samples: of NC1, and",
        "those that are compared with all means. Dense: NC1 (up to p = 512) to NC4 of the features alone.",
        "Memory differs between calls: six of 100,000 classes took 1,312 to 1,661 MiB, three by the code before this.",
        "",
        "| K, p | measures | all | memory | aim | µs a class | pairs looked at | samples | dense | its memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]
    if not options.quick:
        factor = seconds[100_000, 512] / seconds[10_000, 512]
        text += [f"From 10,000 to 100,000 classes the measures take {factor:.1f} times as long.", ""]
        RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
