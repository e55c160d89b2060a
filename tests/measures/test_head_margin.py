import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import blobs, source_window

from le_callback.measures.discriminability import score_discriminability
from le_callback.measures.head_margin import MEASURE, head_margin


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), K=st.integers(2, 5))
def test_head_margins_are_those_of_the_loop(seed, K):
    z, y = blobs(seed, K, K)
    head = head_margin(z, y, K)
    margins = [z[i, y[i]].item() - max(z[i, j].item() for j in range(K) if j != y[i]) for i in range(len(y))]
    assert head.margin == pytest.approx(np.mean(margins))
    assert head.margin_low == pytest.approx(np.quantile(margins, 0.05))
    for k in range(K):
        own = [m for m, label in zip(margins, y, strict=True) if label == k]
        assert head.class_margin[k] == pytest.approx(np.mean(own))
        assert head.class_accuracy[k] == pytest.approx(np.mean(np.array(own) > 0))


def test_one_logit_for_two_classes():
    head = head_margin(torch.tensor([[2.0], [-1.0], [3.0]]), torch.tensor([1, 0, 0]), 2)
    assert head.margin == pytest.approx((2 + 1 - 3) / 3)
    assert head.hits.tolist() == [1.0, 1.0]
    assert head_margin(torch.zeros(3, 1), torch.tensor([0, 1, 2]), 3) is None


def test_a_window_measures_all_samples_and_the_pairs_of_its_classes():
    z, y = blobs(2, K=3, p=6)
    head = MEASURE.compute(source_window(z, 2 * y, 6, layer="logits"))
    assert head.classes == (0, 2, 4)
    assert head.tried.tolist() == [int((2 * y == k).sum()) for k in range(6)]
    right = (z.argmax(1) == 2 * y).double()
    assert head.accuracy == pytest.approx(right.mean().item())
    assert math.isnan(head.class_accuracy[1])
    np.testing.assert_allclose(head.pairs, score_discriminability(z[:, ::2], y))


def test_nothing_to_say():
    nothing = torch.zeros(0, 3)
    assert head_margin(nothing, torch.zeros(0, dtype=torch.long), 3) is None
