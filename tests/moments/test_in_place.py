"""Windows of very many classes, whose means are made in the place of the sums: the same as others, in any order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from le_callback.moments.window import ClassWindow

K, P = 5, 3
STEPS = ("update", "weights", "read", "previous", "advance", "save", "sums", "clear")


def windows():
    x = torch.randn(8, P, generator=torch.Generator().manual_seed(0))
    return [ClassWindow.for_batch({"x": x}, K, in_place=in_place) for in_place in (False, True)]


def assert_same(a, b):
    for name, first, second in zip(a._fields, a, b, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5, equal_nan=True, msg=f"{name}: {first} {second}")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=12), st.integers(0, 100))
def test_it_says_the_same_as_a_window_that_copies(steps, seed):
    g = torch.Generator().manual_seed(seed)
    pair = windows()
    for step in (*steps, "update", "read", "advance", "previous"):
        if step in ("update", "weights"):
            x, y = torch.randn(6, P, generator=g), torch.randint(0, K - 1, (6,), generator=g)
            for window in pair:
                window.update({"x": x}, y if step == "update" else torch.eye(K)[y] * 0.7 + 0.3 / K)
        elif step == "save":
            pair = [ClassWindow.from_state(w.state_dict(), in_place=i == 1) for i, w in enumerate(pair)]
        elif step in ("advance", "clear"):
            for window in pair:
                getattr(window, step)()
        elif step == "sums":
            for first, second in zip(*(w.sums().values() for w in pair), strict=True):
                torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
        elif step == "read":
            assert_same(*(w.statistics("x") for w in pair))
        else:
            previous = [w.previous_means("x") for w in pair]
            assert (previous[0] is None) == (previous[1] is None)
            if previous[0] is not None:
                torch.testing.assert_close(*previous, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_reading_it_takes_no_second_table():
    window = windows()[1]
    window.update({"x": torch.ones(2, P)}, torch.tensor([0, 1]))
    mean = window.statistics("x").mean
    assert window.statistics("x").mean is mean
    assert mean.untyped_storage().data_ptr() == window._sums["x"]._state.sums.untyped_storage().data_ptr()


@pytest.mark.parametrize("in_place", [False, True])
def test_references_are_moved_where_they_lie(in_place):
    window = windows()[in_place]
    place = window._sums["x"].reference.data_ptr()
    window.update({"x": torch.ones(2, P)}, torch.tensor([0, 1]))
    window.statistics("x")
    window.advance()
    assert window._sums["x"].reference.data_ptr() == place
    assert window._sums["x"].reference[:2].tolist() == [[1.0] * P] * 2
