"""Do the classifier's weights give directions that imitate the features? Mean RD by model in results/directions.md.

    python benchmarks/directions.py

Four short trainings. The class means of the penultimate features are imitated from the first reading at which their
spread has reached 5 % of the final one, by the I-model and by the direction model d_k = w_k − w̄ with the weights then
or at the end. Everything is fitted to the trajectory that it imitates.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import torch
from forecast_runs import Run, train
from tqdm import tqdm

from le_callback import DirectionModel, IModel
from le_callback.simulation import fit_class_strengths, project_integrals, relative_difference, simulate_ode

RESULTS = Path(__file__).parent / "results" / "directions.md"
RUNS = [Run("geomnist", 0.025, seed, 3000) for seed in (0, 1)] + [Run("digits", 0.05, seed, 3000) for seed in (0, 1)]
BEGIN = 0.05  # of the final distance of the class means from their centre
WINDOW = 12  # readings


def imitations(x, t, first, last):
    """Name, model of the seminorm and simulated path of each way to imitate x (T, K, p)."""
    yield "I, projection", IModel(), simulate_ode(x[0], project_integrals(x, t, model=IModel()), IModel(), t)
    for name, model in (
        ("I", IModel()),
        ("directions of the weights at the start", DirectionModel.from_classifier(first)),
        ("directions of the weights at the end", DirectionModel.from_classifier(last)),
    ):
        for kind, shared in (("one α", True), ("class-wise", False)):
            strengths = fit_class_strengths(x, t, model=model, window=WINDOW, shared=shared)
            yield f"{name}, {kind}", model, simulate_ode(x[0], strengths, model, t)


def main():
    """Train, imitate, write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lines = [
        "# Imitation of penultimate features by the directions of the classifier",
        "",
        f"`python benchmarks/directions.py` · {datetime.date.today()}",
        "",
        "Mean of RD (paper, eq. 20) over classes and later readings, in the seminorm of the model's H and in the full",
        f"norm. All but the projection are fitted by shooting in windows of {WINDOW} readings.",
        "",
        "| training | from step | model | RD, H | RD, full |",
        "|---|---|---|---|---|",
    ]
    for run in tqdm(RUNS):
        weights = []
        source = train(run, weights).sources["probe_features"]
        spread = (source.means - source.means.mean(1, keepdims=True)).std((1, 2))
        begin = int((spread >= BEGIN * spread[-1]).argmax())
        x, t = source.means[begin:].astype(float), source.times[begin:]
        for name, model, path in imitations(x, t, weights[begin], weights[-1]):
            scores = [float(relative_difference(x, path, m)[1:].mean()) for m in (model, None)]
            lines.append(f"| {run.name} | {t[0]:g} | {name} | {scores[0]:.3f} | {scores[1]:.3f} |")
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
