"""Forecasts: laws that are known, coverage of simulated LE-SDEs, and what a run cannot tell."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from problems import grown, seed, shape
from scipy.optimize import brentq
from simulators import identity_blocks, le_matrix, simulate

from le_callback import IModel, LModel
from le_callback.forecast import Forecast, forecast
from le_callback.forecast.growth_laws import outlook
from le_callback.forecast.quantities import pairs_of, squared_gaps
from le_callback.recorder import SourceTrajectory
from le_callback.report.fan_chart import fan_chart
from le_callback.similarity import DirectionModel, GeneralModel
from le_callback.trajectory import Trajectory

matplotlib.use("Agg")


def test_a_power_law_is_continued_by_the_law():
    """Without noise the bands are quantiles of the outlook, in every model and for every pair."""
    t = np.arange(1.0, 401.0)
    x0 = shape(4, 6)
    found = forecast(grown(x0, 0.7 * np.log(t)), t, model=IModel(), generator=seed(), until=1200.0, noise=0.0)
    gaps = 400**0.7 * np.linalg.norm(x0[:, None] - x0[None], axis=-1)[tuple(pairs_of(4).T)]
    tau = np.log(t[t >= 400 * np.exp(-0.8)])
    law = outlook(tau, 0.7 * tau[:, None], (float("nan"), float("nan")))
    for band, probability in ((found.gaps.low, 0.05), (found.gaps.median, 0.5), (found.gaps.high, 0.95)):
        growth = np.array([float(law.quantile(probability, h)[0]) for h in np.log(found.times / 400)[1:]])
        assert np.allclose(band[1:], np.exp(growth)[:, None] * gaps, rtol=0.05)  # of 400 futures
    assert found.status == ""


def test_what_rests_may_rise_but_does_not_fall():
    """Plateaus end: upwards a curve at rest strays 13 times as far as downwards."""
    t = np.arange(1.0, 401.0)
    found = forecast(grown(shape(3, 3), 0 * t), t, model=LModel(), generator=seed())
    assert (found.gaps.high[-1] > 1.5 * found.gaps.median[-1]).all()
    assert (found.gaps.low[-1] > 0.95 * found.gaps.median[0]).all()


def test_bands_cover_simulated_futures():
    """40 LE-SDEs with rates r/t, r in 0.3 … 1.5: the truth at the end lies within 90 % bands in 29 to 40 runs.

    With independent hits at 0.9 the chance of fewer than 29 is 0.0006. Wider than nominal is allowed: the bands are
    meant for real trainings, whose growth changes.
    """
    rng = np.random.default_rng(0)
    t = np.geomspace(50, 1200, 160)
    now = int(np.searchsorted(t, 400))
    hits, early = [], []
    for i in range(40):
        r = rng.uniform(0.3, 1.5)
        x0 = rng.standard_normal((3, 3))
        alpha = 3 * r  # modes of the I-model grow as t^r: α = 3r/t, β = 0, so that both have the growth r log t
        path = simulate(
            lambda s, a=alpha: le_matrix(a / s, 0.0, 3), np.full((3, 3), 1 / 3), identity_blocks(3, 3), x0, t,
            sigma=0.02, rng=rng, substeps=1,
        )[0]  # fmt: skip
        found = forecast(path[: now + 1], t[: now + 1], model=IModel(), generator=seed(i), until=t[-1], samples=100)
        gap = np.sqrt(squared_gaps(path, pairs_of(3)).min(-1))
        hits.append(found.worst_gap.low[-1] <= gap[-1] <= found.worst_gap.high[-1])
        middle = (
            np.interp(t[now + 20], found.times, found.worst_gap.low),
            np.interp(t[now + 20], found.times, found.worst_gap.high),
        )
        early.append(middle[0] <= gap[now + 20] <= middle[1])
    assert sum(hits) >= 29
    assert sum(early) >= 29


def test_separation_time_of_a_law():
    """Gap t/50 at t = 100: the median reaches the level where the law's median is the log of what is missing."""
    t = np.arange(1.0, 101.0)
    x = t[:, None, None] * np.array([[0.0], [1.0]])
    options = {"model": IModel(), "generator": seed(), "spread": np.full((100, 2), 2500.0), "noise": 0.0}
    found = forecast(x, t, until=1000.0, level=3.0, **options)
    law = outlook(np.log(t), np.log(t)[:, None], (np.log(2), np.log(2)), True)
    h = brentq(lambda h: float(law.quantile(0.5, h)[0]) - np.log(1.5), 0.01, 3.0)
    assert found.separation.median == pytest.approx(100 * np.exp(h), rel=0.02)  # linear between 24 times
    assert found.separation.low < found.separation.median < found.separation.high
    reached = forecast(x, t, level=1.0, **options)
    assert reached.separation.median == 50
    assert "reached at step 50" in reached.separation.status


def test_never():
    t = np.arange(1.0, 101.0)
    still = np.broadcast_to(np.array([[0.0], [4.0]]), (100, 2, 1))
    separation = forecast(still, t, model=IModel(), generator=seed(), spread=np.ones((100, 2)), level=80.0).separation
    assert separation.median == np.inf
    assert separation.chance < 0.05
    assert separation.status.startswith("never at this rate")
    unknown = forecast(still, t, model=IModel(), generator=seed()).separation
    assert "spread" in unknown.status


@pytest.mark.parametrize("length", [1, 5, 11])
def test_short_runs_give_a_status(length):
    t = np.arange(1.0, length + 1)
    found = forecast(grown(shape(3, 3), np.log(t)), t, model=IModel(), generator=seed())
    assert found.status
    assert len(found.times) == 0
    fan_chart(found)


def test_noise_without_signal_gives_a_status():
    rng = np.random.default_rng(0)
    t = np.arange(1.0, 101.0)
    x = 0.01 * rng.standard_normal((100, 3, 3))
    found = forecast(x, t, model=IModel(), generator=seed(), sampling_noise=np.full((100, 3), 3e-4))
    assert "sampling noise" in found.status


def test_a_plateau_is_not_continued():
    """Hardly any growth and classes that overlap: what is to come leaves no trace, at chance as before the rise."""
    t = np.arange(1.0, 101.0)
    x = grown(shape(3, 3), 0.1 * np.log(t))
    early = forecast(x, t, model=IModel(), generator=seed(), spread=np.full((100, 3), 1000.0))
    assert "not begun to separate" in early.status
    assert early.separation.status == f"not known: {early.status}"
    apart = forecast(x, t, model=IModel(), generator=seed(), spread=np.full((100, 3), 0.1))
    assert apart.status == ""


def test_bands_of_ten_decades_are_not_drawn():
    t = np.arange(1.0, 101.0)
    x = grown(shape(3, 3), np.maximum(np.log(t) - np.log(80), 0) * 60)  # a rise that has just begun
    found = forecast(x, t, model=IModel(), generator=seed())
    assert "changes so fast" in found.status
    assert len(found.times) == 0
    soon = forecast(x, t, model=IModel(), generator=seed(), until=102.0)
    assert soon.status == ""


def test_of_many_pairs_the_closest_are_followed():
    K, t = 40, np.arange(1.0, 101.0)
    x = grown(shape(K, 8), 0.5 * np.log(t))
    found = forecast(x, t, model=IModel(), generator=seed(), spread=np.ones((100, K)))
    everything = np.sqrt(squared_gaps(x[-1], pairs_of(K)))
    assert len(found.pairs) == 276
    followed = {tuple(pair) for pair in found.pairs.tolist()}
    assert {tuple(pair) for pair in pairs_of(K)[everything.argsort()[:200]].tolist()} <= followed
    assert found.past_worst_gap[-1] == pytest.approx(everything.min())


def test_a_late_recording_and_gaps_in_it():
    t = np.arange(5000.0, 5100.0)
    assert "too short" in forecast(grown(shape(3, 3), np.log(t)), t, model=IModel(), generator=seed()).status
    t = np.arange(0.0, 200.0)
    x = grown(shape(3, 3), np.log(np.maximum(t, 1)))
    x[50::7] = np.nan
    found = forecast(x, t, model=IModel(), generator=seed())
    assert found.status == ""
    assert np.isfinite(found.gaps.high).all()


def test_the_same_seed_gives_the_same_bands_and_the_global_state_is_left_alone():
    t = np.arange(1.0, 101.0)
    x = grown(shape(3, 3), np.log(t)) + 0.1 * np.random.default_rng(0).standard_normal((100, 3, 3))
    state = torch.get_rng_state()
    first, second = (forecast(x, t, model=LModel(), generator=seed(7)) for _ in range(2))
    assert np.array_equal(first.gaps.high, second.gaps.high)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 3}, "`samples` to be a whole number ≥ 50"),
        ({"confidence": 1.0}, "`confidence` to be between 0 and 1"),
        ({"level": -1.0}, "`level` to be positive"),
        ({"until": 50.0}, "`until` to be later than the last time 100"),
        ({"spread": np.ones(3)}, "`spread` to be of shape"),
        ({"noise": -1.0}, "`noise` to be a number or of shape"),
        ({"sampling_noise": np.ones((2, 2))}, "noise"),
        ({"model": GeneralModel(torch.eye(3).expand(3, 3, 3, 3))}, "two modes"),
        ({"model": DirectionModel(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2]]))}, "two modes"),
    ],
)
def test_wrong_arguments(change, message):
    t = np.arange(1.0, 101.0)
    with pytest.raises(ValueError, match=message):
        forecast(grown(shape(3, 3), np.log(t)), t, **({"model": IModel(), "generator": seed()} | change))


@pytest.mark.parametrize(("name", "model"), [("I", IModel()), ("L", LModel())])
def test_models_go_by_their_names(name, model):
    t = np.arange(1.0, 101.0)
    x = grown(shape(3, 3), np.log(t))
    named, given = (forecast(x, t, model=m, generator=seed()) for m in (name, model))
    assert np.array_equal(named.gaps.high, given.gaps.high)
    assert named.model == name


def test_wrong_generator_model_and_too_many_classes():
    t = np.arange(1.0, 31.0)
    with pytest.raises(TypeError, match="`model`"):
        forecast(grown(shape(3, 3), np.log(t)), t, model="linear", generator=seed())
    with pytest.raises(TypeError, match="`generator`"):
        forecast(grown(shape(3, 3), np.log(t)), t, model=IModel(), generator=0)
    with pytest.raises(ValueError, match="64 classes"):
        forecast(grown(shape(65, 3), np.log(t)), t, model=IModel(), generator=seed())


def recorded():
    t = np.arange(1.0, 301.0)
    x = grown(shape(3, 4), np.log(t) / 2).astype(np.float32)
    ones = np.ones((300, 3), dtype=np.float32)
    return Trajectory({"probe_logits": SourceTrajectory(t, x, ones, ones)}, "epoch", ("a", "b", "c"))


def test_trajectory_and_chart():
    trajectory = recorded()
    source = trajectory.sources["probe_logits"]
    past = SourceTrajectory(*(getattr(source, name)[:100] for name in ("times", "means", "mean_noise", "counts")))
    found = replace(trajectory, sources={"probe_logits": past}).forecast("probe_logits", IModel(), level=20.0)
    assert isinstance(found, Forecast)
    assert found.time_unit == "epoch"
    figure = fan_chart(found, source)
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert labels.count("what came") == 2
    assert "epochs" in figure.axes[-1].get_xlabel()
    came = next(line for line in figure.axes[0].lines if line.get_label() == "what came")
    gap = np.sqrt(squared_gaps(source.means.astype(float), pairs_of(3)).min(-1))
    assert np.allclose(came.get_ydata(), gap[99:], rtol=1e-5)
    with pytest.raises(ValueError, match="probe_logits"):
        trajectory.forecast("none", IModel())
    with pytest.raises(ValueError, match="truth"):
        fan_chart(found, replace(source, means=source.means[:, :2]))
