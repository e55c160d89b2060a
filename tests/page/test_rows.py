"""What of a record goes into the file."""

import base64
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from page.made import records

from le_callback import Estimate, SeparationMonitor
from le_callback.page.advice import ADVICE
from le_callback.page.rows import (
    MOST_MATRIX_CLASSES,
    about_columns,
    columns_of,
    frame_of,
    median_pair,
    rate_in_words,
    row_of,
    todo,
    verdict_of,
)


def record(classes=4, windows=3, samples=200, width=5, seed=0, seen=None):
    monitor = SeparationMonitor(num_classes=classes)
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(classes, width, generator=generator)
    for window in range(windows):
        y = torch.arange(samples) % (seen or classes)
        x = centres[y] + torch.randn(samples, width, generator=generator)
        logits = torch.randn(samples, classes, generator=generator) + 2 * torch.nn.functional.one_hot(y, classes)
        monitor.update(features=x, logits=logits, target=y)
        last = monitor.close(step=10 * (window + 1))
    return last


def halves(text):
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def test_matrices_are_upper_triangles_in_half_precision():
    found = record()
    layers = frame_of(found)["layers"]
    upper = np.triu_indices(4, 1)
    for layer in ("features", "logits"):
        D, cosines = found.discriminability[layer].pairs[upper], found.etf[layer].cosines[upper]
        np.testing.assert_allclose(halves(layers[layer]["D"]), D, rtol=1e-3)
        np.testing.assert_allclose(halves(layers[layer]["cosine"]), cosines, rtol=1e-3, atol=1e-3)


def test_worst_pairs_are_all_that_there_are_in_order():
    found = record(classes=6)
    pairs = found.discriminability["logits"].pairs
    expected = sorted((pairs[i, j], i, j) for i in range(6) for j in range(i + 1, 6))[:10]
    worst = frame_of(found)["layers"]["logits"]["worst"]
    assert [tuple(pair[:2]) for pair in worst] == [(i, j) for _, i, j in expected]
    assert row_of(found, {}, 0)["worst"]["logits"][:2] == worst[0][:2]


def test_of_many_classes_the_worst_pairs_alone_are_kept():
    many = MOST_MATRIX_CLASSES + 20
    frame = frame_of(record(classes=many, samples=1000))
    assert set(frame["layers"]["logits"]) == {"worst"}
    assert len(frame["layers"]["logits"]["worst"]) == 50
    named = {k for pair in frame["layers"]["logits"]["worst"] for k in pair[:2]}
    assert set(frame["clouds"]["classes"]) <= named
    assert len(frame["clouds"]["classes"]) <= 24


def test_clouds_hold_means_and_upper_triangles_of_covariances():
    found = record()
    frame, clouds = frame_of(found)["clouds"], found.measures["class_clouds"]["logits"]
    np.testing.assert_allclose(halves(frame["means"]), clouds.means.ravel(), rtol=1e-3, atol=1e-3)
    upper = np.triu_indices(4)
    covariances = np.concatenate([c[upper] for c in clouds.covariances])
    np.testing.assert_allclose(halves(frame["covariances"]), covariances, rtol=1e-3, atol=1e-3)


def test_a_window_without_samples_has_a_row_and_a_frame():
    empty = SeparationMonitor(num_classes=3).close(step=5)
    row = row_of(empty, columns_of(empty), 0)
    assert row["missing"] == 3
    assert row["gaps"] is None
    assert frame_of(empty) == {"step": 5, "layers": {}}


def test_classes_that_are_missing_have_no_row_in_matrices():
    frame = frame_of(record(classes=5, seen=3))
    assert frame["layers"]["logits"]["classes"] == [0, 1, 2]


def test_every_column_is_explained():
    columns = list(columns_of(record()))
    about = about_columns(columns)
    assert set(about) == set(columns)
    assert about["le/L_logits/gamma_low"][0] == "γ = α − β"
    assert about_columns(["le/I_features/alpha_per_epoch"])["le/I_features/alpha_per_epoch"][0] == "α"
    assert not about_columns(["loss", "le/", "separation/x"])


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(0.1, 0.09, 0.11), "gap grows 10% a step (9% to 11%); doubles in 6.9 steps"),
        (Estimate(-0.01, -0.02, -0.005), "gap shrinks 1% a step (0.5% to 2%); halves in 69 steps"),
        (Estimate(1e-6, 9e-7, 2e-6), "gap grows 0.0001% a step (9e−5% to 0.0002%); doubles in 693,147 steps"),
        (Estimate(0.01, -0.01, 0.03), "no clear growth: −1% to 3% a step"),
        (Estimate(0.01, float("nan"), float("nan")), "gap grows 1% a step (interval not known); doubles in 69 steps"),
        (Estimate(1.5, -6.5, 10.0), "no clear growth: −650% to 1,000% a step"),
        (Estimate.unknown(), "not known yet"),
    ],
)
def test_rates_in_words(estimate, expected):
    assert rate_in_words(estimate, "step") == expected


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        ("0.5 D a day", "0.5 D a day"),
        (Estimate(0.5, 0.4, 0.6), "worst pairs gain 0.5 D per 1,000 steps (0.4 to 0.6)"),
        (Estimate(0.1, -0.4, 0.6), "no clear change; D of the worst pairs: −0.4 to +0.6 per 1,000 steps"),
        (Estimate.unknown(), None),
    ],
)
def test_verdicts_of_any_shape_are_told_as_they_are(rate, told):
    @dataclass
    class Later:
        rate: object
        name: str = "stalled"
        reason: str = "because of that"
        side: str = "slower"
        theorem: str = "γ decays like 1/t"
        number: float = 0.3

    found = replace(record(), regime=Later(rate))
    name, words, why = verdict_of(found)
    assert (name, why) == ("stalled", ["because of that", "γ decays like 1/t"])
    assert words == (told or rate_in_words(found.primary.gamma, "step"))
    assert verdict_of(replace(found, regime=None))[0] == ""


def test_every_word_of_the_verdict_has_advice():
    words = {"at chance", "separating", "stalled", "losing", "separated", "cannot tell"}
    words |= {"critical", "not separating", "converged", "not identifiable"}
    assert words <= set(ADVICE)
    assert all(text.endswith(".") and len(text) < 110 for text in ADVICE.values())


def test_a_pair_that_stays_behind_the_others_is_named():
    """D of two classes that lie on each other is near 0 while the median pair comes far apart."""
    (*_, mixed) = records(6, 40, mixed=(1, 4))
    (*_, plain) = records(6, 40)
    assert mixed.discriminability["logits"].worst[0][:2] == (1, 4)
    assert median_pair(mixed.discriminability["logits"].pairs) > 2
    assert todo(mixed, "separating") == ["lagging"]
    assert todo(plain, "separating") == ["separating"]


@pytest.mark.parametrize(
    ("smallest", "others", "expected"),
    [
        (1.18, 5.0, "lagging"),  # overlaps, and the others do not
        (1.74, 4.0, "stalled"),  # overlaps, but others are no three times as far apart
        (2.1, 9.0, "stalled"),  # does not overlap
        (0.3, 1.5, "stalled"),  # the others overlap, too
        (0.1, 0.3, "alike"),
    ],
)
def test_when_a_pair_is_left_behind(smallest, others, expected):
    (*_, last) = records(3, 2)
    found = last.discriminability["logits"]
    pairs = np.array([[np.nan, smallest, others], [smallest, np.nan, others], [others, others, np.nan]])
    measures = {**last.measures, "discriminability": {"logits": replace(found, pairs=pairs, worst=((0, 1, smallest),))}}
    assert todo(replace(last, measures=measures), "stalled") == [expected]
