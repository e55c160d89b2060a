"""Growth between two windows against exact LE-ODEs of any class frequencies, slow formulas and simulated noise."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm

from le_callback.elasticity.class_growth import Join, common_growth, difference_growth, growths, log_mean
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.frequencies import ClassFrequencies, Frequencies, contrast_weights
from le_callback.elasticity.growth_path import GrowthPath
from le_callback.elasticity.mode_readings import ModeReading, modes_of, read_modes
from le_callback.similarity import IModel


def reading(z, noise=0.0, dimensions=None, averaged=False):
    z = np.asarray(z, dtype=float)
    seen = np.isfinite(z).all(1)
    s = np.where(seen, noise, 0.0)
    return ClassReading(np.where(seen[:, None], z, 0.0), s, seen, dimensions or z.shape[1], averaged)


def generator(pi, delta, epsilon):
    """dz_k = (δ π_k z_k + ε Σ π_j z_j) dt, written out."""
    return delta * np.diag(pi) + epsilon * np.tile(pi, (len(pi), 1))


def least_squares(a, b, pi):
    """δ and ε of dz = δ πz + ε s by numpy's least squares on the midpoint, all classes and coordinates alike."""
    middle = (a + b) / 2
    columns = np.stack([(pi[:, None] * middle).ravel(), np.tile(pi @ middle, (len(pi), 1)).ravel()], axis=1)
    return np.linalg.lstsq(columns, (b - a).ravel(), rcond=None)[0]


CASES = [(K, imbalance, q) for K in (2, 3, 10, 30) for imbalance in (1.0, 10.0) for q in (1, 6)]


class TestNoiseFree:
    @pytest.mark.parametrize(("K", "imbalance", "q"), CASES)
    def test_constant_rates_of_any_frequencies(self, K, imbalance, q):
        """40 windows of an exact LE-ODE: the sums are ∫δ and ∫(ε + ρδ) to the third order of the growth in a window."""
        pi = np.geomspace(1, imbalance, K)
        pi /= pi.sum()
        delta, epsilon = 0.05 * K, -0.01
        z = np.random.default_rng(K).normal(size=(K, q)) + 2 * np.eye(K, q) + 1
        flow = expm(generator(pi, delta, epsilon))
        frequencies = Frequencies(pi, pi)
        growth = np.zeros(2)
        for _ in range(40):
            later = flow @ z
            a, b = reading(z), reading(later)
            x = difference_growth(a, b, frequencies).value
            common = common_growth(a, b, frequencies, uniform=q == 1)
            growth += x, common.value - common.coupling * x
            z = later
        assert growth == pytest.approx([40 * delta, 40 * epsilon], rel=3e-3)

    def test_small_steps_agree_with_least_squares(self):
        pi = np.array([0.1, 0.2, 0.7])
        z = np.random.default_rng(0).normal(size=(3, 4))
        later = expm(1e-4 * generator(pi, 3.0, -2.0)) @ z
        a, b = reading(z), reading(later)
        x = difference_growth(a, b, Frequencies(pi, pi)).value
        common = common_growth(a, b, Frequencies(pi, pi), uniform=False)
        assert (x, common.value - common.coupling * x) == pytest.approx(1e-4 * np.array([3.0, -2.0]), rel=1e-3)
        assert least_squares(z, later, pi) == pytest.approx(1e-4 * np.array([3.0, -2.0]), rel=1e-3)

    @given(seed=st.integers(0, 2**20), K=st.integers(2, 8), q=st.integers(1, 5), g=st.floats(-0.7, 0.7))
    def test_balanced_growth_is_the_log_growth_of_the_modes(self, seed, K, q, g):
        z = np.random.default_rng(seed).normal(size=(K, q))
        centre, half = z.mean(0), np.full(K, 1 / K)
        later = np.exp(g / 2) * centre + np.exp(g) * (z - centre)
        a, b = reading(z), reading(later)
        assert difference_growth(a, b, Frequencies(half, half)).value == pytest.approx(K * g, abs=1e-8)
        found = common_growth(a, b, Frequencies(half, half), uniform=True)
        assert found.value == pytest.approx(g / 2, abs=1e-8)
        assert found.coupling == pytest.approx(1 / K)

    def test_classes_seen_in_one_window_alone_still_pull(self):
        """The common growth with class 2 missing in the first window, where its mean does not change."""
        pi = np.array([0.2, 0.3, 0.5])
        z = np.array([[1.0, 0.0], [0.5, 1.0], [2.0, 1.0]])
        later = z + 1e-5 * (pi @ z)  # δ = 0, ε = 1e-5
        later[2] = z[2]
        hidden = z.copy()
        hidden[2] = np.nan
        found = common_growth(reading(hidden), reading(later), Frequencies(pi, pi), uniform=False)
        assert found.value == pytest.approx(1e-5, rel=1e-3)


class TestNoise:
    @pytest.mark.parametrize("imbalance", [1.0, 10.0])
    @pytest.mark.parametrize("averaged", [False, True])
    @pytest.mark.parametrize("kind", ["difference", "common"])
    def test_variance_and_bias(self, kind, imbalance, averaged):
        """4,000 noisy pairs: unbiased within 4 standard errors, with the variances that are predicted, within 12 %."""
        rng = np.random.default_rng(1)
        K, q, draws = 3, 5, 4000
        pi = np.geomspace(1, imbalance, K)
        pi /= pi.sum()
        z = rng.normal(size=(K, q)) + 1
        later = expm(generator(pi, 0.5, 0.1)) @ z
        noise = 0.02 * q / (K * pi)
        values, before, after = [], [], []
        for _ in range(draws):
            pair = [x + np.sqrt(noise / q)[:, None] * rng.normal(size=(K, q)) for x in (z, later)]
            pair = [reading(x, noise, averaged=averaged) for x in pair]
            f = Frequencies(pi, pi)
            found = difference_growth(*pair, f) if kind == "difference" else common_growth(*pair, f, uniform=False)
            values.append(found.value)
            before.append(found.noise_before.sum())
            after.append(found.noise_after.sum())
        f, exact = Frequencies(pi, pi), (reading(z), reading(later))
        true = difference_growth(*exact, f) if kind == "difference" else common_growth(*exact, f, uniform=False)
        error = np.std(values) / np.sqrt(draws)
        assert abs(np.mean(values) - true.value) < 4 * error + 0.02 * np.std(values)
        assert np.median(before) + np.median(after) == pytest.approx(np.var(values), rel=0.12)

    def test_noise_of_a_window_cancels_between_its_two_sides(self):
        """Balanced growth: what a window's noise adds to the growth before it, it takes from the growth after."""
        rng = np.random.default_rng(2)
        K, q = 3, 6
        z = rng.normal(size=(K, q))
        half = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K))
        sums, steps = [], []
        for _ in range(500):
            noisy = z * np.exp(0.1) + 0.02 * rng.normal(size=(K, q))
            first = difference_growth(reading(z), reading(noisy), half).value
            second = difference_growth(reading(noisy), reading(z * np.exp(0.2)), half).value
            sums.append(first + second)
            steps.append(first)
        assert np.std(sums) < 0.05 * np.std(steps)

    @pytest.mark.parametrize("kind", ["difference", "common"])
    def test_noise_that_is_less_than_it_should_be_leaves_no_bias(self, kind):
        """Windows that draw from the same few samples: the noise is half of what is stated, over 60 windows."""
        rng = np.random.default_rng(4)
        K, q, T, noise = 3, 8, 60, 0.6
        half = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K))
        ends, shares, plain = [], [], []
        for _ in range(30):
            path, blind = GrowthPath(3), 0.0
            z, last = rng.normal(size=(K, q)) + 1, None
            for n in range(T):
                now = reading(z + np.sqrt(noise / 2 / q) * rng.normal(size=(K, q)), np.full(K, noise))
                growth = None
                if last is not None:
                    said = Join(kind, last, now, past=path.past), Join(kind, last, now)
                    growth, alone = (growths([join], half)[0] for join in said)
                    blind += alone.value
                path.add(float(n), now, True, growth)
                last = now
            ends.append(path.level)
            plain.append(blind)
            shares.append(path.past.noise_share)
        assert np.mean(shares) == pytest.approx(0.5, abs=0.1)
        error = np.std(ends) / np.sqrt(len(ends))
        bias, without = abs(np.mean(ends)), abs(np.mean(plain))
        assert without > 5 * error  # what is not there is taken off
        assert bias < 0.35 * without

    def test_a_clock_that_is_set_back_starts_the_path_anew(self):
        path, half = GrowthPath(3), Frequencies(np.full(2, 0.5), np.full(2, 0.5))
        window = reading(np.array([[2.0, 0.0], [0.0, 1.0]]))
        for n, time in enumerate((100.0, 150.0, 200.0, 10.0)):
            growth = growths([Join("difference", window, window)], half)[0] if n else None
            said = path.add(time, window, True, growth)
        assert said is None
        assert (path.reference, path.windows) == (10.0, 1)

    @pytest.mark.parametrize("kind", ["difference", "common"])
    def test_scatter_is_one_for_the_noise_that_is_stated(self, kind):
        rng = np.random.default_rng(5)
        K, q, noise = 4, 6, 0.05
        half = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K))
        z = rng.normal(size=(K, q)) + 1
        found = []
        for _ in range(1000):
            pair = [reading(z + np.sqrt(noise / q) * rng.normal(size=(K, q)), np.full(K, noise)) for _ in range(2)]
            found.append(growths([Join(kind, *pair)], half)[0].scatter)
        assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(len(found)) + 0.02)

    @pytest.mark.parametrize("averaged", [False, True])
    def test_walks_leave_no_bias(self, averaged):
        """A walk without drift lets norms grow; the growth that is read stays zero, of moments and of averages."""
        rng = np.random.default_rng(3)
        K, q, walk = 3, 20, 0.05
        half = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K))
        values, norms = [], []
        for _ in range(2000):
            z = rng.normal(size=(K, q))
            later = z + walk * rng.normal(size=(K, q))
            if averaged:  # over 10 parts of each of two windows
                parts = z + np.cumsum(walk / np.sqrt(10) * rng.normal(size=(20, K, q)), 0)
                z, later = parts[:10].mean(0), parts[10:].mean(0)
            pair = reading(z, averaged=averaged), reading(later, averaged=averaged)
            values.append(difference_growth(*pair, half).value / K)
            norms.append(np.log(np.linalg.norm(later - later.mean(0)) / np.linalg.norm(z - z.mean(0))))
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values)) < 4 * error
        assert np.mean(norms) > 6 * error


def test_log_mean_is_the_mean_of_an_exponential_with_its_derivatives():
    for a, b in ((1.0, 3.0), (2.0, 2.0000001), (5.0, 0.1)):
        mean, by_a, by_b = log_mean(a, b)
        assert mean == pytest.approx(quad(lambda s, a=a, b=b: a ** (1 - s) * b**s, 0, 1)[0])
        h = 1e-5
        assert by_a == pytest.approx((log_mean(a + h, b)[0] - log_mean(a - h, b)[0]) / (2 * h), rel=1e-4)
        assert by_b == pytest.approx((log_mean(a, b + h)[0] - log_mean(a, b - h)[0]) / (2 * h), rel=1e-4)


def test_contrast_weights_do_not_let_one_class_rule():
    weights = contrast_weights(np.array([0.98, 0.01, 0.01, 0.0]))
    assert weights.sum() == pytest.approx(1)
    assert weights[3] == 0
    assert weights[0] / weights[1] < 3


class TestFrequencies:
    def test_chance_is_not_followed_and_a_change_is(self):
        rng = np.random.default_rng(0)
        frequencies, pi = ClassFrequencies(), np.array([0.2, 0.3, 0.5])
        for _ in range(40):
            frequencies.add(rng.multinomial(800, pi).astype(float), 800.0)
        assert frequencies.now.share == pytest.approx(pi, abs=0.02)
        for _ in range(2):
            frequencies.add(np.array([600.0, 100.0, 100.0]), 800.0)
        assert frequencies.now.share == pytest.approx([0.75, 0.125, 0.125], abs=0.01)

    @pytest.mark.parametrize("windows", [5, 60])
    def test_doubt_of_the_usual_frequencies_is_their_error(self, windows):
        """Over 400 runs: Σ π_k f_k by the usual frequencies is off by the deviation that is stated, within 15 %."""
        rng = np.random.default_rng(3)
        pi, pull = np.array([0.1, 0.3, 0.6]), np.array([[5.0, 1.0, 0.2]])
        off, stated = [], []
        for _ in range(400):
            frequencies = ClassFrequencies()
            for _ in range(windows):
                frequencies.add(rng.multinomial(200, pi).astype(float), 200.0)
            now = frequencies.now
            if now.usual_doubt:  # else the last windows were taken for a change
                off.append((pull @ now.usual)[0] / (pull @ pi)[0] - 1)
                stated.append(np.sqrt(now.variance(pull)[0] * now.usual_doubt))
        assert len(off) > 380
        assert np.sqrt(np.mean(np.square(stated))) == pytest.approx(np.std(off), rel=0.15)

    def test_epochs_without_replacement_leave_little_doubt(self):
        rng = np.random.default_rng(4)
        labels, drawn, with_replacement = np.repeat(np.arange(3), [20, 60, 120]), ClassFrequencies(), ClassFrequencies()
        for _ in range(40):
            order = rng.permutation(labels)
            for part in np.split(order, 2):
                drawn.add(np.bincount(part, minlength=3).astype(float), 100.0)
                chance = rng.choice(labels, 100)
                with_replacement.add(np.bincount(chance, minlength=3).astype(float), 100.0)
        assert drawn.now.usual_doubt < 0.5 * with_replacement.now.usual_doubt

    def test_no_samples_change_nothing(self):
        frequencies = ClassFrequencies()
        frequencies.add(np.array([3.0, 1.0]), 4.0)
        before = frequencies.now
        frequencies.add(np.zeros(2), 0.0)
        assert frequencies.now.share == pytest.approx(before.share)


class TestModes:
    def test_noise_of_the_modes_is_known(self):
        """2,000 windows with known means: the mean of raw² − noise is the true amplitude² within 4 standard errors."""
        rng = np.random.default_rng(1)
        K, p, n = 3, 4, 8
        true = rng.normal(size=(K, p)) * 0.3
        scale = np.array([0.5, 1.0, 2.0])[:, None]
        excess = {"common": [], "difference": []}
        for _ in range(2000):
            x = true[:, None] + scale[:, None] * rng.normal(size=(K, n, p))
            noise = x.var(1, ddof=1).sum(1) / n
            modes = read_modes(IModel(), torch.from_numpy(x.mean(1)), torch.from_numpy(noise), K)
            for mode, values in excess.items():
                values.append(modes[mode].squared - modes[mode].noise)
        centre = true.mean(0)
        for mode, expected in (("common", centre @ centre), ("difference", ((true - centre) ** 2).sum())):
            values = np.array(excess[mode])
            assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(2000)

    def test_missing_class_leaves_the_scale_of_the_difference_mode(self):
        """Over random class means, the expected squared amplitude is the same with one class masked."""
        rng = np.random.default_rng(2)
        apart = []
        for _ in range(2000):
            z = rng.normal(size=(5, 3))
            whole = modes_of(reading(z), 5)["difference"].squared
            z[2] = np.nan
            apart.append(whole - modes_of(reading(z), 5)["difference"].squared)
        assert abs(np.mean(apart)) < 4 * np.std(apart) / np.sqrt(2000)

    def test_log_amplitude(self):
        assert ModeReading(1.25, 0.25).log_amplitude() == 0
        assert not ModeReading(2.0, 1.0).identifiable(3.0)


means = st.integers(2, 5).flatmap(
    lambda K: st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32) | st.just(float("nan")), min_size=K * 2, max_size=K * 2),
        min_size=2,
        max_size=2,
    )
)


@settings(max_examples=200, deadline=None)
@given(pair=means, noise=st.sampled_from([0.0, 0.1, 1e6]), counts=st.lists(st.integers(0, 5), min_size=5, max_size=5))
@example(pair=[[np.nan] + [0.0] * 5, [0.0] * 6], noise=0.0, counts=[0] * 5)
def test_nothing_fails_on_odd_windows(pair, noise, counts):
    """Missing classes, zero counts, equal means: a finite growth with finite variances, or none."""
    a, b = (reading(np.array(z).reshape(-1, 2), noise) for z in pair)
    frequencies = ClassFrequencies()
    n = np.array(counts[: len(a.z)], dtype=float)
    frequencies.add(n, n.sum())
    if n.sum() == 0:
        frequencies.add(np.ones(len(n)), float(len(n)))
    for found in (
        difference_growth(a, b, frequencies.now),
        common_growth(a, b, frequencies.now, uniform=True),
        common_growth(a, b, frequencies.now, uniform=False),
    ):
        if np.isfinite(found.value):
            assert np.isfinite(found.noise_before).all()
            assert (found.noise_after >= 0).all()
            assert found.doubt >= 0
