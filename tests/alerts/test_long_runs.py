"""Ten thousand windows: what rules and verdict keep stays as large as it was, and is resumed exactly."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from alerts.streams import K, Stream
from oracles import same_state

from le_callback.alerts import AlertBook
from le_callback.values import Estimate
from le_callback.verdict import Judge

FAULTS = (
    {"corrupt": 0.8}, {"mix": (1, 3)}, {"scale": 1e-4}, {"absent": 2}, {"still": 4}, {"nan": True}, {"scale": 300.0},
)  # fmt: skip
WINDOWS, SEASON = 10_000, 500


@pytest.fixture(scope="module")
def drawn():
    """Windows of each kind, used again and again: a window costs more to make than to judge."""
    healthy = Stream(samples=60)
    found = {None: [healthy.window() for _ in range(40)]}
    for i in range(len(FAULTS)):
        stream = Stream(seed=i + 1, samples=60)
        stream.window()
        found[i] = [stream.window(**FAULTS[i]) for _ in range(15)]
    return found


def windows(drawn):
    """Every 500 windows a fault of another kind for 15; class counts and steps of their own."""
    rng = np.random.default_rng(0)
    for i in range(WINDOWS):
        season, at = divmod(i, SEASON)
        fault = season % len(FAULTS) if 300 <= at < 315 else None
        record = drawn[fault][(at - 300) if fault is not None else int(rng.integers(40))]
        counts = np.where(np.array(record.class_samples) > 0, rng.multinomial(60, np.full(K, 1 / K)), 0.0)
        skipped = {"nonfinite_features": 3 * season + max(0, min(at, 315) - 300) * (fault == 5)}
        yield replace(record, step=50 * (i + 1), window=(50 * i, 50 * (i + 1)), class_samples=tuple(counts),
                      skipped=skipped)  # fmt: skip


def judged(window):
    """The verdict looks at its last 20 windows only: it is asked where something is compared."""
    return window <= 1000 or 4990 <= window <= 5500 or window > 9000


class Told:
    """Rules and verdict as the monitor and the session ask them."""

    def __init__(self):
        self.book, self.judge = AlertBook(), Judge()

    def add(self, record):
        regime = self.judge.add(record, Estimate.unknown()) if judged(record.step // 50) else None
        alerts = self.book.add(replace(record, regime=regime))
        return regime, [(a.rule, a.step, a.classes, a.cause, a.value) for a in alerts], self.book.ended

    def saved(self):
        file = io.BytesIO()
        torch.save({"book": self.book.state_dict(), "judge": self.judge.state_dict()}, file)
        return file.getvalue()

    @classmethod
    def resumed(cls, saved):
        told, state = cls(), torch.load(io.BytesIO(saved), weights_only=True)
        told.book.load_state_dict(state["book"])
        told.judge.load_state_dict(state["judge"])
        return told


def test_ten_thousand_windows_cost_no_more_than_a_thousand_and_are_resumed_exactly(drawn):
    """Saved amid a fault at window 9,308, where alerts stand, and at 5,000 for the next 400 windows."""
    whole, resumed, sizes, alerts = Told(), {}, {}, []
    for i, record in enumerate(windows(drawn), start=1):
        expected = whole.add(record)
        alerts += expected[1]
        for start, other in resumed.items():
            if start <= 5000 and i > start + 400:
                continue
            assert repr(other.add(record)) == repr(expected), (start, i)
        if i in (1000, 5000, 9308, WINDOWS):
            sizes[i] = len(whole.saved())
        if i in (5000, 9308):
            resumed[i] = Told.resumed(whole.saved())
    assert whole.book.failures == {}
    assert sizes[WINDOWS] <= 1.02 * sizes[1000]
    assert same_state(whole.book.state_dict(), resumed[9308].book.state_dict())
    assert same_state(whole.judge.state_dict(), resumed[9308].judge.state_dict())
    assert not same_state(whole.judge.state_dict(), resumed[5000].judge.state_dict())
    assert {rule for rule, *_ in alerts} >= {
        "SeparabilityLost", "PairMerging", "FeatureCollapse", "ClassVanished", "NonFinite", "ScaleChanged",
    }  # fmt: skip
    assert len({step for _, step, *_ in alerts if step > 50 * 7000}) >= 5  # … and they still tell
