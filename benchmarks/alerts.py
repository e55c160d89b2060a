"""Alerts on trainings with injected faults and on healthy ones, beside two alarms of Lightning on the same runs.

    python benchmarks/alerts.py [--seeds 10] [--first 1000] [--healthy 120] [--cache runs/alerts] [--write]

Trainings are recorded under ``--cache`` and not repeated; the rules are then asked on the records with their default
settings. Delays are in log steps (windows of 50 optimizer steps).
"""

from __future__ import annotations

import argparse
import pickle
import statistics
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import torch
from alert_runs import FAULTS, VALIDATE, WINDOW, Run, Setup, faulty, healthy, train
from le_callback.regime import is_converged
from lightning.pytorch.callbacks import EarlyStopping
from tqdm import tqdm

from le_callback.alerts import Alert, AlertBook, describe

RIGHT = {
    "corrupt_0.4": {"SeparabilityLost", "ElasticityLost"},
    "corrupt_0.7": {"SeparabilityLost", "ElasticityLost"},
    "corrupt_1.0": {"SeparabilityLost", "ElasticityLost"},
    "pair_mixed": {"PairMerging"},
    "rate_x100": {"SeparabilityLost", "FeatureCollapse", "NonFinite", "ElasticityLost"},
    "dead_relu": {"FeatureCollapse"},
    "class_dropped": {"ClassVanished"},
    "scale_to_zero": {"FeatureCollapse"},
    "nan_batch": {"NonFinite"},
}


@dataclass(frozen=True)
class Judged:
    """What each alarm said of a run: the first alert since the fault, all before it, first steps of the others."""

    run: Run
    first: Alert | None
    false: list[Alert]
    early_stopping: int | None  # first stop whose bad validations all lie after the fault
    early_raw: int | None  # first stop after the fault
    early_false: bool
    spike: int | None
    spike_false: bool


def recorded(setup: Setup, name: str, cache: Path) -> Run:
    """The training from the cache, or trained now."""
    path = cache / f"{name}.pkl"
    if path.exists():
        run: Run = pickle.loads(path.read_bytes())
        if run.setup == setup:
            return run
    run = train(setup)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(run))
    return run


def judge(run: Run) -> Judged:
    """Ask the rules and Lightning's alarms, each on what it would have seen."""
    book = AlertBook()
    alerts = [alert for record in run.records for alert in book.add(record)]
    at = run.setup.at if run.setup.fault else 10**9
    since = [a for a in alerts if a.step > at]
    raw, spikes = early_stops(run), spike_steps(run.losses)
    stops = early_stops(run, at)
    return Judged(
        run, since[0] if since else None, [a for a in alerts if a.step <= at],
        next((s for s in stops if s > at), None), next((s for s in raw if s > at), None), any(s <= at for s in raw),
        next((s for s in spikes if s > at), None), any(s <= at for s in spikes),
    )  # fmt: skip


def early_stops(run: Run, since: int = 10**9) -> list[int]:
    """Steps at which Lightning's ``EarlyStopping`` on the validation loss, patience 3, would stop; it then goes on.

    Its patience starts anew at step ``since``.
    """
    callback, stops = EarlyStopping("val_loss", patience=3), []
    for step, loss in run.validation:
        if step - VALIDATE <= since < step:
            callback.wait_count = 0
        stop, _ = callback._evaluate_stopping_criteria(torch.tensor(loss))
        if stop:
            stops.append(step)
            callback.wait_count = 0
    return stops


def spike_steps(losses: list[float]) -> list[int]:
    """Steps at which Lightning's ``SpikeDetection`` with its defaults would raise.

    A loss that is not finite, or worse than the one before and off the mean of the last 10 by at least twice that mean.
    """
    recent: deque[float] = deque(maxlen=10)
    last, found = 0.0, []
    for i, loss in enumerate(losses):
        mean = statistics.fmean(recent) if recent else 0.0
        finite = abs(loss) < float("inf")
        if i >= 1 and (not finite or (loss > last and abs(loss - mean) >= abs(2 * mean))):
            found.append(i + 1)
        elif finite:
            recent.append(loss)
            last = loss
    return found


def delay(alert_step: int, at: int) -> int:
    """Log steps from the fault to the alert; 1 for the first log step after it."""
    return -(-(alert_step - at) // WINDOW)


def fault_row(fault: str, found: list[Judged]) -> list[str]:
    """One line of the table of faults."""
    n = len(found)
    seen = [j for j in found if j.first]
    right = [j for j in seen if j.first and j.first.rule in RIGHT[fault]]
    exact = [j for j in right if j.first and (not j.run.classes or j.first.classes == j.run.classes)]
    delays = [delay(j.first.step, j.run.setup.at) for j in seen if j.first]
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
        fault_row(fault, [j for j in found if j.run.setup.fault == fault]) for fault in FAULTS
    )]  # fmt: skip
    n = len(found)
    delays = [delay(j.first.step, j.run.setup.at) for j in found if j.first]
    stopped = [j for j in found if j.early_stopping]
    earlier = [j for j in stopped if j.first and j.early_stopping and j.first.step < j.early_stopping]
    sums = [f"{sum(column)}/{n} ({sum(column) / n:.0%})" for column in zip(*rows, strict=True)]
    return [
        "all", *sums, f"{statistics.median(delays):g}", f"{max(delays)}", f"{len(stopped)}/{n}",
        f"{len(earlier)}/{len(stopped)}", f"{sum(j.spike is not None for j in found)}/{n}", "",
    ]  # fmt: skip


def report(faults: list[Judged], well: list[Judged]) -> str:
    """Both tables."""
    head = [
        "fault", "detected", "right rule", "and classes", "median delay", "longest", "EarlyStopping sees it",
        "alert is earlier", "SpikeDetection sees it", "rules",
    ]  # fmt: skip
    rows = [fault_row(fault, [j for j in faults if j.run.setup.fault == fault]) for fault in FAULTS]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows, total_row(faults))]
    false = [j for j in [*well, *faults] if j.false]
    lines += [
        "",
        f"Healthy trainings: {len(well)}; with an alarm: {sum(bool(j.false) for j in well)}; EarlyStopping stops "
        f"{sum(j.early_false for j in well)}, SpikeDetection {sum(j.spike_false for j in well)}. "
        f"Before the fault, of {len(faults)} trainings: {sum(bool(j.false) for j in faults)} with an alarm, "
        f"EarlyStopping {sum(j.early_false for j in faults)}, SpikeDetection {sum(j.spike_false for j in faults)}.",
    ]
    for j in false:
        lines.append(f"- false alarm: {describe(j.false[0])} In {j.run.setup}")
    for j in well:
        spent = [
            i for i in range(len(j.run.records)) if statistics.fmean(j.run.losses[WINDOW * i : WINDOW * (i + 1)]) < 1e-4
        ]
        if j.run.setup.steps > 20_000 and spent:
            late = j.run.records[spent[0] :]
            lines.append(
                f"- {j.run.setup.schedule}, {j.run.setup.steps} steps: loss below 1e-4 from step {late[0].step} on;"
                f" converged in {sum(map(is_converged, late))} of {len(late)} windows since;"
                f" alarms since: {sum(a.step >= late[0].step for a in j.false)}"
            )
    raw = [j for j in faults if j.early_raw]
    before = sum(bool(j.first and j.early_raw and j.first.step < j.early_raw) for j in raw)
    lines.append(
        "EarlyStopping sees a fault where it stops after it and all three bad validations lie after it, too. If those"
        f" from before count as well, it stops after {len(raw)} faults, and the alert is earlier in {before}."
    )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, judge all, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--healthy", type=int, default=120)
    parser.add_argument("--cache", type=Path, default=Path("runs/alerts"))
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/alerts.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    jobs = [(f"{fault}-{seed}", faulty(fault, seed)) for fault in FAULTS for seed in seeds]
    jobs += [(f"healthy-{s}", healthy(s)) for s in range(arguments.first, arguments.first + arguments.healthy)]
    faults: list[Judged] = []
    well: list[Judged] = []
    for name, setup in tqdm(jobs, mininterval=10):
        (faults if setup.fault else well).append(judge(recorded(setup, name, arguments.cache)))
    text = report(faults, well)
    print(text)
    if arguments.write:
        (Path(__file__).parent / "results" / "alerts.md").write_text(f"# Alerts\n\n{__doc__}\n{text}\n")


if __name__ == "__main__":
    main()
