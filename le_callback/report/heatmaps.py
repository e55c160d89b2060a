"""Heatmaps of classes: cosines between class means, and the measured LE matrix. Imports matplotlib when it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
_WIDTH, _PANEL, _DPI = 3.9, 3.1, 150  # inches: cards of TensorBoard and of others are about 350 pixels wide


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
    centre = float(np.clip(np.cos(np.radians(first.ideal)), -0.999, -0.001))
    norm = TwoSlopeNorm(vcenter=centre, vmin=-1, vmax=1)
    figure = Figure(figsize=(_WIDTH, 0.3 + _PANEL * len(etf)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(etf), 1, squeeze=False)[:, 0]
    for axes, (source, angles) in zip(panels, etf.items(), strict=True):
        image = axes.imshow(
            np.ma.masked_where(np.eye(len(angles.classes), dtype=bool), angles.cosines), norm=norm, cmap="RdBu_r"
        )
        axes.set_facecolor("0.85")
        pair = " / ".join(class_names[k] for k in angles.pair)
        axes.set_title(f"{source}: smallest angle {angles.smallest:.1f}°\n{pair}", fontsize=8, parse_math=False)
        _name_classes(axes, angles.classes, class_names)
        _write_cells(axes, angles.cosines, norm, "{:.2f}")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.6)
    bar.set_label(f"cosine (white: ETF, {centre:.2f}, {first.ideal:.1f}°)", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
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
    figure = Figure(figsize=(_WIDTH, 0.3 + 1.1 * _PANEL * len(known)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(known), 1, squeeze=False)[:, 0]
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
        axes.set_title(told, fontsize=8, parse_math=False)
        _name_classes(axes, matrix.classes, class_names)
        axes.set_xlabel("class that is trained", fontsize=7)
        axes.set_ylabel("class that is changed", fontsize=7)
        _write_cells(axes, matrix.E, norm, "{:.2g}", diagonal=True)
        bar = figure.colorbar(image, ax=axes, shrink=0.7)
        bar.set_label("E, per optimizer step", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def _name_classes(axes: Axes, classes: Sequence[int], class_names: Sequence[str]) -> None:
    if len(classes) > _MAX_NAMED_CLASSES:
        axes.set_xlabel("class", fontsize=7)
        axes.set_ylabel("class", fontsize=7)
        axes.tick_params(labelsize=7)
        return
    names = [class_names[k] for k in classes]
    # as they are: a pair of dollar signs in a name is no formula
    size = min(8.0, 190 / len(names))
    text: dict[str, Any] = {"parse_math": False, "fontsize": size}
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", **text)
    axes.set_yticks(range(len(names)), names, **text)


def _write_cells(axes: Axes, values: NDArray[np.float64], norm: Normalize, form: str, diagonal: bool = False) -> None:
    if len(values) > _MAX_WRITTEN_CLASSES:
        return
    size = min(8.0, 60 / len(values))
    for (row, column), value in np.ndenumerate(values):
        if row != column or diagonal:
            dark = row != column and abs(float(norm(value)) - 0.5) > 0.35
            colour = "white" if dark else "black"
            axes.text(column, row, form.format(value), ha="center", va="center", fontsize=size, color=colour)
