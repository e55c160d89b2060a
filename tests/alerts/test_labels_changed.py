"""Labels that change places, and the dips that are none."""

from dataclasses import replace

import pytest
import torch
from alerts.streams import K, Stream

from le_callback.alerts import AlertBook, LabelsChanged, default_rules


class Relearning(Stream):
    """Windows in which some samples lie where another label has put them."""

    def relabelled(self, order, share, size=1.0, samples=None):
        """A window in which a share of the samples is still where its old label put it."""
        y = torch.randint(K, (samples or self.samples,), generator=self.g)
        old = torch.rand(len(y), generator=self.g) < share
        labels = torch.tensor(order)[y]
        place = torch.where(old, y, labels)
        x = torch.cat([size * torch.eye(K)[place], torch.zeros(len(y), 3)], dim=1)
        x = x + self.spread * torch.randn(x.shape, generator=self.g)
        self.step += 50
        self.monitor.update(features=x, logits=8 * x[:, :K], target=labels)
        return self.monitor.close(self.step)


ROTATED, SWAPPED = [1, 2, 3, 4, 0], [1, 0, 2, 3, 4]


def relearnt(order, shares, size=1.0, rules=None, **kwargs):
    stream, book = Relearning(spread=0.2, **kwargs), AlertBook(rules or [LabelsChanged()])
    told = [a for _ in range(15) for a in book.add(stream.window())]
    for share in (*shares, 0.0, 0.0, 0.0):
        told += book.add(stream.relabelled(order, share, size))
    return told


def test_permuted_labels_are_told_once_they_are_learnt():
    (alert,) = relearnt(ROTATED, [1.0, 0.6, 0.1])
    assert alert.rule == "LabelsChanged"
    assert alert.classes == ()
    assert alert.step <= 50 * (15 + 5)
    assert "learnt the new labels" in alert.cause


def test_two_classes_that_change_places_are_named():
    (alert,) = relearnt(SWAPPED, [1.0, 0.8], samples=400)
    assert alert.classes == (0, 1)


def test_among_all_rules_it_is_the_one_that_speaks():
    assert [a.rule for a in relearnt(ROTATED, [1.0, 0.5], rules=default_rules())] == ["LabelsChanged"]


def test_permuted_labels_that_are_half_learnt_within_the_window_are_told():
    """No sample is confidently wrong any more by then, but the accuracies fell far at once."""
    stream, book = Relearning(spread=0.2, samples=1000), AlertBook([LabelsChanged()])
    told = [a for _ in range(15) for a in book.add(stream.window())]
    usual = 3.0
    for accuracy, head, low in ((0.24, 0.6, -0.18), (0.65, 0.89, -0.1), (0.9, 0.96, 0.05), (0.97, 0.99, 0.3)):
        record = stream.window()
        near = record.nearest_mean["features"]
        margin = replace(record.head, hits=head * record.head.tried, margin=usual, margin_low=low * record.head.margin)
        measures = {**record.measures, "head": {"logits": margin}}
        measures["nearest_mean"] = {"features": replace(near, hits=accuracy * near.tried)}
        told += book.add(replace(record, measures=measures))
    assert [a.rule for a in told] == ["LabelsChanged"]
    assert "to 24.0% at once, and 2 windows later" in told[0].cause


@pytest.mark.parametrize(
    ("shares", "size", "samples"),
    [
        ([0.1], 1.0, 200),  # a little dip
        ([1.0] * 12, 1.0, 200),  # never learnt anew: that is a loss
        ([1.0, 0.5], 3.0, 200),  # features that grew: a network that diverged
    ],
)
def test_other_dips_are_none(shares, size, samples):
    assert relearnt(ROTATED, shares, size, samples=samples) == []
