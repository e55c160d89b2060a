"""The one registry of tags: every scalar that is told, what it means, and how it is read from a record.

Tags of measures stand with the measures (``le_callback.measures``), those of coefficients and probe in
``coefficient_tags``; those of verdict and alerts are here. Scalars, the tables of the documentation, and the table
at the end of a run come from this list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, Literal

from le_callback.measures import MEASURES, Measure
from le_callback.probe.epoch_pass import EpochReading
from le_callback.records import WindowRecord
from le_callback.report.coefficient_tags import COEFFICIENTS, PREDICTION, STEP_RESPONSE
from le_callback.report.epoch_tags import EPOCH, STREAMED, compared
from le_callback.report.tag_group import TagGroup
from le_callback.values import NAN, Estimate, Tag

Level = Literal["essential", "all"]
LEVELS: tuple[Level, ...] = ("essential", "all")


VERDICT = TagGroup(
    (
        Tag(
            name="separation/tail_local",
            label="local tail index",
            unit="",
            meaning="Local tail index of γ ~ t^(−r), whatever the reference time.",
            look_for="below 1: separating; above 1: γ decays too fast to separate",
            better="lower",
            chart="verdict",
            read=lambda regime: regime.index,
            essential=True,
            interval=True,
        ),
        Tag(
            name="separation/t_gamma",
            label="t·γ",
            unit="",
            meaning="Time times γ.",
            look_for="rising: separating; falling: not",
            better="higher",
            chart="verdict",
            read=lambda regime: regime.t_gamma,
        ),
        Tag(
            name="separation/separated",
            label="separated",
            unit="",
            meaning="1 where the verdict is that the classes are separated and no longer drift apart, else 0.",
            look_for="1: γ → 0 is health from here on",
            better="higher",
            chart="verdict",
            read=lambda regime: float(regime.name == "separated"),
            essential=True,
        ),
        Tag(
            name="separation/rate",
            label="growth of the worst pairs",
            unit="deviations/1,000 steps",
            meaning=(
                "How fast the discriminability of the worst tenth of the pairs grows, by a line through the last 4 to"
                " 20 windows: per 1,000 steps, or per unit of another time axis."
            ),
            look_for="interval above 0: separating; below 0: losing",
            better="higher",
            chart="rate",
            read=lambda regime: regime.rate,
            interval=True,
            per_time=True,
        ),
    ),
    lambda record: {"": record.regime},
)

ALERTS = TagGroup(
    (
        Tag(
            name="alerts/active",
            label="standing alerts",
            unit="alerts",
            meaning="How many alerts stand.",
            look_for="0; the text says which and why",
            better="lower",
            chart="alerts",
            read=lambda standing: float(sum(standing.values())),
            essential=True,
        ),
    ),
    lambda record: {"": record.alerts} if record.alerts else {},
)

RULES = TagGroup(
    (
        Tag(
            name="alerts/{rule}",
            label="alert",
            unit="",
            meaning="1 while the alert of this rule stands, else 0.",
            look_for="0",
            better="lower",
            chart="alerts",
            read=float,
        ),
    ),
    lambda record: record.alerts,
)


def _measured(measure: Measure, record: WindowRecord) -> Mapping[str, Any]:
    found = record.measures.get(measure.name, {})
    return {layer: found.get(layer) for layer in measure.layers}


GROUPS: tuple[TagGroup, ...] = (
    COEFFICIENTS,
    STEP_RESPONSE,
    *(TagGroup(measure.tags, partial(_measured, measure)) for measure in MEASURES),
    PREDICTION,
    EPOCH,
    VERDICT,
    ALERTS,
    RULES,
)


def scalars(record: WindowRecord, level: Level = "all") -> dict[str, float]:
    """Every scalar of a window under its tag; the same tags for every window of a run, NaN where unknown.

    Args:
        record: of the window.
        level: ``essential``: the at most 24 that loggers get by default; ``all``.

    >>> from le_callback.monitor import SeparationMonitor
    >>> record = SeparationMonitor(num_classes=3).close(step=50)
    >>> len(scalars(record)), sorted(scalars(record, "essential"))[0]
    (133, 'collapse/features/within')
    """
    return _told(_entries(record), level, record.time_unit)


def epoch_scalars(reading: EpochReading, record: WindowRecord | None, level: Level = "all") -> dict[str, float]:
    """Every scalar of whole data sets at the end of an epoch under its tag, beside those of the last window.

    >>> epoch_scalars(EpochReading(9, {"nc5": 0.25}, 0, 50), None)
    {'collapse/epoch/nc5': 0.25}
    """
    difference, value = EPOCH.tags
    entries = []
    for name, subject in compared(reading, record).items():
        tags = (value, difference) if name in STREAMED else (value,)
        entries += [(tag, name, subject) for tag in tags]
    return _told(entries, level, "step")


def _told(entries: Iterable[tuple[Tag, str, Any]], level: Level, time_unit: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for tag, key, subject in entries:
        if level == "all" or tag.is_essential(key):
            name = _full_name(tag, key, time_unit)
            value: float | Estimate = Estimate.unknown() if tag.interval else NAN
            if subject is not None:
                value = tag.read(subject)
            if not isinstance(value, Estimate):
                found[name] = value
                continue
            found[name] = value.value
            if level == "all" or tag.ends_essential:
                found |= {f"{name}_low": value.low, f"{name}_high": value.high}
    return found


def _entries(record: WindowRecord) -> Iterator[tuple[Tag, str, Any]]:
    for group in GROUPS:
        subjects = group.subjects(record)
        for key, subject in subjects.items():
            for tag in group.tags:
                yield tag, key, subject


def _full_name(tag: Tag, key: str, time_unit: str) -> str:
    """The tag of one model, source or rule, with the unit of time where that is not the optimizer step."""
    per = f"_per_{time_unit.replace(' ', '_')}" if tag.per_time and time_unit != "step" else ""
    return tag.name.format(model=key, source=key, rule=key, measure=key) + per


def find_tag(name: str) -> Tag | None:
    """The tag that a scalar's name is of, whatever model, source or rule, end of an interval or unit of time is in it.

    >>> find_tag("le/I_logits/gamma_per_epoch_low") is find_tag("le/L_features/gamma"), find_tag("loss")
    (True, None)
    """
    tags = (tag for group in GROUPS for tag in group.tags)
    return next((tag for tag in tags if _pattern(tag.name, tag.interval).fullmatch(name)), None)


@cache
def _pattern(name: str, interval: bool) -> re.Pattern[str]:
    whole = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(name))
    return re.compile(rf"{whole}(_per_\w+)?{'(_low|_high)?' if interval else ''}")
