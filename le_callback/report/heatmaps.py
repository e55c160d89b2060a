"""Heatmaps of classes: cosines between class means, and the measured LE matrix. Imports matplotlib when it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from le_callback.measures import EtfAngles
from le_callback.probe.response_matrix import ResponseMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_MAX_NAMED_CLASSES = 40
_MAX_WRITTEN_CLASSES = 12


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
        axes.set_title(f"{source}: smallest angle {angles.smallest:.1f}°\n{pair}", fontsize=10, parse_math=False)
        _name_classes(axes, angles.classes, class_names)
        _write_cells(axes, angles.cosines, norm, "{:.2f}")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.85)
    bar.set_label(f"cosine (white: ETF, {centre:.2f}, {first.ideal:.1f}°)")
    figure.suptitle(title, fontsize=11)
    return figure


def matrix_figure(matrices: Mapping[str, ResponseMatrix], class_names: Sequence[str], title: str) -> Figure:
    """Heatmaps of the LE matrix: row i is the class that is changed, column j the class that is trained.

    Colours show the entries off the diagonal; the diagonal, usually far larger, is grey with its numbers. The pair that
    moves each other most is framed.

    Args:
        matrices: E by source, one panel each; at least one is known.
        class_names: (K,) names of all classes.
        title: what the figure shows.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    known = {source: m for source, m in matrices.items() if m.strongest_pair is not None}
    K = len(next(iter(known.values())).classes)
    side = min(7.0, 2.8 + 0.3 * K) if K <= _MAX_NAMED_CLASSES else 5.0
    figure = Figure(figsize=((side + 0.7) * len(known), side + 0.6), dpi=80, layout="constrained")
    panels = figure.subplots(1, len(known), squeeze=False)[0]
    for axes, (source, matrix) in zip(panels, known.items(), strict=True):
        diagonal = np.eye(K, dtype=bool)
        largest = float(np.abs(matrix.E[~diagonal]).max()) or 1.0
        norm = Normalize(-largest, largest)
        image = axes.imshow(np.ma.masked_where(diagonal, matrix.E), norm=norm, cmap="RdBu_r")
        axes.set_facecolor("0.85")
        assert matrix.strongest_pair is not None
        pair = [matrix.classes.index(k) for k in matrix.strongest_pair]
        for row, column in (pair, pair[::-1]):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2))
        names = " / ".join(class_names[k] for k in matrix.strongest_pair)
        told = f"{source}: {names} move each other most\n{matrix.steps} observed steps"
        axes.set_title(told, fontsize=10, parse_math=False)
        _name_classes(axes, matrix.classes, class_names)
        axes.set(xlabel="class that is trained", ylabel="class that is changed")
        _write_cells(axes, matrix.E, norm, "{:.2g}", diagonal=True)
        figure.colorbar(image, ax=axes, shrink=0.8).set_label("E, per optimizer step")
    figure.suptitle(title, fontsize=11)
    return figure


def _name_classes(axes: Axes, classes: Sequence[int], class_names: Sequence[str]) -> None:
    if len(classes) > _MAX_NAMED_CLASSES:
        axes.set(xlabel="class", ylabel="class")
        return
    names = [class_names[k] for k in classes]
    # as they are: a pair of dollar signs in a name is no formula
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)


def _write_cells(axes: Axes, values: NDArray[np.float64], norm: Normalize, form: str, diagonal: bool = False) -> None:
    if len(values) > _MAX_WRITTEN_CLASSES:
        return
    for (row, column), value in np.ndenumerate(values):
        if row != column or diagonal:
            dark = row != column and abs(float(norm(value)) - 0.5) > 0.35
            colour = "white" if dark else "black"
            axes.text(column, row, form.format(value), ha="center", va="center", fontsize=8, color=colour)
