"""How well a forecast made at a third of a training holds; writes results/forecast.md and two fan charts.

    python benchmarks/forecast.py [--runs-dir runs/forecast]

20 trainings, each kept once made, so that a stopped benchmark goes on where it was. Coverage: share of the later
readings, over all quantities and times, that the 90 % bands hold, first within a run, then averaged over runs.
Separation times: each level of a fixed list that the run has not reached at the third, but reaches later.
"""

from __future__ import annotations

import argparse
import datetime
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from forecast_runs import Run, train
from tqdm import tqdm

from le_callback import IModel, LModel
from le_callback.forecast.quantities import frame_at, pair_deviation, quantities
from le_callback.recorder import SourceTrajectory
from le_callback.report.fan_chart import fan_chart
from le_callback.trajectory import Trajectory

RESULTS = Path(__file__).parent / "results"
RUNS = [Run("digits", lr, seed, 3000) for lr in (0.015, 0.02, 0.05, 0.07, 0.15) for seed in (0, 1)]
RUNS += [Run("geomnist", lr, seed, 6000) for lr in (0.012, 0.015, 0.025, 0.03, 0.05) for seed in (0, 1)]
CASES = (("probe_logits", IModel()), ("probe_logits", LModel()), ("probe_features", IModel()))
LEVELS = (0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
QUANTITIES = ("gaps", "along", "worst_gap", "ratio")
SEPARATION_HORIZON = 10  # times the time at which the forecast is made
EXAMPLES = {  # a figure of each: a run with a dip where the forecast is made, and a steady one
    "dip": (Run("geomnist", 0.025, 0, 6000), "probe_logits", 6.0),
    "steady": (Run("digits", 0.05, 0, 3000), "probe_features", 1.5),
}


def trajectory(run, folder):
    """The run's trajectory, trained if it is not there."""
    path = folder / f"{run.name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        train(run).save(path)
    return Trajectory.load(path)


def third(whole, source):
    """The trajectory up to a third of its time, and the index of that reading."""
    data = whole.sources[source]
    now = int(np.searchsorted(data.times, data.times[-1] / 3))
    names = ("times", "means", "mean_noise", "counts")
    return replace(whole, sources={source: SourceTrajectory(*(getattr(data, n)[: now + 1] for n in names))}), now


def truth(data, now, pairs):
    """Quantities (T, n) as the forecast reads them."""
    means = data.means.astype(float)
    deviation = pair_deviation(data.mean_noise.astype(float) * data.counts, pairs)
    return np.exp(quantities(means, frame_at(means[now], deviation[now], pairs), deviation=deviation))


def at(times, grid, values):
    """Bands (N,) or (N, n) at other times: linear in the logarithms."""
    columns = values.reshape(len(values), -1).T
    return np.exp(np.stack([np.interp(np.log(times), np.log(grid), np.log(c)) for c in columns], axis=1))


def score(whole, source, model):
    """Coverage, width and error of the bands, and pairs of forecast and true separation times."""
    data = whole.sources[source]
    part, now = third(whole, source)
    started = time.perf_counter()
    found = part.forecast(source, model, until=data.times[-1])
    seconds = time.perf_counter() - started
    if found.status:
        return {"status": found.status}
    P, K = len(found.pairs), data.means.shape[1]
    actual = truth(data, now, found.pairs)
    columns = dict(
        zip(QUANTITIES, (slice(0, P), slice(P, P + K), slice(P + K, P + K + 1), slice(-1, None)), strict=True)
    )
    scores = {"status": "", "seconds": seconds}
    for name, part_of in columns.items():
        low, median, high = (
            at(data.times[now + 1 :], found.times, getattr(getattr(found, name), end))
            for end in ("low", "median", "high")
        )
        later = actual[now + 1 :, part_of]
        scores[name] = float(((low <= later) & (later <= high)).mean())
        scores[f"{name}_width"] = float(np.median(high[-1] / low[-1]))
        scores[f"{name}_error"] = float(np.median(np.exp(np.abs(np.log(later[-1] / median[-1])))))
    ratio, times = actual[:, -1], data.times
    scores["separation"] = []
    for level in LEVELS:
        if (ratio[1 : now + 1] >= level).any() or not (ratio[now:] >= level).any():
            continue
        true = float(times[now + int(np.argmax(ratio[now:] >= level))])
        told = part.forecast(source, model, level=level, until=SEPARATION_HORIZON * times[now]).separation
        scores["separation"].append((level, true, told.low, told.median, told.high))
    return scores


def row(name, scores):
    """One line of the table."""
    known = [s for s in scores if not s["status"]]
    cells = [name, f"{len(known)}/{len(scores)}"]
    cells += [f"{np.mean([s[q] for s in known]):.2f}" if known else "–" for q in QUANTITIES]
    for name in QUANTITIES[2:]:
        for of in ("width", "error"):
            cells.append(f"×{np.median([s[f'{name}_{of}'] for s in known]):.2f}" if known else "–")
    cells += separation_cells([time for s in known for time in s["separation"]])
    return "| " + " | ".join(cells) + " |"


def separation_share(times):
    """Share of the medians within a factor 1.5 of the true times."""
    return np.mean([1 / 1.5 <= median / true <= 1.5 for _, true, _, median, _ in times])


def separation_cells(times):
    """Number, share within a factor 1.5, share inside of the interval."""
    if not times:
        return ["0", "–", "–"]
    inside = np.mean([low <= true <= high for _, true, low, _, high in times])
    return [str(len(times)), f"{separation_share(times):.2f}", f"{inside:.2f}"]


HEAD = [
    "| runs | forecasts | gaps | along | worst gap | worst ratio | worst gap, width | error | worst ratio, width "
    "| error | separation times | within ×1.5 | in interval |",
    "|---" * 13 + "|",
]


def report(scores):
    """Lines of the report from the scores by run, source and model."""
    table = [row("all", list(scores.values()))]
    for family in ("digits", "geomnist"):
        for source, model in CASES:
            chosen = [s for (r, of, m), s in scores.items() if (r.family, of, m) == (family, source, model.name)]
            table.append(row(f"{family}, {source}, {model.name}-model", chosen))
    each = []
    for run in RUNS:
        each.append(
            row(f"{run.family}, lr {run.lr:g}, seed {run.seed}", [s for (r, *_), s in scores.items() if r == run])
        )
    seconds = [s["seconds"] for s in scores.values() if not s["status"]]
    shares = [separation_share(s["separation"]) for s in scores.values() if not s["status"] and s["separation"]]
    return [
        "# Forecasts made at one third of a training",
        "",
        f"`python benchmarks/forecast.py` · {datetime.date.today()} · 20 trainings that were not used for any choice",
        "in the method (those were seeds 100 to 102 at learning rates 0.01, 0.03, 0.1 and 0.01, 0.02, 0.04); batch 16,",
        "plain SGD; digits (K = 10, 3,000 steps) and GeoMNIST (K = 3, 6,000 steps); class means of a probe of 100",
        "samples a class, 300 readings.",
        "",
        "Share of the later readings in the 90 % bands: of all gaps of two class means, of the class means along their",
        "directions, of the smallest gap, and of the smallest gap over the within-class deviation (worst ratio).",
        "Width: median of upper over lower end of the band at the end of the run; error: median of truth over forecast",
        "there, or its inverse. Separation times: forecasts of the first time that the worst ratio reaches one of",
        f"{LEVELS}, for levels reached in the last two thirds; times not foreseen count as wrong.",
        "",
        *HEAD,
        *table,
        "",
        "By run, all three forecasts of each:",
        "",
        *HEAD,
        *each,
        "",
        "Levels of one run depend on each other. Counting each forecast once, by its share of times within ×1.5:",
        f"{np.mean(shares):.2f} over the {len(shares)} forecasts with a time to foresee.",
        "",
        "Where it falls short: at the end of a plateau (geomnist, lr 0.012, seed 0) the growth to come is not",
        "foreseen; a dip of the gaps just when the forecast is made (geomnist, lr 0.025, seed 0; forecast-dip.png) is",
        "taken for a turn of the training; where the run has just left a plateau the bands span many powers of ten.",
        "",
        f"One forecast took {np.median(seconds):.2f} s at the median, {np.max(seconds):.2f} s at most (one thread).",
    ]


def draw(folder, out):
    """The fan charts of ``EXAMPLES``, beside the table."""
    for name, (run, source, level) in EXAMPLES.items():
        whole = trajectory(run, folder)
        part, _ = third(whole, source)
        data = whole.sources[source]
        shown = part.forecast(source, IModel(), until=data.times[-1], level=level)
        title = f"{run.family}, {source}, batch 16, learning rate {run.lr:g}: forecast at one third of the training"
        fan_chart(shown, data, title).savefig(out.with_name(f"forecast-{name}.png"), dpi=110)


def main():
    """Train, forecast, write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/forecast"))
    parser.add_argument("--out", type=Path, default=RESULTS / "forecast.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scores = {}
    for run in tqdm(RUNS):
        whole = trajectory(run, args.runs_dir)
        for source, model in CASES:
            scores[run, source, model.name] = score(whole, source, model)
    lines = report(scores)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(args.runs_dir, args.out)


if __name__ == "__main__":
    main()
