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
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import TQDMProgressBar
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from geomnist import GeoMNIST, PaperNet

from le_callback import LECallback

RATIOS = (0.0, 0.15, 0.3, 0.45, 0.6, 2 / 3, 0.8, 1.0)
NO_GROWTH = 1.5  # where the figure puts an index that is larger or infinite
RESULTS = HERE / "results"


class Classifier(LightningModule):
    """The paper's network and optimizer."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.net, self.lr = PaperNet(), lr

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def run(ratio: float, seed: int = 0, steps: int = 10_000, lr: float = 0.005, per_class: int = 4000) -> dict[str, float]:
    """Train once and return what the callback measured at the end."""
    seed_everything(seed, verbose=False)
    data = GeoMNIST(per_class=per_class, seed=seed, corrupt=ratio)
    callback = LECallback(probe=data, every_n_steps=min(100, steps), figures=False, summary=False)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        callbacks=[callback, TQDMProgressBar(refresh_rate=100)],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    model = Classifier(lr)
    trainer.fit(model, DataLoader(data, batch_size=1, shuffle=True))
    clean = GeoMNIST(per_class=200, seed=1_000 + seed)
    model.eval()
    with torch.no_grad():
        accuracy = (model(clean.images).argmax(1) == clean.labels).double().mean().item()
    assert callback.last_record is not None
    measured = callback.last_record.coefficients["I_probe_logits"]
    return {
        "ratio": ratio,
        "seed": seed,
        "steps": trainer.global_step,
        "tail_A": measured.tail_A,
        "tail_gamma": measured.tail_gamma,
        "gap": measured.amplitude_difference,
        "accuracy": accuracy,
    }


def draw(rows: list[dict[str, float]]) -> Figure:
    """Tail index and accuracy over the ratio: the first run as a line, all runs as dots."""
    figure = Figure(figsize=(9.5, 3.8), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = (
        (left, "tail_gamma", "tail index of γ", "#009e73"),
        (left, "tail_A", "tail index of A", "#0072b2"),
        (right, "accuracy", "accuracy on clean images", "#d55e00"),
    )
    for axes, key, label, colour in curves:
        first = [row for row in rows if row["seed"] == 0]
        values = [min(r[key], NO_GROWTH) for r in first]
        axes.plot([r["ratio"] for r in first], values, "-", color=colour, label=f"{label}, one run")
        axes.plot(
            [r["ratio"] for r in rows], [min(r[key], NO_GROWTH) for r in rows], "o", ms=4, color=colour, alpha=0.5
        )
    left.axhline(1, color="0.4", lw=1)
    left.text(0.01, 0.99, "separable below 1", color="0.4", fontsize=8, va="top")
    left.axhline(NO_GROWTH, color="0.8", lw=1)
    left.text(0.01, NO_GROWTH - 0.035, f"{NO_GROWTH} or above (∞: no growth)", color="0.4", fontsize=8)
    left.set_ylabel("tail index at step 10,000")
    right.axhline(1 / 3, color="0.4", lw=1)
    right.text(0.01, 1 / 3 + 0.01, "chance", color="0.4", fontsize=8)
    right.set_ylabel("accuracy")
    for axes in (left, right):
        axes.axvline(2 / 3, color="0.7", ls=":", lw=1)
        axes.set_xlabel("share of corrupted labels (dotted: 2/3, pure noise)")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.9))
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(
        "GeoMNIST, batch 1, learning rate 0.005, I-model on the logits of the probe; dots: other seeds", fontsize=10
    )
    return figure


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Train the runs that are missing, write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--per-class", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    arguments.results.mkdir(parents=True, exist_ok=True)
    table = arguments.results / "phase_transition.json"
    rows = [] if arguments.fresh or not table.exists() else json.loads(table.read_text())
    known = {(row["seed"], row["ratio"]) for row in rows}
    wanted = [(seed, ratio) for seed in range(arguments.seeds) for ratio in arguments.ratios]
    for i, (seed, ratio) in enumerate(wanted, start=1):
        if (seed, ratio) not in known:
            print(f"[{i}/{len(wanted)}] corrupted labels: {ratio:.0%}, seed {seed}")
            rows.append(run(ratio, seed, arguments.steps, per_class=arguments.per_class))
            rows.sort(key=lambda row: (row["seed"], row["ratio"]))
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
