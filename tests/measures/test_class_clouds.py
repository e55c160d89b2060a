"""Class means and covariances for pictures, against numpy."""

import numpy as np
import pytest
import torch

from le_callback import SeparationMonitor
from le_callback.measures.class_clouds import covariances, fixed_directions


def window(x, y, classes):
    monitor = SeparationMonitor(num_classes=classes)
    monitor.update(features=x, logits=x, target=y)
    return monitor.close(step=1).measures["class_clouds"]["logits"]


def samples(classes, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(200) % classes
    return 3 * torch.randn(classes, width, generator=generator)[y] + torch.randn(200, width, generator=generator), y


def test_logits_of_few_classes_are_kept_as_they_are():
    x, y = samples(4, 4)
    found = window(x, y, 4)
    for k in range(4):
        own = x[y == k].double().numpy()
        np.testing.assert_allclose(found.means[k], own.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.covariances[k], np.cov(own.T), rtol=1e-3, atol=1e-4)


def test_many_logits_are_projected_on_the_same_directions_in_every_run():
    x, y = samples(5, 40)
    found = window(x, y, 5)
    directions = fixed_directions(40).double().numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(8), atol=1e-6)
    own = x[y == 2].double().numpy() @ directions
    np.testing.assert_allclose(found.means[2], own.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.covariances[2], np.cov(own.T), rtol=1e-3, atol=1e-3)
    state = torch.get_rng_state()
    fixed_directions.cache_clear()
    assert torch.equal(fixed_directions(40).double(), torch.from_numpy(directions))
    assert torch.equal(state, torch.get_rng_state())


def test_gaps_are_those_of_the_means_without_sampling_noise():
    """Averaged over draws, the squared gap is that of the true means."""
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 9.0]])
    squares = []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(30) % 3
        found = window(centres[y] + 2 * torch.randn(30, 2, generator=generator), y, 3)
        squares.append([found.smallest_gap, found.largest_gap])
    mean = np.nanmean(np.square(squares), axis=0)
    error = np.nanstd(np.square(squares), axis=0) / np.sqrt(300)
    assert abs(mean[1] - 90) < 4 * error[1]  # with the noise it would be 91.6: 2·4·2/10 more
    assert abs(mean[0] - 9) < 4 * error[0] + 0.5  # windows in which the noise hides it are left out


def test_a_class_of_one_sample_has_no_covariance():
    found = covariances(torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), torch.tensor([0, 0, 1]), 3)
    assert found[0].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert found[1].isnan().all()
    assert found[2].isnan().all()


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_that_were_not_seen_have_no_row(classes):
    x, y = samples(classes, 6)
    found = window(x, y, 6)
    assert found.classes == tuple(range(classes))
    assert found.means.shape == (classes, 6)
