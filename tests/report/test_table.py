"""The table at the end: each cell holds what its row says."""

import math

import pytest
from distinct import distinct_record

from le_callback.measures import EtfAngles
from le_callback.report.table import OwnCost, summary_table
from le_callback.values import Estimate

NAMES = ["ant", "bee", "cow"]


def cells(table, title):
    (row,) = [line for line in table.splitlines() if line.startswith(title)]
    return row.removeprefix(title).split()


@pytest.fixture
def batches(request):
    """The part of the table that is about training batches."""
    return summary_table(distinct_record(), NAMES).split("\n\n")[1]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("A  intra-class, cumulative", ["1003", "2003"]),
        ("B  inter-class, cumulative", ["1004", "2004"]),
        ("α  per step", ["1e+03", "[1e+03,", "1.01e+03]", "2e+03", "[2e+03,", "2.01e+03]"]),
        ("γ = α − β  per step", ["1.01e+03", "[1.01e+03,", "1.01e+03]", "2.01e+03", "[2.01e+03,", "2.01e+03]"]),
        ("tail index of A", ["1011", "2011"]),
        ("tail index of B", ["1012", "2012"]),
        ("tail index of γ", ["1013", "2013"]),
        ("reference time of A, B", ["step", "1014", "step", "2014"]),
        ("reference time of γ", ["step", "1015", "step", "2015"]),
    ],
)
def test_rows_of_the_coefficients(batches, title, expected):
    assert cells(batches, title) == expected


def test_models_stand_above_their_columns_and_the_probe_apart(batches):
    assert batches.splitlines()[0].split() == ["I-model,", "logits", "L-model,", "logits"]
    probe = summary_table(distinct_record(), NAMES).split("\n\n")[2]
    assert probe.splitlines()[0].strip() == "I-model, probe logits"
    assert cells(probe, "A  intra-class, cumulative") == ["3003"]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("ETF angle (ideal 120.0°)", ["11.0°", "21.0°"]),
        ("deviation from it", ["12.0°", "22.0°"]),
        ("smallest angle", ["13.0°", "ant", "/", "bee", "23.0°", "bee", "/", "cow"]),
        ("variation of norms", ["14", "24"]),
        ("nearest-class-mean accuracy", ["0.75", "0.5"]),
        ("smallest discriminability", ["401", "ant", "/", "cow", "403", "bee", "/", "cow"]),
        ("measured, own samples", ["61", "[60.8,", "61.5]"]),
        ("measured, other classes", ["63", "[62.8,", "63.5]"]),
        ("measured γ  per step", ["65", "[64.8,", "65.5]"]),
    ],
)
def test_rows_of_geometry_and_probe(title, expected):
    assert cells(summary_table(distinct_record(), NAMES), title) == expected


def test_lines_below_the_table():
    cost = OwnCost(100, 1.0, 2.0, 5.0, 0.5, 105.0)
    lines = summary_table(distinct_record(), NAMES, cost, ["PairMerging at step 9: …"], "made at step 8").splitlines()
    assert lines[0] == "Local elasticity and separability, 3 classes, window of steps 2001 to 2050 (800 samples)"
    assert lines[-7:] == [
        "Verdict: converged. γ is spent",
        "Forecast made at step 8",
        "Alert: PairMerging at step 9: …",
        "No samples in this window: cow",
        "Skipped 71 samples with a label outside the classes",
        "Skipped 72 samples with features that are not finite",
        "Own time: 10.00 ms a step and 20.00 ms for windows, 5.00 ms for the probe, 3.5% of the training step, and"
        " 5.0 s in all for figures",
    ]


def test_unknown_and_infinite_cells():
    record = distinct_record()
    one = record.coefficients["I_logits"]
    unknown = one.__class__.unknown(one.model, one.source, 1.0, "not identifiable: noise")
    table = summary_table(distinct_record(coefficients={"I_logits": unknown}), NAMES)
    assert cells(table, "A  intra-class, cumulative") == ["–"]
    assert cells(table, "γ = α − β  per step") == ["–"]
    assert cells(table, "reference time of γ") == ["–"]
    assert "I-model, logits: not identifiable: noise" in table.splitlines()
    endless = {**vars(one), "tail_A": math.inf, "alpha": Estimate(0.5, -math.inf, math.inf)}
    table = summary_table(distinct_record(coefficients={"I_logits": type(one)(**endless)}), NAMES)
    assert cells(table, "tail index of A") == ["∞"]
    table = summary_table(distinct_record(time_unit="learning rate"), NAMES).split("\n\n")[1]
    assert cells(table, "reference time of A, B")[:3] == ["1.01e+03", "learning", "rate"]
    assert "α  per learning rate" in table


def test_without_two_classes_there_is_no_geometry():
    table = summary_table(distinct_record(measures={}, missing_classes=tuple(range(12))), [str(k) for k in range(12)])
    assert "No two classes with samples in this window: no angles, no separability." in table
    assert "No samples in this window: 0, 1, 2, 3, 4, 5, 6, 7 and 4 more" in table


def test_too_few_dimensions_are_said():
    record = distinct_record()
    flat = EtfAngles(**{**vars(record.etf["logits"]), "attainable": False})
    etf = {"features": record.etf["features"], "logits": flat}
    table = summary_table(distinct_record(measures={**record.measures, "etf": etf}), NAMES)
    assert "logits: too few dimensions for a simplex ETF of all classes" in table
    assert "features: too few" not in table


def test_share_leaves_figures_out():
    assert OwnCost(10, 1.0, 1.0, 5.0, 0.5, 30.0).share == pytest.approx(0.1)
    assert math.isnan(OwnCost(10, 1.0, 1.0, 30.0, 0.5, 30.0).share)
