"""How well forecasts hold, by kind of training; writes results/forecast.md and two fan charts.

    python benchmarks/forecast.py [--runs-dir runs/forecast]

Eight trainings of each of seven kinds, each kept once made, so that a stopped benchmark goes on where it was. Forecasts
are made at one sixth, one third and one half of each and judged on twelve later readings, evenly in log time, up to its
end. Interval score of a 90 % band (Gneiting and Raftery 2007), on logs: width + 20 × what the truth lies outside. The
naive forecasts get bands as well, from how far they were off earlier in the same run, as normal errors in proportion to
log time.
"""

from __future__ import annotations

import argparse
import datetime
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from forecast_runs import KINDS, Run, recorded
from tqdm import tqdm

from le_callback.forecast.growth_laws import SHORT, elasticity
from le_callback.forecast.quantities import frame_at, pair_deviation, pairs_of, quantities
from le_callback.recorder import SourceTrajectory
from le_callback.report.fan_chart import fan_chart

RESULTS = Path(__file__).parent / "results"
CHOOSING, JUDGING = range(100, 112), range(200, 212)
CASES = (("logits", "I"), ("probe_logits", "I"), ("probe_logits", "L"), ("probe_features", "I"))
WHEN = {"1/6": 1 / 6, "1/3": 1 / 3, "1/2": 1 / 2}
SCHEDULED = ("warm-up, cosine", "step drops")
POINTS, Z = 12, 1.6449
LEVELS = (1.0, 2.0)
NAMES = ("ours", "persistence", "trend")
EXAMPLES = {"steady": (Run("clean", 202), "probe_features"), "rise": (Run("clean", 207), "probe_logits")}


def part(trajectory, source, share):
    """The trajectory of one source up to a share of its time, and the index of that reading."""
    data = trajectory.sources[source]
    known = np.isfinite(data.means).all((1, 2))
    now = int(np.flatnonzero(known & (data.times <= share * data.times[-1]))[-1])
    fields = ("times", "means", "mean_noise", "counts")
    past = SourceTrajectory(*(getattr(data, name)[: now + 1] for name in fields))
    return replace(trajectory, sources={source: past}), now


def truth(data, exact):
    """Log gaps of all pairs and log ratio of the worst pair (T, P + 1), as the forecast reads them."""
    means, pairs = data.means.astype(float), pairs_of(data.means.shape[1])
    deviation = pair_deviation(data.mean_noise.astype(float) * data.counts, pairs)
    noise = None if exact else data.mean_noise.astype(float)
    curves = quantities(means, frame_at(means[-1], deviation[-1], pairs), deviation=deviation, noise=noise)
    return np.concatenate([curves[:, : len(pairs)], curves[:, -1:]], axis=1)


def naive(tau, y, h, trend):
    """Median and half width (N, n) of a naive forecast from the past readings y (T, n) at log times tau."""

    def slope(until):
        return elasticity(tau[: until + 1], y[: until + 1], SHORT) if trend else np.zeros(y.shape[1])

    origins = np.unique(np.searchsorted(tau, tau[-1] - np.linspace(1.1, 0.15, 12)))
    origins = [b for b in origins if b >= 4 and tau[-1] > tau[b]]
    if len(origins) < 3:
        return None
    missed = [(y[-1] - y[b]) / (tau[-1] - tau[b]) - slope(b) for b in origins]
    size = np.sqrt(np.mean(np.square(missed), axis=0))
    return y[-1] + slope(len(tau) - 1) * h[:, None], Z * size * h[:, None]


def judged(median, half_low, half_high, y):
    """Coverage, interval score, width at the end and error of the median: of the gaps, and of the worst ratio."""
    low, high = median - half_low, median + half_high
    inside = (low <= y) & (y <= high)
    score = high - low + 20 * np.maximum(low - y, 0) + 20 * np.maximum(y - high, 0)
    columns = {"gaps": slice(0, -1), "ratio": slice(-1, None)}
    return {
        name: (inside[:, c].mean(), score[:, c].mean(), np.median((high - low)[-1, c]), abs(y - median)[:, c].mean())
        for name, c in columns.items()
    }


def score(trajectory, source, model, share):
    """What the forecast and the naive ones are worth."""
    data, exact = trajectory.sources[source], source.startswith("probe")
    past, now = part(trajectory, source, share)
    y = truth(data, exact)
    known = np.isfinite(y).all(1) & (data.times > 0)
    tau = np.log(np.where(known, data.times, 1.0))
    later = np.flatnonzero(known & (np.arange(len(tau)) > now))
    ends = np.geomspace(data.times[now], data.times[-1], POINTS + 1)[1:]
    later = later[np.unique(np.minimum(np.searchsorted(data.times[later], ends), len(later) - 1))]
    h = tau[later] - tau[now]
    before = np.flatnonzero(known & (np.arange(len(tau)) <= now))
    scores = {}
    for name in NAMES[1:]:
        found = naive(tau[before], y[before], h, name == "trend")
        scores[name] = None if found is None else judged(found[0], found[1], found[1], y[later])
    started = time.process_time()
    found = past.forecast(source, model, until=float(data.times[-1]))
    scores |= {"seconds": time.process_time() - started, "status": found.status, "ours": None, "separation": []}
    if not found.status:
        grid = np.log(found.times)
        bands = [
            np.stack([np.interp(tau[later], grid, c) for c in np.log(both).T], axis=1)
            for both in (
                np.c_[getattr(found.gaps, end), getattr(found.ratio, end)] for end in ("low", "median", "high")
            )
        ]
        scores["ours"] = judged(bands[1], bands[1] - bands[0], bands[2] - bands[1], y[later])
        scores["separation"] = list(separations(past, source, model, data, y[:, -1], now))
    return scores


def separations(past, source, model, data, log_ratio, now):
    """True time, and low, median and high of the forecast, of each level that is reached later."""
    for level in LEVELS:
        above = log_ratio >= np.log(level)
        if above[: now + 1].any() or not above[now:].any():
            continue
        true = float(data.times[now + int(np.argmax(above[now:]))])
        told = past.forecast(source, model, level=level, until=float(data.times[-1])).separation
        yield true, told.low, told.median, told.high


HEAD = [
    "| trainings | forecasts made | gaps in band | score: ours | persistence | trend | width: ours | persistence"
    " | trend | worst ratio in band | score: ours | persistence | trend | width: ours | persistence | trend |",
    "|" + "---|" * 16,
]


def row(name, scores):
    """One line: only forecasts that were made are compared, and those that all three can be made for."""
    told = [s for s in scores if s["ours"]]
    shared = [s for s in told if all(s[n] for n in NAMES)]
    cells = [name, f"{len(told)} of {len(scores)}"]
    for quantity in ("gaps", "ratio"):
        if not shared:
            cells += ["–"] * 7
            continue
        cells.append(f"{np.mean([s['ours'][quantity][0] for s in told]):.2f}")
        cells += [f"{np.mean([s[n][quantity][1] for s in shared]):.2f}" for n in NAMES]
        cells += [f"×{np.exp(np.median([s[n][quantity][2] for s in shared])):.3g}" for n in NAMES]
    return "| " + " | ".join(cells) + " |"


def chosen(scores, **wanted):
    """Scores whose key (kind, seed, source, model, when, clock) agrees."""
    names = ("kind", "seed", "source", "model", "when", "clock")
    return [
        s for key, s in scores.items() if all(dict(zip(names, key, strict=True))[k] == v for k, v in wanted.items())
    ]


def reasons(scores):
    """Why no forecast was made, by kind."""
    lines = ["| trainings | " + " | ".join(REASONS) + " |", "|" + "---|" * (len(REASONS) + 1)]
    for kind in KINDS:
        found = Counter()
        for s in chosen(scores, kind=kind, clock="own"):
            found.update(short for short, start in REASONS.items() if s["status"].startswith(start))
        lines.append(f"| {kind} | " + " | ".join(str(found[short]) for short in REASONS) + " |")
    return lines


REASONS = {
    "not begun to separate": "the classes have not begun",
    "growth changes too fast": "the growth of the gaps",
    "not above the sampling noise": "the class means do not",
    "too few readings": "only ",
}


ABOUT = """
{count} trainings of each of {kinds} kinds, seeds {judging}, which no choice was made on: the
numbers of the laws are those of largest likelihood on seeds {choosing}, with widths then
raised by 5 to 20 % and the lower ends let down a little. Even seeds train a perceptron on digits (K = 10, 3,000
steps), odd ones the paper's network on
GeoMNIST (K = 3, 2,400 steps); learning rate and batch size are drawn by the seed (`forecast_runs.py`). Class means
of training windows and of a probe of 50 samples a class, 200 readings; logits by the I- and the L-model, features
by the I-model.
"""
COLUMNS = """
In band: share of the later readings in the 90 % bands, of all gaps of two class means, and of the smallest gap over the
within-class deviation (worst ratio), at twelve times up to the end of the training. Score: interval score of the 90 %
band on logs, lower is better. Width: median of upper over lower end at the end of the training. Persistence says that
all stays as it is, trend that log gaps go on in log time as over the last fifth; both have bands from their own earlier
errors. Scores and widths are of the forecasts that were made. Schedules count time in cumulative learning rate, as
`LECallback(time_axis="lr")` does, unless they say steps.
"""


def _span(seeds):
    """First and last."""
    return f"{seeds[0]} to {seeds[-1]}"


def wrapped(text):
    """A paragraph in lines."""
    return textwrap.fill(" ".join(text.split()), 118)


def shortfalls(own):
    """Kinds of which bands hold less than 85 % or more than 95 %, and those where a naive forecast scores better."""
    found = []
    for kind in KINDS:
        told = [s for s in chosen(own, kind=kind) if all(s[n] for n in NAMES)]
        for quantity in ("gaps", "ratio"):
            held, ours = (np.mean([s["ours"][quantity][i] for s in told]) for i in (0, 1))
            if not 0.85 <= held <= 0.95:
                found.append(f"{kind}: {quantity}, {held:.2f} in band")
            for name in NAMES[1:]:
                if np.mean([s[name][quantity][1] for s in told]) < ours:
                    found.append(f"{kind}: {quantity}, {name} scores better")
    return "; ".join(found) or "nowhere"


def report(scores, command):
    """Lines of the report."""
    own = {key: s for key, s in scores.items() if key[-1] == "own"}
    separation = [time for s in own.values() for time in s["separation"]]
    seconds = [s["seconds"] for s in own.values() if s["ours"]]
    steps = [row(f"{kind}, time in steps", chosen(scores, kind=kind, clock="steps")) for kind in SCHEDULED]
    refused = [s["trend"]["gaps"][2] for s in own.values() if s["status"].startswith("the growth") and s["trend"]]
    span = np.exp(np.median(refused)) if refused else float("nan")
    return [
        "# Forecasts at one sixth, one third and one half of a training",
        "",
        f"`{command}` · {datetime.date.today()}",
        "",
        wrapped(ABOUT.format(count=len(JUDGING), kinds=len(KINDS), judging=_span(JUDGING), choosing=_span(CHOOSING))),
        "",
        wrapped(COLUMNS),
        "",
        *HEAD,
        row("all", list(own.values())),
        *[row(kind, chosen(own, kind=kind)) for kind in KINDS],
        *[row(f"made at {when}", chosen(own, when=when)) for when in WHEN],
        *[row(f"{source}, {model}-model", chosen(own, source=source, model=model)) for source, model in CASES],
        *steps,
        "",
        wrapped(f"Outside of 85 to 95 % in band, or worse than a naive forecast: {shortfalls(own)}."),
        "",
        "Why the others were not made:",
        "",
        *reasons(own),
        "",
        f"Where growth changes too fast, the trend's own bands span a factor of {span:,.0f} at the median.",
        "",
        wrapped(
            f"Separation times, levels {LEVELS} that were reached later: {len(separation)};"
            f" {np.mean([low <= true <= high for true, low, _, high in separation]):.2f} in the 90 % interval,"
            f" {np.mean([1 / 1.5 <= median / true <= 1.5 for true, _, median, _ in separation]):.2f} of the medians"
            " within a factor of 1.5."
        ),
        "",
        f"One forecast took {np.median(seconds):.2f} s of one core at the median, {np.max(seconds):.2f} s at most.",
        "",
        "Two of these trainings, forecast at one third:",
        "",
        *(f"![{name}](forecast-{name}.png)" for name in EXAMPLES),
    ]


def draw(folder, out):
    """Two fan charts beside the table."""
    for name, (run, source) in EXAMPLES.items():
        whole = recorded(run, folder).trajectory
        past, _ = part(whole, source, 1 / 3)
        data, s = whole.sources[source], run.settings
        found = past.forecast(source, "I", until=float(data.times[-1]))
        title = f"{s.family}, {source.replace('_', ' ')}, batch {s.batch}, learning rate {s.lr:.3f}"
        fan_chart(found, data, title).savefig(out.with_name(f"forecast-{name}.png"), dpi=110)


def main():
    """Train, forecast, write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/forecast"))
    parser.add_argument("--choosing", action="store_true", help="score the seeds that the choices were made on")
    parser.add_argument("--out", type=Path, default=RESULTS / "forecast.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scores = {}
    for run in tqdm([Run(kind, seed) for kind in KINDS for seed in (CHOOSING if args.choosing else JUDGING)]):
        kept = recorded(run, args.runs_dir)
        clocks = {"own": kept.trajectory}
        if run.kind in SCHEDULED:
            clocks = {"own": kept.in_learning_rate(), "steps": kept.trajectory}
        for clock, trajectory in clocks.items():
            for source, model in CASES:
                for when, share in WHEN.items():
                    scores[run.kind, run.seed, source, model, when, clock] = score(trajectory, source, model, share)
    lines = report(scores, "python benchmarks/forecast.py")
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if not args.choosing:
        draw(args.runs_dir, args.out)


if __name__ == "__main__":
    main()
