"""Targets that a step makes of the batch's labels: found where they follow from it, never where they may not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from le_callback.capture.batches import Ambiguous, leaves, locate

labels = st.lists(st.integers(0, 4), min_size=3, max_size=12).filter(lambda y: len(set(y)) > 1).map(torch.tensor)


def place(target, batch):
    return locate(target, leaves(batch), num_classes=5)


@given(labels, st.integers(2, 4))
def test_repeated_labels_follow_from_every_batch(y, times):
    later = y.flip(0)
    found = place(y.repeat_interleave(times), {"y": y})
    assert found({"y": later}).tolist() == [k for k in later.tolist() for _ in range(times)] or torch.equal(
        y.repeat(times), y.repeat_interleave(times)
    )
    found = place(y.repeat(times), {"y": y})
    assert found({"y": later}).tolist() == later.tolist() * times


@given(labels, st.integers(-3, 3).filter(bool))
def test_shifted_labels(y, shift):
    found = place(y + shift, {"x": torch.randn(len(y), 2), "kind": y})
    if torch.equal(y + shift, torch.arange(len(y))):  # counts the rows
        assert found is None
        return
    assert str(found) == f"batch['kind'] {'−' if shift < 0 else '+'} {abs(shift)}"
    assert torch.equal(found({"kind": y.flip(0)}), y.flip(0) + shift)


@given(labels, st.floats(0.01, 0.7))
def test_smoothed_labels_but_not_mixed_ones(y, smoothing):
    table = torch.nn.functional.one_hot(y, 5) * (1 - smoothing) + smoothing / 5
    if not torch.equal(y, torch.arange(len(y))):
        assert str(place(table, (torch.randn(len(y), 2), y))) == "batch[1]"
    mixed = 0.7 * torch.eye(5)[y] + 0.3 * torch.eye(5)[y.roll(1)]
    assert place(mixed, (torch.randn(len(y), 2), y)) is None


def test_where_several_fields_would_do_none_is_taken():
    y = torch.tensor([0, 2, 1, 0])
    with pytest.raises(Ambiguous, match="made of several fields: batch\\[0\\].* batch\\[1\\]"):
        place(torch.cat([y, y]), (y, y.clone()))


def test_a_class_that_is_alone_in_the_batch_tells_nothing():
    assert place(torch.tensor([1, 1, 1]), {"y": torch.tensor([0, 0, 0])}) is None
