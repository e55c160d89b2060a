"""Tail indices against powers of time, the paper's published code and simulated LE-SDEs."""

import math

import numpy as np
import pytest

from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.elasticity.tail_index import (
    Tail,
    finite_time_index,
    index_with_interval,
    recent_index,
)

# the last 50 of 200 points of A and B of a recorded training, and the indices that the published code gives
# fmt: off
A = [
    20.88052, 20.878208, 20.870198, 20.836791, 20.914722, 20.974858, 20.89804, 20.786889,
    20.854529, 20.670378, 20.784266, 20.769239, 20.655338, 20.714883, 20.724461, 20.850337,
    20.804036, 20.821239, 20.839589, 20.867963, 20.846437, 20.869812, 20.927736, 20.967431,
    20.987681, 21.031788, 21.075312, 21.112358, 20.992894, 20.996143, 21.017931, 20.952153,
    20.940596, 20.947856, 20.985472, 21.021011, 21.067391, 20.985582, 21.030918, 20.963896,
    20.920533, 20.91704, 20.9064, 20.84494, 20.862581, 20.898785, 20.944573, 20.946156,
    21.005076, 20.951732,
]
B = [
    -6.2232272, -6.2213498, -6.2431929, -6.2890298, -6.2220306, -6.1783474, -6.2465414, -6.3538459,
    -6.2983161, -6.4649094, -6.3755374, -6.3818765, -6.4914016, -6.4432494, -6.4358349, -6.3296073,
    -6.3841581, -6.3650936, -6.3540439, -6.3327205, -6.352756, -6.3405798, -6.297512, -6.2625058,
    -6.2406343, -6.2092645, -6.1793519, -6.1527821, -6.2541907, -6.2569247, -6.2373979, -6.3008604,
    -6.3162845, -6.3082577, -6.2790598, -6.2552399, -6.2191465, -6.2949159, -6.2597293, -6.3247072,
    -6.3692735, -6.3685673, -6.3777769, -6.4361818, -6.4248633, -6.4000441, -6.3621833, -6.3628524,
    -6.3173758, -6.3649849,
]
# fmt: on
PUBLISHED = [(np.array(A), 0.411185254917), (-np.array(B), 0.643059626302)]


class TestFiniteTimeIndex:
    @pytest.mark.parametrize("r", [0.2, 0.5, 0.9])
    def test_power_law(self, r):
        t = np.arange(1.0, 2e4, 10)
        assert recent_index(t, (1 + t) ** (1 - r)).value == pytest.approx(r, abs=1e-12)
        assert finite_time_index(t, (1 + t) ** (1 - r)) == pytest.approx(r, abs=1e-12)

    @pytest.mark.parametrize(("cumulative", "official"), PUBLISHED)
    def test_published_code(self, cumulative, official):
        """There t counts points from 1, here from 0."""
        t = np.arange(150.0, 200)
        assert finite_time_index(t, cumulative) == pytest.approx(official, abs=1e-7)
        # the recent tail begins with the first of them
        assert recent_index(list(t), list(cumulative), share=1 - 150 / 199).value == pytest.approx(official, abs=1e-7)

    def test_only_the_last_share_counts(self):
        t = np.arange(1000.0)
        F = np.where(t < 900, -1.0, (1 + t) ** 0.4)
        assert recent_index(t, F, share=0.099).value == pytest.approx(0.6, abs=1e-12)
        assert recent_index(t, F, share=0.2).value == math.inf

    def test_sign(self):
        negative = [9.0, 10.0], [-2.0, -3.0]
        assert recent_index(*negative).value == math.inf
        assert recent_index(*negative, either_sign=True).value == recent_index([9.0, 10.0], [2.0, 3.0]).value
        assert math.isnan(recent_index([9.5, 10.0], [-2.0, 3.0], either_sign=True).value)

    def test_interval(self):
        """Of an error common to the whole tail; without any growth at the lower end of F the upper end is infinite."""
        t = np.arange(1000.0)
        F = 2 * (1 + t) ** 0.4
        found = recent_index(t, F, half_width=3.0)
        late = t >= 0.9 * t[-1]
        for end, error in ((found.low, 3.0), (found.high, -3.0)):
            assert end == pytest.approx(
                np.mean([1 - math.log(f + error) / math.log(1 + s) for s, f in zip(t[late], F[late], strict=True)])
            )
        assert found.low < found.value < found.high
        assert recent_index(t, F, half_width=50.0).high == math.inf
        assert math.isnan(recent_index(t, F).low)

    def test_nothing_is_known(self):
        assert math.isnan(recent_index([], []).value)
        assert math.isnan(recent_index([0.0], [1.0]).value)
        assert math.isnan(finite_time_index(np.array([5.0, 6.0]), np.array([1.0, np.nan])))

    def test_the_record_of_a_run_gives_the_live_index(self):
        t = np.arange(400.0)
        growth = np.exp(0.3 * t**0.6)[:, None, None]
        start = np.array([[1.0, 0.2], [0.3, 1.5]])
        found = estimate_coefficients(start.mean(0) + (start - start.mean(0)) * growth, t, model="I", evaluate=[399])
        points = int((t >= 0.9 * t[-1]).sum())
        for which, F in (("A", found.A), ("B", found.B), ("gamma", found.G)):
            live = recent_index(t, F, either_sign=which == "B").value
            assert math.isfinite(live)
            assert found.tail_index(which, points).index == live


class TestIndexWithInterval:
    def tail(self, F, half=0.5, f=0.05, may_be_negative=True):
        t = np.arange(100.0, 100.0 + len(F))
        F, rate = np.asarray(F, dtype=float), np.full(len(F), f)
        interval = np.stack([F - half, F + half], axis=1)
        return Tail(t, F, interval, rate, np.stack([rate - 0.01, rate + 0.01], axis=1), "A", "alpha", may_be_negative)

    def test_interval_is_that_of_the_ends(self):
        found = index_with_interval(self.tail([5.0, 6.0]), 3.0)
        logs = np.log1p([100.0, 101.0])
        for value, F in zip((found.index, *found.index_interval), ([5, 6], [5.5, 6.5], [4.5, 5.5]), strict=True):
            assert value == pytest.approx(1 - np.mean(np.log(F) / logs), rel=1e-12)
        assert (found.reference_time, found.status) == (3.0, "")

    def test_slope_and_its_interval_by_the_delta_method(self):
        """Against numerical derivatives of 1 − t f/F in f and F, at the last point."""
        found = index_with_interval(self.tail([5.0, 6.0]), 0.0)

        def slope(f, F):
            return 1 - 101.0 * f / F

        in_f, in_F = ((slope(0.05 + a, 6.0 + b) - slope(0.05 - a, 6.0 - b)) / 2e-6 for a, b in ((1e-6, 0), (0, 1e-6)))
        half = np.hypot(in_f * 0.01, in_F * 0.5)
        assert found.slope == pytest.approx(slope(0.05, 6.0))
        assert found.slope_interval == pytest.approx((found.slope - half, found.slope + half), rel=1e-6)

    def test_negative_growth_is_mirrored_where_it_may_be(self):
        up, down = (index_with_interval(self.tail([s * 5.0, s * 6.0], f=s * 0.05), 0.0) for s in (1, -1))
        assert (up.index, up.index_interval, up.slope) == (down.index, down.index_interval, down.slope)
        assert down.slope_interval == pytest.approx(up.slope_interval)
        assert "absolute value" in down.status

    def test_no_growth_is_infinite(self):
        found = index_with_interval(self.tail([-0.2, 0.3], may_be_negative=False), 0.0)
        assert found.index == math.inf
        assert found.index_interval[1] == math.inf
        assert found.index_interval[0] == pytest.approx(1 - np.mean(np.log([0.3, 0.8]) / np.log1p([100.0, 101.0])))
        assert math.isnan(found.slope)
        assert "has not grown" in found.status
        hopeless = index_with_interval(self.tail([-5.0, -5.0], may_be_negative=False), 0.0)
        assert hopeless.index_interval == (math.inf, math.inf)

    def test_upper_end_is_infinite_where_the_lower_end_of_the_growth_is_not_positive(self):
        assert index_with_interval(self.tail([0.4, 0.6]), 0.0).index_interval[1] == math.inf

    def test_what_is_missing_is_said(self):
        unknown = index_with_interval(self.tail([5.0, np.nan]), 0.0)
        assert math.isnan(unknown.index)
        assert "A is not known" in unknown.status
        no_rate = index_with_interval(self.tail([5.0, 6.0], f=np.nan), 0.0)
        assert math.isfinite(no_rate.index)
        assert math.isnan(no_rate.slope)
        assert "alpha is not known" in no_rate.status
