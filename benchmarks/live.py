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
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import expm

from le_callback.elasticity.live import LayerReading, LiveCoefficients
from le_callback.moments.statistics import ClassStatistics
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.similarity import IModel, LModel
from le_callback.values import Estimate, Source

WINDOW, WINDOWS, PARTS = 50, 80, 5  # steps a window, windows a run, parts that a window is integrated in
SAMPLES = 800  # of a window
JUMP = 40  # window after which the step changes the rates
JUDGED = {"early": 5, "middle": 30, "late": 79}
AFTER_JUMP = {"before": 38, "+3": JUMP + 2, "+6": JUMP + 5, "late": 79}
SHAPES = ("constant", "t^-1/2", "step", "oscillation")
NAMES = ("alpha", "beta", "gamma")
LEVELS = ("A", "B", "G")
TOGETHER = 10  # runs that are followed in one go: classes are drawn once for them all


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Attributes:
        model: "I" or "L".
        K: classes.
        imbalance: largest over smallest class.
        shape: of α and β over time.
        wander: variance of the process noise in a window over the sampling variance of a mean.
        follow: whether the drift follows the classes that were drawn in a window, not those that were expected.
    """

    model: str
    K: int
    imbalance: float
    shape: str
    wander: float
    follow: bool = False

    @property
    def frequencies(self) -> np.ndarray:
        """π (K,)."""
        share = np.geomspace(1, self.imbalance, self.K)
        return share / share.sum()

    @property
    def judged(self) -> dict[str, int]:
        """Windows at which coefficients are compared with the truth."""
        return AFTER_JUMP if self.shape == "step" else JUDGED


def shape(name: str, t: np.ndarray) -> np.ndarray:
    """Factor of α and β at times t, in windows."""
    if name == "constant":
        return np.ones_like(t)
    if name == "t^-1/2":
        return (20 / np.maximum(t, 0.5)) ** 0.5
    if name == "step":
        return np.where(t < JUMP, 1.0, 0.0)
    return 1 + 0.6 * np.sin(2 * np.pi * t / 40)


def rates(cell: Cell) -> tuple[float, float]:
    """α and β per step at factor 1: balanced, the difference mode grows by 0.04 a window, the common one by 0.02."""
    common, difference, K = 0.02 / WINDOW, 0.04 / WINDOW, cell.K
    if cell.model == "I":
        return common + (K - 1) * difference, common - difference
    return common + (K - 1) * difference, (K - 1) * (difference - common)


def truth(cell: Cell, windows: np.ndarray) -> np.ndarray:
    """α, β, γ (3, n) per step at the middle of windows."""
    a, b = rates(cell)
    return np.array([[a], [b], [a - b]]) * shape(cell.shape, windows + 0.5 - 0.5 / WINDOW)


def growth(cell: Cell, start: float, stop: float) -> np.ndarray:
    """A, B, G (3,) between two times in windows."""
    t = np.linspace(start, stop, 20_001)
    f = shape(cell.shape, (t[1:] + t[:-1]) / 2).mean() * (stop - start) * WINDOW
    a, b = rates(cell)
    return np.array([a, b, a - b]) * f


def directions(cell: Cell) -> np.ndarray:
    """What class means start along: (K, p)."""
    K = cell.K
    return np.eye(K) - 1 / K if cell.model == "L" else np.eye(K, max(8, K))


def flow(cell: Cell, pi: np.ndarray, factor: float) -> np.ndarray:
    """Flow of the coordinates in one part of a window, (..., K, K)."""
    a, b = (r * factor for r in rates(cell))
    K = cell.K
    d = np.eye(K) - 1 / K
    c = np.ones((K, K)) if cell.model == "I" else d @ d.T / (d * d).sum(1)[:, None]
    E = np.full((K, K), b) + (a - b) * np.eye(K)
    return expm(E * c * pi[..., None, :] * WINDOW / PARTS / 2)


def simulate(cell: Cell, runs: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Window by window: means (R, K, p) with sampling noise, counts (R, K), within-class variance a coordinate."""
    pull, K, pi = directions(cell), cell.K, cell.frequencies
    p = pull.shape[1]
    X = rng.standard_normal((runs, K, p)) + 2 * pull
    within = SAMPLES / K / 20
    sigma = np.sqrt(cell.wander / 20 / PARTS)
    d = np.eye(K) - 1 / K
    for window in range(WINDOWS):
        counts = np.tile(rng.multinomial(SAMPLES, pi), (runs, 1))
        share = counts / SAMPLES if cell.follow else pi
        total = np.zeros_like(X)
        for part in range(PARTS):
            half = flow(cell, share, float(shape(cell.shape, np.array(window + (part + 0.5) / PARTS))))
            for leg in range(2):
                if cell.model == "I":
                    X = half @ X
                else:
                    y = np.einsum("kp,rkp->rk", d, X) / (1 - 1 / K)
                    a, b = (r * shape(cell.shape, np.array(window + (part + 0.5) / PARTS)) for r in rates(cell))
                    X = X + _logit_flow(half, y, a, b, share, d)
                if leg == 0:
                    X = X + sigma * rng.standard_normal(X.shape)
                    total += X
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.sqrt(within / np.maximum(counts, 1))[..., None]
        means = total / PARTS + deviation * rng.standard_normal(X.shape)
        dof = np.maximum(counts - 1, 1) * p
        yield np.where(counts[..., None] > 0, means, np.nan), counts, within * rng.chisquare(dof) / dof


def _logit_flow(half, y, a, b, share, d):
    """Change of the logits' means: dX_i = Σ_j E_ij π_j y_j d_j dt, with y at both ends of the leg (trapezoid)."""
    K = y.shape[1]
    E = np.full((K, K), float(b)) + float(a - b) * np.eye(K)
    later = (half @ y[..., None])[..., 0]
    # the coordinates are exact; what lies across them follows the trapezoid
    dt = WINDOW / PARTS / 2
    push = np.einsum("ij,rj,jp->rip", E, np.broadcast_to(share, y.shape) * (y + later) / 2, d) * dt
    along = np.einsum("kp,rkp->rk", d, push) / (1 - 1 / K)
    return push + (later - y - along)[..., None] * d


def readings(means, counts, variance, cell: Cell, pool) -> LayerReading:
    """What ``LiveCoefficients`` is given of one window of one run."""
    p = means.shape[1]
    n = torch.from_numpy(counts).double()
    seen = n > 0
    trace = torch.where(seen, torch.from_numpy(variance) * p, torch.nan)
    statistics = ClassStatistics(seen, n, torch.from_numpy(means), trace, trace / n.where(seen, torch.nan))
    return LayerReading(statistics, pool if cell.model == "L" else None)


def sample_pools(cell: Cell, rng: np.random.Generator):
    """Samples about zero, from which the noise along directions is read."""
    K, within = cell.K, SAMPLES / cell.K / 20
    for _ in range(4):
        labels = rng.choice(K, SAMPLES, p=cell.frequencies)
        yield torch.from_numpy(np.sqrt(within) * rng.standard_normal((SAMPLES, K))), torch.from_numpy(labels)


def follow(cell: Cell, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Estimates (runs, judged, 3, 3: value, low, high), the same of A, B, G at the end with the reference's window."""
    rng = np.random.default_rng(seed)
    model = IModel() if cell.model == "I" else LModel()
    found = np.full((runs, len(cell.judged), 3, 3), np.nan)
    levels = np.full((runs, 3, 4), np.nan)
    spent = 0.0
    for first in range(0, runs, TOGETHER):
        group = range(first, min(runs, first + TOGETHER))
        live = LiveCoefficients([(model, Source(f"run{i}")) for i in group], cell.K)
        pools = list(sample_pools(cell, rng))
        for window, (means, counts, variance) in enumerate(simulate(cell, len(group), rng)):
            pool = pools[window % len(pools)]
            layers = {f"run{i}": readings(means[j], counts[j], variance[j], cell, pool) for j, i in enumerate(group)}
            begin = time.perf_counter()
            said = live.add(window * WINDOW + (WINDOW - 1) / 2, layers)
            spent += time.perf_counter() - begin
            for i in group:
                note(cell, said[f"{model.name}_run{i}"], window, found[i], levels[i])
    return found, levels, spent / (runs * WINDOWS)


def follow_batches(cell: Cell, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The same through ``SeparationMonitor``: every sample of a window passes as a batch of its class."""
    rng = np.random.default_rng(seed)
    found = np.full((runs, len(cell.judged), 3, 3), np.nan)
    levels = np.full((runs, 3, 4), np.nan)
    within, spent, key = np.sqrt(SAMPLES / cell.K / 20), 0.0, f"{cell.model}_logits"
    for i in range(runs):
        monitor = SeparationMonitor(cell.K, MonitorSettings())
        for window, (means, counts, _) in enumerate(simulate(cell, 1, rng)):
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
            spent += time.perf_counter() - begin
            note(cell, record.coefficients[key], window, found[i], levels[i])
    return found, levels, spent / (runs * WINDOWS)


def note(cell: Cell, c, window: int, found: np.ndarray, levels: np.ndarray) -> None:
    """Keep what is judged."""
    for place, at in enumerate(cell.judged.values()):
        if at == window:
            for k, name in enumerate(NAMES):
                e = getattr(c, name)
                found[place, k] = e.value, e.low, e.high
    if window == WINDOWS - 1:
        for k, name in enumerate(LEVELS):
            e = getattr(c, name, None)
            if isinstance(e, Estimate):
                since = c.gamma_reference_time if name == "G" else c.reference_time
                levels[k] = e.value, e.low, e.high, (since + 0.5) / WINDOW


def judge(cell: Cell, found: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    """Coverage, median half width and errors relative to γ at factor 1, known share (judged, 3); of levels (3,)."""
    true = truth(cell, np.array(list(cell.judged.values()), dtype=float)).T  # (judged, 3)
    value, low, high = np.moveaxis(found, -1, 0)
    known = np.isfinite(value)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        inside = np.where(known, (low <= true) & (true <= high), np.nan)
        a, b = rates(cell)
        since = np.nan_to_num(levels[:, :, 3], nan=WINDOWS - 1.0)
        grown = np.array([[growth(cell, s, WINDOWS - 0.5)[k] for k, s in enumerate(row)] for row in since])
        is_known = np.isfinite(levels[:, :, 0])
        level_inside = np.where(is_known, (levels[:, :, 1] <= grown) & (grown <= levels[:, :, 2]), np.nan)
        return {
            "covered": np.nanmean(inside, 0),
            "half": np.nanmedian((high - low) / 2, 0) / abs(a - b),
            "bias": np.nanmean(value - true, 0) / abs(a - b),
            "rmse": np.sqrt(np.nanmean((value - true) ** 2, 0)) / abs(a - b),
            "known": known.mean(0),
            "level": np.nanmean(level_inside, 0),
            "level_half": np.nanmedian((levels[:, :, 2] - levels[:, :, 1]) / 2, 0),
        }


def work(cell: Cell, runs: int, seed: int, batches: bool) -> tuple[Cell, dict[str, np.ndarray], float]:
    """One cell, for a process of its own."""
    torch.set_num_threads(1)
    found, levels, cost = (follow_batches if batches else follow)(cell, runs, seed)
    return cell, judge(cell, found, levels), cost


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
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "live.md")
    options = parser.parse_args()
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
    text = [
        "# Live coefficients",
        "",
        f"`python benchmarks/live.py --runs {options.runs} --seed {options.seed}`: {options.runs} simulated runs of",
        f"{WINDOWS} windows a row, nominal coverage 95 %. Errors and half widths are relative to γ of constant growth.",
        f"Everything was chosen on seeds 100 to 199. {cost:.2f} ms a window and model.",
        "",
        *summary(results),
        HEAD,
        *(line for cell, result in results for line in lines(cell, result)),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text[:20]))


if __name__ == "__main__":
    main()
