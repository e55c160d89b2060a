"""The table at the end: each cell holds what its row says."""

import math
import re
import sys
from xml.etree import ElementTree

import pytest
from distinct import distinct_record
from lightning.pytorch.callbacks import RichModelSummary
from lightning.pytorch.loggers import TensorBoardLogger
from trainings import Classifier, loader, trainer

from le_callback import LECallback
from le_callback.measures import EtfAngles
from le_callback.report.rich_table import show_table
from le_callback.report.table import OwnCost, laid_out, summary_blocks
from le_callback.trainer.own_cost import Clock
from le_callback.values import Estimate

NAMES = ["ant", "bee", "cow"]


def summary_table(*args, encoding=None, **kwargs):
    return laid_out(summary_blocks(*args, **kwargs), encoding)


def uncoloured(text):
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)


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
        ("A  intra-class, cumulative", ["1e+03", "[1e+03,", "1e+03]", "2e+03", "[2e+03,", "2e+03]"]),
        ("B  inter-class, cumulative", ["1e+03", "[1e+03,", "1e+03]", "2e+03", "[2e+03,", "2e+03]"]),
        ("α  per step", ["1e+03", "[1e+03,", "1.01e+03]", "2e+03", "[2e+03,", "2.01e+03]"]),
        ("γ = α − β  per step", ["1.01e+03", "[1.01e+03,", "1.01e+03]", "2.01e+03", "[2.01e+03,", "2.01e+03]"]),
        ("tail index of A", ["1.01e+03", "[1.01e+03,", "1.01e+03]", "2.01e+03", "[2.01e+03,", "2.01e+03]"]),
        ("tail index of B", ["1.01e+03", "[1.01e+03,", "1.01e+03]", "2.01e+03", "[2.01e+03,", "2.01e+03]"]),
        ("tail index of γ", ["1.01e+03", "[1.01e+03,", "1.01e+03]", "2.01e+03", "[2.01e+03,", "2.01e+03]"]),
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
    assert cells(probe, "tail index of A") == ["3.01e+03", "[3.01e+03,", "3.01e+03]"]


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
    assert lines[1:5] == [
        "Verdict: separated. Nothing grows.",
        "Worst pair: bee / cow, 403 deviations apart in the logits (they overlap below 2)",
        "Theorem: γ is spent.",
        "",
    ]
    assert lines[-6:] == [
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
    endless = {**vars(one), "tail_A": Estimate(math.inf, 1.2, math.inf), "alpha": Estimate(0.5, -math.inf, math.inf)}
    table = summary_table(distinct_record(coefficients={"I_logits": type(one)(**endless)}), NAMES)
    assert cells(table, "tail index of A") == ["∞", "[1.2,", "∞]"]
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


def test_at_a_hundred_classes_the_table_stays_a_screen():
    names = [f"class number {k} of a hundred with a long name" for k in range(100)]
    alerts = [f"PairMerging at step {step}: …" for step in range(60)]
    record = distinct_record(missing_classes=tuple(range(7, 97)))
    lines = summary_table(record, names, OwnCost(9, 1, 1, 0, 0, 9), alerts, "made at step 8: none").splitlines()
    assert len(lines) <= 52
    assert [line for line in lines if line.startswith("Alert")] == [f"Alert: {text}" for text in alerts[-5:]]
    assert "55 earlier alerts, and" in lines
    (row,) = [line for line in lines if line.startswith("smallest angle")]
    assert "class number 0 of a hun… / class number 1 of a hun…" in row
    assert max(map(len, lines)) < 260
    long = summary_table(record, names, alerts=["much to say " * 99]).splitlines()
    assert [len(line) for line in long if line.startswith("Alert")] == [len("Alert: ") + 400]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "no-such-encoding"])
def test_symbols_that_cannot_be_shown_are_spelled_and_columns_stay(encoding):
    whole = summary_table(distinct_record(), NAMES).splitlines()
    lines = summary_table(distinct_record(), NAMES, encoding=encoding).splitlines()
    "\n".join(lines).encode("ascii")
    assert len(lines) == len(whole)
    assert cells("\n".join(lines).split("\n\n")[1], "gamma = alpha - beta  per step")[0] == "1.01e+03"
    assert cells("\n".join(lines), "ETF angle (ideal 120.0 deg)") == ["11.0", "deg", "21.0", "deg"]
    head = lines.index(next(line for line in lines if "I-model" in line))
    column = lines[head].index("L-model")
    for line in lines[head + 1 : head + 10]:
        assert line[column - 1] == " "
        assert line[column] != " "


def test_an_encoding_that_has_all_symbols_gets_them():
    assert summary_table(distinct_record(), NAMES, encoding="utf-8") == summary_table(distinct_record(), NAMES)


def test_share_leaves_figures_out():
    assert OwnCost(10, 1.0, 1.0, 5.0, 0.5, 30.0).share == pytest.approx(0.1)
    assert math.isnan(OwnCost(10, 1.0, 1.0, 30.0, 0.5, 30.0).share)
    assert "nan" not in str(OwnCost(10, 1.0, 1.0, 30.0, 0.5, 30.0))


def test_share_of_what_is_done_outside_of_the_steps(monkeypatch):
    """A probe before the first step, windows and figures after the last: none is more than the whole."""
    now = [0.0]
    monkeypatch.setattr("le_callback.trainer.own_cost.time.perf_counter", lambda: now[0])
    clock = Clock()

    def passing(seconds):
        now[0] += seconds

    with clock.probing():
        passing(1.0)
    for _ in range(2):
        clock.start_step()
        passing(3.0)
        passing(1.0)
        clock.end_step(1.0)
        passing(50.0)  # of the Trainer's own, between two steps
    with clock.evaluating():
        passing(2.0)
    with clock.drawing():
        passing(100.0)
    cost = clock.cost()
    assert cost == OwnCost(2, 2.0, 2.0, 100.0, 1.0, 8.0 + 1.0 + 2.0 + 100.0)
    assert cost.share == pytest.approx(5 / 11)


@pytest.mark.parametrize("epochs", [1, 3])
def test_share_of_a_short_run_with_figures(tmp_path, epochs):
    callback = LECallback(summary=False, every_n_steps=1000)
    trainer(callback, max_epochs=epochs, logger=TensorBoardLogger(tmp_path)).fit(Classifier(), loader())
    (share,) = re.findall(r"([\d.]+|nan)% of the training step", callback.summary_table())
    assert 0 < float(share) < 100
    assert "in all for figures" in callback.summary_table()


@pytest.mark.parametrize("name", ["[bold]bee[/bold]", "[/]", "bee"])
def test_rich_draws_the_same_words(capsys, monkeypatch, name):
    pytest.importorskip("rich", reason="rich is not installed")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    blocks = summary_blocks(distinct_record(), ["ant", name, "cow"])
    show_table(blocks, pretty=True)
    drawn = uncoloured(capsys.readouterr().out)
    assert "──" in drawn
    assert f"Worst pair: {name} / cow" in drawn
    plain = laid_out(blocks).replace("\n", " ").split()
    assert [word for word in drawn.split() if set(word) != {"─"}] == plain


def test_into_a_file_the_table_is_text(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    blocks = summary_blocks(distinct_record(), NAMES)
    show_table(blocks, pretty=True)
    assert capsys.readouterr().out == f"\n{laid_out(blocks)}\n\n"


def test_where_rich_fails_the_table_is_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    blocks = summary_blocks(distinct_record(), NAMES)
    show_table(blocks, pretty=True)
    assert capsys.readouterr().out == f"\n{laid_out(blocks)}\n\n"


@pytest.mark.parametrize("rich", [False, True])
def test_rich_draws_it_where_it_draws_lightnings_tables(capsys, monkeypatch, rich):
    pytest.importorskip("rich", reason="rich is not installed")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    callbacks = [RichModelSummary()] if rich else []
    trainer(LECallback(), callbacks=callbacks, enable_model_summary=rich).fit(Classifier(), loader())
    printed = uncoloured(capsys.readouterr().out).partition("Local elasticity")[2]
    assert "Verdict: " in printed
    assert ("──" in printed) is rich


def test_notebooks_show_verdict_and_worst_pair():
    callback = LECallback(summary=False, class_names=["<b>", "bee", "cow"])
    assert "no window has closed yet" in callback._repr_html_()
    trainer(callback).fit(Classifier(), loader())
    shown = ElementTree.fromstring(callback._repr_html_())
    rows = {row[0].text: row[1].text for row in shown.iter("tr")}
    record = callback.last_record
    k, m, D = record.discriminability["logits"].worst[0]
    names = ["<b>", "bee", "cow"]
    assert rows["Verdict"].startswith(f"{record.regime.name}. ")
    assert rows["Worst pair"].startswith(f"{names[k]} / {names[m]}, {D:.3g} deviations")
    assert (rows["Alerts"], rows["Step"]) == ("none", f"{record.step:,}")


def test_notebooks_show_what_a_trajectory_holds():
    callback = LECallback(summary=False, class_names=["<b>", "bee", "cow"])
    trainer(callback, max_epochs=3).fit(Classifier(), loader())
    run = callback.trajectory
    rows = {row[0].text: row[1].text for row in ElementTree.fromstring(run._repr_html_()).iter("tr")}
    source = run.sources["logits"]
    gaps = [math.sqrt(sum(((m[k] - m[j]) ** 2).sum() for k, j in ((0, 1), (0, 2), (1, 2))) / 3) for m in source.means]
    assert rows["classes"] == "3: <b>, bee, cow"
    assert rows["logits"].startswith(f"{len(source.times)} windows, step ")
    assert rows["logits"].endswith(f"gap {gaps[0]:.3g} to {gaps[-1]:.3g}")
