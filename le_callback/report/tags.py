"""The one registry of tags: every scalar that is told, what it means, and how it is read from a record.

Tags of measures stand with the measures (``le_callback.measures``); those of coefficients, probe, verdict and alerts
are here. Scalars, the tables of README and docs, and the table at the end of a run come from this list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from le_callback.measures import MEASURES, Measure, Prediction, predict
from le_callback.records import WindowRecord
from le_callback.values import NAN, Estimate, Tag

Level = Literal["essential", "all"]
LEVELS: tuple[Level, ...] = ("essential", "all")


@dataclass(frozen=True)
class TagGroup:
    """Tags that are read from the same records.

    Attributes:
        tags: the tags.
        subjects: from a window's record the records that the tags are read from, by model, source or rule; None for
            one that is missing. The keys are the same for every window of a run.
    """

    tags: tuple[Tag, ...]
    subjects: Callable[[WindowRecord], Mapping[str, Any]]


COEFFICIENTS = TagGroup(
    (
        Tag(
            name="le/{model}/A",
            label="A = ∫α",
            unit="",
            meaning="∫α since the reference time: intra-class elasticity, cumulative.",
            look_for="the shape of the whole training; steps are phases",
            better="neither",
            chart="A and B",
            read=lambda c: c.A,
            essential=("I_logits",),
            interval=True,
            ends_essential=False,
            row="A  intra-class, cumulative",
        ),
        Tag(
            name="le/{model}/B",
            label="B = ∫β",
            unit="",
            meaning="∫β since the reference time: inter-class elasticity, cumulative.",
            look_for="falls while the classes push each other away",
            better="neither",
            chart="A and B",
            read=lambda c: c.B,
            essential=("I_logits",),
            interval=True,
            ends_essential=False,
            row="B  inter-class, cumulative",
        ),
        Tag(
            name="le/{model}/G",
            label="G = ∫γ",
            unit="",
            meaning="∫γ since the reference time of γ: local elasticity, cumulative.",
            look_for="rises while the gap between the classes grows; flat: it has stopped",
            better="higher",
            chart="A and B",
            read=lambda c: c.G,
            interval=True,
        ),
        Tag(
            name="le/{model}/alpha",
            label="α",
            unit="1/time",
            meaning="α, intra-class elasticity: how much training on a class moves that class.",
            look_for="above β while the classes separate",
            better="neither",
            chart="alpha, beta, gamma",
            read=lambda c: c.alpha,
            interval=True,
            per_time=True,
            row="α  per {unit}",
        ),
        Tag(
            name="le/{model}/beta",
            label="β",
            unit="1/time",
            meaning="β, inter-class elasticity: how much training on a class moves the other classes.",
            look_for="below α while the classes separate",
            better="neither",
            chart="alpha, beta, gamma",
            read=lambda c: c.beta,
            interval=True,
            per_time=True,
            row="β  per {unit}",
        ),
        Tag(
            name="le/{model}/gamma",
            label="γ = α − β",
            unit="1/time",
            meaning="γ = α − β, local elasticity: the rate at which the gap between the classes grows.",
            look_for="above 0: training on a class helps it more than it drags the others along; the gap grows",
            better="higher",
            chart="alpha, beta, gamma",
            read=lambda c: c.gamma,
            essential=("I_logits", "I_probe_logits"),
            interval=True,
            per_time=True,
            row="γ = α − β  per {unit}",
        ),
        Tag(
            name="le/{model}/tail_A",
            label="tail index of A",
            unit="",
            meaning="Finite-time index of α ~ t^(−r): how far A has grown so far, not how α falls now.",
            look_for="below 1: A keeps growing. It depends on the reference time: compare runs of equal length",
            better="lower",
            chart="tail index",
            read=lambda c: c.tail_A,
            row="tail index of A",
        ),
        Tag(
            name="le/{model}/tail_B",
            label="tail index of B",
            unit="",
            meaning="The same of |B|.",
            look_for="as for A",
            better="neither",
            chart="tail index",
            read=lambda c: c.tail_B,
            row="tail index of B",
        ),
        Tag(
            name="le/{model}/tail_gamma",
            label="tail index of γ",
            unit="",
            meaning="The same of ∫γ: how far the gap has grown so far, not how its growth decays.",
            look_for="below 1: separation keeps growing; at 1 or above it stalls, ∞: no growth at all",
            better="lower",
            chart="tail index",
            read=lambda c: c.tail_gamma,
            row="tail index of γ",
        ),
        Tag(
            name="le/{model}/amplitude_difference",
            label="difference mode",
            unit="features",
            meaning="(Σₖ‖X̄ₖ−X̌‖²)^½, the gap between the classes (L-model: along eₖ − 1/K), sampling noise removed.",
            look_for="grows; use a log axis",
            better="higher",
            chart="amplitudes",
            read=lambda c: c.amplitude_difference,
            essential=("I_logits",),
        ),
        Tag(
            name="le/{model}/amplitude_common",
            label="common mode",
            unit="features",
            meaning="‖X̌‖, the mean of the class means (L-model: along eₖ − 1/K), sampling noise removed.",
            look_for="what all classes share; use a log axis",
            better="neither",
            chart="amplitudes",
            read=lambda c: c.amplitude_common,
        ),
    ),
    lambda record: record.coefficients,
)

PREDICTION = TagGroup(
    (
        Tag(
            name="collapse/predicted",
            label="ETF predicted",
            unit="",
            meaning="1 where γ > 0 and B < 0 in the L-model: then the class means tend to an ETF; else 0.",
            look_for="1 before the deviation of the angles falls",
            better="higher",
            chart="collapse predicted",
            read=lambda prediction: prediction.tends,
        ),
        Tag(
            name="collapse/predicted_growth",
            label="−B/(K−1)",
            unit="",
            meaning="−B/(K−1) of the L-model: log growth of the ETF part of the class means over that of the rest.",
            look_for="grows while the means come nearer to an ETF; 1 is a factor of e",
            better="higher",
            chart="collapse predicted",
            read=lambda prediction: prediction.growth,
        ),
    ),
    lambda record: {"": _predicted(record)},
)

STEP_RESPONSE = TagGroup(
    (
        Tag(
            name="le/measured_{source}/intra",
            label="measured, own samples",
            unit="1/step",
            meaning="What a step did to a class of the probe by its own samples, over its distance from the centre.",
            look_for="above inter",
            better="higher",
            chart="measured elasticity",
            read=lambda response: response.intra,
            interval=True,
            row="measured, own samples",
        ),
        Tag(
            name="le/measured_{source}/inter",
            label="measured, other classes",
            unit="1/step",
            meaning="The same by samples of another class.",
            look_for="below intra",
            better="lower",
            chart="measured elasticity",
            read=lambda response: response.inter,
            interval=True,
            row="measured, other classes",
        ),
        Tag(
            name="le/measured_{source}/gamma",
            label="measured γ",
            unit="1/step",
            meaning="intra + (K−1)·inter: a witness of γ that does not look at growth.",
            look_for="above 0; wide intervals, as single steps are noisy",
            better="higher",
            chart="measured elasticity",
            read=lambda response: response.gamma,
            interval=True,
            row="measured γ  per step",
        ),
    ),
    lambda record: record.step_response,
)

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


def _predicted(record: WindowRecord) -> Prediction | None:
    found, K = record.coefficients.get("L_logits"), len(record.class_samples)
    return predict(found.gamma.value, found.B.value, K) if found is not None and K >= 2 else None


def _measured(measure: Measure, record: WindowRecord) -> Mapping[str, Any]:
    found = record.measures.get(measure.name, {})
    return {layer: found.get(layer) for layer in measure.layers}


GROUPS: tuple[TagGroup, ...] = (
    COEFFICIENTS,
    STEP_RESPONSE,
    *(TagGroup(measure.tags, partial(_measured, measure)) for measure in MEASURES),
    PREDICTION,
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
    (90, 'collapse/features/within')
    """
    found: dict[str, float] = {}
    for tag, key, subject in _entries(record):
        if level == "all" or tag.is_essential(key):
            name = _full_name(tag, key, record.time_unit)
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
    return tag.name.format(model=key, source=key, rule=key) + per


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
