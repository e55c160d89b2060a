"""What a measure is given."""

import torch
from windows import blobs, means_of, source_window

from le_callback.measures import MEASURES, base


def test_only_classes_of_the_window_are_compared():
    x, y = blobs(0, K=3)
    window = source_window(x, 2 * y + 1, 8, means_of(x, y, 3)[torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])])
    assert window.classes == (1, 3, 5)
    assert window.num_classes == 8
    assert torch.equal(window.labels, y)
    assert torch.equal(window.features, x)
    torch.testing.assert_close(window.compared.mean, means_of(x, y, 3))
    assert torch.equal(window.previous, means_of(x, y, 3)[torch.tensor([0, 1, 2])])


def test_all_seen_classes_are_compared_and_pairs_are_kept_of_a_choice_that_does_not_move(monkeypatch):
    monkeypatch.setattr(base, "MAX_PAIRED", 4)
    x, y = blobs(1, K=10, n=60)
    window = source_window(x, y, 10)
    assert window.classes == tuple(range(10))
    assert window.names(window.rows[window.paired]) == (0, 3, 6, 9)
    without = y != 0  # the others are followed as before
    window = source_window(x[without], y[without], 10)
    assert window.classes == tuple(range(1, 10))
    assert window.names(window.rows[window.paired]) == (3, 6, 9)


def test_of_many_samples_an_evenly_spaced_choice_is_compared_with_all_means(monkeypatch):
    monkeypatch.setattr(base, "LEAST_JUDGED", 4)
    monkeypatch.setattr(base, "_JUDGED_WORK", 10 * 3 * 5)
    x, y = blobs(4, K=3, n=40)
    window = source_window(x, y, 3, means_of(x, y, 3))
    assert window.judged == slice(0, 40, 4)
    distances = torch.cdist(x[::4], means_of(x, y, 3))
    assert torch.equal(window.nearest, distances.argmin(1))
    assert torch.equal(window.judged_labels, y[::4])


def test_projections_need_a_sample_with_a_mean_from_before():
    x, y = blobs(2, K=3)
    before = means_of(x, y, 3)
    assert source_window(x, y, 3).projections is None
    assert source_window(x, y, 3, torch.full_like(before, torch.nan)).projections is None
    only = source_window(x, y, 3, before)
    products, squares = only.projections
    centre = before.mean(0)
    torch.testing.assert_close(products, (x - centre) @ (before - centre).T)
    torch.testing.assert_close(squares, (before - centre).square().sum(1))
    before[1:] = torch.nan
    assert source_window(x[y > 0], y[y > 0], 3, before).projections is None
    assert source_window(x, y, 3, before).projections is not None


def test_every_measure_has_a_name_of_its_own():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    names = [tag.name for measure in MEASURES for tag in measure.tags]
    assert len(set(names)) == len(names)
