"""What the engine costs: update per step, log step, synchronisations, memory; writes results/overhead.md.

    python benchmarks/overhead.py [--quick] [--device cuda]

Everything that is compared is timed in turns in one process, and medians are given; on a CPU in time of the process, in
which what else runs on the machine does not count. Batches change from call to call, for the bare kernels as for the
others. Legend: K classes, p feature dimensions, B samples of a batch.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassAccuracy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainings import FEWEST_STEPS, TRAININGS, clock, measure_share  # noqa: E402

from le_callback.moments.statistics import class_statistics  # noqa: E402
from le_callback.moments.sums import empty_moments, update_moments  # noqa: E402
from le_callback.moments.window import ClassWindow  # noqa: E402
from le_callback.monitor import MonitorSettings, SeparationMonitor  # noqa: E402
from le_callback.report.tags import scalars  # noqa: E402
from le_callback.report.writers import log_scalars  # noqa: E402

SHAPES = ((3, 84, 16), (10, 512, 128), (100, 512, 128), (1000, 2048, 256))
Batch = tuple[Tensor, Tensor, Tensor]


def batches(K: int, p: int, B: int, device: str, count: int = 8, scale: float = 1.0) -> list[Batch]:
    """Features, logits and labels with class means that ``scale`` moves apart."""
    g = torch.Generator().manual_seed(0)
    means, heads = torch.randn(K, p, generator=g), torch.randn(K, K, generator=g)
    found = []
    for _ in range(count):
        y = torch.randint(K, (B,), generator=g)
        x = scale * means[y] + torch.randn(B, p, generator=g)
        z = scale * heads[y] + torch.randn(B, K, generator=g)
        found.append((x.to(device), z.to(device), y.to(device)))
    return found


def in_turns(calls: dict[str, Callable[[], object]], rounds: int, inner: int, device: str) -> dict[str, float]:
    """Median microseconds of one call, each timed over ``inner`` of them and in turn with the others."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    now = clock(device)
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = now()
            for _ in range(inner):
                call()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first warms up
                times[name].append((now() - start) / inner * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def update_costs(K: int, p: int, B: int, device: str, rounds: int) -> dict[str, float]:
    """The engine's update beside what else one might do with a batch."""
    feed = cycle([(x, z, y, x.square().sum(1), z.square().sum(1)) for x, z, y in batches(K, p, B, device)])
    x = next(feed)[0]
    ones, count, scatter = torch.ones(B, device=device), x.new_zeros(K), x.new_zeros(2, K)
    sums, logit_sums, hot_sums = x.new_zeros(K, p), x.new_zeros(K, K), x.new_zeros(K, p)
    accuracy = MulticlassAccuracy(num_classes=K, average="macro", validate_args=False).to(device)
    window, engine = ClassWindow.for_batch({"features": x}, K, -100), SeparationMonitor(K)
    for x, z, y in batches(K, p, B, device, count=max(8, 4 * K // B)):  # the first window is another, see SourceSums
        window.update({"features": x}, y)
        engine.update(features=x, logits=z, target=y)
    window.statistics("features")
    window.advance()
    engine.close(1)

    def bare(both: bool) -> None:
        x, z, y, x_squared, z_squared = next(feed)
        count.index_add_(0, y, ones)
        sums.index_add_(0, y, x)
        scatter[0].index_add_(0, y, x_squared)
        if both:
            logit_sums.index_add_(0, y, z)
            scatter[1].index_add_(0, y, z_squared)

    def one_hot() -> None:
        x, _, y, _, _ = next(feed)
        hot = torch.nn.functional.one_hot(y, K).to(x.dtype)
        count.add_(hot.sum(0))
        hot_sums.add_(hot.T @ x)

    def own_window() -> None:
        x, _, y, _, _ = next(feed)
        window.update({"features": x}, y)

    def own_engine() -> None:
        x, z, y, _, _ = next(feed)
        engine.update(features=x, logits=z, target=y)

    def torchmetrics() -> None:
        _, z, y, _, _ = next(feed)
        accuracy.update(z, y)

    calls: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(False),
        "features": own_window,
        "bare, both": lambda: bare(True),
        "engine": own_engine,
        "accuracy": torchmetrics,
        "one-hot": one_hot,
    }
    # whole turns of the ring (at most 4096 rows), so that sums that were put off are paid for
    return in_turns(calls, rounds, max(64, 4096 // B), device)


def log_costs(K: int, p: int, B: int, device: str, windows: int, probe: bool) -> dict[str, float]:
    """Median milliseconds of a log step in its parts, once all coefficients are known."""
    monitor, now = SeparationMonitor(K, MonitorSettings(probe=probe)), clock(device)
    parts: dict[str, list[float]] = {"close": [], "scalars": [], "logging": []}
    with tempfile.TemporaryDirectory() as folder:
        logger = TensorBoardLogger(folder)
        for window in range(1, 15 + windows):
            for x, z, y in batches(K, p, B, device, count=max(8, -(-2 * K // B)), scale=1 + 0.1 * window):
                monitor.update(features=x, logits=z, target=y)
            if probe:
                readings = {}
                for name, values in (("features", x), ("logits", z)):
                    moments = empty_moments(values.new_zeros(K, values.shape[1]))
                    update_moments(moments, values, y)
                    readings[name] = class_statistics(moments)
                monitor.add_probe(8.0 * window, readings)
            t0 = now()
            record = monitor.close(8 * window)
            t1 = now()
            values_by_tag = scalars(record)
            t2 = now()
            log_scalars(logger, values_by_tag, step=window)
            t3 = now()
            if window >= 15:
                for name, seconds in zip(parts, (t1 - t0, t2 - t1, t3 - t2), strict=True):
                    parts[name].append(1e3 * seconds)
        logger.finalize("success")
    return {name: statistics.median(times) for name, times in parts.items()}


class HostReads(TorchDispatchMode):
    """Counts the operations that bring a value to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def host_reads(K: int, p: int, B: int, device: str, steps: int = 200) -> int:
    """Host reads in ``steps`` updates; on CUDA a synchronisation raises."""
    feed, engine = cycle(batches(K, p, B, device)), SeparationMonitor(K)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with HostReads() as reads:
            for _ in range(steps):
                x, z, y = next(feed)
                engine.update(features=x, logits=z, target=y)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return reads.count


def state_bytes(window: ClassWindow) -> int:
    """Bytes of every tensor that the window holds, storages counted once."""
    held: list[Tensor] = [window.ring.labels, window._ever_seen, *window.ring.rows.values()]
    for moments in window.moments.values():
        held += vars(moments).values()
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}.values())


def memory(K: int, p: int, B: int, device: str, steps: int) -> tuple[int, int]:
    """Bytes of the window's state after 100 steps and after ``steps``."""
    feed, engine, early = cycle(batches(K, p, B, device)), SeparationMonitor(K), 0
    for step in range(1, steps + 1):
        x, z, y = next(feed)
        engine.update(features=x, logits=z, target=y)
        assert engine.window is not None
        if step == 100:
            early = state_bytes(engine.window)
    assert engine.window is not None
    return early, state_bytes(engine.window)


def shares(device: str, quick: bool, log_step: float) -> list[str]:
    """The table of real trainings; ``log_step``, in ms, is that of a training too slow to wait for its own."""
    lines = [
        "In one run, steps with and without the callback in random order, Lightning's calls of it among them. Added:",
        "difference of the medians, with its standard error, and the sums that are put off, which fall on single steps",
        "(late, in the mean of all). With: with a log step every 50 steps, TensorBoard and all scalars, no figures.",
        "Aims: CNN 1.2, 2; head alone 2.5, 6.",
        "",
        "| training | step, ms | added, ms | of this late | log step, ms | between log steps, % | with, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, training in TRAININGS.items():
        share = measure_share(training, device, training.steps // 4 if quick and training.steps > 100 else None)
        if training.steps < FEWEST_STEPS:
            share.log = log_step
        lines.append(
            f"| {name} | {share.step:.1f} | {share.hooks:.3f} ± {share.error:.3f} | {share.late:.3f} | {share.log:.1f}"
            f" | {share.between():.2f} | {share.with_log():.2f} |"
        )
    lines += ["", "ResNet-18 is too slow for turns: its hooks were timed, and its log step is that of K = 10, p = 512."]
    return lines


def processor(device: str) -> str:
    """The device's name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} thread(s)"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="few repetitions; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, quick = options.device, options.quick
    lines = [
        "# Own cost",
        "",
        f"{processor(device)}; torch {torch.__version__}, lightning {lightning.__version__}, Python"
        f" {platform.python_version()}, {datetime.date.today()}; `python {shlex.join(sys.argv)}`",
        "",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.",
        "",
        "## Update, µs a step",
        "",
        "Bare: `index_add_` of count, sums and scatter, the squared norms given; both: features and logits.",
        "Ratios are to the bare kernels of the same sources; aims of the engine's: 1.3, 2.3, 2.3, 1.8. Accuracy:",
        "`MulticlassAccuracy`.",
        "",
        "| K, p, B | bare | features alone | ratio | bare, both | engine | ratio | accuracy | one-hot means |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with torch.no_grad():
        for K, p, B in SHAPES:
            c = update_costs(K, p, B, device, 3 if quick else 9)
            lines.append(
                f"| {K}, {p}, {B} | {c['bare']:.0f} | {c['features']:.0f} | {c['features'] / c['bare']:.1f}"
                f" | {c['bare, both']:.0f} | {c['engine']:.0f} | {c['engine'] / c['bare, both']:.1f}"
                f" | {c['accuracy']:.0f} | {c['one-hot']:.0f} |"
            )
        lines += ["", "## Log step, ms", "", "Aims, in all: 5 at K = 10, 80 at K = 1000.", ""]
        lines += ["| K, p | probe | close | scalars | TensorBoard | in all |", "|---|---|---|---|---|---|"]
        log_steps = {}
        for K, p, B in (SHAPES[1], SHAPES[3]):
            for probe in (False, True):
                c = log_costs(K, p, B, device, 2 if quick else 9, probe)
                log_steps[K, p, probe] = sum(c.values())
                cells = " | ".join(f"{c[name]:.2f}" for name in ("close", "scalars", "logging"))
                lines.append(f"| {K}, {p} | {'on' if probe else 'off'} | {cells} | {sum(c.values()):.1f} |")
        steps = 2_000 if quick else 200_000
        early, late = memory(3, 84, 16, device, steps)
        reads = [host_reads(*shape, device) for shape in SHAPES]
        lines += ["", "## Host reads and memory", "", f"Host reads in 200 updates at each shape: {reads}.", ""]
        lines += [
            "State of the window (not the trajectory that is recorded) at K = 3, p = 84:"
            f" {early:,} bytes after 100 steps, {late:,} after {steps:,}."
        ]
        for K, p, B in (SHAPES[1], SHAPES[3]):
            held, bound = memory(K, p, B, device, 100)[1], 16 * K * p + 16 * 2**20
            lines.append(
                f"State of the window at K = {K}, p = {p}: {held / 2**20:.1f} MiB;"
                f" the bound is {bound / 2**20:.1f} MiB."
            )
    lines += ["", "## Share of a training step", "", *shares(device, quick, log_steps[10, 512, False])]
    lines += ["", f"Load of the machine at the end: {os.getloadavg()[0]:.1f}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        name = "overhead.md" if device == "cpu" else f"overhead_{device}.md"
        (ROOT / "benchmarks" / "results" / name).write_text(text)


if __name__ == "__main__":
    main()
