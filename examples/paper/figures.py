"""Figures 1, 2, 4 and 5 from analysed runs; figure 3 is in ``phase_transition.py``.

A row or column for each experiment. With one run, bands are confidence intervals or the range over classes; with more,
curves are means over the runs and bands one standard deviation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import cifar
import geomnist
from analysis import SMOOTHING, Analysed, centre_and_spread
from experiments import Experiment

COLOURS = ("#0072b2", "#d55e00", "#009e73")
DARK = ("#003a5c", "#6e3000", "#004f3a")  # the same, for what is simulated
GREY = "0.55"
RUNNING = 11  # readings that figure 5 is smoothed over
CLOUD = 150  # validation images of each class that are drawn

Results = list[tuple[Experiment, list[Analysed]]]
Floats = NDArray[np.float64]


def class_names(experiment: Experiment) -> tuple[str, ...]:
    """Of the classes that are used."""
    names = geomnist.CLASSES if experiment.data == "GeoMNIST" else cifar.CLASSES
    return names[: experiment.num_classes]


def separation(results: Results) -> Figure:
    """Figure 1: paths of the class means of the logits, and the same without their common part."""
    n = len(results)
    figure = Figure(figsize=(4.3 * n, 8.4), dpi=90, layout="constrained")
    for column, (experiment, analysed) in enumerate(results):
        runs = [a.run for a in analysed]
        names, K = class_names(experiment), experiment.num_classes
        upper: Any = figure.add_subplot(2, n, column + 1, projection="3d" if K == 3 else None)
        lower = figure.add_subplot(2, n, n + column + 1)
        mean = np.mean([run.means for run in runs], axis=0)
        for k in range(K):
            for run in runs if len(runs) > 1 else []:
                upper.plot(*run.means[:, k].T, color=COLOURS[k], lw=0.5, alpha=0.3)
            upper.plot(*mean[:, k].T, color=COLOURS[k], lw=1.8, label=names[k])
            upper.plot(*mean[-1:, k].T, "o", color=COLOURS[k], ms=6)
        upper.plot(*mean[:1].mean(1).T, "k*", ms=9, label="start")
        upper.set(xlabel=f"logit of {names[0]}", ylabel=f"logit of {names[1]}")
        if K == 3:
            upper.set_zlabel(f"logit of {names[2]}")
            upper.view_init(elev=25, azim=20)  # the paths lie about across (1, 1, 1)
            upper.set_box_aspect(None, zoom=0.85)
        upper.set_title(_title(experiment), fontsize=9)
        upper.legend(frameon=False, fontsize=8, loc="upper left" if K == 3 else "lower left")
        (_projected_plane if K == 3 else _projected_line)(lower, analysed, mean, names)
    figure.suptitle(
        "Separation of the class means of the logits while training (probe of training images; "
        f"{_runs(results)}).\nTop: all logits. Bottom: without the part that all logits share.",
        fontsize=11,
    )
    return figure


def _projected_plane(axes: Axes, analysed: list[Analysed], mean: NDArray[Any], names: tuple[str, ...]) -> None:
    """Onto the plane across (1, 1, 1), where the directions of the classes are 120° apart."""
    basis = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).T
    basis /= np.linalg.norm(basis, axis=0)
    run = analysed[0].run
    reach = float(np.quantile(np.linalg.norm(run.logits @ basis, axis=-1), 0.98))
    for k, name in enumerate(names):
        cloud = (run.logits[run.labels == k] @ basis)[:CLOUD]
        axes.plot(*cloud.T, ".", ms=4, color=COLOURS[k], alpha=0.25, mew=0)
        direction = basis[k] / np.linalg.norm(basis[k])
        axes.plot(*np.stack([0 * direction, reach * direction]).T, ":", color=GREY, lw=1)
        axes.plot(*(mean[:, k] @ basis).T, color=COLOURS[k], lw=1.8, label=name)
        axes.plot(*(mean[-1:, k] @ basis).T, "o", color=COLOURS[k], ms=7, mec="white")
    axes.set(xlabel="(z₁ − z₂)/√2", ylabel="(z₁ + z₂ − 2z₃)/√6", aspect="equal")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    _plain(axes)
    axes.set_title(
        f"dotted: directions of the classes; dots: validation images\nat the end, accuracy {run.accuracy:.3f}",
        fontsize=8,
    )


def _projected_line(axes: Axes, analysed: list[Analysed], mean: NDArray[Any], names: tuple[str, ...]) -> None:
    """Difference of both logits over time."""
    run = analysed[0].run
    for k, name in enumerate(names):
        paths = [(a.run.means[:, k, 0] - a.run.means[:, k, 1]) / np.sqrt(2) for a in analysed]
        _curve(axes, run.times, paths, COLOURS[k], name)
        cloud = ((run.logits[:, 0] - run.logits[:, 1]) / np.sqrt(2))[run.labels == k]
        low, high = np.quantile(cloud, [0.05, 0.95])
        axes.plot([run.times[-1] * 1.03] * 2, [low, high], color=COLOURS[k], lw=4, alpha=0.4, solid_capstyle="butt")
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set(xlabel="optimizer step", ylabel="(z₁ − z₂)/√2")
    _plain(axes)
    axes.set_title(f"bars: middle 90 % of the validation images at the end,\naccuracy {run.accuracy:.3f}", fontsize=8)


def coefficients(results: Results) -> Figure:
    """Figure 2: A, B and α, β of the I- and the L-model over time."""
    figure = Figure(figsize=(16, 2.9 * len(results) + 0.7), dpi=80, layout="constrained")
    grid: Any = figure.subplots(len(results), 4, squeeze=False)
    symbols = {"A": "A = ∫α, within a class", "B": "B = ∫β, between classes", "alpha": "α", "beta": "β"}
    for row, (experiment, analysed) in zip(grid, results, strict=True):
        for column, (model, pair) in enumerate((m, p) for m in "IL" for p in (("A", "B"), ("alpha", "beta"))):
            axes: Axes = row[column]
            found = [a.coefficients[model] for a in analysed]
            for key, colour in zip(pair, COLOURS, strict=False):
                curves = [getattr(c, key) for c in found]
                interval = getattr(found[0], f"{key}_interval").T if len(found) == 1 else None
                _curve(axes, found[0].times, curves, colour, symbols[key], interval)
            axes.axhline(0, color=GREY, lw=0.8)
            cumulative = pair[0] == "A"
            axes.set(
                xlabel="optimizer step",
                ylabel="A, B" if cumulative else "α, β per step",
                title=f"{model}-model: {'cumulative' if cumulative else 'rates'}",
            )
            _limit(axes, [getattr(c, key) for c in found for key in pair])
            axes.legend(frameon=False, fontsize=8)
            _plain(axes)
        row[0].annotate(
            _title(experiment),
            (-0.26, 0.5),
            xycoords="axes fraction",
            rotation=90,
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
    figure.suptitle(
        f"LE coefficients from the first identifiable step, by the two modes ({_runs(results)}; "
        f"band: {_band(results, '95 % interval')}; rates from local fits over {SMOOTHING} readings)",
        fontsize=11,
    )
    return figure


SIMULATED = ("I, entrywise (paper)", "L, projected", "L, class-wise")  # the rows of figure 4


def imitation(results: Results, names: tuple[str, ...] = SIMULATED) -> Figure:
    """Figure 4: class means of the logits, genuine and by the LE-ODE with the estimated A and B."""
    figure = Figure(figsize=(4.2 * len(results), 3.5 * len(names)), dpi=90, layout="constrained")
    grid: Any = figure.subplots(len(names), len(results), squeeze=False, sharex="col")
    for column, (experiment, analysed) in enumerate(results):
        classes = class_names(experiment)
        times, genuine = analysed[0].times, [a.means for a in analysed]
        for row, name in enumerate(names):
            axes: Axes = grid[row, column]
            paths = [a.imitations[name].path for a in analysed]
            for k, label in enumerate(classes):
                for j in range(len(classes)):
                    own = j == k
                    width, alpha = (1.8, 1.0) if own else (0.9, 0.55)
                    _curve(axes, times, [g[:, k, j] for g in genuine], COLOURS[k], label if own else "", width=width)
                    simulated = np.mean([p[:, k, j] for p in paths], axis=0)
                    axes.plot(times, simulated, "--", color=DARK[k], lw=width, alpha=alpha)
                    axes.set_xlim(float(times[0]), float(times[-1]))
            low, high = min(g.min() for g in genuine), max(g.max() for g in genuine)
            room = 0.35 * (high - low)
            axes.set_ylim(low - room, high + room)
            mean = np.mean([a.imitations[name].mean for a in analysed])
            heading = f"{name}: mean RD {mean:.2f}"
            axes.set_title(f"{_title(experiment)}\n{heading}" if row == 0 else heading, fontsize=9)
            axes.set_ylabel("class mean of a logit")
            axes.plot([], [], "k--", label="LE-ODE (darker)")
            _plain(axes)
        grid[-1, column].set_xlabel("optimizer step")
        grid[-1, column].legend(
            frameon=False,
            fontsize=8,
            title="mean over the images of",
            title_fontsize=8,
            ncols=4,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.18),
            handlelength=1.2,
            columnspacing=0.8,
        )
    figure.suptitle(
        "Genuine dynamics (colour) and the LE-ODE started once at the first identifiable step (dashed; "
        f"{_runs(results)})."
        "\nThick: the logit of the class itself; thin: the other logits.",
        fontsize=11,
    )
    return figure


def differences(results: Results) -> Figure:
    """Figure 5: relative difference over time by model."""
    shown = (
        ("I, entrywise (paper)", COLOURS[1]),
        ("L, entrywise (paper)", "#cc79a7"),
        ("L, modes", COLOURS[2]),
        ("L, projected", COLOURS[0]),
        ("L, class-wise", "#222222"),
    )
    figure = Figure(figsize=(4.2 * len(results), 4.8), dpi=90, layout="constrained")
    grid: Any = figure.subplots(1, len(results), squeeze=False, sharey=True)
    for axes, (experiment, analysed) in zip(grid[0], results, strict=True):
        for name, colour in shown:
            scores = [uniform_filter1d(a.imitations[name].difference, RUNNING, axis=0) for a in analysed]
            mean = np.mean([a.imitations[name].mean for a in analysed])
            spread = (scores[0].min(1), scores[0].max(1)) if len(scores) == 1 else None
            _curve(axes, analysed[0].times, [s.mean(1) for s in scores], colour, f"{name}: {mean:.2f}", spread)
        axes.set(xlabel="optimizer step", ylim=(0, 2))
        axes.set_title(_title(experiment), fontsize=9)
        axes.legend(
            frameon=False,
            fontsize=8,
            title="model: mean over time",
            title_fontsize=8,
            ncols=2,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
        )
        _plain(axes)
    grid[0, 0].set_ylabel("relative difference (0: equal, 2: opposite)")
    figure.suptitle(
        "Relative difference of genuine and simulated class means (eq. 20; for L along the direction of the class), "
        f"mean over the classes,\nrunning mean over {RUNNING} readings; {_runs(results)}; "
        f"band: {_band(results, 'range over the classes')}",
        fontsize=11,
    )
    return figure


def _curve(
    axes: Axes,
    times: Floats,
    curves: list[Any],
    colour: str,
    label: str,
    interval: Any = None,
    width: float = 1.5,
) -> tuple[Floats, Floats, Floats]:
    """Mean over runs with a band: ``interval`` if given, else one standard deviation where there are several runs."""
    mean, low, high = centre_and_spread(curves)
    if interval is not None:
        low, high = interval
    axes.plot(times, mean, color=colour, lw=width, label=label or None)
    if interval is not None or len(curves) > 1:
        axes.fill_between(times, low, high, color=colour, alpha=0.18, lw=0)
    return mean, low, high


def _limit(axes: Axes, curves: list[Any]) -> None:
    """Limits from most of the curves, as single intervals and the first rates may be very large."""
    low, high = np.nanquantile(np.concatenate(curves), [0.01, 0.99])
    low, high = min(low, 0.0), max(high, 0.0)
    room = 0.35 * max(high - low, 1e-12)
    axes.set_ylim(low - room, high + room)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _title(experiment: Experiment) -> str:
    return f"{experiment.data}, K = {experiment.num_classes}\nbatch {experiment.batch}, learning rate {experiment.lr:g}"


def _runs(results: Results) -> str:
    n = len(results[0][1])
    return "one training each" if n == 1 else f"means over {n} trainings each"


def _band(results: Results, single: str) -> str:
    return single if len(results[0][1]) == 1 else "one standard deviation over the trainings"
