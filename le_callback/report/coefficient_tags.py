"""Tags of the coefficients of each model, of what they predict, and of the step responses of a probe."""

from __future__ import annotations

from le_callback.measures import Prediction, predict
from le_callback.records import WindowRecord
from le_callback.report.tag_group import TagGroup
from le_callback.values import Tag


def _predicted(record: WindowRecord) -> Prediction | None:
    found, K = record.coefficients.get("L_logits"), len(record.class_samples)
    if found is None or K < 2:
        return None
    return predict(found.gamma.value, found.B.value, found.amplitude_common, found.amplitude_difference)


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
            label="log ratio of the L-modes",
            unit="",
            meaning="Log of the ETF part of the class means over the rest: in the LE-ODE it grows by −B/(K−1).",
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
