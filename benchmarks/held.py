"""What the callback holds by the number of classes, beside its bound; writes results/held.md.

    python benchmarks/held.py [--windows N]

Each line is a process of its own that closes windows of a linear head with the default rules of alerts. Held: the
resident set after the last window less that before the first, once the C library has given back what is free; the code
that is loaded by then counts. Peak: the same at the highest point of a log step, free memory among it. Linux only.
Legend: K classes, p feature dimensions.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "held.md"
SIZES = ((10, 512), (100, 512), (1000, 64), (1000, 512), (1000, 2048), (2000, 512), (5000, 64), (10_000, 512))
MEMORY, CHECKPOINT = 64.0, 16.0  # MiB on top of 6·K·p·4 bytes
SAMPLES = 20_000  # of a window at most
BATCH = 256
STATUS = Path("/proc/self/status")


def resident(which: str) -> float:
    """MiB, by the name of a line of the process's status."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def alone(K: int, p: int, windows: int) -> list[float]:
    """MiB held, at the peak, and of a checkpoint."""
    import torch

    from le_callback.alerts.book import AlertBook
    from le_callback.alerts.defaults import default_rules
    from le_callback.monitor import SeparationMonitor

    torch.set_num_threads(1)
    centres = torch.randn(K, p, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(p, K)
    before, peak = resident("VmRSS"), 0.0
    monitor, book = SeparationMonitor(K), AlertBook(default_rules())
    for window in range(windows):
        g = torch.Generator().manual_seed(window)
        labels = torch.randperm(K, generator=g).repeat(max(2, min(64, SAMPLES // K)))[:SAMPLES]
        for y in torch.split(labels, BATCH):
            x = (1 + 0.1 * window) * centres[y] + torch.randn(len(y), p, generator=g)
            z = torch.randn(len(y), K, generator=g)
            z[torch.arange(len(y)), y] += 3 + 0.1 * window
            monitor.update(features=x, logits=z, target=y)
        del x, y, z
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        with torch.no_grad():
            book.add(monitor.close(100 * (window + 1), head))
        peak = max(peak, resident("VmHWM") - before)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    held, saved = resident("VmRSS") - before, io.BytesIO()
    torch.save({"monitor": monitor.state_dict(), "alerts": book.state_dict()}, saved)
    return [held, peak, len(saved.getvalue()) / 2**20]


def main() -> None:
    """Measure all sizes and write the table."""
    from memory import family

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=80)
    parser.add_argument("--alone", nargs=2, type=int, help="for its own processes")
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(*options.alone, options.windows)))
        return
    lines = []
    for K, p in SIZES:
        command = [sys.executable, __file__, "--windows", str(options.windows), "--alone", str(K), str(p)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        held, peak, saved = json.loads(done.stdout.splitlines()[-1])
        own = 6 * K * p * 4 / 2**20
        lines.append(
            f"| {K:,}, {p:,} | {held:.0f} | {peak:.0f} | {MEMORY + own:.0f} | {saved:.1f} | {CHECKPOINT + own:.1f} |"
        )
        print(lines[-1], flush=True)
    text = [
        "# What the callback holds",
        "",
        f"{family()}, one thread; `python benchmarks/held.py`: {options.windows} windows of a linear head with the"
        " default rules of alerts, MiB.",
        "",
        "Held: after the last window, less the process before the first, with the code that was loaded meanwhile.",
        "Peak: at the highest point of a log step, with what the C library keeps of memory that is free.",
        f"Bound: {MEMORY:.0f} MiB of memory, {CHECKPOINT:.0f} MiB of a checkpoint, and 6·K·p·4 bytes.",
        "",
        "| K, p | held | peak | bound | checkpoint | bound |",
        "|---|---|---|---|---|---|",
        *lines,
        "",
    ]
    RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
