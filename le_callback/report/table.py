"""The table that a run ends with; its rows are those of the registry of tags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.notices import SKIPPED
from le_callback.records import WindowRecord
from le_callback.report.coefficient_tags import COEFFICIENTS, STEP_RESPONSE
from le_callback.report.highlights import highlights
from le_callback.report.tags import GROUPS
from le_callback.report.terminal import spelled
from le_callback.values import Estimate, Tag

_MOST_ALERTS = 5
_LONGEST_NAME, _LONGEST_ALERT = 24, 400  # characters
Block = str | list[list[str]]
"""A line, or rows of cells."""


@dataclass(frozen=True)
class OwnCost:
    """Time that the callback took, on the host.

    Attributes:
        steps: training steps.
        update_seconds, window_seconds, figure_seconds, probe_seconds: for updates, windows, figures and the probe.
        training_seconds: all training steps, and what the callback did before, between and after them.
    """

    steps: int
    update_seconds: float
    window_seconds: float
    figure_seconds: float
    probe_seconds: float
    training_seconds: float

    @property
    def share(self) -> float:
        """Share of the training step, figures left out: they are few, whatever the length of the run."""
        steps = self.training_seconds - self.figure_seconds
        return (self.update_seconds + self.window_seconds + self.probe_seconds) / steps if steps > 0 else math.nan

    def __str__(self) -> str:
        probe = f", {1e3 * self.probe_seconds / self.steps:.2f} ms for the probe" if self.probe_seconds else ""
        share = "" if math.isnan(self.share) else f", {self.share:.1%} of the training step"
        figures = f", and {self.figure_seconds:.1f} s in all for figures" if self.figure_seconds else ""
        return (
            f"{1e3 * self.update_seconds / self.steps:.2f} ms a step and"
            f" {1e3 * self.window_seconds / self.steps:.2f} ms for windows{probe}{share}{figures}"
        )


def summary_blocks(
    record: WindowRecord,
    class_names: Sequence[str],
    cost: OwnCost | None = None,
    alerts: Sequence[str] = (),
    forecast: str = "",
) -> list[Block]:
    """What the last window says about local elasticity, geometry and separability: verdict and worst pair first.

    Args:
        record: of the window.
        class_names: (K,).
        cost: own time.
        alerts: those raised so far.
        forecast: sentence of the latest forecast.

    Returns:
        Lines, and rows of cells.

    >>> from le_callback.monitor import SeparationMonitor
    >>> summary_blocks(SeparationMonitor(num_classes=2).close(step=9), ["cat", "dog"])[0]
    'Local elasticity and separability, 2 classes, window of steps 1 to 9 (0 samples)'
    """
    start, end = record.window
    lines: list[Block] = [
        f"Local elasticity and separability, {len(class_names)} classes, window of steps {start + 1} to {end}"
        f" ({record.samples:,.0f} samples)",
        *(f"{title}: {sentence}" for title, sentence in highlights(record, [_short(name) for name in class_names])),
        "",
    ]
    for probe in (False, True):
        of_source = {_model_name(c): c for c in record.coefficients.values() if c.source.probe is probe}
        lines += _coefficient_rows(of_source, record.time_unit)
    lines += _response_rows(record)
    lines += _geometry_rows(record, class_names)
    if forecast:
        lines.append(f"Forecast {forecast}")
    if len(alerts) > _MOST_ALERTS:
        lines.append(f"{len(alerts) - _MOST_ALERTS} earlier alerts, and")
    lines += [f"Alert: {_short(text, _LONGEST_ALERT)}" for text in alerts[-_MOST_ALERTS:]]
    if record.missing_classes:
        names = ", ".join(_short(class_names[k]) for k in record.missing_classes[:8])
        more = len(record.missing_classes) - 8
        lines.append(f"No samples in this window: {names}{f' and {more} more' if more > 0 else ''}")
    lines += [f"Skipped {count:,} {SKIPPED[key]}" for key, count in record.skipped.items()]
    if cost is not None and cost.steps:
        lines.append(f"Own time: {cost}")
    return lines


def laid_out(blocks: Sequence[Block], encoding: str | None = None) -> str:
    """The table as text: lines as they are, rows of cells in columns.

    Args:
        blocks: of the table.
        encoding: of what shows it; symbols that it lacks are spelled out. None: it has all.

    >>> print(laid_out(["γ", [["a", "b"], ["cde", "f"]]], "ascii"))
    gamma
    a    b
    cde  f
    """
    return "\n".join(_lines(blocks, encoding))


def _coefficient_rows(coefficients: Mapping[str, WindowCoefficients], unit: str) -> list[Block]:
    if not coefficients:
        return []
    values = coefficients.values()
    rows = [["", *coefficients], *_tag_rows(COEFFICIENTS.tags, list(values), unit=unit)]
    rows.append(["reference time of A, B", *(_time(c.reference_time, unit) for c in values)])
    rows.append(["reference time of γ", *(_time(c.gamma_reference_time, unit) for c in values)])
    return [rows, *(f"{name}: {c.status}" for name, c in coefficients.items() if c.status != "ok"), ""]


def _model_name(c: WindowCoefficients) -> str:
    return f"{c.model}-model, {'probe ' if c.source.probe else ''}{c.source.layer}"


def _response_rows(record: WindowRecord) -> list[Block]:
    if not record.step_response:
        return []
    rows = _tag_rows(STEP_RESPONSE.tags, list(record.step_response.values()), unit=record.time_unit)
    return [[["", *record.step_response], *rows], ""]


def _geometry_rows(record: WindowRecord, class_names: Sequence[str]) -> list[Block]:
    layers = list(record.etf)
    if not layers:
        return ["No two classes with samples in this window: no angles, no separability."]
    ideal = record.etf[layers[0]].ideal
    rows = [["", *layers]]
    for group in GROUPS:
        subjects = group.subjects(record)
        if set(layers) <= subjects.keys() and group is not STEP_RESPONSE:
            rows += _tag_rows(group.tags, [subjects[layer] for layer in layers], class_names, ideal=ideal)
    few = [f"{k}: too few dimensions for a simplex ETF of all classes" for k in layers if not record.etf[k].attainable]
    return [rows, *few]


def _tag_rows(
    tags: Sequence[Tag], subjects: Sequence[Any], class_names: Sequence[str] = (), **context: Any
) -> list[list[str]]:
    """A row for each tag that has one, a cell for each of the records that it is read from."""
    return [
        [tag.row.format(**context), *(_cell(tag, subject, class_names) for subject in subjects)]
        for tag in tags
        if tag.row
    ]


def _cell(tag: Tag, subject: Any, class_names: Sequence[str]) -> str:
    value = math.nan if subject is None else tag.read(subject)
    if isinstance(value, Estimate):
        return _interval(value)
    text = f"{value:.1f}°" if tag.unit == "°" else _number(value)
    if tag.classes is None:
        return text
    classes = None if subject is None else tag.classes(subject)
    return f"{text}  {' / '.join(_short(class_names[k]) for k in classes or ())}"


def _short(text: str, longest: int = _LONGEST_NAME) -> str:
    """A class name, or a text, that leaves room for the others."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _lines(blocks: Sequence[Block], encoding: str | None) -> Iterator[str]:
    for block in blocks:
        rows = [[spelled(cell, encoding) for cell in row] for row in ([[block]] if isinstance(block, str) else block)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _number(value: float, digits: int = 4) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


def _time(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    return f"step {value:.0f}" if unit == "step" else f"{value:.3g} {unit}"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    value, low, high = (_number(x, 3) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"
