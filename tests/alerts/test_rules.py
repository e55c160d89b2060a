import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from le_callback import SeparationMonitor
from le_callback.alerts import (
    Alert,
    AlertBook,
    ClassVanished,
    ElasticityLost,
    FeatureCollapse,
    NonFinite,
    PairMerging,
    SeparabilityLost,
    default_rules,
)
from le_callback.alerts.evidence import accumulate, pair_evidence, rate_evidence, shift_evidence, start_weight

K = 5


class Stream:
    """Windows of Gaussian classes in the corners of a simplex; the head reads the first K dimensions."""

    def __init__(self, seed=0, samples=100, spread=0.3):
        self.g = torch.Generator().manual_seed(seed)
        self.monitor, self.samples, self.spread, self.step = SeparationMonitor(num_classes=K), samples, spread, 0

    def window(self, corrupt=0.0, mix=None, scale=1.0, absent=None, nan=False, gap=1.0, still=None):
        y = torch.randint(K, (self.samples,), generator=self.g)
        if absent is not None:
            y = y[y != absent]
        x = torch.cat([gap * torch.eye(K)[y], torch.zeros(len(y), 3)], dim=1)
        x = x + self.spread * torch.randn(x.shape, generator=self.g)
        if still is not None:
            x[y == still] = torch.eye(K, K + 3)[still]
        x = scale * x
        if nan:
            x[0] = torch.nan
        labels = y.clone()
        wrong = torch.rand(len(y), generator=self.g) < corrupt
        labels[wrong] = (y + torch.randint(1, K, y.shape, generator=self.g))[wrong] % K
        if mix is not None:
            either = (y == mix[0]) | (y == mix[1])
            labels[either] = torch.tensor(mix)[torch.randint(2, (int(either.sum()),), generator=self.g)]
        self.step += 50
        self.monitor.update(features=x, logits=8 * x[:, :K], target=labels)
        return self.monitor.close(self.step)


def run(book, stream, windows, **kwargs):
    return [alert for _ in range(windows) for alert in book.add(stream.window(**kwargs))]


FAULTS = [
    ({"corrupt": 0.6}, "SeparabilityLost", ()),
    ({"mix": (1, 3)}, "PairMerging", (1, 3)),
    ({"scale": 0.0}, "FeatureCollapse", ()),
    ({"scale": 1e-4}, "FeatureCollapse", ()),
    ({"absent": 2}, "ClassVanished", (2,)),
    ({"still": 4}, "ClassVanished", (4,)),
    ({"nan": True}, "NonFinite", ()),
]


@pytest.mark.parametrize(("fault", "rule", "classes"), FAULTS)
def test_fault_raises_its_rule_once_and_soon(fault, rule, classes):
    book, stream = AlertBook(), Stream()
    assert run(book, stream, 20) == []
    alerts = run(book, stream, 20, **fault)
    assert [(a.rule, a.classes) for a in alerts] == [(rule, classes)]
    assert alerts[0].step <= 50 * 28
    assert alerts[0].cause.endswith(".")
    assert alerts[0].advice[-1] in ".?"


def test_alert_returns_after_recovery_and_not_before():
    book, stream = AlertBook(), Stream()
    run(book, stream, 20)
    assert len(run(book, stream, 10, corrupt=0.7)) == 1
    assert run(book, stream, 40) == []
    assert len(run(book, stream, 10, corrupt=0.7)) == 1


@pytest.mark.parametrize("cut", [15, 22, 30])
def test_resumed_book_raises_what_the_uninterrupted_does(cut):
    kinds = [{}] * 20 + [{"mix": (0, 2)}] * 15
    stream = Stream()
    records = [stream.window(**kind) for kind in kinds]
    whole = AlertBook()
    expected = [whole.add(r) for r in records]
    first, second = AlertBook(), AlertBook()
    for r in records[:cut]:
        first.add(r)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second.add(r) for r in records[cut:]] == expected[cut:]
    assert sum(map(len, expected)) == 1


def test_rules_do_not_change_the_state_they_are_given():
    stream = Stream()
    for rule in default_rules():
        state = None
        for _ in range(8):
            state, _ = rule(stream.window(), state)
        record = stream.window(corrupt=0.5)
        before = repr(state)
        once, twice = rule(record, state), rule(record, state)
        assert repr(state) == before
        assert repr(once) == repr(twice)


def test_false_alarms_in_healthy_streams():
    """6 streams of 80 windows with few samples, each rule at level 1e-3: two alarms or more have probability < 1e-3."""
    raised = []
    for seed in range(3):
        for samples, spread in ((30, 0.5), (50, 0.3)):
            raised += run(AlertBook(), Stream(seed, samples, spread), 80)
    assert len(raised) <= 1


def test_shrinking_or_growing_gap_in_good_health_is_no_alarm():
    book, stream = AlertBook(), Stream(spread=0.1)
    for gap in np.concatenate([np.geomspace(0.01, 2, 60), np.linspace(2, 1, 60)]):
        assert book.add(stream.window(gap=float(gap))) == []


def test_negative_gamma_alone_is_no_alarm_and_with_accuracy_it_is():
    rule, stream = ElasticityLost(), Stream(samples=400)
    state = None

    def with_gamma(record, high):
        c = record.coefficients["I_features"]
        gamma = replace(c.gamma, value=high - 0.01, low=high - 0.02, high=high)
        return replace(record, coefficients={"I_features": replace(c, gamma=gamma)})

    for _ in range(30):
        state, alert = rule(with_gamma(stream.window(), -0.1), state)
        assert alert is None
    found = []
    for _ in range(10):
        state, alert = rule(with_gamma(stream.window(corrupt=0.3), -0.1), state)
        found.append(alert)
    assert found[-1] is not None
    assert found[-1].rule == "ElasticityLost"
    state = None
    for i in range(40):
        state, alert = rule(with_gamma(stream.window(corrupt=0.3 * (i > 25)), 0.1), state)
        assert alert is None


def test_sorted_classes_are_no_vanished_classes():
    rule, state = ClassVanished(), None
    record = SeparationMonitor(num_classes=4).close(1)
    for window in range(80):
        counts = np.zeros(4)
        counts[window // 5 % 4] = 100
        state, alert = rule(replace(record, class_samples=tuple(counts), step=window), state)
        assert window < 20 or alert is None  # a full turn has to be seen


def test_never_leaving_chance_is_told():
    book = AlertBook([SeparabilityLost(leave_chance_by=60)])
    alerts = run(book, Stream(samples=200), 70, corrupt=0.8)
    assert [a.rule for a in alerts] == ["SeparabilityLost"]
    assert alerts[0].step == 50 * 61  # the first window has no means to compare with
    assert run(AlertBook([SeparabilityLost(leave_chance_by=60)]), Stream(samples=200), 70) == []


def test_a_failing_user_rule_is_noted_and_stops_nothing():
    def broken(record):
        raise KeyError("x")

    book = AlertBook([broken, NonFinite()])
    assert [a.rule for a in run(book, Stream(), 3, nan=True)] == ["NonFinite"]
    assert book.failures == {"broken": "KeyError: 'x'"}


def test_user_rule_is_raised_again_after_it_was_over():
    def many(record):
        return Alert("many", record.step, (), "many.", "fewer.", 1, 0, 0.0) if record.step % 500 <= 50 else None

    assert [a.step for a in run(AlertBook([many], rearm=5), Stream(samples=10), 30)] == [50, 500, 1000, 1500]


class TestEvidence:
    def test_weights_are_a_share(self):
        assert 0.9 < sum(start_weight(t) for t in range(1, 10**5)) < 1

    @pytest.mark.parametrize(("n", "rate"), [(1, 0.9), (20, 0.8), (50, 0.5), (200, 0.95), (300, 0.3)])
    def test_rate_evidence_is_an_e_value(self, n, rate):
        """Exact expectation over the binomial at the boundary and above it."""
        from scipy.stats import binom

        for p in (rate, min(1.0, rate + 0.05)):
            hits = np.arange(n + 1)
            e = np.exp([rate_evidence(h, n, rate, 100, 3.5) for h in hits])
            assert (binom.pmf(hits, n, p) * e).sum() <= 1 + 1e-9

    def test_shift_evidence_is_an_e_value(self):
        z = np.linspace(-12, 12, 200_001)
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        assert (density * np.exp(shift_evidence(z, 6.0))).sum() * (z[1] - z[0]) <= 1

    @pytest.mark.parametrize("n", [4, 6, 20])
    @pytest.mark.parametrize("floor", [0.5, 1.5])
    def test_pair_evidence_is_an_e_value_for_few_samples(self, n, floor):
        """Mean over 20,000 simulated pairs at the floor; its standard error is below 0.05, six of them are allowed."""
        rng = np.random.default_rng(n)
        a, b = rng.standard_normal((20_000, n)) + floor, rng.standard_normal((20_000, n))
        pooled = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / 2)
        D = (a.mean(1) - b.mean(1)) / pooled
        e = [
            math.exp(pair_evidence(np.array([[0, d], [d, 0]]), np.array([n, n]), np.full((2, 2), floor), 6.0)[0, 1])
            for d in D[:4000]
        ]
        assert np.mean(e) <= 1 + 6 * np.std(e) / math.sqrt(len(e))

    def test_ville_bound_holds_over_a_run(self):
        """2,000 runs of 300 windows at the boundary, level 0.1: at most 10 % alarms, plus 4 standard errors."""
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


def test_defaults_have_all_rules():
    assert [type(r) for r in default_rules()] == [
        NonFinite, ClassVanished, FeatureCollapse, PairMerging, SeparabilityLost, ElasticityLost,
    ]  # fmt: skip
