"""Evidence against exact expectations and against mixtures of likelihood ratios written with SciPy's distributions."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import binom, norm

from le_callback.alerts.evidence import accumulate, pair_evidence, rate_evidence, shift_evidence, start_weight


def test_weights_are_a_share():
    assert 0.9 < sum(start_weight(t) for t in range(1, 10**5)) < 1


@pytest.mark.parametrize(("n", "rate"), [(1, 0.9), (20, 0.8), (50, 0.5), (200, 0.95), (300, 0.3)])
def test_rate_evidence_is_an_e_value(n, rate):
    """Exact expectation over the binomial at the boundary and above it."""
    for p in (rate, min(1.0, rate + 0.05)):
        hits = np.arange(n + 1)
        e = np.exp([rate_evidence(h, n, rate, 100, 3.5) for h in hits])
        assert (binom.pmf(hits, n, p) * e).sum() <= 1 + 1e-9


def test_shift_evidence_is_an_e_value():
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert (density * np.exp(shift_evidence(z, 6.0))).sum() * (z[1] - z[0]) <= 1


@pytest.mark.parametrize("n", [4, 6, 20])
@pytest.mark.parametrize("floor", [0.5, 1.5])
def test_pair_evidence_is_an_e_value_for_few_samples(n, floor):
    """Mean over 4,000 simulated pairs at the floor; its standard error is below 0.05, six of them are allowed."""
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((20_000, n)) + floor, rng.standard_normal((20_000, n))
    pooled = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / 2)
    D = (a.mean(1) - b.mean(1)) / pooled
    e = [
        math.exp(pair_evidence(np.array([[0, d], [d, 0]]), np.array([n, n]), np.full((2, 2), floor), 6.0)[0, 1])
        for d in D[:4000]
    ]
    assert np.mean(e) <= 1 + 6 * np.std(e) / math.sqrt(len(e))


def test_ville_bound_holds_over_a_run():
    """500 runs of 300 windows at the boundary, level 0.1: at most 10 % alarms, plus 4 standard errors."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(500):
        log_sum, hits = np.array(-np.inf), rng.binomial(40, 0.8, 300)
        for t, h in enumerate(hits, start=1):
            log_sum = accumulate(log_sum, np.array(rate_evidence(h, 40, 0.8, 100, 3.5)), t)
            if log_sum >= math.log(10):
                alarms += 1
                break
    assert alarms <= 500 * (0.1 + 4 * math.sqrt(0.09 / 500))


@pytest.mark.parametrize(("window", "weight"), [(1, 100 / 101**2), (100, 1 / 400), (900, 1e-4)])
def test_start_weight(window, weight):
    assert start_weight(window) == pytest.approx(weight, rel=1e-12)


def test_accumulated_evidence_adds_the_weight_before_it_multiplies():
    after = accumulate(np.log([1e-300, 0.5, 2.0]), np.log([3.0, 3.0, 0.1]), 100)
    np.testing.assert_allclose(np.exp(after), [0.0025 * 3, 0.5025 * 3, 2.0025 * 0.1], rtol=1e-12)
    assert accumulate(np.array(-np.inf), np.array(0.0), 100) == pytest.approx(math.log(0.0025))


def mean_ratio(hits, tried, rate):
    """Log of the mean likelihood ratio over rates that fell to 85, 70, 50, 30 and 10 %."""
    ratios = [binom.logpmf(hits, tried, share * rate) for share in (0.85, 0.7, 0.5, 0.3, 0.1)]
    return logsumexp(ratios) - math.log(5) - binom.logpmf(hits, tried, rate)


@pytest.mark.parametrize(
    ("hits", "tried", "rate"), [(0, 3, 0.5), (3, 4, 0.9), (10, 40, 0.3), (35, 50, 0.8), (1, 1, 0.6)]
)
def test_rate_evidence_is_the_mean_likelihood_ratio(hits, tried, rate):
    assert rate_evidence(hits, tried, rate, 1000, 1000) == pytest.approx(mean_ratio(hits, tried, rate), rel=1e-9)


def test_rate_evidence_counts_at_most_some_samples_and_nats():
    full = mean_ratio(60, 100, 0.8)
    assert rate_evidence(60, 100, 0.8, 100, 1000) == pytest.approx(full, rel=1e-9)
    assert rate_evidence(60, 100, 0.8, 99, 1000) == pytest.approx(0.99 * full, rel=1e-9)
    assert rate_evidence(60, 100, 0.8, 25, 1000) == pytest.approx(full / 4, rel=1e-9)
    assert full > 5
    assert rate_evidence(60, 100, 0.8, 100, full - 0.5) == full - 0.5
    assert rate_evidence(79, 100, 0.8, 100, 5.0) < 0


def test_rate_evidence_near_certainty_allows_one_failure_in_a_thousand():
    assert rate_evidence(5, 10, 1.0, 100, 1000) == pytest.approx(mean_ratio(5, 10, 0.999), rel=1e-9)
    assert rate_evidence(5, 10, 0.9985, 100, 1000) == pytest.approx(mean_ratio(5, 10, 0.9985), rel=1e-9)
    assert rate_evidence(5, 10, 0.9995, 100, 1000) == rate_evidence(5, 10, 1.0, 100, 1000)


@pytest.mark.parametrize(
    ("tried", "rate", "judged"),
    [
        (0, 0.5, False),
        (1, 0.5, True),
        (5, 0.0, False),
        (5, -0.1, False),
        (5, 1.0, True),
        (5, 1.01, False),
        (5, 0.01, True),
    ],
)
def test_rate_evidence_is_silent_without_samples_or_a_rate(tried, rate, judged):
    assert (rate_evidence(0, tried, rate, 100, 5.0) != 0.0) is judged


@pytest.mark.parametrize("z", [-6.0, -5.9, -2.0, -0.5, 0.0, 0.3, 4.0])
def test_shift_evidence_is_the_mean_likelihood_ratio(z):
    """Alternatives: means of −1, −2 and −4 standard errors."""
    ratio = logsumexp([norm.logpdf(z, -shift) for shift in (1, 2, 4)]) - math.log(3) - norm.logpdf(z)
    assert shift_evidence(np.array(z), 1000.0) == pytest.approx(ratio, rel=1e-9)


def test_shift_evidence_is_bounded_and_silent_where_nothing_is_known():
    far, edge = shift_evidence(np.array([-50.0, -6.0]), 1000.0)
    assert far == edge > 14
    assert shift_evidence(np.array([-6.0, -3.0]), 5.0)[0] == 5.0
    assert shift_evidence(np.array([np.nan]), 5.0)[0] == 0.0
    assert shift_evidence(np.zeros((2, 3)), 5.0).shape == (2, 3)


def evidence_of_pair(D, n, floor, most=1000.0):
    """Of two classes with ``n`` samples each."""
    n = np.array(n, dtype=float)
    return float(pair_evidence(np.array([[0.0, D], [D, 0.0]]), n, np.full((2, 2), floor), most)[0, 1])


@pytest.mark.parametrize(
    ("D", "n", "floor"), [(0.2, (20, 20), 1.5), (1.4, (10, 4), 1.5), (3.0, (25, 25), 1.0), (0, (2, 4), 2)]
)
def test_pair_evidence_is_that_of_a_normal_deviate(D, n, floor):
    dof = sum(n) - 2
    t = (D - floor) / math.sqrt(1 / n[0] + 1 / n[1] + floor**2 / (2 * dof))
    z = t * (1 - 1 / (4 * dof)) / math.sqrt(1 + t**2 / (2 * dof))
    expected = logsumexp([norm.logpdf(z, -shift) for shift in (1, 2, 4)]) - math.log(3) - norm.logpdf(z)
    assert evidence_of_pair(D, n, floor) == pytest.approx(expected, rel=1e-9)


def test_pair_evidence_needs_two_samples_of_each_class_and_six_of_both():
    assert evidence_of_pair(0.0, (2, 4), 1.5) != 0
    assert evidence_of_pair(0.0, (4, 2), 1.5) != 0
    assert evidence_of_pair(0.0, (1, 9), 1.5) == 0
    assert evidence_of_pair(0.0, (9, 1), 1.5) == 0
    assert evidence_of_pair(0.0, (2, 3), 1.5) == 0
    for few in ((0, 0), (0, 20), (1, 1)):  # without a division by zero
        assert evidence_of_pair(0.0, few, 1.5) == 0
    assert evidence_of_pair(math.nan, (20, 20), 1.5) == 0
    assert evidence_of_pair(0.0, (20, 20), math.nan) == 0


def test_pair_evidence_counts_at_most_25_samples_of_a_class():
    assert evidence_of_pair(1.0, (25, 25), 1.5) == evidence_of_pair(1.0, (300, 26), 1.5)
    assert evidence_of_pair(1.0, (24, 25), 1.5) < evidence_of_pair(1.0, (25, 25), 1.5)


def test_pair_evidence_takes_a_pair_without_deviation_for_a_thousand():
    assert evidence_of_pair(math.inf, (20, 20), 1.5) == evidence_of_pair(1000.0, (20, 20), 1.5)
    assert evidence_of_pair(math.inf, (20, 20), 995.0) != evidence_of_pair(999.0, (20, 20), 995.0)
    assert evidence_of_pair(-math.inf, (20, 20), -995.0) == evidence_of_pair(-1000.0, (20, 20), -995.0)
    assert evidence_of_pair(0.0, (20, 20), 1.5, most=2.0) == 2.0
