"""Tracks of pairs, and when a pair merges."""

import math
from dataclasses import replace

import numpy as np
import pytest

from le_callback import SeparationMonitor
from le_callback.alerts import PairMerging, describe
from le_callback.alerts.evidence import start_weight
from le_callback.alerts.pairs import PairState, PairTrack
from le_callback.alerts.rules.pair_merging import Now
from le_callback.measures import Discriminability, HeadMargin, NearestMean
from le_callback.saving import from_plain, to_plain


def full(value, K=2):
    return np.full((K, K), float(value))


def test_mean_fades_and_best_is_a_lower_bound():
    first = PairTrack.empty(2).add(full(4), np.array([10.0, 40.0]))
    n = 2 / (1 / 10 + 1 / 40)
    assert first.weight[0, 1] == pytest.approx(n)
    assert first.best[0, 1] == pytest.approx(4 - 2 * math.sqrt((2 + 16 / 4) / n))
    second = first.add(full(1), np.array([10.0, 40.0]))
    assert second.weight[0, 1] == pytest.approx(1.7 * n)
    assert second.recent[0, 1] == pytest.approx((0.7 * 4 + 1) / 1.7)
    assert second.best[0, 1] == first.best[0, 1]


@pytest.mark.parametrize(("samples", "bounded"), [(5.9, False), (6.1, True)])
def test_a_bound_needs_six_samples(samples, bounded):
    assert bool(PairTrack.empty(2).add(full(4), np.full(2, samples)).best[0, 1] > 0) is bounded


def test_unknown_pairs_keep_their_mean_and_endless_ones_count_as_a_thousand():
    first = PairTrack.empty(2).add(full(4), np.full(2, 10.0))
    unknown = first.add(full(np.nan), np.full(2, 10.0))
    assert unknown.recent[0, 1] == pytest.approx(4)
    assert unknown.weight[0, 1] == pytest.approx(7)
    assert PairTrack.empty(2).add(full(np.inf), np.full(2, 10.0)).recent[0, 1] == pytest.approx(1000)


def test_parts_are_copies_and_go_back_to_their_rows():
    whole = PairTrack(*np.arange(48.0).reshape(3, 4, 4))
    part = whole.only([1, 3])
    np.testing.assert_array_equal(part.recent, [[5, 7], [13, 15]])
    after = whole.replaced([1, 3], PairTrack(*np.full((3, 2, 2), -1.0)))
    assert (after.best == -1).sum() == 4
    assert after.weight[1, 3] == after.weight[3, 1] == -1
    assert (whole.recent >= 0).all()


def test_evidence_counts_after_the_warm_up_and_for_its_classes():
    state = PairState.empty(3)
    state = state.accumulated([0, 2], full(3), warm_up=1)
    assert (state.log_sum == -np.inf).all()
    state = state.accumulated([0, 2], full(3), warm_up=1)
    assert state.log_sum[0, 2] == pytest.approx(math.log(start_weight(2)) + 3)
    assert state.log_sum[0, 1] == -np.inf
    assert state.windows == 2


def merging(log_sums, K=4, best=6.7, recent=0.1, now=1.0, **settings):
    """The alert of given evidence on pairs of K classes."""
    state, window = PairState.empty(K), Now(np.full((K, K), 0.0), np.full((K, K), recent))
    for pair, log_sum in log_sums.items():
        state.log_sum[pair] = state.log_sum[pair[::-1]] = log_sum
        state.features.best[pair] = best
        window.log_e[pair] = window.log_e[pair[::-1]] = now
    return PairMerging(**settings)._alert(50, state, window)


@pytest.mark.parametrize("level", [1e-3, 1e-2])
@pytest.mark.parametrize(("above", "told"), [(-0.01, False), (0.01, True)])
def test_evidence_must_reach_the_level_for_all_six_pairs(level, above, told):
    alert = merging({(1, 3): math.log(6 / level) + above}, level=level)
    assert (alert is not None) is told
    if told:
        assert alert.classes == (1, 3)
        assert (
            alert.cause
            == "Classes are drawing together: {class 0} and {class 1} (discriminability 0.1, down from 6.7)."
        )
        assert describe(alert, list("abcd")).startswith(
            "PairMerging at step 50 (b, d): Classes are drawing together: b and d ("
        )
        assert (alert.value, alert.threshold, alert.level) == (0.1, 1.5, level)


def test_all_merging_pairs_are_in_one_message_the_clearest_first():
    alert = merging({(0, 1): 15.0, (2, 5): 20.0, (1, 4): 16.0}, K=6)
    assert alert.classes == (2, 5, 1, 4, 0)
    said = describe(alert, list("abcdef"))
    assert "c and f (discriminability 0.1, down from 6.7), b and e (" in said
    assert "a and b (" in said


def test_a_pair_that_is_apart_in_this_window_is_not_told():
    assert merging({(0, 1): 20.0}, now=-3.0) is None


def test_threshold_is_half_of_the_best_for_a_pair_that_was_never_far_apart():
    assert merging({(0, 1): 20.0}, best=2.4).threshold == 1.2


@pytest.mark.parametrize(("falling", "told"), [(1, True), (2, True), (3, True), (4, False)])
def test_many_pairs_at_once_are_no_matter_of_a_pair(falling, told):
    """Of 15 pairs of 6 classes a quarter is 3.75."""
    pairs = [(0, 1), (0, 2), (0, 3), (0, 4)][:falling]
    alert = merging(dict.fromkeys(pairs, 20.0), K=6)
    assert (alert is not None) is told
    assert merging({(4, 5): -0.1} | dict.fromkeys(pairs, 20.0), K=6, now=0.9) is None or told


def test_two_classes_are_no_matter_of_a_pair():
    assert merging({(0, 1): 20.0}, K=2) is None


@pytest.mark.parametrize(("best", "followed"), [(1.99, False), (2.0, True), (2.01, True)])
def test_a_pair_is_followed_once_it_is_apart(best, followed):
    track = PairTrack(full(0), full(0), full(best))
    evidence = PairMerging()._evidence(track, full(-3), np.full(2, 20.0))
    assert bool(evidence[0, 1] > 0) is followed
    assert evidence[0, 1] in (0.0, 6.0)


@pytest.mark.parametrize(("argument", "value"), [("level", 0), ("drop", 1.0), ("most_classes", 1)])
def test_settings_are_checked(argument, value):
    with pytest.raises(ValueError, match=f"Expected argument `{argument}` to be .*, but got {value}"):
        PairMerging(**{argument: value})


BASE = SeparationMonitor(num_classes=2).close(1)


def window(step, K, classes, merged=(), n=40.0):
    """A record in which all pairs are far apart, but those that merged."""
    C = len(classes)
    D = np.full((C, C), 6.0)
    np.fill_diagonal(D, np.nan)
    for pair in merged:
        a, b = (classes.index(k) for k in pair)
        D[a, b] = D[b, a] = 0.0
    tried, everywhere = np.full(C, n), np.zeros(K)
    everywhere[list(classes)] = n
    measures = {
        "discriminability": {"features": Discriminability(tuple(classes), tried, D, True, ())},
        "nearest_mean": {"features": NearestMean(tuple(classes), tried, tried)},
        "head": {"logits": HeadMargin(1.0, 1.0, everywhere, everywhere, everywhere, tuple(classes), D)},
    }
    return replace(BASE, step=step, measures=measures)


def run(rule, windows, state=None):
    alerts = []
    for record in windows:
        state, alert = rule(record, state)
        alerts.append(alert)
    return state, alerts


def test_of_many_classes_those_that_are_followed_are_kept_and_told_by_their_own_numbers():
    K, classes = 5000, list(range(0, 5000, 5))
    calm = [window(t, K, classes) for t in range(12)]
    state, alerts = run(PairMerging(), calm)
    assert not any(alerts)
    assert 250 <= len(state.classes) <= 256
    assert set(state.classes) <= set(classes)
    bytes_kept = sum(x.nbytes for x in (state.log_sum, *vars(state.features).values(), *vars(state.head).values()))
    assert bytes_kept <= 7 * 8 * 256**2
    pair = state.classes[7], state.classes[100]
    saved = from_plain(to_plain(state), PairState)
    merging = [window(t, K, classes, [pair]) for t in range(12, 24)]
    for start in (state, saved):
        told = [alert.classes for alert in run(PairMerging(), merging, start)[1] if alert]
        assert set(told) == {pair}


def test_a_class_that_comes_later_is_followed_while_there_is_room():
    rule = PairMerging(most_classes=4)
    state, _ = run(rule, [window(1, 9, [0, 5])])
    assert state.classes == (0, 5)
    state, _ = run(rule, [window(2, 9, [0, 2, 5]), window(3, 9, [1, 7])], state)
    assert state.classes == (0, 1, 2, 5)
    assert run(rule, [window(4, 9, [7, 8])], state)[0].classes == (0, 1, 2, 5)


def test_classes_that_join_leave_the_evidence_of_others_as_it_is():
    """The rule on 9 classes with room for 6 of them against the one on these 6 alone."""
    mine, others = PairMerging(most_classes=6, warm_up=1), PairMerging(warm_up=1)
    names = [0, 2, 3, 4, 6, 8]
    present = [[2, 4, 8], [0, 2, 4], [2, 3, 4, 6, 8], [0, 2, 4, 6]] * 3
    large = [window(t, 9, c, [(2, 4)] if t > 8 else ()) for t, c in enumerate(present)]
    small = [window(t, 6, [names.index(k) for k in c], [(1, 3)] if t > 8 else ()) for t, c in enumerate(present)]
    after, told = run(mine, large)
    expected, also = run(others, small)
    assert after.classes == tuple(names)
    np.testing.assert_array_equal(after.log_sum, expected.log_sum)
    for part in ("features", "head"):
        for name, array in vars(getattr(expected, part)).items():
            np.testing.assert_array_equal(getattr(getattr(after, part), name), array)
    as_names = [None if a is None else tuple(names[k] for k in a.classes) for a in also]
    assert [None if a is None else a.classes for a in told] == as_names
    assert any(told)


def test_a_state_of_another_number_of_classes_is_dropped():
    state, _ = run(PairMerging(), [window(1, 9, [0, 5, 8])])
    assert run(PairMerging(), [window(2, 7, [0, 5, 6])], state)[0].windows == 1
