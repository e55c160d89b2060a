"""The examples run as they are; the demo's trained model is what the callback says it is."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("demo")
    callback = load("demo").main(["--logdir", str(logdir)])
    events = EventAccumulator(str(logdir / "geomnist" / "version_0"))
    events.Reload()
    return callback, events


def series(events, tag):
    return np.array([event.value for event in events.Scalars(tag)])


def test_demo_separates(demo):
    callback, events = demo
    assert len(series(events, "le/I_logits/gamma")) == 120
    assert callback.last_record.separation["features"].nearest_mean_accuracy >= 0.99
    for model in ("I_features", "I_logits", "L_logits"):
        assert callback.last_record.coefficients[model].tail_gamma < 1


def test_demo_gamma_is_positive_with_its_interval_during_the_rise(demo):
    """The rise: windows in which the between-class amplitude of the logits is up by 10 %, as in the one before."""
    _, events = demo
    growth = np.diff(np.log(series(events, "le/I_logits/amplitude_difference")))
    low = series(events, "le/I_logits/gamma_low")
    rising = [i for i in range(2, len(low)) if min(growth[i - 2 : i]) > np.log(1.1) and np.isfinite(low[i])]
    assert len(rising) >= 8
    assert all(low[i] > 0 for i in rising)


def test_demo_table(demo):
    table = demo[0].summary_table()
    for row in ("A  intra-class", "γ = α − β", "tail index of γ", "reference time", "ETF angle (ideal 120.0°)"):
        assert row in table
    assert "rectangle" in table or "ellipse" in table
    assert "of the training step" in table


def test_plot_of_the_demo(demo, tmp_path):
    plot = load("plot_run")
    figure = plot.draw(plot.reader(demo[1].path))
    assert len(figure.axes) == 6
    assert all(
        len(line.get_xdata()) == 120 for axes in figure.axes for line in axes.lines if line.get_label()[0] != "_"
    )
    plot.main([demo[1].path, str(tmp_path / "run.png")])
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_phase_transition_example_resumes(tmp_path):
    phase = load("paper/phase_transition")
    small = ["--steps", "300", "--per-class", "20", "--seeds", "1", "--results", str(tmp_path)]
    first = phase.main([*small, "--ratios", "0"])
    both = phase.main([*small, "--ratios", "0", "0.5"])
    assert [row["ratio"] for row in both] == [0, 0.5]
    assert both[0] == first[0]
    assert all(math.isfinite(row["gap"]) and row["steps"] == 300 for row in both)
    assert (tmp_path / "phase_transition.png").stat().st_size > 10_000


def test_existing_module_example(tmp_path):
    callback = load("existing_module").main(["--steps", "200", "--logdir", str(tmp_path)])
    assert callback.last_record.step == 200
    assert callback.last_record.etf["features"].ideal == pytest.approx(math.degrees(math.acos(-1 / 9)))
    assert callback.monitor.window.moments["features"].reference.shape == (10, 32)


def test_geomnist_is_deterministic_and_corrupts_as_asked():
    geomnist = load("geomnist")
    first, again, other = (geomnist.GeoMNIST(20, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (60, 1, 32, 32)
    assert 0 <= first.images.min() < 0.01
    assert 0.9 < first.images.max() <= 1
    noisy = geomnist.GeoMNIST(400, seed=0, corrupt=0.6)
    wrong = noisy.labels != torch.arange(3).repeat_interleave(400)
    # 1,200 labels: 4 standard deviations of the binomial are 0.057
    assert wrong.double().mean().item() == pytest.approx(0.6, abs=0.057)
