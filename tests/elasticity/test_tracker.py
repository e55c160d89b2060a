"""Online coefficients against exact LE-ODEs, closed forms and scipy."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from le_callback.elasticity.mode_readings import MODES, ModeHistory, ModePoint, ModeReading, read_modes
from le_callback.elasticity.tracker import CoefficientTracker
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.similarity import IModel, LModel
from le_callback.values import BoundedSeries


def le_generator(model, K, p, alpha, beta):
    """M = (E ⊗ P) ∘ H, written out block by block."""
    M = np.zeros((K * p, K * p))
    for i in range(K):
        for j in range(K):
            d = np.eye(K)[j] - 1 / K
            H = np.eye(p) if model == "I" else np.outer(d, d) / (d @ d)
            M[i * p : (i + 1) * p, j * p : (j + 1) * p] = (alpha if i == j else beta) / K * H
    return M


def le_ode(model, K, p, alpha, beta, x0, times):
    """Class means (T, K, p) for constant coefficients, by the matrix exponential of the whole generator."""
    M = le_generator(model, K, p, alpha, beta)
    return np.stack([(expm(M * t) @ x0.ravel()).reshape(K, p) for t in times])


def noiseless(model, means, K):
    return read_modes(model, torch.from_numpy(means), torch.zeros(K, dtype=torch.float64), K)


class TestNoiseFreeDynamics:
    @pytest.mark.parametrize("K", [2, 3, 5, 10])
    @pytest.mark.parametrize("name", ["I", "L"])
    def test_alpha_and_beta_are_recovered(self, name, K):
        alpha, beta = 0.006, -0.002
        rng = np.random.default_rng(K)
        x0 = rng.normal(size=(K, K)) + 2 * np.eye(K)  # a positive part along the directions
        times = np.arange(0, 600, 25.0)
        model = IModel() if name == "I" else LModel()
        tracker = CoefficientTracker(model, K)
        for t, means in zip(times, le_ode(name, K, K, alpha, beta, x0, times), strict=True):
            record = tracker.add(t, noiseless(model, means, K))
        assert record.status == "ok"
        assert record.reference_time == 0
        assert record.A == pytest.approx(alpha * times[-1], rel=1e-9)
        assert record.B == pytest.approx(beta * times[-1], rel=1e-9)
        assert record.alpha.value == pytest.approx(alpha, rel=1e-6)
        assert record.beta.value == pytest.approx(beta, rel=1e-6)
        assert record.gamma.value == pytest.approx(alpha - beta, rel=1e-6)

    @pytest.mark.parametrize("K", [2, 3, 5, 10])
    @pytest.mark.parametrize("name", ["I", "L"])
    def test_through_batches_and_windows(self, name, K):
        """Every step one sample a class, exactly at the class mean: what is left is the drift within a window."""
        alpha, beta, steps, window = 0.004, -0.001, 1000, 20
        rng = np.random.default_rng(K)
        means = rng.normal(size=(K, K)) + 2 * np.eye(K)
        step = expm(le_generator(name, K, K, alpha, beta))
        monitor = SeparationMonitor(K)
        labels = torch.arange(K)
        for t in range(steps):
            x = torch.from_numpy(means)
            monitor.update(features=x, logits=x, target=labels)
            means = (step @ means.ravel()).reshape(K, K)
            if (t + 1) % window == 0:
                record = monitor.close(t + 1)
        for source in ("features", "logits") if name == "I" else ("logits",):
            c = record.coefficients[f"{name}_{source}"]
            assert c.alpha.value == pytest.approx(alpha, rel=0.005)
            assert c.beta.value == pytest.approx(beta, rel=0.005)
            assert c.gamma.value == pytest.approx(alpha - beta, rel=0.005)

    def test_decaying_coefficients(self):
        """α = 0.05 t^−½, β = −0.02 t^−½: the modes have closed forms in A and B."""
        K, rng = 4, np.random.default_rng(0)
        x0 = rng.normal(size=(K, 6))
        centre = x0.mean(0)
        model, times = IModel(), np.arange(100.0, 3000, 20)
        tracker = CoefficientTracker(model, K)
        A, B = 0.1 * np.sqrt(times), -0.04 * np.sqrt(times)
        for t, a, b in zip(times, A, B, strict=True):
            means = np.exp((a + (K - 1) * b) / K) * centre + np.exp((a - b) / K) * (x0 - centre)
            record = tracker.add(t, noiseless(model, means, K))
        assert record.alpha.value == pytest.approx(0.05 / np.sqrt(times[-1]), rel=0.001)
        assert record.beta.value == pytest.approx(-0.02 / np.sqrt(times[-1]), rel=0.001)
        assert record.A == pytest.approx(A[-1] - A[0], rel=1e-9)


class TestSamplingNoise:
    def test_noise_of_the_modes_is_subtracted_without_bias(self):
        """2,000 windows with known means: the mean of raw² − noise is the true amplitude² within 4 standard errors."""
        rng = np.random.default_rng(1)
        K, p, n, windows = 3, 4, 8, 2000
        true = rng.normal(size=(K, p)) * 0.3
        scale = np.array([0.5, 1.0, 2.0])[:, None]
        excess = {mode: [] for mode in MODES}
        for _ in range(windows):
            x = true[:, None] + scale[:, None] * rng.normal(size=(K, n, p))
            noise = x.var(1, ddof=1).sum(1) / n
            modes = read_modes(IModel(), torch.from_numpy(x.mean(1)), torch.from_numpy(noise), K)
            for mode in MODES:
                excess[mode].append(modes[mode].squared - modes[mode].noise)
        centre = true.mean(0)
        for mode, expected in (("common", centre @ centre), ("difference", ((true - centre) ** 2).sum())):
            values = np.array(excess[mode])
            assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(windows)

    def test_missing_class_leaves_the_scale_of_the_difference_mode(self):
        """Over random class means, the expected squared amplitude is the same with one class masked."""
        rng = np.random.default_rng(2)
        whole, masked = [], []
        for _ in range(2000):
            means = torch.from_numpy(rng.normal(size=(5, 3)))
            whole.append(read_modes(IModel(), means, torch.zeros(5), 5)["difference"].squared)
            means[2] = torch.nan
            masked.append(read_modes(IModel(), means, torch.zeros(5), 5)["difference"].squared)
        difference = np.array(whole) - np.array(masked)
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(2000)

    def test_nothing_is_logged_below_the_noise(self):
        """Pure noise, 300 windows: no reference time, no coefficient."""
        rng = np.random.default_rng(3)
        tracker = CoefficientTracker(IModel(), 3)
        for t in range(300):
            x = rng.normal(size=(3, 20, 8))
            noise = torch.from_numpy(x.var(1, ddof=1).sum(1) / 20)
            record = tracker.add(float(t), read_modes(IModel(), torch.from_numpy(x.mean(1)), noise, 3))
        assert math.isnan(record.reference_time)
        assert math.isnan(record.gamma_reference_time)
        assert math.isnan(record.A)
        assert record.status.startswith("not identifiable: the common and the difference mode")


class TestReference:
    def points(self, readings, persistence=3):
        history = ModeHistory(threshold=3.0, persistence=persistence)
        return [history.add(float(t), reading) for t, reading in enumerate(readings)], history

    def test_first_of_consecutive_identifiable_windows(self):
        signal = [2.0, 9.0, 1.0, 4.0, 16.0, 25.0, 1.0, 36.0]
        points, history = self.points([ModeReading(s, 1.0) for s in signal])
        assert history.reference.time == 3
        assert [[p.time for p in added] for added in points] == [[], [], [], [], [], [3, 4, 5], [], [7]]
        assert points[7][0].log_amplitude == pytest.approx(0.5 * math.log(35))

    def test_sampling_variance_of_a_log_norm(self):
        """20,000 vectors in 8 dimensions: the variance of ½ log(N − noise) is noise/(8 · amplitude²) within 10 %."""
        rng = np.random.default_rng(0)
        noise = 0.02
        squared = ((np.eye(8)[0] + rng.normal(scale=np.sqrt(noise / 8), size=(20_000, 8))) ** 2).sum(1)
        levels = [ModeReading(s, noise, dimensions=8).log_amplitude() for s in squared]
        expected = ModeReading(1 + noise, noise, dimensions=8)
        assert np.var(levels) == pytest.approx(ModePoint.of(0.0, expected).noise, rel=0.1)

    def test_change_of_sign_starts_again(self):
        _, history = self.points([ModeReading(9.0, 1.0, s) for s in (1, 1, -1, -1, -1, 1)])
        assert history.reference.time == 2
        assert history.reference.sign == -1

    def test_statuses(self):
        tracker = CoefficientTracker(LModel(), 3)
        sentences = []
        for t, sign in enumerate([1, 1, 1, 1, 1, -1]):
            readings = {"common": ModeReading(4.0, 0.1, sign), "difference": ModeReading(1.0, 0.1)}
            sentences.append(tracker.add(float(t), readings).status)
        assert "must stay identifiable for 3 windows" in sentences[0]
        assert "local fit needs 5 windows" in sentences[3]
        assert sentences[4] == "ok"
        assert "the common mode changed its sign" in sentences[5]


class TestBoundedWork:
    def test_series_thins_evenly(self):
        series = BoundedSeries(capacity=64)
        for t in range(10_000):
            series.add(float(t), 2.0 * t)
        assert 32 <= len(series.times) < 64
        assert set(np.diff(series.times)) == {float(series.stride)}
        assert np.array_equal(series.values, 2 * np.array(series.times))

    def test_state_round_trip_at_every_window(self):
        rng = np.random.default_rng(5)
        readings = [{m: ModeReading(float(np.exp(0.1 * t) + rng.exponential()), 0.4) for m in MODES} for t in range(40)]
        whole = CoefficientTracker(IModel(), 3)
        expected = [repr(whole.add(float(t), r)) for t, r in enumerate(readings)]
        tracker = CoefficientTracker(IModel(), 3)
        for t, reading in enumerate(readings):
            fresh = CoefficientTracker(IModel(), 3)
            fresh.load_state_dict(json.loads(json.dumps(tracker.state_dict())))
            tracker = fresh
            assert repr(tracker.add(float(t), reading)) == expected[t]

    def test_settings_reach_the_trackers(self):
        monitor = SeparationMonitor(3, MonitorSettings(smoothing=5, identifiability=7.0, confidence=0.5))
        assert {(t.smoothing, t.threshold, t.confidence) for t in monitor.coefficients.trackers.values()} == {
            (5, 7.0, 0.5)
        }


class TestArguments:
    def test_models_go_by_name(self):
        means, noise = torch.tensor([[1.0, 0.2], [0.3, 1.5]]), torch.full((2,), 0.01)
        for name, model in (("I", IModel()), ("L", LModel())):
            assert CoefficientTracker(name, 2).model == model
            assert read_modes(name, means, noise, 2) == read_modes(model, means, noise, 2)
        for wrong in (lambda: CoefficientTracker("E", 2), lambda: read_modes("E", means, noise, 2)):
            with pytest.raises(TypeError, match="Expected argument `model`"):
                wrong()

    @pytest.mark.parametrize(
        ("name", "value"), [("order", 0), ("smoothing", 0), ("persistence", 0), ("confidence", 1.0)]
    )
    def test_settings_out_of_range_are_named(self, name, value):
        with pytest.raises(ValueError, match=f"Expected argument `{name}` to be .* but got {value}"):
            CoefficientTracker("I", 3, **{name: value})
