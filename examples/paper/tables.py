"""Our numbers beside the paper's claims, as Markdown."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from analysis import METHODS, Analysed, analyse_average
from experiments import Experiment

from le_callback import etf_angles

Results = list[tuple[Experiment, list[Analysed]]]

INTRODUCTION = """# The paper's experiments, reproduced

Source: Zhang, Wang, Su, "Imitating Deep Learning Dynamics via Locally Elastic Stochastic Differential Equations",
NeurIPS 2021. The paper averages 100 trainings of each experiment; `--runs n` averages n. Written by

    {command}

Made with {runs} training(s) of each experiment. GeoMNIST is drawn anew (rectangles, ellipses, triangles), with the
paper's network of two convolutions and three dense layers; CIFAR-10 uses a narrow AlexNet-like network (three
convolutions with 16, 32, 64 channels, three dense layers). SGD without momentum, cross entropy. Class means are those
of a probe of {probe} training images a class, read every {every} steps in evaluation mode. The L-model and the
I-model act on the logits.
"""


def report(results: Results, phase: list[dict[str, float]], command: str, runs: int) -> str:
    """The whole file."""
    first = results[0][0]
    head = INTRODUCTION.format(command=command, runs=runs, probe=first.probe_per_class, every=first.probe_every)
    if phase:
        with_loss = sum("loss_train" in row for row in phase)
        head += (
            f"\nFigure 3 is `phase_transition.png`, from {len(phase)} trainings by `phase_transition.py`; the loss was "
            f"recorded in {with_loss} of them.\n"
        )
    parts = [head, _trainings(results), _claims(results, phase), _differences(results)]
    return (
        "\n".join(parts) + f"\nPython {platform.python_version()}, torch {results[0][1][0].run.about['torch']}, CPU.\n"
    )


def _trainings(results: Results) -> str:
    rows = [
        [
            f"{e.data}, K = {e.num_classes}",
            e.batch,
            f"{e.lr:g}",
            f"{e.steps:,}",
            "all" if not e.per_class else e.per_class,
            _mean([a.run.accuracy for a in analysed]),
            f"{analysed[0].times[0]:g}",
            f"{np.mean([a.run.about['seconds'] for a in analysed]):.0f} s",
        ]
        for e, analysed in results
    ]
    names = ["experiment", "batch", "learning rate", "steps", "images a class", "validation accuracy"]
    return "## Trainings\n\n" + _table([*names, "first identifiable step", "time of one training"], rows)


def _claims(results: Results, phase: list[dict[str, float]]) -> str:
    columns = ["the paper's claim", "measured here", *(_name(e) for e, _ in results)]

    def row(claim: str, what: str, cell: Callable[[list[Analysed]], str]) -> list[str]:
        return [claim, what, *(cell(analysed) for _, analysed in results)]

    def imitated(name: str) -> Callable[[list[Analysed]], str]:
        return lambda analysed: _mean([a.imitations[name].mean for a in analysed])

    rows = [
        row(
            "γ = ω(1/t), a tail index below 1, goes with separation (theorem)",
            "tail index of γ, I-model",
            lambda analysed: _mean([a.coefficients["I"].tail_index("gamma").index for a in analysed]),
        ),
        row("", "validation accuracy", lambda analysed: _mean([a.run.accuracy for a in analysed])),
        row(
            "γ > 0 and B < 0: the class means tend to an ETF (L-model, proposition)",
            "A − B at the end, L-model",
            lambda analysed: _mean([float(a.coefficients["L"].G[-1]) for a in analysed], 1),
        ),
        row("", "B at the end", lambda analysed: _mean([float(a.coefficients["L"].B[-1]) for a in analysed], 1)),
        row(
            "",
            "RMS deviation of the angles from the ETF at the end (for K = 2 always 0)",
            lambda analysed: _mean([_angle_deviation(a) for a in analysed], 1) + "°",
        ),
        row(
            "the LE-ODE with the estimated A, B imitates the training",
            "mean RD, L-model, projected",
            imitated("L, projected"),
        ),
        row("", "mean RD, L-model, an α of each class", imitated("L, class-wise")),
        row("", "mean RD, L-model, entrywise", imitated("L, entrywise (paper)")),
        row("", "mean RD, I-model, entrywise", imitated("I, entrywise (paper)")),
    ]
    text = "\n## The paper's claims and our numbers\n\n" + _table(columns, rows)
    if phase:
        by_ratio: dict[float, list[dict[str, float]]] = {}
        for found in phase:
            by_ratio.setdefault(found["ratio"], []).append(found)
        text += (
            "\nClaim: the tail index crosses 1 where labels are pure noise, at 2/3 for K = 3 (phase transition).\n"
            "GeoMNIST, batch 1, 4,000 images a class, each training:\n\n"
        )
        text += _table(
            ["share of corrupted labels", "tail index of γ", "tail index of A", "accuracy on clean images"],
            [
                [
                    f"{ratio:.2f}",
                    *(", ".join(f"{r[key]:.2f}" for r in of) for key in ("tail_gamma", "tail_A", "accuracy")),
                ]
                for ratio, of in sorted(by_ratio.items())
            ],
        )
    return text


def _name(e: Experiment) -> str:
    return f"{e.data}, K = {e.num_classes}, batch {e.batch}"


def _differences(results: Results) -> str:
    rows: list[list[Any]] = []
    for e, analysed in results:
        name = _name(e)
        rows.append([name, *_scores(analysed)])
        if len(analysed) > 1:
            rows.append([f"{name}; class means averaged over the trainings", *_scores([analyse_average(analysed)])])
    return (
        "\n## Mean relative difference (eq. 20) from the first identifiable step\n\n"
        "Mean over classes and later readings. For the L-model along the direction of the class, as in the paper, and\n"
        "in brackets in the full norm: the L-model says nothing on what is across that direction, so the two models\n"
        "have no common scale. A and B are fitted to the whole trajectory that is imitated; the LE-ODE runs from its\n"
        "first point alone. *Entrywise* averages the log of all entries, as the paper does; *modes* takes norms;\n"
        "*projected* the growth along the starting pattern of each mode. *Class-wise* gives each class its own α,\n"
        "fitted by shooting in windows of 12 readings: with K + 1 functions of time for K classes it is the full norm\n"
        "that says something.\n\n" + _table(["experiment", *METHODS], rows)
    )


def _scores(analysed: list[Analysed]) -> list[str]:
    cells = []
    for name in METHODS:
        own = _mean([a.imitations[name].mean for a in analysed])
        full = _mean([float(a.imitations[name].full[1:].mean()) for a in analysed])
        cells.append(own if name.startswith("I") else f"{own} ({full})")
    return cells


def _angle_deviation(a: Analysed) -> float:
    """Root mean square, in degrees, of the angles of the centred class means from arccos(−1/(K−1)), at the end."""
    centred = a.means[-1] - a.means[-1].mean(0)
    return etf_angles(torch.from_numpy(centred), range(len(centred))).deviation


def _mean(values: list[float], digits: int = 2) -> str:
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.{digits}f}"


def _table(names: list[str], rows: list[list[Any]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
