"""Phase transition of the tail index with label corruption, from one run for each ratio, live through the callback.

    python examples/paper/phase_transition.py            # trains what is missing, then draws
    python examples/paper/phase_transition.py --fresh    # trains everything again

GeoMNIST, 4,000 images a class, the paper's network, batch 1, SGD with learning rate 0.005, 10,000 steps. The probe is
the training set under the labels that training uses, read every 100 steps. The paper averages 100 runs a ratio; here
each ratio is run once, and again with other data and weights to show how much one run can be trusted.

With 500 images a class the labels that are pure noise at 2/3 still correlate by chance with size and brightness, and
seven epochs learn that: with fewer images than steps the index stays below 1 there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from experiments import Classifier, Report, quiet_trainer
from geomnist import GeoMNIST, PaperNet
from jobs import Job, run_jobs

from le_callback import LECallback

LEARNING_RATE = 0.005
RATIOS = (0.0, 0.15, 0.3, 0.45, 0.6, 2 / 3, 0.8, 1.0)
NO_GROWTH = 1.5  # where the figure puts an index that is larger or infinite
RESULTS = HERE / "results"


def run(ratio: float, seed: int, steps: int, per_class: int, report: Report) -> dict[str, float]:
    """Train once and return what the callback measured at the end."""
    torch.set_num_threads(1)
    seed_everything(seed, verbose=False)
    data = GeoMNIST(per_class=per_class, seed=seed, corrupt=ratio)
    callback = LECallback(probe=data, every_n_steps=min(100, steps), figures=False, summary=False)
    trainer = quiet_trainer(callback, steps, report)
    model = Classifier(PaperNet(), LEARNING_RATE)
    trainer.fit(model, DataLoader(data, batch_size=1, shuffle=True))
    clean = GeoMNIST(per_class=200, seed=1_000 + seed)
    loss_train, _ = evaluate(model, data)
    loss_clean, accuracy = evaluate(model, clean)
    assert callback.last_record is not None
    measured = callback.last_record.coefficients["I_probe_logits"]
    return {
        "ratio": ratio,
        "seed": seed,
        "steps": trainer.global_step,
        "tail_A": measured.tail_A.value,
        "tail_gamma": measured.tail_gamma.value,
        "gap": measured.amplitude_difference,
        "accuracy": accuracy,
        "loss_train": loss_train,
        "loss_clean": loss_clean,
    }


def evaluate(model: nn.Module, data: GeoMNIST) -> tuple[float, float]:
    """Cross entropy and accuracy under the labels of ``data``."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(images) for images in torch.split(data.images, 1000)])
    loss = nn.functional.cross_entropy(logits, data.labels).item()
    return loss, (logits.argmax(1) == data.labels).double().mean().item()


def draw(rows: list[dict[str, float]]) -> Figure:
    """Tail indices, accuracy and loss over the ratio: means of the seeds as lines, every run as a dot."""
    steps = int(max(row["steps"] for row in rows))
    figure = Figure(figsize=(14, 4.2), dpi=100, layout="constrained")
    index, accuracy, loss = figure.subplots(1, 3)
    _curve(index, rows, "tail_gamma", "γ", "#009e73")
    _curve(index, rows, "tail_A", "A", "#0072b2")
    _curve(accuracy, rows, "accuracy", "clean images", "#d55e00")
    _curve(loss, rows, "loss_train", "training images and their labels", "#0072b2")
    _curve(loss, rows, "loss_clean", "clean images", "#d55e00")
    index.axhline(1, color="0.4", lw=1)
    index.text(0.01, 0.99, "separable below 1", color="0.4", fontsize=8, va="top")
    index.axhline(NO_GROWTH, color="0.8", lw=1)
    index.text(0.01, NO_GROWTH - 0.035, f"{NO_GROWTH} or above (∞: no growth)", color="0.4", fontsize=8)
    index.set(title="Tail index", ylabel=f"tail index at step {steps:,}")
    accuracy.axhline(1 / 3, color="0.4", lw=1)
    accuracy.text(0.01, 1 / 3 + 0.01, "chance", color="0.4", fontsize=8)
    accuracy.set(title="Accuracy", ylabel="share classified right")
    loss.axhline(math.log(3), color="0.4", lw=1)
    loss.text(0.01, math.log(3) + 0.02, "log 3: knows nothing", color="0.4", fontsize=8)
    loss.set(title="Loss", ylabel="cross entropy (nats)")
    for axes in (index, accuracy, loss):
        axes.axvline(2 / 3, color="0.7", ls=":", lw=1)
        axes.set_xlim(-0.04, 1.04)
        axes.set_xlabel("share of corrupted labels (dotted: 2/3, pure noise)")
        axes.spines[["top", "right"]].set_visible(False)
    index.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.9), title="of")
    accuracy.legend(frameon=False, fontsize=8)
    loss.legend(frameon=False, fontsize=8, loc="lower right")
    figure.suptitle(
        "GeoMNIST, batch 1, learning rate 0.005, I-model on the logits of the probe. "
        "Dots: single trainings; lines and bands: their mean and range",
        fontsize=10,
    )
    return figure


def _curve(axes: Axes, rows: list[dict[str, float]], key: str, label: str, colour: str) -> None:
    by_ratio: dict[float, list[float]] = {}
    for row in rows:
        if key in row:
            by_ratio.setdefault(row["ratio"], []).append(min(row[key], NO_GROWTH) if "tail" in key else row[key])
    ratios = sorted(by_ratio)
    for ratio in ratios:
        axes.plot([ratio] * len(by_ratio[ratio]), by_ratio[ratio], "o", ms=4, color=colour, alpha=0.5)
    axes.plot(ratios, [sum(by_ratio[r]) / len(by_ratio[r]) for r in ratios], "-", color=colour, label=label)
    axes.fill_between(
        ratios, [min(by_ratio[r]) for r in ratios], [max(by_ratio[r]) for r in ratios], color=colour, alpha=0.15, lw=0
    )


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Train the runs that are missing, write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--per-class", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    arguments.results.mkdir(parents=True, exist_ok=True)
    table = arguments.results / "phase_transition.json"
    rows = [] if arguments.fresh or not table.exists() else json.loads(table.read_text())
    known = {(row["seed"], row["ratio"]) for row in rows if "loss_train" in row}
    wanted = [
        (ratio, seed) for seed in range(arguments.seeds) for ratio in arguments.ratios if (seed, ratio) not in known
    ]
    jobs = [
        Job(
            f"{ratio:.0%} corrupted, seed {seed}",
            run,
            (ratio, seed, arguments.steps, arguments.per_class),
            arguments.steps,
        )
        for ratio, seed in wanted
    ]
    for row in run_jobs(jobs, arguments.processes):
        rows = [r for r in rows if (r["seed"], r["ratio"]) != (row["seed"], row["ratio"])]
        rows = sorted([*rows, row], key=lambda r: (r["seed"], r["ratio"]))
        table.write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows).savefig(arguments.results / "phase_transition.png")
    print("seed  corrupted  tail index A  tail index γ  accuracy")
    for row in rows:
        print(
            f"{row['seed']:4d}  {row['ratio']:9.2f}  {row['tail_A']:12.3f}  {row['tail_gamma']:12.3f}"
            f"  {row['accuracy']:8.3f}"
        )
    return rows


if __name__ == "__main__":
    main()
