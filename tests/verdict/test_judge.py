"""The verdict on streams of windows whose course is known."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from alerts.streams import K, Stream

from le_callback import SeparationMonitor
from le_callback.values import Estimate
from le_callback.verdict.judge import Judge
from le_callback.verdict.words import growth_in_words

UNKNOWN = Estimate.unknown()


def verdicts(windows, stream=None, judge=None):
    stream, judge = stream or Stream(samples=200), judge or Judge()
    return [judge.add(stream.window(**kwargs), UNKNOWN) for kwargs in windows]


def names(found):
    return [regime.name for regime in found]


def test_a_growing_gap_separates_and_the_rate_is_that_of_the_gap():
    """The gap grows by 4 % a window of 50 steps, so the discriminability by 80 % per 1,000 steps."""
    found = verdicts([{"gap": 0.4 * 1.04**i} for i in range(24)], Stream(samples=2000))
    assert set(names(found[12:])) == {"separating"}
    first, last = (0.4 * 1.04**i * math.sqrt(2) / 0.3 for i in (3, 24))
    assert found[-1].rate.low < 0.8 * last
    assert found[-1].rate.high > 0.8 * first
    assert "grows" in found[-1].reason
    assert "per 1,000 steps" in found[-1].reason


def test_a_shrinking_gap_loses():
    found = verdicts([{"gap": 0.8 * 0.95**i} for i in range(24)], Stream(samples=2000))
    assert set(names(found[8:])) == {"losing"}
    assert "falls" in found[-1].reason
    assert found[-1].rate.high < 0


def test_a_steady_gap_stalls():
    found = verdicts([{"gap": 0.5}] * 30)
    assert names(found[9:]).count("stalled") >= 19
    assert "accuracy by nearest class mean" in found[-1].reason


def test_pure_noise_is_at_chance_from_the_second_window_on():
    found = verdicts([{"corrupt": 0.8}] * 20)  # of five classes: every label is drawn anew
    assert set(names(found[1:])) == {"at chance"}
    assert "guess" in found[-1].reason


def test_far_apart_is_separated():
    found = verdicts([{"gap": 3.0}] * 12)
    assert set(names(found[6:])) == {"separated"}


class Rare(Stream):
    """Windows in which class 4 is rare, and may lie where class 3 does."""

    def rare(self, share, hidden=False, counts=None):
        """A window; ``counts`` stands for the class counts of a loader."""
        y = torch.randint(K - 1, (self.samples,), generator=self.g)
        y[torch.rand(self.samples, generator=self.g) < share] = K - 1
        place = torch.where(y == K - 1, K - 2, y) if hidden else y
        x = torch.cat([3.0 * torch.eye(K)[place], torch.zeros(len(y), 3)], dim=1)
        x = x + self.spread * torch.randn(x.shape, generator=self.g)
        self.step += 50
        self.monitor.update(features=x, logits=8 * x[:, :K], target=y)
        record = self.monitor.close(self.step)
        return record if counts is None else replace(record, class_samples=tuple(counts))


def test_a_rare_class_that_is_always_wrong_forbids_separated():
    """It is 1 sample in 140: the accuracy over all samples is above 99 %."""
    for hidden, said in ((False, True), (True, False)):
        stream, judge = Rare(samples=4200), Judge()
        found = [judge.add(stream.rare(1 / 140, hidden), UNKNOWN) for _ in range(14)]
        assert judge.state.recent.accuracy("head") > 0.99
        assert ("separated" in names(found)) == said


@pytest.mark.parametrize(("N", "said"), [(300, "cannot tell"), (30_000, "separated")])
def test_of_a_rare_class_of_a_few_samples_again_and_again_it_cannot_tell(N, said):
    """Both data sets hold it at 1 in 140, which is 2 samples of the small one."""
    rng, order, stream, judge = np.random.default_rng(1), np.empty(0, dtype=int), Rare(samples=1000), Judge()
    labels = np.where(np.arange(N) < N / 140, K - 1, np.arange(N) % (K - 1))
    for _ in range(24):
        while len(order) < 1000:
            order = np.append(order, rng.permutation(labels))
        counts, order = np.bincount(order[:1000], minlength=K), order[1000:]
        found = judge.add(stream.rare(1 / 140, counts=counts), UNKNOWN)
    assert found.name == said
    assert ("cannot tell for class 4: it has about" in found.reason) == (said == "cannot tell")


def test_a_sudden_loss_is_told_and_then_what_came_of_it():
    windows = [{"gap": 3.0}] * 12 + [{"gap": 3.0, "corrupt": 0.8}] * 12
    found = verdicts(windows)
    assert names(found[6:12]) == ["separated"] * 6
    assert "losing" in names(found[12:15])
    told = next(regime for regime in found[12:] if regime.name == "losing")
    assert "fell at once" in told.reason
    assert "step 650" in told.reason
    assert names(found[18:]) == ["at chance"] * 6
    assert "it was 100% at step" in found[-1].reason


def test_a_fall_that_is_made_good_is_no_loss_any_more():
    """Held-out means are bad for one window more than the labels; two good ones later it is told."""
    windows = [{"gap": 3.0}] * 10 + [{"gap": 3.0, "corrupt": 0.8}] * 2 + [{"gap": 3.0}] * 3
    found = verdicts(windows)
    assert names(found[11:]) == ["losing", "losing", "losing", "separating"]
    assert "rose at once" in found[-1].reason


def test_one_odd_window_changes_nothing():
    found = verdicts([{"gap": 3.0}] * 10 + [{"gap": 0.4}] + [{"gap": 3.0}] * 5)
    assert set(names(found[6:])) == {"separated"}


def test_without_samples_it_cannot_tell_and_says_what_would_help():
    found = Judge().add(SeparationMonitor(num_classes=3).close(50), UNKNOWN)
    assert found.name == "cannot tell"
    assert "every_n_steps" in found.reason
    assert math.isnan(found.rate.value)


def test_few_samples_cannot_tell():
    found = verdicts([{"gap": 0.6}] * 25, Stream(samples=14))
    assert "cannot tell" in names(found[5:])
    told = next(regime for regime in found[5:] if regime.name == "cannot tell")
    assert "every_n_steps" in told.reason


@pytest.mark.parametrize("cut", [3, 9, 14])
def test_resumed_it_says_what_the_uninterrupted_does(cut):
    windows = [{"gap": 1 + 0.1 * i} for i in range(11)] + [{"gap": 1.0, "corrupt": 0.7}] * 7
    stream = Stream()
    records = [stream.window(**kwargs) for kwargs in windows]
    whole, first, second = Judge(), Judge(), Judge()
    expected = [repr(whole.add(record, UNKNOWN)) for record in records]
    for record in records[:cut]:
        first.add(record, UNKNOWN)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [repr(second.add(record, UNKNOWN)) for record in records[cut:]] == expected[cut:]
    assert repr(Judge().state_dict()) != repr(second.state_dict())


def test_the_state_stays_as_large_as_it_is():
    stream, judge = Stream(samples=60), Judge()
    sizes = []
    for i in range(120):
        judge.add(stream.window(gap=0.5 + 0.5 * (i % 7 == 0)), UNKNOWN)
        file = io.BytesIO()
        torch.save(judge.state_dict(), file)
        sizes.append(file.tell())
    assert max(sizes[60:]) <= 1.02 * max(sizes[:60])


def test_the_monitor_carries_it_and_resumes_it():
    stream = Stream()
    for _ in range(8):
        record = stream.window(gap=3.0)
    assert record.regime.name == "separated"
    other = SeparationMonitor(num_classes=K)
    other.load_state_dict(stream.monitor.state_dict())
    assert repr(other.judge.state_dict()) == repr(stream.monitor.judge.state_dict())


@pytest.mark.parametrize(
    ("growth", "level", "unit", "said"),
    [
        ((1e-4, 5e-5, 2e-4), 3.0, "step", "grows 10 % [5, 20] per 1,000 steps"),
        ((-1e-4, -2e-4, 5e-5), 3.0, "step", "falls 10 % [-5, 20] per 1,000 steps"),
        ((1e-2, 5e-3, 2e-2), 3.0, "step", "grows 100 % [50, 200] per 100 steps"),
        ((0.1, 0.05, 0.2), 0.0, "epoch", "grows by 0.28 [0.14, 0.57] deviations per epoch"),
    ],
)
def test_rates_in_words(growth, level, unit, said):
    assert growth_in_words(Estimate(*growth), level, unit) == said


def test_the_rate_in_percent_is_that_of_the_discriminability():
    """d log D = √(1 + 8/D²) dy, by a small step."""
    level, dy = 1.0, 1e-6
    D = np.sqrt(8) * np.sinh(level)
    percent = 100 * (np.sqrt(8) * np.sinh(level + dy) / D - 1) / dy
    assert growth_in_words(Estimate(1e-4, 1e-4, 1e-4), level, "step").startswith(f"grows {percent * 0.1:.2g} %")
