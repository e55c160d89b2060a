"""Coverage, width and bias of the live α, β, γ, A, B and G on simulated LE-SDEs; writes results/live.md.

    OMP_NUM_THREADS=1 python benchmarks/live.py --runs 200 --seed 1 --workers 16

Class means follow an LE-SDE with known α(t), β(t) and class frequencies. Each step integrates the exact flow and its
process noise; a window's means are averages over its steps, with sampling noise added. They are fed window after window
to ``LiveCoefficients``, or with ``--batches`` through the whole ``SeparationMonitor``, sample by sample.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from live_runs import SAMPLES, SHAPES, WINDOW, WINDOWS, Cell, growth, rates, sample_pools, simulate, truth

from le_callback.elasticity.live import LayerReading, LiveCoefficients
from le_callback.moments.statistics import ClassStatistics
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.similarity import IModel, LModel
from le_callback.values import Source

NAMES = ("alpha", "beta", "gamma")
LEVELS = ("A", "B", "G")
TOGETHER = 10  # runs that are followed in one go: classes, and changes at random, are drawn once for them all


def readings(means, counts, variance, cell: Cell, pool) -> LayerReading:
    """What ``LiveCoefficients`` is given of one window of one run."""
    p = means.shape[1]
    n = torch.from_numpy(counts).double()
    seen = n > 0
    trace = torch.where(seen, torch.from_numpy(variance) * p, torch.nan)
    statistics = ClassStatistics(seen, n, torch.from_numpy(means), trace, trace / n.where(seen, torch.nan))
    return LayerReading(statistics, pool if cell.model == "L" else None)


@dataclass
class Followed:
    """What was said of R runs, and what was true.

    Attributes:
        found: α, β, γ ``(R, WINDOWS, 3, 3)``: value, low, high; NaN where unknown.
        true: ``(R, WINDOWS, 3)``.
        levels: A, B, G at the end ``(R, 3, 3)``.
        grown: what they are in truth, since the same reference ``(R, 3)``.
        seconds: a window and model.
    """

    found: np.ndarray
    true: np.ndarray
    levels: np.ndarray
    grown: np.ndarray
    seconds: float = 0.0

    @classmethod
    def of(cls, runs: int) -> Followed:
        """Nothing said yet."""
        shapes = (runs, WINDOWS, 3, 3), (runs, WINDOWS, 3), (runs, 3, 3), (runs, 3)
        return cls(*(np.full(shape, np.nan) for shape in shapes))

    def note(self, cell: Cell, c, run: int, window: int) -> None:
        """Keep what is judged."""
        self.true[run, window] = truth(cell, np.array([float(window)]))[:, 0]
        for k, name in enumerate(NAMES):
            e = getattr(c, name)
            self.found[run, window, k] = e.value, e.low, e.high
        if window == WINDOWS - 1:
            for k, name in enumerate(LEVELS):
                e = getattr(c, name)
                self.levels[run, k] = e.value, e.low, e.high
                since = c.gamma_reference_time if name == "G" else c.reference_time
                if np.isfinite(e.value):
                    self.grown[run, k] = growth(cell, (since + 0.5) / WINDOW, WINDOWS - 0.5)[k]


def follow(cell: Cell, runs: int, seed: int) -> Followed:
    """Window after window through ``LiveCoefficients``."""
    rng, said = np.random.default_rng(seed), Followed.of(runs)
    model = IModel() if cell.model == "I" else LModel()
    for first in range(0, runs, TOGETHER):
        group = range(first, min(runs, first + TOGETHER))
        own = replace(cell, draw=seed + first)
        live = LiveCoefficients([(model, Source(f"run{i}")) for i in group], cell.K)
        pools = list(sample_pools(cell, rng))
        for window, (means, counts, variance) in enumerate(simulate(own, len(group), rng)):
            pool = pools[window % len(pools)]
            layers = {f"run{i}": readings(means[j], counts[j], variance[j], cell, pool) for j, i in enumerate(group)}
            begin = time.perf_counter()
            found = live.add(window * WINDOW + (WINDOW - 1) / 2, layers)
            said.seconds += (time.perf_counter() - begin) / (runs * WINDOWS)
            for i in group:
                said.note(own, found[f"{model.name}_run{i}"], i, window)
    return said


def follow_batches(cell: Cell, runs: int, seed: int) -> Followed:
    """The same through ``SeparationMonitor``: every sample of a window passes as a batch of its class."""
    rng, said = np.random.default_rng(seed), Followed.of(runs)
    within, key = np.sqrt(SAMPLES / cell.K / 20), f"{cell.model}_logits"
    for i in range(runs):
        own = replace(cell, draw=seed + i)
        monitor = SeparationMonitor(cell.K, MonitorSettings())
        for window, (means, counts, _) in enumerate(simulate(own, 1, rng)):
            labels = np.repeat(np.arange(cell.K), counts[0])
            # the sampling noise is in the means already: samples lie about them with no mean of their own
            x = within * rng.standard_normal((len(labels), means.shape[2]))
            for k in range(cell.K):
                x[labels == k] += means[0, k] - x[labels == k].mean(0) if counts[0, k] else 0
            order = rng.permutation(len(labels))
            batch = torch.from_numpy(x[order])
            monitor.update(features=batch, logits=batch[:, : cell.K], target=torch.from_numpy(labels[order]))
            begin = time.perf_counter()
            record = monitor.close((window + 1) * WINDOW)
            said.seconds += (time.perf_counter() - begin) / (runs * WINDOWS)
            said.note(own, record.coefficients[key], i, window)
    return said


def judge(cell: Cell, said: Followed) -> dict[str, np.ndarray]:
    """Coverage, median half width and errors relative to γ at factor 1, known share (judged, 3); of levels (3,)."""
    parts = [judge_windows(cell, said, list(windows)) for windows in cell.judged.values()]
    low, high = said.levels[..., 1], said.levels[..., 2]
    inside = np.where(np.isfinite(said.levels[..., 0]), (low <= said.grown) & (said.grown <= high), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        level = {"level": np.nanmean(inside, 0), "level_half": np.nanmedian((high - low) / 2, 0)}
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]} | level


def judge_windows(cell: Cell, said: Followed, windows: list[int]) -> dict[str, np.ndarray]:
    """The same at some windows ``(3,)``."""
    value, low, high = np.moveaxis(said.found[:, windows], -1, 0)
    true, known, (a, b) = said.true[:, windows], np.isfinite(value), rates(cell)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        inside = np.where(known, (low <= true) & (true <= high), np.nan)
        missed = np.maximum(0, low - true) + np.maximum(0, true - high)
        return {
            "covered": np.nanmean(inside, (0, 1)),
            "half": np.nanmedian((high - low) / 2, (0, 1)) / abs(a - b),
            "bias": np.nanmean(value - true, (0, 1)) / abs(a - b),
            "rmse": np.sqrt(np.nanmean((value - true) ** 2, (0, 1))) / abs(a - b),
            "score": np.nanmean(high - low + 40 * missed, (0, 1)) / abs(a - b),
            "known": known.mean((0, 1)),
        }


def work(cell: Cell, runs: int, seed: int, batches: bool) -> tuple[Cell, dict[str, np.ndarray], float]:
    """One cell, for a process of its own."""
    torch.set_num_threads(1)
    said = (follow_batches if batches else follow)(cell, runs, seed)
    return cell, judge(cell, said), said.seconds


def cells(options: argparse.Namespace) -> list[Cell]:
    """Those that are wanted."""
    grid = itertools.product(options.models, options.classes, (1.0, 10.0), options.shapes, options.wander)
    return [Cell(*parts, follow=options.follow) for parts in grid]


HEAD = """
| model | K | largest/smallest class | shape | process noise | when | known | covered α, β, γ | half width of γ | \
error of γ | mean error of γ | covered A, B, G at the end |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def lines(cell: Cell, found: dict[str, np.ndarray]) -> list[str]:
    """Rows of the table."""
    rows = []
    for i, when in enumerate(cell.judged):
        last = i == len(cell.judged) - 1
        level = ", ".join(f"{100 * x:.0f}" for x in found["level"]) if last else ""
        covered = ", ".join(f"{100 * x:.0f}" for x in found["covered"][i])
        rows.append(
            f"| {cell.model} | {cell.K} | {cell.imbalance:g} | {cell.shape} | {cell.wander:g} | {when} | "
            f"{found['known'][i, 2]:.0%} | {covered} | {found['half'][i, 2]:.3f} | {found['rmse'][i, 2]:.3f} | "
            f"{found['bias'][i, 2]:+.3f} | {level} |"
        )
    return rows


def summary(results: list[tuple[Cell, dict[str, np.ndarray]]]) -> list[str]:
    """Shares of figures inside 92 to 98 %, by shape and balance."""
    text = [
        "| shape | largest/smallest class | figures | covered | in 92–98 % | below 92 % | least | half width of γ |"
    ]
    text.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, imbalance in itertools.product(SHAPES, (1.0, 10.0)):
        some = [r for c, r in results if c.shape == name and c.imbalance == imbalance]
        if some:
            x = np.concatenate([r["covered"].ravel() for r in some])
            x = x[np.isfinite(x)]
            half = np.median([r["half"][:, 2] for r in some])
            text.append(
                f"| {name} | {imbalance:g} | {len(x)} | {x.mean():.1%} | {np.mean((x >= 0.92) & (x <= 0.98)):.0%} | "
                f"{np.mean(x < 0.92):.0%} | {x.min():.0%} | {half:.3f} |"
            )
    levels = np.concatenate([r["level"] for _, r in results])
    levels = levels[np.isfinite(levels)]
    if len(levels):
        inside = np.mean((levels >= 0.92) & (levels <= 0.98))
        text.append(
            f"\nA, B, G at the end: covered {levels.mean():.1%} on average, {inside:.0%} of the figures in 92–98 %."
        )
    return text


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", default=["I", "L"])
    parser.add_argument("--classes", nargs="+", type=int, default=[2, 3, 10, 30])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--wander", nargs="+", type=float, default=[0.3, 3.0])
    parser.add_argument("--follow", action="store_true", help="drift by the drawn, not the expected class frequencies")
    parser.add_argument("--batches", action="store_true", help="through the monitor, sample by sample")
    parser.add_argument("--out", type=Path, help="default: results/live.md, with --batches results/live_batches.md")
    options = parser.parse_args()
    name = "live_batches.md" if options.batches else "live.md"
    out = options.out or Path(__file__).parent / "results" / name
    wanted = sorted(cells(options), key=lambda c: -c.K)
    begin, found = time.perf_counter(), {}
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [
            pool.submit(work, cell, options.runs, options.seed * 10_000 + i, options.batches)
            for i, cell in enumerate(wanted)
        ]
        for done in as_completed(jobs):
            cell, result, cost = done.result()
            found[cell] = result, cost
            print(f"{len(found)}/{len(wanted)} {time.perf_counter() - begin:.0f} s {cell}", flush=True)
    results = [(cell, found[cell][0]) for cell in cells(options)]
    cost = np.mean([c for _, c in found.values()]) * 1e3
    of = "a log step" if options.batches else "a window and model"
    text = [
        "# Live coefficients",
        "",
        f"`python benchmarks/live.py {' '.join(sys.argv[1:])}`: {options.runs} simulated runs of",
        f"{WINDOWS} windows a row, nominal coverage 95 %. Errors and half widths are relative to γ of constant growth.",
        f"Everything was chosen on seeds 100 to 199. {cost:.2f} ms {of}.",
        "",
        "An interval must allow for a change in the last windows: one window in 22 is assumed to bring one. So it",
        "holds more often than it says while nothing changes, and less often just after a change. In `changes`, rates",
        "change at random as often as is assumed; early, middle and late are averages over many windows there.",
        "",
        *summary(results),
        HEAD,
        *(line for cell, result in results for line in lines(cell, result)),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text[:20]))


if __name__ == "__main__":
    main()
