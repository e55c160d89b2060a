"""The examples run as they are; the demo's trained model is what the callback says it is."""

import importlib.util
import math
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STEPS = 1850
LAST = deque(maxlen=50)  # features, logits and labels of the demo's last window, seen by a hook of the test's own


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("demo")
    example = load("demo")

    class Recorded(example.Classifier):
        def training_step(self, batch, batch_idx):
            seen = []
            hook = self.net.classifier.register_forward_hook(lambda m, x, z: seen.append((x[0].detach(), z.detach())))
            loss = super().training_step(batch, batch_idx)
            hook.remove()
            LAST.append((*seen[0], batch[1]))
            return loss

    example.Classifier = Recorded
    callback = example.main(["--steps", str(STEPS), "--logdir", str(logdir)])
    events = EventAccumulator(str(logdir / "geomnist" / "version_0"))
    events.Reload()
    return callback, events


def series(events, tag):
    return np.array([event.value for event in events.Scalars(tag)])


def test_demo_separates(demo):
    callback, events = demo
    assert len(series(events, "le/I_logits/gamma")) == STEPS // 50
    assert callback.last_record.nearest_mean["features"].accuracy >= 0.99
    for model in ("I_features", "I_logits", "L_logits"):
        assert callback.last_record.coefficients[model].tail_gamma.value < 1


def test_demo_gamma_is_positive_with_its_interval_during_the_rise(demo):
    """The rise: windows in which the between-class amplitude of the logits is up by 20 %, as in the one before."""
    _, events = demo
    growth = np.diff(np.log(series(events, "le/I_logits/amplitude_difference")))
    low = series(events, "le/I_logits/gamma_low")
    rising = [i for i in range(2, len(low)) if min(growth[i - 2 : i]) > np.log(1.2) and np.isfinite(low[i])]
    assert len(rising) >= 5
    # all but the first number, from three windows, one in which the growth slows down at once, and one in which it has
    # just begun again after a rest (its lower end lies at 0, to the fourth decimal)
    assert sum(low[i] > 0 for i in rising) >= len(rising) - 3


@pytest.mark.parametrize(("position", "source"), [(0, "features"), (1, "logits")])
def test_demo_angles_equal_a_slow_oracle_on_the_same_samples(demo, position, source):
    samples = {k: [] for k in range(3)}
    for batch in LAST:
        for x, label in zip(batch[position].double().numpy(), batch[2].tolist(), strict=True):
            samples[label].append(x)
    means = [np.mean(samples[k], axis=0) for k in range(3)]
    centre = sum(means) / 3
    squares = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = means[i] - centre, means[j] - centre
        squares.append((math.degrees(math.acos(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))) - 120) ** 2)
    record = demo[0].last_record
    assert record.window == (STEPS - 50, STEPS)
    assert record.samples == sum(map(len, samples.values())) == 800
    assert record.etf[source].deviation == pytest.approx(math.sqrt(sum(squares) / 3), abs=1e-3)


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
        len(line.get_xdata()) == STEPS // 50
        for axes in figure.axes
        for line in axes.lines
        if line.get_label()[0] != "_"
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


def test_similar_classes_stand_out():
    """Digits 3 and 4 made similar move each other most; without the blend another pair does."""
    pytest.importorskip("sklearn")
    example = load("similar_classes")
    blended = example.train((3, 4)).last_record.response_matrix["logits"]
    assert blended.status == "ok"
    assert blended.strongest_pair == (3, 4)
    mutual = (blended.E + blended.E.T)[np.tril_indices(5, -1)]
    assert (blended.E + blended.E.T)[3, 4] > mutual.mean() + mutual.std()
    assert example.train(None).last_record.response_matrix["logits"].strongest_pair != (3, 4)
