"""Growths from inner products against the same formulas written out with all coordinates of all classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from le_callback.elasticity.class_growth import Join, common_growth, difference_growth, growths, log_mean
from le_callback.elasticity.class_products import class_products
from le_callback.elasticity.class_reading import ClassReading
from le_callback.elasticity.frequencies import Frequencies, contrast_weights


def slow_difference(a, b, share, usual):
    """∫δ, its variances by both windows and the pulls, from arrays (K, q)."""
    w = contrast_weights(np.where(a.seen & b.seen, usual, 0.0))
    contrast = lambda x: w[:, None] * (x - w @ x)  # noqa: E731
    pulled0, pulled1 = share[:, None] * a.z, share[:, None] * b.z
    r = contrast(usual[:, None] * a.z)
    twice = w * (1 - w) * usual * a.noise
    along0, along1 = (r * a.z).sum(1) - twice, (r * b.z).sum(1)
    F, F0, F1 = (float(x) for x in log_mean(share @ along0, share @ along1))
    x = (along1 - along0).sum() / F
    pull0 = F0 * share[:, None] * r + usual[:, None] * contrast(F0 * pulled0 + F1 * pulled1)
    sides = [
        (usual[:, None] * contrast(b.z - a.z) - r, pull0, a),
        (r, F1 * share[:, None] * r, b),
    ]
    off = b.z - a.z - x * (pulled0 + pulled1) / 2
    loose = (w * usual) @ np.square(off - w @ off).sum(1)
    from_noise = (w * (1 - w) * usual) @ (a.noise + b.noise)
    parts = int((a.seen & b.seen & (usual > 0)).sum()) - 1
    return finished(x, F, sides, walk_of_averages(loose, from_noise, a, parts))


def slow_common(a, b, share, v):
    """∫(ε + ρδ), as ``slow_difference``."""
    r = v @ a.z
    z0, z1 = np.where(a.seen[:, None], a.z, b.z), np.where(b.seen[:, None], b.z, a.z)
    along0, along1 = z0 @ r - v * a.noise, z1 @ r
    pull = share / share.sum()
    F, F0, F1 = (float(x) for x in log_mean(pull @ along0, pull @ along1))
    x = v @ (along1 - along0) / F
    own, pulling = v[:, None], pull[:, None]
    sides = [
        (own * (v @ (b.z - a.z) - r), F0 * pulling * r + own * (F0 * (pull @ z0) + F1 * (pull @ z1)), a),
        (own * r, F1 * pulling * r, b),
    ]
    loose = np.square(v @ (b.z - a.z) - x * (pull @ (z0 + z1)) / 2).sum()
    return finished(x, F, sides, walk_of_averages(loose, v**2 @ (a.noise + b.noise), a, 1))


def walk_of_averages(loose, from_noise, a, parts):
    directions = parts * a.dimensions
    return (loose - from_noise * (1 - 1 / directions)) / 4 if a.averaged and directions > 1 else 0.0


def finished(x, F, sides, walk):
    """The value without its bias to second order, −(Cov(T, F) − x Var(F))/F², and the variances."""
    variances, bias = [], 0.0
    for top, bottom, reading in sides:
        each = reading.noise / reading.dimensions
        variances.append(np.square((top - x * bottom) / F).sum(1) * each)
        bias -= ((top - x * bottom) / F * (bottom / F)).sum(1) @ each
    return x - bias - walk / F, *variances


@st.composite
def windows(draw):
    """Two windows: means far from the origin or not, small steps or large, classes missing, noise, any frequencies."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    K, q = draw(st.integers(2, 9)), draw(st.integers(1, 7))
    offset, step = draw(st.sampled_from([0.0, 1.0, 30.0])), draw(st.sampled_from([0.01, 0.3]))
    z = rng.normal(size=(K, q)) + offset
    later = z * np.exp(step * rng.uniform(-1, 1)) + 0.3 * step * rng.normal(size=(K, q))
    missing, level = draw(st.sampled_from([0.0, 0.2])), draw(st.sampled_from([0.0, 1e-3]))
    dimensions, averaged = float(rng.integers(1, q + 1)), draw(st.booleans())
    found = []
    for x in (z, later):
        seen = rng.random(K) >= missing
        noise = np.where(seen, level * rng.random(K), 0.0)
        found.append(ClassReading(np.where(seen[:, None], x, 0.0), noise, seen, dimensions, averaged))
    usual = rng.dirichlet(np.full(K, 3.0))
    share = usual if draw(st.booleans()) else rng.dirichlet(np.full(K, 3.0)) * draw(st.sampled_from([1.0, 0.4]))
    return *found, Frequencies(share, usual)


class TestAgainstAllCoordinates:
    @settings(max_examples=200, deadline=None)
    @given(windows())
    def test_difference(self, drawn):
        a, b, frequencies = drawn
        found = difference_growth(a, b, frequencies)
        if not np.isfinite(found.value):
            return
        value, before, after = slow_difference(a, b, frequencies.share, frequencies.usual)
        assert found.value == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert found.noise_before == pytest.approx(before, rel=1e-6, abs=1e-12 * before.max())
        assert found.noise_after == pytest.approx(after, rel=1e-6, abs=1e-12 * after.max())

    @settings(max_examples=200, deadline=None)
    @given(windows(), st.booleans())
    def test_common(self, drawn, uniform):
        a, b, frequencies = drawn
        found = common_growth(a, b, frequencies, uniform)
        if not np.isfinite(found.value):
            return
        weights = np.ones(len(a.z)) if uniform else frequencies.usual
        v = np.where(a.seen & b.seen, weights, 0.0)
        value, before, after = slow_common(a, b, frequencies.share, v / v.sum())
        assert found.value == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert found.noise_before == pytest.approx(before, rel=1e-6, abs=1e-12 * before.max())
        assert found.noise_after == pytest.approx(after, rel=1e-6, abs=1e-12 * after.max())

    def test_many_at_once_are_what_each_is_alone(self):
        rng = np.random.default_rng(0)
        frequencies, joins = Frequencies(np.full(4, 0.25), np.full(4, 0.25)), []
        for q, uniform in ((6, False), (3, False), (1, True)):
            z = rng.normal(size=(4, q)) + 1
            a, b = (ClassReading(x, np.full(4, 1e-3), np.ones(4, dtype=bool), q) for x in (z, 1.1 * z + 0.01))
            joins += [Join("common", a, b, uniform), Join("difference", a, b, uniform)]
        joins.append(Join("difference", joins[0].b, joins[0].a))  # the way back
        joins.append(Join("difference", joins[2].a, ClassReading(-joins[2].a.z, *list(vars(joins[2].a).values())[1:])))
        together = growths(joins, frequencies)
        assert np.isnan(together[-1].value)  # it turned round
        for join, growth in zip(joins[:-1], together, strict=False):
            alone = growths([join], frequencies)[0]
            assert growth.value == pytest.approx(alone.value, rel=1e-12)
            assert growth.noise_before == pytest.approx(alone.noise_before, rel=1e-12)


class TestProducts:
    def test_single_precision_loses_nothing_that_counts(self):
        """Means 100 widths from the origin that move by a hundredth of a width, as large windows have them."""
        rng = np.random.default_rng(1)
        K, q = 40, 700
        z = (rng.normal(size=(K, q)) + 100).astype(np.float32)
        later = (z + 0.01 * (z - z.mean(0)) + 0.001 * rng.normal(size=(K, q))).astype(np.float32)
        even, values = Frequencies(np.full(K, 1 / K), np.full(K, 1 / K)), []
        for dtype in (np.float32, np.float64):
            pair = [ClassReading(x.astype(dtype), np.full(K, 1e-6), np.ones(K, dtype=bool), q) for x in (z, later)]
            values.append(difference_growth(*pair, even).value)
        assert values[0] == pytest.approx(values[1], rel=2e-5)

    @given(st.integers(0, 2**32))
    def test_every_product_by_its_definition(self, seed):
        rng = np.random.default_rng(seed)
        z, later, weights = rng.normal(size=(3, 4)) + 5, rng.normal(size=(3, 4)) + 5, rng.random((2, 3))
        e, d, c = z - z.mean(0), later - z, z.mean(0)
        found = class_products(z, later, weights)
        for k in range(3):
            vectors = np.stack([e[k], d[k], c, *(weights @ e), *(weights @ d)])
            assert found[k] == pytest.approx(vectors @ vectors.T, abs=1e-9)
