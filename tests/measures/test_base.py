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


def test_of_more_classes_an_evenly_spaced_subset(monkeypatch):
    monkeypatch.setattr(base, "MAX_COMPARED", 4)
    x, y = blobs(1, K=10, n=60)
    window = source_window(x, y, 10)
    assert window.classes == (0, 3, 6, 9)
    kept = (y % 3) == 0
    assert torch.equal(window.features, x[kept])
    assert torch.equal(3 * window.labels, y[kept])
    assert torch.equal(window.samples, x)


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
