import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import angles_between, simplex_etf
from windows import blobs, means_of, source_window

from le_callback.measures import etf_angle, etf_angles
from le_callback.measures.neural_collapse import MEASURE

properties = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize(("K", "degrees"), [(2, 180.0), (3, 120.0), (4, 109.47122063449069), (1001, 90.0573)])
def test_ideal_angle(K, degrees):
    assert etf_angle(K) == pytest.approx(degrees, abs=1e-4)


@pytest.mark.parametrize("K", [1, 0, -3])
def test_ideal_angle_needs_two_classes(K):
    with pytest.raises(ValueError, match=rf"`num_classes` to be at least 2, but got {K}"):
        etf_angle(K)


@pytest.mark.parametrize("K", [2, 3, 4, 7, 10, 31])
def test_simplex_etf_has_no_deviation(K):
    means = 3.7 * simplex_etf(K, K + 2, np.random.default_rng(K)) + 11.0
    angles = etf_angles(torch.from_numpy(means))
    # a cosine of 1 ulp beside −1 is an angle of 1e-6 degrees beside 180
    tolerance = 3e-6 if K == 2 else 1e-9
    assert angles.ideal == pytest.approx(math.degrees(math.acos(-1 / (K - 1))), abs=1e-12)
    assert angles.mean == pytest.approx(angles.ideal, abs=tolerance)
    assert angles.smallest == pytest.approx(angles.ideal, abs=tolerance)
    assert angles.deviation < tolerance
    assert angles.norm_variation < 1e-12
    off_diagonal = angles.cosines[~np.eye(K, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, -1 / (K - 1), atol=1e-13)
    assert (np.diag(angles.cosines) == 1).all()
    assert angles.cosines.dtype == np.float64


@properties
@given(K=st.integers(2, 9), p=st.integers(1, 12), seed=st.integers(0, 2**20), shift=st.sampled_from([0.0, 30.0]))
def test_random_means_agree_with_the_double_loop(K, p, seed, shift):
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((K, p)) * rng.uniform(0.5, 2, (K, 1)) + shift
    oracle = angles_between(means)
    values = np.array(list(oracle.values()))
    ideal = math.degrees(math.acos(-1 / (K - 1)))
    centred = means - means.mean(0)
    norms = [math.hypot(*row) for row in centred]
    angles = etf_angles(torch.from_numpy(means))
    # arccos loses half the digits next to 0° and 180°
    assert angles.mean == pytest.approx(values.mean(), abs=5e-6)
    assert angles.deviation == pytest.approx(math.sqrt(((values - ideal) ** 2).mean()), abs=5e-6)
    assert angles.smallest == pytest.approx(values.min(), abs=5e-6)
    assert oracle[angles.pair] == pytest.approx(values.min(), abs=5e-6)
    assert angles.norm_variation == pytest.approx(np.std(norms) / np.mean(norms), rel=1e-9, abs=1e-12)
    assert angles.attainable == (K - 1 <= p)
    for (i, j), angle in oracle.items():
        cosine = pytest.approx(math.cos(math.radians(angle)), abs=1e-12)
        assert (angles.cosines[i, j], angles.cosines[j, i]) == (cosine, cosine)


@properties
@given(seed=st.integers(0, 2**20), factor=st.floats(1e-3, 1e3))
def test_angles_do_not_change_under_scale_shift_and_rotation(seed, factor):
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((5, 6))
    rotation, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    moved = factor * means @ rotation + 3.0 * factor
    first, second = (etf_angles(torch.from_numpy(m)) for m in (means, moved))
    np.testing.assert_allclose(second.cosines, first.cosines, atol=1e-12)
    assert second.deviation == pytest.approx(first.deviation, abs=1e-9)
    assert second.norm_variation == pytest.approx(first.norm_variation, abs=1e-12)


def test_two_classes_are_always_opposite():
    angles = etf_angles(torch.tensor([[1.0, 5.0], [4.0, -2.0]], dtype=torch.float64))
    assert angles.mean == pytest.approx(180, abs=3e-6)
    assert (angles.pair, angles.ideal) == ((0, 1), 180.0)
    assert angles.deviation < 3e-6


def test_three_classes_average_near_120_whatever_their_shape():
    """In a plane the three angles about the centre of a triangle fill the circle, so only the deviation informs."""
    angles = etf_angles(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 0.05]], dtype=torch.float64))
    assert angles.mean == pytest.approx(120, abs=1e-9)
    assert angles.deviation > 50


def test_smallest_pair_is_named_by_class():
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1]], dtype=torch.float64)
    assert etf_angles(means).pair == (1, 2)
    named = etf_angles(means, classes=[3, 5, 8])
    assert named.pair == (5, 8)
    assert named.classes == (3, 5, 8)
    assert etf_angles(means).classes == (0, 1, 2)


@pytest.mark.parametrize(("K", "p", "attainable"), [(4, 2, False), (4, 3, True), (4, 4, True), (2, 1, True)])
def test_attainable_needs_one_dimension_less_than_classes(K, p, attainable):
    means = torch.randn(K, p, generator=torch.Generator().manual_seed(0))
    assert etf_angles(means).attainable is attainable


@pytest.mark.parametrize("K", [0, 1])
def test_fewer_than_two_means_have_no_angle(K):
    with pytest.raises(ValueError, match=rf"at least 2, but got {K}. One class has no angle"):
        etf_angles(torch.zeros(K, 3))


def test_coinciding_means_give_nan_and_no_exception():
    angles = etf_angles(torch.ones(3, 4, dtype=torch.float64))
    assert math.isnan(angles.mean)
    assert math.isnan(angles.deviation)
    assert math.isnan(angles.norm_variation)


def test_input_is_left_alone():
    means = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    before = means.clone()
    etf_angles(means)
    assert torch.equal(means, before)


def test_a_window_is_measured_by_the_means_of_its_classes():
    x, y = blobs(1, K=4, p=3)
    found = MEASURE.compute(source_window(x, 2 * y, 8))
    expected = etf_angles(means_of(x, y, 4), classes=(0, 2, 4, 6))
    assert found.classes == (0, 2, 4, 6)
    assert found.pair == expected.pair
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-12)
    assert found.smallest == pytest.approx(expected.smallest, rel=1e-12)
    assert MEASURE.layers == ("features", "logits")
