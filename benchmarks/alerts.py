"""Alerts and verdicts on trainings with faults and on healthy ones, beside two alarms of Lightning on the same runs.

    python benchmarks/alerts.py [--first 1000] [--seeds 10] [--healthy 100] [--kinds 5] [--workers 1] [--write]

``alert_kinds.py`` lists the trainings, and which kinds were not looked at before: thresholds were chosen on seeds
below 1,000 of the others. Trainings are recorded under ``--cache``, if one is given, and not repeated; verdict and
rules are then asked on the records with their default settings. Delays are in windows of 50 optimizer steps.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import pickle
import shlex
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import alert_verdicts
import numpy as np
import torch
from alert_kinds import (
    ENDING,
    FAINT,
    FAULTS,
    HEALTHY,
    LASTING,
    UNSEEN,
    WINDOW,
    Setup,
    ending_fault,
    faulty,
    healthy,
    healthy_kind,
    lasting_fault,
)  # fmt: skip
from alert_lightning import early_stops, spike_steps
from alert_runs import Run, train
from alert_verdicts import Verdicts
from tqdm import tqdm

from le_callback.alerts import Alert, AlertBook, Ended, describe
from le_callback.verdict import Judge

RIGHT = {
    "corrupt_0.4": {"SeparabilityLost", "ElasticityLost"},
    "corrupt_0.7": {"SeparabilityLost", "ElasticityLost"},
    "corrupt_1.0": {"SeparabilityLost", "ElasticityLost"},
    "pair_mixed": {"PairMerging"},
    "rate_x100": {"SeparabilityLost", "FeatureCollapse", "NonFinite", "ElasticityLost", "ScaleChanged"},
    "dead_relu": {"FeatureCollapse"},
    "class_dropped": {"ClassVanished"},
    "scale_to_zero": {"FeatureCollapse"},
    "nan_batch": {"NonFinite"},
    "const_images": {"ClassVanished"},
    "dead_encoder": {"FeatureCollapse", "SeparabilityLost"},
    "replaced": {"PairMerging"},
    "two_pairs": {"PairMerging"},
    "nan_class": {"NonFinite"},
    "stuck_loader": {"LoaderStuck"},
    "inputs_x255": {"ScaleChanged"},
    "slow_divergence": {"SeparabilityLost", "ScaleChanged", "NonFinite"},
    "heavy_decay": {"ScaleChanged", "FeatureCollapse", "SeparabilityLost"},
    "permuted_labels": {"LabelsChanged", "SeparabilityLost"},
    "const_all": {"ClassVanished", "LoaderStuck", "FeatureCollapse", "SeparabilityLost"},
    "corrupt_0.2": {"SeparabilityLost", "ElasticityLost"},
    "head_reset": set(),
    "logits_grow": {"ScaleChanged"},
    "class_drifts": {"PairMerging"},
    "long_corruption": {"SeparabilityLost", "ElasticityLost"},
}


@dataclass(frozen=True)
class Judged:
    """What was said of a run: the first alert since the fault, all before it, and what Lightning's alarms said.

    Attributes:
        setup: of the training.
        classes: that the fault concerns.
        first: alert since the fault.
        false: alerts before it.
        early_stopping: first stop whose bad validations all lie after the fault.
        early_raw: first stop after the fault.
        early_false, spike_false: whether Lightning's alarms said something before.
        spike: first one after the fault.
        verdicts: of its windows.
        spent: windows with a loss below 1e-4, of which separated, and alerts in them.
        ends: windows from recovery to the end of the last alert; infinite where it did not end.
        again: first alert since the second fault.
        between: alerts between recovery and the second fault.
    """

    setup: Setup
    classes: tuple[int, ...]
    first: Alert | None
    false: list[Alert]
    early_stopping: int | None
    early_raw: int | None
    early_false: bool
    spike: int | None
    spike_false: bool
    verdicts: Verdicts
    spent: tuple[int, int, int] = (0, 0, 0)
    ends: float | None = None
    again: Alert | None = None
    between: list[Alert] = field(default_factory=list)


def recorded(setup: Setup, name: str, cache: Path | None) -> Run:
    """The training from the cache, or trained now."""
    path = None if cache is None else cache / f"{name}.pkl"
    if path is not None and path.exists():
        run: Run = pickle.loads(path.read_bytes())
        if run.setup == setup:
            return run
    run = train(setup)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(run))
    return run


def judge(run: Run) -> Judged:
    """Ask the verdict, the rules and Lightning's alarms, each on what it would have seen."""
    verdict, book, alerts, ended = Judge(), AlertBook(), [], []
    said = [replace(record, regime=verdict.add(record, record.regime.index)) for record in run.records]
    run = replace(run, records=said)
    for record in run.records:
        alerts += book.add(record)
        ended += book.ended
    if book.failures:
        raise RuntimeError(f"rules failed: {book.failures} in {run.setup}")
    at = run.setup.at if run.setup.fault else 10**9
    since = [a for a in alerts if a.step > at]
    raw, spikes = early_stops(run), spike_steps(run.losses)
    stops = early_stops(run, at)
    ends, between, again = None, [], None
    if run.setup.again < 10**9:
        recovered = recovery(run)
        ends = windows_to_end(ended, len(book.standing) > 0, run, recovered)
        between = [a for a in alerts if recovered < a.step <= run.setup.again]
        again = next((a for a in alerts if a.step > run.setup.again), None)
    return Judged(
        run.setup, run.classes, since[0] if since else None, [a for a in alerts if a.step <= at],
        next((s for s in stops if s > at), None), next((s for s in raw if s > at), None), any(s <= at for s in raw),
        next((s for s in spikes if s > at), None), any(s <= at for s in spikes),
        alert_verdicts.judged(run), spent(run, alerts), ends, again, between,
    )  # fmt: skip


def spent(run: Run, alerts: list[Alert]) -> tuple[int, int, int]:
    """Windows since the loss was below 1e-4, those of them that are separated, and alerts in them."""
    losses = [statistics.fmean(run.losses[WINDOW * i : WINDOW * (i + 1)]) for i in range(len(run.records))]
    start = next((i for i, loss in enumerate(losses) if loss < 1e-4), None)
    if start is None:
        return (0, 0, 0)
    late = run.records[start:]
    separated = sum(record.regime.name == "separated" for record in late)
    return len(late), separated, sum(a.step >= late[0].step for a in alerts)


def recovery(run: Run) -> int:
    """End of the first window since the fault ended in which accuracy on data of its own is back."""
    s = run.setup
    was = np.mean([h.accuracy for h in run.held if h.step <= s.at][-5:])
    return next((h.step for h in run.held if h.step > s.until and h.accuracy >= 0.95 * was), s.again)


def windows_to_end(ended: list[Ended], standing: bool, run: Run, recovered: int) -> float:
    """From recovery to the end of the last alert that the first fault raised."""
    last = [e.step for e in ended if e.since <= recovered]
    late = [e for e in ended if e.since <= recovered and e.step > run.setup.again]
    if late or (not last and standing):
        return float("inf")
    return max(0, (max(last, default=0) - recovered) / WINDOW)


def delay(alert_step: int, at: int) -> int:
    """Log steps from the fault to the alert; 1 for the first log step after it."""
    return -(-(alert_step - at) // WINDOW)


def fault_row(fault: str, found: list[Judged]) -> list[str]:
    """One line of the table of faults."""
    n = len(found)
    seen = [j for j in found if j.first]
    right = [j for j in seen if j.first and j.first.rule in RIGHT[fault]]
    exact = [j for j in right if j.first and (not j.classes or set(j.first.classes) == set(j.classes))]
    delays = [delay(j.first.step, j.setup.at) for j in seen if j.first]
    stopped = [j for j in found if j.early_stopping]
    earlier = [j for j in stopped if j.first and j.early_stopping and j.first.step < j.early_stopping]
    spiked = sum(j.spike is not None for j in found)
    rules = Counter(j.first.rule for j in seen if j.first)
    return [
        fault, f"{len(seen)}/{n}", f"{len(right)}/{n}", f"{len(exact)}/{n}",
        f"{statistics.median(delays):g}" if delays else "–", f"{max(delays)}" if delays else "–",
        f"{len(stopped)}/{n}", f"{len(earlier)}/{len(stopped)}", f"{spiked}/{n}",
        ", ".join(f"{r} {c}" for r, c in rules.most_common()),
    ]  # fmt: skip


def total_row(found: list[Judged]) -> list[str]:
    """The line of all faults together."""
    rows = [[int(part) for cell in row[1:4] for part in cell.split("/")[:1]] for row in (
        fault_row(fault, [j for j in found if j.setup.fault == fault]) for fault in FAULTS
    )]  # fmt: skip
    n = len(found)
    delays = [delay(j.first.step, j.setup.at) for j in found if j.first]
    stopped = [j for j in found if j.early_stopping]
    earlier = [j for j in stopped if j.first and j.early_stopping and j.first.step < j.early_stopping]
    sums = [f"{sum(column)}/{n} ({sum(column) / n:.0%})" for column in zip(*rows, strict=True)]
    return [
        "all", *sums, f"{statistics.median(delays):g}", f"{max(delays)}", f"{len(stopped)}/{n}",
        f"{len(earlier)}/{len(stopped)}", f"{sum(j.spike is not None for j in found)}/{n}", "",
    ]  # fmt: skip


def fault_table(faults: Iterable[str], found: list[Judged]) -> list[str]:
    """Of some faults."""
    head = [
        "fault", "detected", "right rule", "and classes", "median delay", "longest", "EarlyStopping sees it",
        "alert is earlier", "SpikeDetection sees it", "rules",
    ]  # fmt: skip
    rows = [fault_row(fault, [j for j in found if j.setup.fault == fault]) for fault in faults]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def false_alarms(what: str, found: list[Judged]) -> list[str]:
    """How many trainings had one, and which."""
    bad = [j for j in found if j.false]
    lines = [f"{what}: {len(found)} trainings, {len(bad)} with an alarm."]
    return lines + [f"- false alarm: {describe(j.false[0])} In {j.setup}" for j in bad]


def ending_table(found: list[Judged]) -> list[str]:
    """Whether alerts end, and whether the next fault is told."""
    lines = ["| fault | told | over within 6 windows of recovery | longest | alerts in between | second fault told |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for fault in ENDING:
        some = [j for j in found if j.setup.fault == fault]
        told = [j for j in some if j.first and j.first.step <= j.setup.until + 2 * WINDOW]
        over = [j.ends for j in told if j.ends is not None]
        cells = [
            f"{len(told)}/{len(some)}", f"{sum(e <= 6 for e in over)}/{len(over)}", f"{max(over, default=0):g}",
            f"{sum(len(j.between) for j in some)}", f"{sum(j.again is not None for j in some)}/{len(some)}",
        ]  # fmt: skip
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    return lines


def report(found: dict[str, list[Judged]]) -> str:
    """All tables."""
    present, well = found["present"], found["healthy"]
    kinds = [*found["kinds"], *found["unseen"]]
    lines = ["## Faults of the first benchmark", "", *fault_table(FAULTS, present)]
    if all(any(j.setup.fault == fault for j in present) for fault in FAULTS):
        lines.append("| " + " | ".join(total_row(present)) + " |")
    lines += ["", "## Faults with a lasting effect", "", *fault_table(LASTING, found["lasting"])]
    lines += ["", "## Faults that class statistics hardly see", "", *fault_table(FAINT, found["lasting"])]
    lines += ["", "## Healthy trainings", ""]
    lines += false_alarms("Mixed settings", well)
    lines += false_alarms(f"{len(HEALTHY) - len(UNSEEN)} kinds, other seeds", found["kinds"])
    lines += false_alarms(f"{len(UNSEEN)} kinds that were never looked at ({', '.join(UNSEEN)})", found["unseen"])
    lines += false_alarms("Before a fault", [*present, *found["lasting"], *found["ending"]])
    lines.append(
        f"EarlyStopping stops {sum(j.early_false for j in [*well, *kinds])} of the {len(well) + len(kinds)} healthy"
        f" trainings, SpikeDetection {sum(j.spike_false for j in [*well, *kinds])}."
    )
    for j in well:
        if j.setup.steps > 20_000:
            windows, separated, alarms = j.spent
            lines.append(
                f"- {j.setup.schedule}, {j.setup.steps} steps: loss below 1e-4 in {windows} windows, separated in"
                f" {separated} of them, alarms in them: {alarms}"
            )
    lines += ["", "## Faults that end, and return 50 windows later", "", *ending_table(found["ending"])]
    lines += ["", "## Verdicts", "", "Healthy kinds:", ""]
    lines += alert_verdicts.table(by_kind(kinds))
    lines += ["", "Kinds that were never looked at:", "", *alert_verdicts.table(by_kind(found["unseen"]))]
    faults = [*present, *found["lasting"], *found["ending"]]
    lines += [
        "",
        "Trainings with faults, each window judged by its later course, in a copy of the run in which a fault neither"
        " began nor ended after it:",
        "",
        *alert_verdicts.table(by_kind(faults)),
    ]
    return "\n".join(lines)


def by_kind(found: list[Judged]) -> dict[str, Verdicts]:
    """The verdicts of each kind or fault."""
    grouped: dict[str, Verdicts] = defaultdict(Verdicts)
    for j in found:
        key = j.setup.fault or j.setup.kind
        grouped[key] = grouped[key] + j.verdicts
    return grouped


def jobs_of(arguments: argparse.Namespace) -> list[tuple[str, str, Setup]]:
    """Group, name and setup of each training, in rounds: a part of them is a fair choice."""
    first = arguments.first
    seeds, kind_seeds = range(first, first + arguments.seeds), range(first, first + arguments.kinds)
    jobs = [("present", f"{fault}-{s}", faulty(fault, s)) for fault in FAULTS for s in seeds]
    jobs += [("healthy", f"healthy-{s}", healthy(s)) for s in range(first, first + arguments.healthy)]
    jobs += [("lasting", f"lasting-{f}-{s}", lasting_fault(f, s)) for f in (*LASTING, *FAINT) for s in seeds]
    jobs += [("ending", f"ending-{f}-{s}", ending_fault(f, s)) for f in ENDING for s in kind_seeds]
    jobs += [
        ("unseen" if kind in UNSEEN else "kinds", f"kind-{kind}-{s}", healthy_kind(kind, s))
        for kind in HEALTHY
        for s in (seeds if kind in UNSEEN else kind_seeds)
    ]
    chosen = [job for job in jobs if not arguments.only or any(part in job[1] for part in arguments.only)]
    return sorted(chosen, key=lambda job: (_round(job, first), job[2].steps))


def _round(job: tuple[str, str, Setup], first: int) -> float:
    """One seed of each comes first, and ten mixed settings with it; very long trainings come last."""
    group, _, setup = job
    turn = setup.seed - first
    return 1000 if setup.steps > 10_000 else turn // 10 if group == "healthy" else turn


def one(cache: Path | None, job: tuple[str, str, Setup]) -> tuple[str, Judged]:
    """Train and judge."""
    torch.set_num_threads(1)
    for name in ("lightning", "lightning.pytorch", "le_callback"):
        logging.getLogger(name).setLevel(logging.ERROR)
    group, name, setup = job
    return group, judge(recorded(setup, name, cache))


def main() -> None:
    """Train what is missing, judge all, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--seeds", type=int, default=10, help="of each fault, and of each kind never looked at")
    parser.add_argument("--healthy", type=int, default=100, help="healthy trainings of mixed settings")
    parser.add_argument("--kinds", type=int, default=5, help="seeds of each other healthy kind, and of faults that end")
    parser.add_argument("--only", nargs="*", default=[], help="trainings whose name holds one of these")
    parser.add_argument("--cache", type=Path, default=None, help="folder of the recorded trainings")
    parser.add_argument("--recorded", action="store_true", help="only what the cache holds already")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/alerts.md")
    arguments = parser.parse_args()
    found: dict[str, list[Judged]] = defaultdict(list)
    jobs = named = jobs_of(arguments)
    if arguments.recorded:
        jobs = [job for job in named if arguments.cache and (arguments.cache / f"{job[1]}.pkl").exists()]
    with get_context("spawn").Pool(arguments.workers) as pool:
        done = pool.imap_unordered(partial(one, arguments.cache), jobs)
        for group, result in tqdm(done, total=len(jobs), mininterval=10):
            found[group].append(result)
    shown = ["FOLDER" if argument == str(arguments.cache) else argument for argument in sys.argv]
    made = f"`python {shlex.join(shown)}`, {datetime.date.today()}: {len(jobs)} trainings"
    if len(jobs) < len(named):
        made += f". The table is partial: {len(named)} trainings are named, the others were not recorded"
    text = f"{made}\n\n{report(found)}"
    print(text)
    if arguments.write:
        (Path(__file__).parent / "results" / "alerts.md").write_text(f"# Alerts and verdicts\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
