"""The table that a run ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.probe.step_response import StepResponse
from le_callback.records import WindowRecord
from le_callback.values import Estimate


@dataclass(frozen=True)
class OwnCost:
    """Time that the callback took, on the host."""

    steps: int
    update_seconds: float
    window_seconds: float
    figure_seconds: float
    probe_seconds: float
    training_seconds: float  # all training steps, those of the callback included

    @property
    def share(self) -> float:
        """Share of the training step, figures left out: they are few, whatever the length of the run."""
        steps = self.training_seconds - self.figure_seconds
        return (self.update_seconds + self.window_seconds + self.probe_seconds) / steps if steps > 0 else math.nan

    def __str__(self) -> str:
        probe = f", {1e3 * self.probe_seconds / self.steps:.2f} ms for the probe" if self.probe_seconds else ""
        figures = f", and {self.figure_seconds:.1f} s in all for figures" if self.figure_seconds else ""
        return (
            f"{1e3 * self.update_seconds / self.steps:.2f} ms a step and"
            f" {1e3 * self.window_seconds / self.steps:.2f} ms for windows{probe}, {self.share:.1%} of the training"
            f" step{figures}"
        )


def summary_table(
    record: WindowRecord,
    class_names: Sequence[str],
    cost: OwnCost | None = None,
    alerts: Sequence[str] = (),
    forecast: str = "",
) -> str:
    """What the last window says about local elasticity, geometry and separability, as text.

    With ``alerts`` so far and the sentence of the latest ``forecast``.

    >>> from le_callback.monitor import SeparationMonitor
    >>> print(summary_table(SeparationMonitor(num_classes=2).close(step=9), ["cat", "dog"]).splitlines()[0])
    Local elasticity and separability, 2 classes, window of steps 1 to 9 (0 samples)
    """
    start, end = record.window
    lines = [
        f"Local elasticity and separability, {len(class_names)} classes, window of steps {start + 1} to {end}"
        f" ({record.samples:,.0f} samples)",
        "",
        *_coefficient_rows({k: c for k, c in record.coefficients.items() if not c.source.probe}, record.time_unit),
        "",
        *_probe_rows({k: c for k, c in record.coefficients.items() if c.source.probe}, record.time_unit),
        *_response_rows(record.step_response),
        *_geometry_rows(record, class_names),
    ]
    if record.regime is not None:
        lines.append(f"Verdict: {record.regime.name}. {record.regime.reason[:1].upper()}{record.regime.reason[1:]}")
    if forecast:
        lines.append(f"Forecast {forecast}")
    lines += [f"Alert: {text}" for text in alerts]
    if record.missing_classes:
        names = ", ".join(class_names[k] for k in record.missing_classes[:8])
        more = len(record.missing_classes) - 8
        lines.append(f"No samples in this window: {names}{f' and {more} more' if more > 0 else ''}")
    lines += [f"Skipped {count:,} {reason}" for reason, count in record.skipped.items()]
    if cost is not None and cost.steps:
        lines.append(f"Own time: {cost}")
    return "\n".join(lines)


def _probe_rows(coefficients: Mapping[str, WindowCoefficients], unit: str) -> list[str]:
    return [*_coefficient_rows(coefficients, unit), ""] if coefficients else []


def _coefficient_rows(coefficients: Mapping[str, WindowCoefficients], unit: str) -> list[str]:
    rows = [["", *(_model_name(c) for c in coefficients.values())]]
    values = coefficients.values()
    rows += [
        ["A  intra-class, cumulative", *(_number(c.A) for c in values)],
        ["B  inter-class, cumulative", *(_number(c.B) for c in values)],
        [f"α  per {unit}", *(_interval(c.alpha) for c in values)],
        [f"β  per {unit}", *(_interval(c.beta) for c in values)],
        [f"γ = α − β  per {unit}", *(_interval(c.gamma) for c in values)],
        ["tail index of A", *(_number(c.tail_A) for c in values)],
        ["tail index of B", *(_number(c.tail_B) for c in values)],
        ["tail index of γ", *(_number(c.tail_gamma) for c in values)],
        ["reference time of A, B", *(_time(c.reference_time, unit) for c in values)],
        ["reference time of γ", *(_time(c.gamma_reference_time, unit) for c in values)],
    ]
    table = _columns(rows)
    table += [f"{model}: {c.status}" for model, c in coefficients.items() if c.status != "ok"]
    return table


def _response_rows(responses: Mapping[str, StepResponse]) -> list[str]:
    if not responses:
        return []
    values = responses.values()
    rows = [
        ["", *responses],
        ["measured, own samples", *(_interval(i.intra) for i in values)],
        ["measured, other classes", *(_interval(i.inter) for i in values)],
        ["measured γ  per step", *(_interval(i.gamma) for i in values)],
    ]
    return [*_columns(rows), ""]


def _model_name(c: WindowCoefficients) -> str:
    return f"{c.model}-model, {'probe ' if c.source.probe else ''}{c.source.layer}"


def _geometry_rows(record: WindowRecord, class_names: Sequence[str]) -> list[str]:
    sources = list(record.etf)
    if not sources:
        return ["No two classes with samples in this window: no angles, no separability."]
    etf, separation = record.etf, record.separation
    ideal = next(iter(etf.values())).ideal
    rows = [
        ["", *sources],
        [f"ETF angle (ideal {ideal:.1f}°)", *(f"{etf[s].mean:.1f}° ± {etf[s].deviation:.1f}°" for s in sources)],
        ["smallest angle", *(f"{etf[s].smallest:.1f}°  {_pair(etf[s].pair, class_names)}" for s in sources)],
        ["variation of norms", *(_number(etf[s].norm_variation) for s in sources)],
        [
            "smallest discriminability",
            *(f"{_number(separation[s].discriminability)}  {_pair(separation[s].pair, class_names)}" for s in sources),
        ],
        ["nearest-class-mean accuracy", *(_number(separation[s].nearest_mean_accuracy) for s in sources)],
    ]
    table = _columns(rows)
    table += [f"{s}: too few dimensions for a simplex ETF of all classes" for s in sources if not etf[s].attainable]
    return table


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _pair(pair: tuple[int, int] | None, class_names: Sequence[str]) -> str:
    return "" if pair is None else f"{class_names[pair[0]]} / {class_names[pair[1]]}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return "–" if math.isnan(value) else f"{value:.4g}"


def _time(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    return f"step {value:.0f}" if unit == "step" else f"{value:.3g} {unit}"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
