"""The measured LE matrix recovers what was planted. A real training: see test_examples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import Classifier, MemoryLogger, blobs, loader, trainer

from le_callback import LECallback
from le_callback.probe.response_matrix import (
    ResponseMatrixTracker,
    estimate_response_matrix,
    matrix_classes,
    step_moments,
)
from le_callback.report.heatmaps import matrix_figure

K = 5


def planted(seed, similar=(1, 3)):
    """0.05 on the diagonal, small entries elsewhere, 0.03 for one pair."""
    E = np.random.default_rng(seed).normal(0.0, 0.004, (K, K))
    np.fill_diagonal(E, 0.05)
    E[similar] = E[similar[::-1]] = 0.03
    return E


def steps_of(E, source, rng, count=60, noise=0.006, batch=8, classes=None):
    """Single steps of the LE-SDE with the shares of a random batch, written as loops over classes."""
    X = rng.normal(size=(K, K)) + 2 * np.eye(K)
    steps = []
    for _ in range(count):
        c = rng.multinomial(batch, np.full(K, 1 / K)) / batch
        after = X.copy()
        for i in range(K):
            for j in range(K):
                if source == "logits":
                    d = np.eye(K)[j] - 1 / K
                    pull = d * (d @ X[j]) / (d @ d)
                else:
                    pull = X[j] - X.mean(0)
                after[i] += c[j] * E[i, j] * pull
            after[i] += noise * rng.normal(size=K)
        if source == "features":
            # what all classes share must not matter
            after += rng.normal(size=K)
        steps.append(step_moments(source, *(torch.from_numpy(a) for a in (c, X, after)), classes))
    return steps


@pytest.mark.parametrize("source", ["features", "logits"])
def test_planted_matrix_is_recovered_within_its_errors(source):
    """200 runs of 60 steps: z rms 0.9 to 1.1 over 5,000 entries.

    Its own standard deviation is below 0.02, entries of a run being correlated, so that chance fails this in less than
    1 in 10⁵ seeds.
    """
    rng = np.random.default_rng(0)
    z, found_pair = [], 0
    for run in range(200):
        E = planted(run)
        truth = E - E.mean(0) if source == "features" else E  # deviations do not know a column's mean
        found = estimate_response_matrix(steps_of(E, source, rng), range(K))
        assert found.status == "ok"
        z.append((found.E - truth) / found.error)
        found_pair += found.strongest_pair == (1, 3)
    assert 0.9 < np.sqrt(np.mean(np.square(z))) < 1.1
    assert found_pair > 180  # of 200; 20 by chance


@pytest.mark.parametrize("source", ["features", "logits"])
def test_chosen_classes_are_a_part_of_the_whole(source):
    E = planted(0) * (1 if source == "logits" else 0) + 0.04 * np.eye(K)
    chosen = [3, 1]
    for j in {0, 2, 4}:  # the others share one coefficient in each row
        E[chosen, j] = 0.01
    if source == "features":
        E -= E.mean(0)
        E[:, [0, 2, 4]] = 0.0
    steps = steps_of(E, source, np.random.default_rng(1), noise=0.0, classes=chosen)
    found = estimate_response_matrix(steps, chosen)
    truth = E - E.mean(0) if source == "features" else E
    assert found.E == pytest.approx(truth[np.ix_(chosen, chosen)], abs=1e-6)
    assert found.strongest_pair == (3, 1)


@given(st.integers(0, 1000), st.sampled_from(["features", "logits"]))
@settings(max_examples=20, deadline=None)
def test_least_squares_by_stacking_all_equations(seed, source):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(K), 20)
    X, after = rng.normal(size=(2, 20, K, K))
    steps = [
        step_moments(source, *(torch.from_numpy(a) for a in (c, x, y)))
        for c, x, y in zip(shares, X, after, strict=True)
    ]
    found = estimate_response_matrix(steps, range(K))
    d = np.eye(K) - 1 / K
    for i in range(K):
        rows, response = [], []
        for c, x, y in zip(shares, X, after, strict=True):
            change = y - x
            if source == "logits":
                pulls = np.stack([d[j] * (d[j] @ x[j]) / (d[j] @ d[j]) for j in range(K)])
            else:
                pulls, change = x - x.mean(0), change - change.mean(0)
            rows.append((c[:, None] * pulls).T)
            response.append(change[i])
        expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(response), rcond=None)[0]
        assert found.E[i] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_what_cannot_be_known_is_said():
    one = torch.eye(2)
    tracker = ResponseMatrixTracker("features", (0, 1), 2)
    assert "no step" in tracker.estimate().status
    tracker.add(torch.tensor([0.5, 0.5]), torch.full((2, 2), torch.nan), one)
    assert "lack a class" in tracker.estimate().status
    tracker.add(torch.tensor([0.5, 0.5]), one, 2 * one)
    assert tracker.estimate().status == "waiting: 1 of 4 observed steps"
    for _ in range(10):
        tracker.add(torch.tensor([0.5, 0.5]), one, 2 * one)
    found = tracker.estimate()
    assert "do not tell the classes apart" in found.status
    assert found.strongest_pair is None
    for _ in range(10):  # class 1 is never trained
        tracker.add(torch.tensor([1.0, 0.0]), one, 2 * one)


def test_one_logit_for_two_classes_has_no_matrix():
    tracker = ResponseMatrixTracker("logits", (0, 1), 2)
    for _ in range(10):
        tracker.add(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.1], [1.2]]))
    found = tracker.estimate()
    assert found.status == "unknown: its pulls act along one logit for each class"
    assert found.strongest_pair is None


def test_memory_is_bounded():
    tracker = ResponseMatrixTracker("features", tuple(range(64)), 64)
    rng = torch.Generator().manual_seed(0)
    for _ in range(100):
        tracker.add(
            torch.rand(64, generator=rng), torch.randn(64, 70, generator=rng), torch.randn(64, 70, generator=rng)
        )
    held = sum(a.nbytes for s in tracker._steps for a in (s.composition, s.gram, s.response))
    assert held <= 8 * 2**20
    assert tracker.estimate().status == "waiting: 100 of 128 observed steps"
    for _ in range(300):
        tracker.add(torch.rand(64, generator=rng), *(torch.randn(64, 70, generator=rng) for _ in range(2)))
    assert sum(a.nbytes for s in tracker._steps for a in (s.composition, s.gram, s.response)) <= 8 * 2**20
    assert tracker.estimate().status == "ok"
    assert matrix_classes(None, 64) == tuple(range(64))
    assert matrix_classes(None, 65) == ()


def test_state():
    rng = torch.Generator().manual_seed(0)
    one = ResponseMatrixTracker("logits", (0, 1, 2), 4)
    for _ in range(12):
        one.add(*(torch.rand(n, generator=rng) for n in ((4,), (4, 4), (4, 4))))
    other = ResponseMatrixTracker("logits", (0, 1, 2), 4)
    other.load_state_dict(one.state_dict())
    assert np.array_equal(one.estimate().E, other.estimate().E)
    changed = ResponseMatrixTracker("logits", (0, 1), 4)
    changed.load_state_dict(one.state_dict())
    assert changed.estimate().steps == 0


class TestLive:
    def test_figure_and_chosen_classes(self):
        logger = MemoryLogger()
        callback = LECallback(
            probe=blobs(30), probe_every_n_steps=1, matrix_classes=[0, "2"], every_n_steps=8, summary=False
        )
        trainer(callback, max_epochs=4, logger=logger).fit(Classifier(), loader())
        matrix = callback.last_record.response_matrix["features"]
        assert matrix.classes == (0, 2)
        assert matrix.status == "ok"
        figure = matrix_figure(callback.last_record.response_matrix, ["a", "b", "c"], "title")
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "c"]
        assert "a / c move each other most" in figure.axes[0].get_title()
        assert math.isfinite(matrix.error.sum())

    @pytest.mark.parametrize("chosen", [[0], [0, 0], [0, 7], ["nobody", 1]])
    def test_wrong_choice(self, chosen):
        with pytest.raises(ValueError, match="`matrix_classes` to be two or more different classes"):
            trainer(LECallback(matrix_classes=chosen, summary=False)).fit(Classifier(), loader())
