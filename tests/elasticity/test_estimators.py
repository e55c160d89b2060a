"""Estimators against planted coefficients (tests/simulators.py) and the numbers of the paper's published code."""

from pathlib import Path

import numpy as np
import pytest
import simulators
import torch

from le_callback.elasticity.amplitudes import mode_noise, norm_series, split_modes
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.elasticity.rates import estimate_rates, extend_history, mode_channels, mode_functionals
from le_callback.elasticity.sampling_noise import SamplingNoise
from le_callback.similarity import DirectionModel, GeneralModel, IModel, LModel

RECORDED = Path(__file__).parents[1] / "data" / "geomnist_excerpt.npz"


def balanced(K):
    return np.full((K, K), 1 / K)


def setup(name, K, p, rng):
    """Model, blocks and a start of order one in both modes."""
    if name == "I":
        return IModel(), simulators.identity_blocks(K, p), rng.standard_normal((K, p)) + 1
    if name == "L":
        d = simulators.logit_directions(K)
        return LModel(), simulators.direction_blocks(d), rng.standard_normal((K, K)) + 3 * d
    d = rng.standard_normal((K, p))
    d -= d.mean(0)
    return DirectionModel(torch.tensor(d)), simulators.direction_blocks(d), rng.standard_normal((K, p)) + 2 * d


# ---- the paper's published code --------------------------------------------------------------------------------------

OFFICIAL_MEANS = np.array(
    [
        [[0.4, -0.3, 0.2], [-0.1, 0.5, 0.3], [0.2, 0.1, -0.6]],
        [[0.5, -0.2, 0.1], [-0.3, 0.7, 0.2], [0.3, 0.2, -0.9]],
    ]
)


def test_closed_form_is_equation_19_on_mean_log_entries():
    common = OFFICIAL_MEANS.mean(1, keepdims=True)
    u = np.log(np.abs(common)).mean((1, 2))
    v = np.log(np.abs(OFFICIAL_MEANS - common)).mean((1, 2))
    found = estimate_coefficients(OFFICIAL_MEANS, model=IModel(), method="closed_form")
    assert found.A[1] == pytest.approx((u + 2 * v)[1] - (u + 2 * v)[0], rel=1e-12)
    assert found.B[1] == pytest.approx((u - v)[1] - (u - v)[0], rel=1e-12)
    assert "window" in found.status
    assert np.isnan(found.alpha).all()


@pytest.mark.parametrize("run", ["p00_batch1", "p00_batch16"])
def test_closed_form_equals_the_official_code(run):
    with np.load(RECORDED) as data:
        official = {k.rsplit(f"{run}/official/", 1)[1]: data[k] for k in data if k.startswith(f"{run}/official/")}
    X = official["X"]
    found = estimate_coefficients(X, np.arange(float(len(X))), model=IModel(), method="closed_form", window=21)
    for ours, theirs in [("A", "A"), ("B", "B"), ("alpha", "alpha21"), ("beta", "beta21")]:
        scale = np.abs(official[f"I/{theirs}"]).max()
        np.testing.assert_allclose(getattr(found, ours), official[f"I/{theirs}"], rtol=1e-9, atol=1e-9 * scale)
    for which in "AB":
        assert found.tail_index(which, 50).index == pytest.approx(float(official[f"I/tail{which}50"]), rel=1e-9)


def test_l_model_closed_form_on_data_along_the_directions():
    K, d = 3, simulators.logit_directions(3)
    start = np.array([1.0, 2.0, 4.5])[:, None] * d
    t = np.arange(40.0)
    path = simulators.simulate(
        lambda s: simulators.le_matrix(0.05, -0.02, K), balanced(K), simulators.direction_blocks(d), start, t
    )[0]
    found = estimate_coefficients(path, t, model=LModel(), method="closed_form", window=11)
    np.testing.assert_allclose(found.A, 0.05 * t, atol=1e-6)
    np.testing.assert_allclose(found.B, -0.02 * t, atol=1e-6)


# ---- without noise ---------------------------------------------------------------------------------------------------


def exact_path(name, K, p, P, rng, t):
    """Noise-free path at constant α, β."""
    alpha, beta = 0.03, -0.01
    if K * p > 600:  # the I-model acts on classes alone: X(t) = exp(t E∘P) X
        from scipy.linalg import expm

        start = rng.standard_normal((K, p)) + 1
        flow = expm((t[1] - t[0]) * simulators.le_matrix(alpha, beta, K) * P)
        path = [start]
        for _ in t[1:]:
            path.append(flow @ path[-1])
        return IModel(), np.stack(path)
    model, blocks, start = setup(name, K, p, rng)
    E = simulators.le_matrix(alpha, beta, K)
    return model, simulators.simulate(lambda s: E, P, blocks, start, t, substeps=1)[0]


@pytest.mark.parametrize(
    ("name", "K", "p"),
    [
        ("I", 2, 2),
        ("I", 3, 2),
        ("I", 5, 7),
        ("I", 10, 12),
        ("I", 100, 512),
        ("L", 2, 2),
        ("L", 3, 3),
        ("L", 5, 5),
        ("L", 10, 10),
        ("direction", 3, 2),
        ("direction", 4, 16),
        ("direction", 10, 20),
        ("direction", 2, 256),
    ],
)
@pytest.mark.parametrize("imbalance", [1, 10])
def test_noise_free_coefficients_are_recovered(name, K, p, imbalance):
    rng = np.random.default_rng(K + p)
    priors = np.geomspace(1, imbalance, K) / np.geomspace(1, imbalance, K).sum()
    t = np.arange(100.0, 140.0)
    model, path = exact_path(name, K, p, np.tile(priors, (K, 1)), rng, t)
    methods = ["regression"] + ["modes"] * (imbalance == 1 and model.has_modes(K))
    for method in methods:
        found = estimate_coefficients(
            path, t, model=model, method=method, window=15, priors=None if imbalance == 1 else priors, evaluate=[20]
        )
        assert found.alpha[20] == pytest.approx(0.03, rel=1e-3), method
        assert found.beta[20] == pytest.approx(-0.01, rel=1e-3), method


@pytest.mark.parametrize("method", ["modes", "regression"])
def test_a_large_l_model_is_recovered(method):
    """Integrated by hand: dX_i = (α d_i y_i + β Σ_{j≠i} d_j y_j) dt/K with y_j the sum of two exponentials."""
    K, t = 100, np.arange(40.0)
    alpha, beta = 0.03, -0.01
    d = simulators.logit_directions(K)
    y = 2 + np.random.default_rng(0).standard_normal(K)
    g = (alpha - beta) / K, (alpha + beta / (K - 1)) / K
    common, difference = (np.expm1(rate * t)[:, None] / rate for rate in g)
    integral = y.mean() * common + (y - y.mean()) * difference  # (T, K), of y over time
    pulled = integral[..., None] * d
    path = y[:, None] * d + ((alpha - beta) * pulled + beta * pulled.sum(1, keepdims=True)) / K
    found = estimate_coefficients(path, t, model=LModel(), method=method, window=15, evaluate=[20])
    assert found.alpha[20] == pytest.approx(alpha, rel=1e-3)
    assert found.beta[20] == pytest.approx(beta, rel=1e-3)


def test_general_blocks_equal_the_special_model():
    rng = np.random.default_rng(5)
    model, blocks, start = setup("direction", 3, 4, rng)
    t = np.arange(30.0)
    path = simulators.simulate(lambda s: simulators.le_matrix(0.05, 0.02, 3), balanced(3), blocks, start, t)[0]
    options = {"method": "regression", "window": 11, "evaluate": [15]}
    general = estimate_coefficients(path, t, model=GeneralModel(torch.tensor(blocks)), **options)
    special = estimate_coefficients(torch.tensor(path), t, model=model, **options)
    assert general.alpha[15] == pytest.approx(special.alpha[15], rel=1e-9)


# ---- with noise ------------------------------------------------------------------------------------------------------


def noisy_runs(name, shape, sampling, runs, seed):
    rng = np.random.default_rng(seed)
    K, p, t = 3, 3, np.arange(100.0, 260.0)
    model, blocks, start = setup(name, K, p, rng)
    f = {"constant": lambda s: 1.0, "root": lambda s: (220 / s) ** 0.5, "inverse": lambda s: 220 / s}[shape]
    paths = simulators.simulate(
        lambda s: simulators.le_matrix(0.03 * f(s), -0.01 * f(s), K),
        balanced(K),
        blocks,
        2 * start,
        t,
        sigma=0.01,
        runs=runs,
        rng=rng,
        substeps=1,
    )
    variance = sampling * 1e-4
    return model, t, paths + np.sqrt(variance) * rng.standard_normal(paths.shape), np.full(K, p * variance)


@pytest.mark.parametrize(
    ("name", "method", "shape", "sampling", "causal"),
    [
        ("I", "modes", "constant", 3, False),
        ("I", "regression", "inverse", 0, True),
        ("L", "modes", "root", 0, True),
        ("L", "regression", "constant", 3, True),
        ("direction", "regression", "root", 3, False),
    ],
)
def test_intervals_cover_planted_coefficients(name, method, shape, sampling, causal):
    """300 runs: a true 95 % interval falls outside 91–98.7 % with probability 0.3 % for each of α and β."""
    model, t, paths, noise = noisy_runs(name, shape, sampling, 300, 11)
    at = 120
    assert t[at] == 220
    found = [
        estimate_coefficients(
            X, t, model=model, method=method, noise=noise if sampling else None, window=41, causal=causal, evaluate=[at]
        )
        for X in paths
    ]
    for rate, truth in [("alpha", 0.03), ("beta", -0.01)]:
        ends = np.array([getattr(c, rate + "_interval")[at] for c in found])
        assert 0.91 <= ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() <= 0.987, rate


def test_regression_reaches_the_cramer_rao_bound():
    """400 runs: the error of an RMSE is 3.5 %; the bound is that of the noise-free path without sampling noise."""
    model, t, paths, _ = noisy_runs("I", "constant", 0, 400, 12)
    mean, window = paths.mean(0), slice(100, 141)
    U = mean[window] / 3
    V = mean[window].mean(1, keepdims=True) - U
    D = [((f[1:] + f[:-1]) / 2).ravel() for f in (U, V)]
    bound = np.sqrt(np.diag(np.linalg.inv(np.array([[a @ b for b in D] for a in D]) / 1e-4)))
    found = [
        estimate_coefficients(X, t, model=model, method="regression", window=41, order=1, evaluate=[120]) for X in paths
    ]
    for rate, truth, least in [("alpha", 0.03, bound[0]), ("beta", -0.01, bound[1])]:
        rmse = np.sqrt(np.mean([(getattr(c, rate)[120] - truth) ** 2 for c in found]))
        assert rmse <= 1.1 * least * 1.1, rate


# ---- noise floor, tail, errors ---------------------------------------------------------------------------------------


def growing(T=80, K=3, p=4):
    rng = np.random.default_rng(9)
    start = rng.standard_normal((K, p))
    t = np.arange(T, dtype=float)
    E = simulators.le_matrix(0.3, 0.0, K)
    return t, simulators.simulate(lambda s: E, balanced(K), simulators.identity_blocks(K, p), start, t)[0]


def test_below_the_noise_nothing_is_said():
    t, X = growing()
    X = X * 1e-3
    found = estimate_coefficients(X, t, model=IModel(), noise=np.full(3, 1e-2), window=15)
    first = int(found.identifiable.argmax())
    assert 0 < first < 79
    assert found.reference_time == t[first]
    assert np.isnan(found.A[:first]).all()
    assert np.isnan(found.alpha[: max(0, first - 8)]).all()
    buried = estimate_coefficients(X, t, model=IModel(), noise=np.full(3, 1e9), window=15)
    assert "not identifiable" in buried.status
    assert np.isnan(buried.reference_time)
    assert np.isnan(buried.gamma).all()


def test_noise_in_the_norm_is_subtracted():
    rng = np.random.default_rng(1)
    t, X = growing()
    X = X * 0.3
    noisy = X[:, None] + 0.1 * rng.standard_normal((80, 300, 3, 4))
    raw, corrected, true = [], [], estimate_coefficients(X, t, model=IModel()).B[-1]
    for k in range(60):
        raw.append(estimate_coefficients(noisy[:, k], t, model=IModel(), evaluate=[0]).B[-1])
        found = estimate_coefficients(noisy[:, k], t, model=IModel(), noise=np.full(3, 0.04), evaluate=[0])
        corrected.append(found.B[-1])
    assert abs(np.nanmean(corrected) - true) < abs(np.nanmean(raw) - true)


def test_tail_index_of_a_known_power():
    t = np.arange(100.0, 1100.0)
    G = 4 * (t**0.5 - t[0] ** 0.5)  # γ = 2 t^(−1/2): r = 1/2
    start = np.array([[1.0, 0.2], [0.3, 1.5]])
    X = start.mean(0) + (start - start.mean(0)) * np.exp(G / 2)[:, None, None]
    found = estimate_coefficients(X, t, model=IModel(), window=21, evaluate=list(range(900, 1000)))
    tail = found.tail_index("gamma")
    expected = 1 - np.mean(np.log(G[-100:]) / np.log1p(t[-100:]))
    assert tail.index == pytest.approx(expected, rel=1e-6)
    assert tail.slope == pytest.approx(1 - t[-1] * 2 * t[-1] ** -0.5 / G[-1], rel=1e-3)
    assert tail.index_interval[0] <= tail.index <= tail.index_interval[1]
    with pytest.raises(ValueError, match="Expected argument `which`"):
        found.tail_index("alpha")
    with pytest.raises(ValueError, match="Expected argument `points` to be between 1 and the 1000 times there are"):
        found.tail_index("A", 0)


def test_causal_estimates_do_not_see_the_future():
    t, X = growing()
    for method in ("modes", "regression", "closed_form"):
        whole = estimate_coefficients(X, t, model=IModel(), method=method, window=15, causal=True)
        part = estimate_coefficients(X[:50], t[:50], model=IModel(), method=method, window=15, causal=True)
        np.testing.assert_allclose(whole.alpha[:50], part.alpha, rtol=1e-6, err_msg=method)


def test_live_rates_equal_the_causal_offline_ones():
    rng = np.random.default_rng(8)
    t, X = growing()
    X = X[:45] + 0.02 * rng.standard_normal((45, 3, 4))
    t, noise, m = t[:45] + 100, np.full(3, 4 * 0.02**2), 23
    offline = estimate_coefficients(X, t, model=IModel(), noise=noise, window=m, causal=True)
    common, difference = split_modes(X)
    totals = mode_noise(np.tile(noise, (45, 1)))
    modes = [norm_series(common, totals[0], 4), norm_series(difference, totals[1], 8)]
    functionals = mode_functionals(IModel().mode_weights(3), 2)

    def live(stop, history):
        channels = mode_channels(t[stop - m : stop], [s.window(stop - m, stop) for s in modes], t[stop - 1], 2)
        return channels, estimate_rates(channels, functionals, history)

    channels, first = live(m, None)
    _, last = live(45, extend_history(None, channels))
    for rates, at in [(first, m - 1), (last, 44)]:
        expected = [offline.alpha[at], offline.beta[at], offline.gamma[at]]
        np.testing.assert_allclose(rates.estimate, expected, atol=1e-5)
        half = [np.ptp(getattr(offline, n + "_interval")[at]) / 2 for n in ("alpha", "beta", "gamma")]
        np.testing.assert_allclose(rates.half, half, rtol=0.03)


@pytest.mark.parametrize("method", ["modes", "regression", "closed_form"])
def test_nan_means_give_a_status(method):
    t, X = growing()
    X[40, 1] = np.nan
    found = estimate_coefficients(X, t, model=IModel(), method=method, window=15)
    assert "1 of 80 times" in found.status
    assert np.isnan(found.alpha[40])
    assert found.alpha[10] == pytest.approx(0.3, rel=1e-2)
    assert found.alpha[70] == pytest.approx(0.3, rel=1e-2)


def test_equal_class_means_are_not_identifiable():
    found = estimate_coefficients(np.ones((60, 3, 4)), model=IModel(), window=15)
    assert "not identifiable" in found.status
    assert np.isnan(found.gamma).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": np.ones((9, 1, 2))}, r"`means` to be of K ≥ 2 classes, but got \(9, 1, 2\)"),
        ({"means": np.ones((9, 3, 2)), "model": "L"}, r"`means` to be of p ≥ 3 .* but got \(9, 3, 2\)"),
        ({"means": np.ones((9, 3))}, r"`means` to be of shape \(T, K, p\), but got \(9, 3\)"),
        ({"times": np.zeros(80)}, "`times` to be finite and strictly increasing"),
        ({"times": np.zeros(3)}, r"`times` to be of shape \(80,\), but got \(3,\)"),
        ({"method": "guess"}, "`method` to be one of closed_form, modes, regression, but got 'guess'"),
        ({"order": 0}, "`order` to be at least 1, but got 0"),
        ({"window": 4}, "`window` to be at least order [+] 3 = 5 times, but got 4"),
        ({"confidence": 95}, "`confidence` to be between 0 and 1, but got 95"),
        ({"noise": np.ones(7)}, r"`noise` to be of shape \(80, 3\) or \(3,\), but got \(7,\)"),
        ({"noise": -np.ones(3)}, "`noise` to be variances, which are not negative"),
        ({"noise": SamplingNoise(np.ones((7, 3)))}, r"`noise` to be of shape .* but got \(7, 3\)"),
        ({"priors": [0.5, 0.3, 0.2]}, '`priors` to be balanced, .* Use method="regression"'),
        ({"priors": np.ones((7, 3)), "method": "regression"}, "`priors` to be of 80 rows"),
        ({"model": DirectionModel(torch.eye(3, 4))}, "regression"),
    ],
)
def test_bad_arguments_are_named(options, message):
    t, X = growing()
    arguments = {"means": X, "times": None if "means" in options else t, "model": IModel(), **options}
    with pytest.raises(ValueError, match=message):
        estimate_coefficients(arguments.pop("means"), arguments.pop("times"), **arguments)


def test_models_go_by_name():
    t, X = growing()
    for name, model, means in (("I", IModel(), X), ("L", LModel(), X[..., :3])):
        named = estimate_coefficients(means, t, model=name, window=15)
        assert named.model == name
        np.testing.assert_array_equal(named.A, estimate_coefficients(means, t, model=model, window=15).A)
    with pytest.raises(TypeError, match="Expected argument `model`"):
        estimate_coefficients(X, t, model="linear")


FORMS = {
    "list": lambda a: a.tolist(),
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "negative strides": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "tensor": lambda a: torch.tensor(a, requires_grad=True),
}


@pytest.mark.parametrize("method", ["modes", "regression", "closed_form"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_form_of_array_gives_the_same(form, method):
    t, X = growing()
    P = {"priors": np.full(3, 1 / 3), "noise": np.full((80, 3), 1e-6)}
    expected = estimate_coefficients(X, t, model="I", method=method, window=15, **P)
    formed = {name: form(value) for name, value in P.items()}
    found = estimate_coefficients(form(X), form(t), model="I", method=method, window=15, **formed)
    np.testing.assert_array_equal(found.A, expected.A)
    np.testing.assert_array_equal(found.gamma_interval, expected.gamma_interval)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_precision_is_widened(dtype):
    t, X = growing()
    X = torch.tensor(X).to(dtype)
    expected = estimate_coefficients(X.double().numpy(), t, model="I", window=15).A
    for means in (X, X.float().numpy(), X.float().numpy()[:, ::-1][:, ::-1]):
        found = estimate_coefficients(means, torch.tensor(t).float(), model="I", window=15)
        assert found.A.dtype == np.float64
        np.testing.assert_array_equal(found.A, expected)


def test_what_is_given_is_left_as_it_is():
    t, X = growing()
    X[3, 1] = np.nan
    before = X.copy(), t.copy()
    found = estimate_coefficients(X, t, model="I", window=15)
    found.times[0] = -1
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(t, before[1])


def test_noise_record_uses_the_direction():
    noise = SamplingNoise.from_moments([[4, 0]], [[2.0, 2.0]], along=[[0.4, 0.4]])
    assert noise.trace[0, 0] == 0.5
    assert np.isinf(noise.trace[0, 1])
    with pytest.raises(ValueError, match="Expected argument `trace` to be of shape"):
        SamplingNoise(np.ones(3))
    with pytest.raises(ValueError, match="Expected argument `along` to be variances"):
        SamplingNoise(np.ones((2, 3)), -np.ones((2, 3)))


def test_simulator_converges_in_its_substep():
    rng = np.random.default_rng(6)
    _, blocks, start = setup("I", 3, 2, rng)

    def matrix(t):
        return simulators.le_matrix(3 / t, -1 / t, 3) + np.diag([0.2 * t, 0, 0])  # does not commute over time

    ends = [simulators.simulate(matrix, balanced(3), blocks, start, [1.0, 2.0], substeps=n)[0, -1] for n in (4, 8, 64)]
    assert np.abs(ends[0] - ends[2]).max() / np.abs(ends[1] - ends[2]).max() == pytest.approx(4, rel=0.2)
