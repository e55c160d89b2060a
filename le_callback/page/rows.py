"""What the data file holds of a record: the one place that knows both.

K classes; matrices are taken as the upper triangle, row by row, in half precision.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from le_callback.page.advice import ADVICE
from le_callback.records import WindowRecord
from le_callback.report.tags import find_tag, scalars
from le_callback.values import Array, Estimate

MOST_MATRIX_CLASSES = 100  # of more, the worst pairs alone are kept
_MOST_FOR_MEDIAN = 128
ALIKE, APART = 0.5, 2.0  # D of the median pair
LAGGING = 3.0  # how many times farther apart the median pair is than one that is left behind
_WORST, _WORST_OF_MANY, _MOST_CLOUDS = 10, 50, 24
_LAYERS = ("logits", "features")


def about_columns(columns: Sequence[str]) -> dict[str, list[str]]:
    """Label, unit, meaning, what to look for and chart of each tag, as far as the registry knows it.

    >>> about_columns(["etf/logits/angle_deviation_deg", "other"])["etf/logits/angle_deviation_deg"][1]
    '°'
    """
    found = {}
    for column in columns:
        if (tag := find_tag(column)) is not None:
            found[column] = [tag.label, tag.unit, tag.meaning, tag.look_for, tag.chart]
    return found


def row_of(record: WindowRecord, values: Mapping[str, float], since: int | None) -> dict[str, Any]:
    """Numbers and words of a window.

    Args:
        record: of the window.
        values: its scalars, in the order of the columns.
        since: step since which the verdict is what it is.
    """
    clouds = record.measures.get("class_clouds", {}).get("logits")
    verdict, rate, why = verdict_of(record)
    return {
        "step": record.step,
        "samples": record.samples,
        "missing": len(record.missing_classes),
        "values": list(values.values()),
        "verdict": verdict,
        "rate": rate,
        "why": why,
        "since": since,
        "alerts": [rule for rule, stands in record.alerts.items() if stands],
        "worst": {layer: list(found.worst[0]) for layer, found in record.discriminability.items() if found.worst},
        "median": {layer: median_pair(found.pairs) for layer, found in record.discriminability.items()},
        "todo": todo(record, verdict),
        "gaps": None if clouds is None else [clouds.smallest_gap, clouds.largest_gap],
    }


def verdict_of(record: WindowRecord) -> tuple[str, str, list[str]]:
    """The verdict's word, its rate in words, and the sentences that give reasons; as they are given, whatever they are.

    >>> from le_callback import SeparationMonitor
    >>> verdict_of(SeparationMonitor(num_classes=2).close(step=9))[1]
    'not known yet'
    """
    regime = record.regime
    if regime is None:
        return "", rate_in_words(record.primary.gamma, record.time_unit), []
    found = {f.name: getattr(regime, f.name) for f in fields(regime)}
    name, rate = found.pop("name"), found.pop("rate", None)
    if isinstance(rate, Estimate):
        rate = pairs_in_words(rate, record.time_unit)
    sentences = [text for text in found.values() if isinstance(text, str) and " " in text]
    return str(name), rate or rate_in_words(record.primary.gamma, record.time_unit), sentences


def pairs_in_words(rate: Estimate, unit: str) -> str:
    """How fast the worst pairs move apart.

    Args:
        rate: growth of their D per 1,000 steps; per unit of time where that is not the step.
        unit: of time, in the singular.

    >>> pairs_in_words(Estimate(0.5, 0.4, 0.6), "step"), pairs_in_words(Estimate(-2.0, -3.0, -1.0), "epoch")
    ('worst pairs gain 0.5 D per 1,000 steps (0.4 to 0.6)', 'worst pairs lose 2 D per epoch (1 to 3)')
    """
    value, low, high = rate.value, rate.low, rate.high
    if math.isnan(value):
        return ""
    per = "1,000 steps" if unit == "step" else unit
    if low <= 0 <= high:
        return f"no clear change; D of the worst pairs: {low:+.2g} to {high:+.2g} per {per}".replace("-", "−")
    low, high = (-high, -low) if value < 0 else (low, high)
    verb = "lose" if value < 0 else "gain"
    return f"worst pairs {verb} {abs(value):.2g} D per {per} ({low:.2g} to {high:.2g})"


def median_pair(pairs: Array) -> float:
    """Median discriminability of the pairs that are known, of many classes an evenly spaced part; NaN where none is.

    >>> median_pair(np.array([[np.nan, 1.0, 5.0], [1.0, np.nan, 2.0], [5.0, 2.0, np.nan]]))
    2.0
    """
    stride = -(-len(pairs) // _MOST_FOR_MEDIAN)
    part = pairs[::stride, ::stride]
    known = part[~np.isnan(part)]
    return float(np.median(known)) if known.size else math.nan


def todo(record: WindowRecord, verdict: str) -> list[str]:
    """Keys of what there is to do: by the verdict, unless all pairs are alike, or one of them is far behind the others.

    >>> from le_callback import SeparationMonitor
    >>> todo(SeparationMonitor(num_classes=2).close(step=9), "separating"), todo(
    ...     SeparationMonitor(num_classes=2).close(step=9), "a word of another version"
    ... )
    (['separating'], [''])
    """
    found = record.discriminability.get("logits")
    median = math.nan if found is None else median_pair(found.pairs)
    if median < ALIKE:
        return ["alike"]
    if found is not None and median >= APART and found.smallest < min(APART, median / LAGGING):
        return ["lagging"]
    return [verdict if verdict in ADVICE else ""]


def rate_in_words(gamma: Estimate, unit: str) -> str:
    """How fast the gap grows, with its interval, and how long a doubling takes.

    Args:
        gamma: γ per unit of time.
        unit: of time, in the singular.

    >>> rate_in_words(Estimate(0.01, 0.008, 0.012), "step")
    'gap grows 1% a step (0.8% to 1.2%); doubles in 69 steps'
    >>> rate_in_words(Estimate(0.0, -0.001, 0.001), "step")
    'no clear growth: −0.1% to 0.1% a step'
    """
    value, low, high = gamma.value, gamma.low, gamma.high
    if math.isnan(value):
        return "not known yet"
    known = not math.isnan(low + high)
    ends = f"{_percent(low)} to {_percent(high)}" if known else "interval not known"
    if known and low <= 0 <= high:
        return f"no clear growth: {ends} a {unit}"
    turn = math.log(2) / abs(value)
    time = f"{turn:,.0f}" if turn >= 10 else f"{turn:.2g}"
    verb, change = ("grows", "doubles") if value > 0 else ("shrinks", "halves")
    inner = ends if value > 0 or not known else f"{_percent(-high)} to {_percent(-low)}"
    return f"gap {verb} {_percent(abs(value))} a {unit} ({inner}); {change} in {time} {unit}s"


def _percent(value: float) -> str:
    percent = 100 * value
    text = f"{percent:,.0f}" if abs(percent) >= 100 else f"{percent:.2g}".replace("e-0", "e-")
    return f"{text}%".replace("-", "−")


def frame_of(record: WindowRecord) -> dict[str, Any]:
    """Matrices of a window: discriminability and cosines by layer, the worst pairs, clouds of the classes."""
    layers = {}
    for layer in _LAYERS:
        found, angles = record.discriminability.get(layer), record.etf.get(layer)
        if found is None or angles is None:
            continue
        many = len(found.classes) > MOST_MATRIX_CLASSES
        if not many and found.classes != angles.classes:
            continue
        content: dict[str, Any] = {"worst": _worst(found.pairs, found.classes, _WORST_OF_MANY if many else _WORST)}
        if not many:
            content |= {
                "classes": list(found.classes),
                "D": _triangle(found.pairs),
                "cosine": _triangle(angles.cosines),
            }
        layers[layer] = content
    frame: dict[str, Any] = {"step": record.step, "layers": layers}
    if matrices := {layer: m for layer, m in record.response_matrix.items() if 0 < len(m.classes) <= 64}:
        frame["E"] = {
            layer: {"classes": list(m.classes), "E": _packed(np.asarray(m.E))} for layer, m in matrices.items()
        }
    if clouds := _clouds(record, layers.get("logits", {}).get("worst", [])):
        frame["clouds"] = clouds
    return frame


def _worst(pairs: Array, classes: Sequence[int], top: int) -> list[list[Any]]:
    """The ``top`` pairs of smallest discriminability as class, class, D."""
    rows, columns = np.triu_indices(len(classes), 1)
    values = pairs[rows, columns]
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > top:
        known = known[np.argpartition(values[known], top)[:top]]
    known = known[np.argsort(values[known], kind="stable")]
    return [[int(classes[rows[i]]), int(classes[columns[i]]), float(values[i])] for i in known.tolist()]


def _clouds(record: WindowRecord, worst: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
    """Means and covariances of all classes, or of those of the worst pairs where there are many."""
    clouds = record.measures.get("class_clouds", {}).get("logits")
    if clouds is None:
        return None
    chosen = np.arange(len(clouds.classes))
    if len(chosen) > MOST_MATRIX_CLASSES:
        named = list(dict.fromkeys(k for pair in worst for k in pair[:2]))[:_MOST_CLOUDS]
        chosen = np.flatnonzero(np.isin(clouds.classes, named))
    q = clouds.means.shape[1]
    rows, columns = np.triu_indices(q)
    return {
        "classes": [int(clouds.classes[i]) for i in chosen],
        "q": q,
        "means": _packed(clouds.means[chosen]),
        "covariances": _packed(clouds.covariances[chosen][:, rows, columns]),
    }


def _triangle(matrix: Array) -> str:
    return _packed(matrix[np.triu_indices(len(matrix), 1)])


def _packed(values: Array) -> str:
    """Half precision, little endian, in base64; what is too large for it is its largest number.

    >>> _packed(np.array([1.0, 1e9]))
    'ADz/ew=='
    """
    half = np.clip(values, -65504, 65504).astype("<f2")
    return base64.b64encode(half.tobytes()).decode("ascii")


def columns_of(record: WindowRecord) -> dict[str, float]:
    """Scalars of a window that the rows hold; those of single rules are left out, as the rows name what stands."""
    return {tag: value for tag, value in scalars(record).items() if not tag.startswith("alerts/")}
