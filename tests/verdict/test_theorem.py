"""The side of the theorem on simulated LE-SDEs, whose decay of γ is known, and in words."""

import math
from collections import Counter

import pytest
from simulators import simulated_growth

from le_callback.elasticity import local_tail_index
from le_callback.values import Estimate
from le_callback.verdict.theorem import Theorem, in_words, theorem_side

RUNS = 200
DECAYS = {
    "slower": lambda t: 0.08 * t**-0.5,
    "like": lambda t: 0.5 * math.log(t) / t,
    "faster": lambda t: 60 * t**-1.5,
}
SEEDS = {"slower": 10, "like": 8, "faster": 14}


@pytest.mark.parametrize("name", list(DECAYS))
@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_side_is_right_or_unknown_on_simulated_runs(name, sigma):
    """At most 5 % of 200 runs on the wrong side; with little noise at most 5 % undecided."""
    times, *growth = simulated_growth(DECAYS[name], RUNS, sigma, seed=SEEDS[name])
    found = Counter()
    for run in zip(*growth, strict=True):
        gamma = DECAYS[name](times[-1])
        index = local_tail_index(times, *run)
        found[theorem_side(Estimate(gamma, 0.5 * gamma, 2 * gamma), times[-1], index).side] += 1
    assert found[name] + found["open"] >= 0.95 * RUNS, found
    assert sigma > 0.01 or found[name] >= 0.95 * RUNS, found


def test_little_data_leaves_it_open():
    unknown = local_tail_index([50.0, 100.0], [0.0, 1.0], [0.0, 0.0])
    assert math.isnan(unknown.value)
    found = theorem_side(Estimate(1.0, 0.5, 2.0), 100.0, unknown)
    assert (found.side, found.known) == ("open", "")
    assert math.isnan(found.t_gamma)


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [
        (0.10, 0.84, "slower"),
        (0.10, 0.86, "open"),
        (0.70, 0.84, "slower"),
        (0.70, 0.85, "like"),  # the band has its ends
        (0.70, 0.86, "like"),
        (1.16, 1.30, "faster"),
        (1.15, 1.30, "like"),
        (1.14, 1.30, "like"),
        (1.16, 3.00, "faster"),
        (1.14, 3.00, "open"),
        (0.61, 1.39, "like"),
        (0.59, 1.39, "open"),
        (0.61, 1.41, "open"),
        (0.60, 1.39, "open"),
        (0.61, 1.40, "open"),
        (0.20, 2.00, "open"),
    ],
)
def test_sides_of_the_critical_band(low, high, side):
    """Within 1 ± 0.15 is no clear side; within 1 ± 0.4 it is alike, and wider nothing is known."""
    index = Estimate((low + high) / 2, low, high)
    found = theorem_side(Estimate(0.02, 0.01, 0.03), 500.0, index)
    known = f"tail index {index.value:.2f} [{low:.2f}, {high:.2f}], t·γ = 10"
    assert found == Theorem(side, known, 10.0)


@pytest.mark.parametrize(("high", "side"), [(-1e-12, "negative"), (0.0, "slower"), (1e-12, "slower")])
def test_gamma_below_zero_goes_before_the_index(high, side):
    found = theorem_side(Estimate(-0.02, -0.03, high), 500.0, Estimate(0.5, 0.4, 0.6))
    assert found == Theorem(side, "tail index 0.50 [0.40, 0.60], t·γ = -10", -10.0)


def test_gamma_below_zero_is_said_without_an_index():
    found = theorem_side(Estimate(-0.02, -0.03, -0.01), 500.0, Estimate.unknown())
    assert (found.side, found.known) == ("negative", "γ = -0.02 [-0.03, -0.01]")
    said = in_words(found, "losing")
    assert said.startswith("γ is below zero with its whole interval (γ = -0.02 [-0.03, -0.01]): ")
    assert said.endswith(" Both sides agree.")


AGREE, NOT = " Both sides agree.", " That is not what is measured now: one of both will give way."


@pytest.mark.parametrize(
    ("side", "verdict", "end"),
    [
        ("slower", "separating", AGREE),
        ("slower", "losing", NOT),
        ("slower", "stalled", ""),
        ("faster", "stalled", AGREE),
        ("faster", "separating", NOT),
        ("negative", "losing", AGREE),
        ("negative", "separating", NOT),
        ("like", "separating", ""),
        ("slower", "cannot tell", ""),
    ],
)
def test_both_sides_are_compared(side, verdict, end):
    said = in_words(Theorem(side, "known", 1.0), verdict)
    assert said.endswith(f"The theorem is about t → ∞, this about the steps so far.{end}")
    assert "(known)" in said


def test_what_is_separated_needs_no_growth():
    assert in_words(Theorem("faster", "known", 1.0), "separated").endswith("so γ → 0 is healthy.")
    found = in_words(Theorem("open", "known", 1.0), "separated")
    assert found == "open so far: the decay of γ is not known well enough (known)."
