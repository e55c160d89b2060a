"""What loggers are given: scalars under a fixed set of tags, and the heatmap of cosines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from le_callback.records import NAN, EtfAngles, WindowRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

SOURCES = ("features", "logits")
_MAX_NAMED_CLASSES = 40
_MAX_WRITTEN_CLASSES = 12


def scalars(record: WindowRecord) -> dict[str, float]:
    """Every scalar of a window under its tag; the set of tags is the same for every record, NaN where unknown.

    Tags: ``le/<model>/…`` coefficients (per optimizer step, or with the unit in the tag), ``etf/<source>/…`` angles
    (degrees), ``separation/<source>/…`` measured separability.

    >>> from le_callback.monitor import SeparationMonitor
    >>> tags = scalars(SeparationMonitor(num_classes=3).close(step=50))
    >>> sorted(tags)[:3]
    ['etf/features/angle_deviation_deg', 'etf/features/angle_mean_deg', 'etf/features/angle_smallest_deg']
    """
    values: dict[str, float] = {}
    per = "" if record.time_unit == "step" else f"_per_{record.time_unit.replace(' ', '_')}"
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
                f"le/{model}/{name}{per}": estimate.value,
                f"le/{model}/{name}{per}_low": estimate.low,
                f"le/{model}/{name}{per}_high": estimate.high,
            }
    for source, influence in record.influence.items():
        for name, estimate in (("intra", influence.intra), ("inter", influence.inter), ("gamma", influence.gamma)):
            values |= {
                f"le/measured_{source}/{name}": estimate.value,
                f"le/measured_{source}/{name}_low": estimate.low,
                f"le/measured_{source}/{name}_high": estimate.high,
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


def cosine_figure(etf: Mapping[str, EtfAngles], class_names: Sequence[str], title: str) -> Figure:
    """Heatmaps of the cosines between centred class means; white is the cosine of a simplex ETF, −1/(K−1).

    Args:
        etf: the angles by source, one panel each.
        class_names: (K,) names of all classes.
        title: what the figure shows.
    """
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    first = next(iter(etf.values()))
    K = len(first.classes)
    centre = float(np.clip(np.cos(np.radians(first.ideal)), -0.999, -0.001))
    norm = TwoSlopeNorm(vcenter=centre, vmin=-1, vmax=1)
    side = min(7.0, 2.8 + 0.22 * K) if K <= _MAX_NAMED_CLASSES else 5.0
    figure = Figure(figsize=(side * len(etf) + 0.8, side + 0.6), dpi=80, layout="constrained")
    panels = figure.subplots(1, len(etf), squeeze=False)[0]
    for axes, (source, angles) in zip(panels, etf.items(), strict=True):
        image = axes.imshow(
            np.ma.masked_where(np.eye(len(angles.classes), dtype=bool), angles.cosines), norm=norm, cmap="RdBu_r"
        )
        axes.set_facecolor("0.85")
        pair = " / ".join(class_names[k] for k in angles.pair)
        axes.set_title(f"{source}: smallest angle {angles.smallest:.1f}°\n{pair}", fontsize=10)
        _label_cells(axes, angles, class_names, norm)
    bar = figure.colorbar(image, ax=list(panels), shrink=0.85)
    bar.set_label(f"cosine (white: ETF, {centre:.2f}, {first.ideal:.1f}°)")
    figure.suptitle(title, fontsize=11)
    return figure


def _label_cells(axes: Axes, angles: EtfAngles, class_names: Sequence[str], norm: Normalize) -> None:
    K = len(angles.classes)
    if K > _MAX_NAMED_CLASSES:
        axes.set(xlabel="class", ylabel="class")
        return
    names = [class_names[k] for k in angles.classes]
    axes.set_xticks(range(K), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(K), names)
    if K > _MAX_WRITTEN_CLASSES:
        return
    for (row, column), cosine in np.ndenumerate(angles.cosines):
        if row != column:
            dark = abs(float(norm(cosine)) - 0.5) > 0.35
            axes.text(
                column, row, f"{cosine:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )


def figure_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that can draw figures (``add_figure``, as TensorBoard's writer has it)."""
    for logger in loggers:
        experiment = getattr(logger, "experiment", None)
        if callable(getattr(experiment, "add_figure", None)):
            yield experiment


def due_for_figures(window: int) -> bool:
    """Whether the ``window``-th window (from 1) draws: 1, 4, 16, 64, …, so that the cost of a long run stays small.

    >>> [w for w in range(1, 100) if due_for_figures(w)]
    [1, 4, 16, 64]
    """
    return window > 0 and window & (window - 1) == 0 and window.bit_length() % 2 == 1
