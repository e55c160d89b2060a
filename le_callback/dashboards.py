"""What loggers are given: scalars under a fixed set of tags, and the heatmap of cosines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from le_callback.records import NAN, EtfAngles, WindowRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCES = ("features", "logits")
_MAX_NAMED_CLASSES = 40


def scalars(record: WindowRecord) -> dict[str, float]:
    """Every scalar of a window under its tag; the set of tags is the same for every record, NaN where unknown.

    Tags: ``le/<model>/…`` coefficients (per optimizer step), ``etf/<source>/…`` angles (degrees),
    ``separation/<source>/…`` measured separability.

    >>> from le_callback.monitor import SeparationMonitor
    >>> tags = scalars(SeparationMonitor(num_classes=3).close(step=50))
    >>> sorted(tags)[:3]
    ['etf/features/angle_deviation_deg', 'etf/features/angle_mean_deg', 'etf/features/angle_smallest_deg']
    """
    values: dict[str, float] = {}
    for model, c in record.coefficients.items():
        values |= {
            f"le/{model}/A": c.A,
            f"le/{model}/B": c.B,
            f"le/{model}/tail_A": c.tail_A,
            f"le/{model}/tail_B": c.tail_B,
            f"le/{model}/tail_gamma": c.tail_gamma,
            f"le/{model}/amplitude_common": c.amplitude_common,
            f"le/{model}/amplitude_difference": c.amplitude_difference,
        }
        for name, estimate in (("alpha", c.alpha), ("beta", c.beta), ("gamma", c.gamma)):
            values |= {
                f"le/{model}/{name}": estimate.value,
                f"le/{model}/{name}_low": estimate.low,
                f"le/{model}/{name}_high": estimate.high,
            }
    for source in SOURCES:
        etf = record.etf.get(source)
        values |= {
            f"etf/{source}/angle_mean_deg": etf.mean if etf else NAN,
            f"etf/{source}/angle_deviation_deg": etf.deviation if etf else NAN,
            f"etf/{source}/angle_smallest_deg": etf.smallest if etf else NAN,
            f"etf/{source}/norm_variation": etf.norm_variation if etf else NAN,
        }
        separation = record.separation.get(source)
        values |= {
            f"separation/{source}/nearest_mean_accuracy": separation.nearest_mean_accuracy if separation else NAN,
            f"separation/{source}/discriminability_min": separation.discriminability if separation else NAN,
        }
    return values


def cosine_figure(etf: EtfAngles, class_names: Sequence[str], title: str) -> Figure:
    """Heatmap of the cosines between centred class means; white is the cosine of a simplex ETF, −1/(K−1).

    Args:
        etf: the angles of one source.
        class_names: (K,) names of all classes.
        title: what the figure shows.
    """
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    K = len(etf.classes)
    ideal = float(np.cos(np.radians(etf.ideal)))
    named = K <= _MAX_NAMED_CLASSES
    side = min(10.0, 3.2 + 0.45 * K) if named else 7.0
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    norm = TwoSlopeNorm(vcenter=min(ideal, -1e-3) if ideal > -1 else -0.999, vmin=-1, vmax=1)
    image = axes.imshow(etf.cosines, norm=norm, cmap="RdBu_r")
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label(f"cosine (white: ETF, {ideal:.2f})")
    if named:
        names = [class_names[k] for k in etf.classes]
        axes.set_xticks(range(K), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(K), names)
    else:
        axes.set_xlabel("class")
        axes.set_ylabel("class")
    if K <= 12:
        for (row, column), cosine in np.ndenumerate(etf.cosines):
            dark = abs(float(norm(cosine)) - 0.5) > 0.35
            axes.text(column, row, f"{cosine:.2f}", ha="center", va="center", color="white" if dark else "black")
    pair = " and ".join(class_names[k] for k in etf.pair)
    axes.set_title(f"{title}\nsmallest angle {etf.smallest:.1f}° ({pair}), ETF {etf.ideal:.1f}°", fontsize=10)
    return figure


def figure_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that can draw figures (``add_figure``, as TensorBoard's writer has it)."""
    for logger in loggers:
        experiment = getattr(logger, "experiment", None)
        if callable(getattr(experiment, "add_figure", None)):
            yield experiment


def due_for_figures(window: int) -> bool:
    """Whether the ``window``-th window (from 1) draws: 1, 2, 3, 4, 6, 8, 12, 16, 24, … so that cost stays logarithmic.

    >>> [w for w in range(1, 40) if due_for_figures(w)]
    [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    """
    odd = window // (window & -window)
    return odd == 1 or odd == 3
