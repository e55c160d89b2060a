import numpy as np
import pytest
import torch

from le_callback.measures import geometry
from le_callback.measures.geometry import centred_gram, lengths, nearest_by, projections_on, squared_distances


@pytest.mark.parametrize("close_pairs", [8, 0])
def test_distances_of_many_classes_in_single_precision(monkeypatch, close_pairs):
    """Products of the means where these are far apart, differences where they are not; all differences if too many."""
    monkeypatch.setattr(geometry, "WIDE_NUMBERS", 0)
    monkeypatch.setattr(geometry, "MAX_CLOSE_PAIRS", close_pairs)
    g = torch.Generator().manual_seed(0)
    means = torch.randn(300, 40, generator=g)
    means[1] = means[0] + 1e-4 * torch.randn(40, generator=g)
    means[7] = means[290] + 1e-2 * torch.randn(40, generator=g)
    means[9] = means[8]
    expected = torch.cdist(means.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    for gram in (None, centred_gram(means)):
        torch.testing.assert_close(squared_distances(means, gram).double(), expected, rtol=3e-5, atol=1e-12)


def test_gram_in_blocks_is_the_whole_gram():
    means = torch.randn(600, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = means - means.mean(0)
    torch.testing.assert_close(centred_gram(means), centred @ centred.T, rtol=1e-12, atol=1e-12)


def test_projections_are_products_about_the_centre_of_the_known_means():
    g = torch.Generator().manual_seed(0)
    x, means = torch.randn(7, 3, generator=g), torch.randn(4, 3, generator=g)
    means[2] = torch.nan
    products, squares = projections_on(x, means)
    centre = np.delete(means.numpy(), 2, 0).mean(0)
    for k in (0, 1, 3):
        np.testing.assert_allclose(products[:, k], (x.numpy() - centre) @ (means[k].numpy() - centre), rtol=1e-4)
        assert squares[k].item() == pytest.approx(((means[k].numpy() - centre) ** 2).sum(), rel=1e-5)
    assert products[:, 2].isnan().all()


@pytest.mark.parametrize("origin", ["none", "one", "each"])
def test_lengths_of_rows_in_pieces(monkeypatch, origin):
    monkeypatch.setattr(geometry, "AT_ONCE", 10)
    x, other = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = {"none": None, "one": other[0], "each": other}[origin]
    expected = np.linalg.norm(x.numpy() - (0 if other is None else other.numpy()), axis=1)
    np.testing.assert_allclose(lengths(x, other), expected, rtol=1e-14)


def test_the_nearest_mean_is_found_in_both_orders_of_memory():
    g = torch.Generator().manual_seed(0)
    x, means = torch.randn(50, 3, generator=g), torch.randn(8, 3, generator=g)
    means[5] = torch.nan
    known = np.delete(np.arange(8), 5)
    expected = known[np.linalg.norm(x.numpy()[:, None] - means.numpy()[None, known], axis=2).argmin(1)]
    products, squares = projections_on(x, means)
    for layout in (products, products.contiguous()):
        np.testing.assert_array_equal(nearest_by(layout, squares), expected)
