"""Draw what a run logged, from its event files.

python examples/plot_run.py runs/geomnist/version_0 run.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Floats = NDArray[np.float64]
Read = Callable[[str], tuple[Floats, Floats]]
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def reader(logdir: str) -> Read:
    """A function from tag to steps and values."""
    events = EventAccumulator(logdir)
    events.Reload()

    def read(tag: str) -> tuple[Floats, Floats]:
        points = events.Scalars(tag)
        return np.array([float(p.step) for p in points]), np.array([p.value for p in points])

    return read


def draw(read: Read, model: str = "I_logits") -> Figure:
    """Six panels: the modes, A and B, α β γ, angles, discriminability and accuracy."""
    figure = Figure(figsize=(13, 6.6), dpi=110, layout="constrained")
    (modes, cumulative, rates), (angles, distance, accuracy) = figure.subplots(2, 3)
    name = f"{model[0]}-model, {model[2:]}"
    lines(modes, read, [(f"le/{model}/amplitude_difference", "difference mode ‖X̄ₖ − X̌‖", BLUE)])
    lines(modes, read, [(f"le/{model}/amplitude_common", "common mode ‖X̌‖", ORANGE)])
    modes.set(title=f"Amplitude of the modes ({name})", ylabel="amplitude", yscale="log")
    lines(
        cumulative,
        read,
        [(f"le/{model}/A", "A = ∫α, intra-class", BLUE), (f"le/{model}/B", "B = ∫β, inter-class", ORANGE)],
    )
    cumulative.axhline(0, color="0.6", lw=0.8)
    cumulative.set(title=f"Cumulative elasticity ({name})", ylabel="A, B")
    for symbol, tag, colour in (("α", "alpha", BLUE), ("β", "beta", ORANGE), ("γ = α − β", "gamma", GREEN)):
        lines(rates, read, [(f"le/{model}/{tag}", symbol, colour)])
    steps, low = read(f"le/{model}/gamma_low")
    rates.fill_between(steps, low, read(f"le/{model}/gamma_high")[1], color=GREEN, alpha=0.2, lw=0, label="95 % of γ")
    top = np.nanmax(read(f"le/{model}/gamma")[1])
    rates.axhline(0, color="0.6", lw=0.8)
    rates.set(title=f"Local elasticity ({name})", ylabel="per step", ylim=(-0.6 * top, 1.4 * top))
    sources = (("features", BLUE), ("logits", ORANGE))
    lines(angles, read, [(f"etf/{s}/angle_deviation_deg", s, c) for s, c in sources])
    angles.set(title="Deviation of the angles from the ETF", ylabel="degrees", ylim=(0, None))
    lines(distance, read, [(f"separation/{s}/discriminability_min", s, c) for s, c in sources])
    distance.set(title="Smallest discriminability of a pair", ylabel="distance / deviation", ylim=(0, None))
    lines(accuracy, read, [(f"separation/{s}/nearest_mean_accuracy", s, c) for s, c in sources])
    accuracy.set(title="Nearest-class-mean accuracy, held out", ylabel="share of samples", ylim=(0.2, 1.02))
    for axes in figure.axes:
        axes.set_xlabel("optimizer step")
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def lines(axes: Axes, read: Read, curves: list[tuple[str, str, str]]) -> None:
    """Draw tags as labelled curves."""
    for tag, label, colour in curves:
        axes.plot(*read(tag), color=colour, label=label, lw=1.4)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir")
    parser.add_argument("output")
    parser.add_argument("--model", default="I_logits", choices=["I_features", "I_logits", "L_logits"])
    arguments = parser.parse_args(argv)
    draw(reader(arguments.logdir), arguments.model).savefig(arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
