"""Few samples that come again and again, against simulated loaders whose data set is known."""

import numpy as np
import pytest

from le_callback.verdict.supply import ENOUGH, Supply


def loader(N, K, W, ratio, kind="epochs", windows=60, seed=0):
    """Class counts of windows of W samples (0: one epoch) from N of K classes, and the samples of each class."""
    rng = np.random.default_rng(seed)
    share = float(ratio) ** (-np.arange(K) / (K - 1))
    own = np.maximum(np.round(share / share.sum() * N).astype(int), 2)
    y, found, order = np.repeat(np.arange(K), own), [], np.empty(0, dtype=int)
    W = W or (len(y) // 32 * 32 if kind == "drop_last" else len(y))
    for _ in range(windows):
        while len(order) < W:
            epoch = rng.choice(y, len(y)) if kind == "replacement" else rng.permutation(y)
            order = np.append(order, epoch[: len(y) // 32 * 32] if kind == "drop_last" else epoch)
        found.append(np.bincount(order[:W], minlength=K).astype(float))
        order = order[W:]
    return found, own


def supplies(counts):
    supply, found = Supply(), []
    for window in counts:
        supply = supply.add(window)
        found.append(supply)
    return found


@pytest.mark.parametrize(("N", "W"), [(335, 1600), (335, 6400), (335, 400), (900, 1000), (900, 2500)])
def test_epochs_in_a_window_are_those_of_the_loader(N, W):
    """Median over 41 windows, 5 loaders each; one estimate has a standard error of about a fifth."""
    found, truth = [], []
    for seed in range(5):
        counts, own = loader(N, 10, W, 100, seed=seed)
        found += [s.epochs for s in supplies(counts)[19:]]
        truth.append(W / own.sum())
    assert np.median(found) == pytest.approx(np.mean(truth), rel=0.2)


@pytest.mark.parametrize("W", [1600, 6400])
def test_rare_classes_of_a_handful_of_samples_are_found_and_counted(W):
    counts, own = loader(335, 10, W, 100)
    rare = tuple(np.flatnonzero((own < 0.25 * own.mean()) & (own < ENOUGH)).tolist())
    late = supplies(counts)[14:]
    assert rare == (6, 7, 8, 9)
    assert np.mean([s.few() == rare for s in late]) >= 0.95
    assert np.median([s.different()[6:] for s in late], axis=0) == pytest.approx(own[6:], rel=0.5)


@pytest.mark.parametrize(
    ("N", "K", "W", "ratio", "kind"),
    [
        (20_000, 10, 1600, 100, "epochs"),  # rare, but 80 different samples
        (40_000, 100, 3200, 20, "epochs"),
        (3000, 10, 0, 100, "epochs"),  # windows that are whole epochs
        (3000, 10, 0, 100, "drop_last"),  # … without the last batch
        (20_000, 2, 0, 15, "drop_last"),
        (3000, 10, 1600, 100, "replacement"),
    ],
)
def test_where_counts_show_no_epochs_nothing_is_concluded(N, K, W, ratio, kind):
    for seed in range(3):
        late = supplies(loader(N, K, W, ratio, kind, seed=seed)[0])[9:]
        assert np.mean([bool(s.few()) for s in late]) <= 0.02


def test_windows_of_nearly_an_epoch_are_known_better_once_their_beginning_has_wandered():
    counts, own = loader(3000, 10, 2950, 100, windows=120)
    for supply in supplies(counts)[80:]:
        assert 0.5 * own.sum() <= supply.size <= 2 * own.sum()


def test_a_sampler_that_balances_has_no_rare_class():
    assert all(s.few() == () for s in supplies([np.full(5, 320.0)] * 40))


def test_too_few_samples_in_ten_windows_are_too_few():
    assert supplies([np.array([500.0, 500.0, 1.0])] * 30)[-1].few() == (2,)
    assert supplies([np.array([500.0, 500.0, 2.0])] * 30)[-1].few() == ()


def test_windows_without_samples_and_other_numbers_of_classes_begin_anew():
    supply = supplies([np.array([5.0, 5.0])] * 3)[-1]
    assert supply.add(np.zeros(2)) is supply
    assert len(supply.add(np.ones(3)).counts) == 1
    assert Supply().few() == ()
    assert len(supplies([np.array([5.0, 7.0])] * 50)[-1].counts) == 20
