"""Margins of the classifier head on a window's samples. K classes, N samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.discriminability import score_discriminability
from le_callback.measures.nearest_mean import on_host, share, tally
from le_callback.values import Array, Tag

LOW_QUANTILE = 0.05


@dataclass(frozen=True)
class HeadMargin:
    """Margins of the classifier head in one window: the logit of the label minus the largest other.

    Attributes:
        margin: mean.
        margin_low: 5 % quantile.
        class_margin: (K,) means.
        tried: (K,) samples.
        hits: (K,) with a positive margin.
        classes: of the rows of ``pairs``: those of ``Discriminability``.
        pairs: signed discriminability of two classes by the difference of their logits.

    >>> head_margin(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1]), 2).accuracy
    1.0
    """

    margin: float
    margin_low: float
    class_margin: Array
    tried: Array
    hits: Array
    classes: tuple[int, ...]
    pairs: Array

    @property
    def accuracy(self) -> float:
        """Share of all samples that the head classified rightly when they were trained on."""
        return float(self.hits.sum() / max(self.tried.sum(), 1))

    @property
    def class_accuracy(self) -> Array:
        """Share of the samples of each class (K,), NaN where there is none."""
        return share(self.hits, self.tried)


def head_margin(
    logits: Tensor, labels: Tensor, num_classes: int, paired: Sequence[int] | None = None
) -> HeadMargin | None:
    """Margins of the classifier head: the logit of the label minus the largest other.

    Args:
        logits: (N, K), or (N, 1) for two classes told apart by the sign.
        labels: (N,) class indices.
        num_classes: K.
        paired: the classes whose pairs are measured, all if left out.

    Returns:
        ``None`` without samples, or where the logits are fewer than the classes.

    >>> head = head_margin(torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 4.0]]), torch.tensor([0, 1, 1]), 2)
    >>> head.margin, head.class_accuracy
    (1.333..., array([1. , 0.5]))
    """
    if logits.shape[1] == 1 and num_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if len(labels) == 0 or logits.shape[1] < num_classes:
        return None
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    names = tuple(range(num_classes)) if paired is None else tuple(paired)
    scores, rows = logits, labels
    if len(names) < logits.shape[1]:
        chosen = torch.tensor(names, device=labels.device)
        position = torch.full((logits.shape[1],), -1, dtype=torch.long, device=labels.device)
        position[chosen] = torch.arange(len(names), device=labels.device)
        rows = position[labels]
        scores, rows = logits[rows >= 0][:, chosen], rows[rows >= 0]
    return _margins(own, other, labels, num_classes, names, score_discriminability(scores, rows))


def _margins(
    own: Tensor, other: Tensor, labels: Tensor, num_classes: int, names: tuple[int, ...], pairs: Tensor
) -> HeadMargin:
    """From the logit of the label and the largest other, (N,) each."""
    margin = (own - other).double()
    counts, hits = tally(labels, margin > 0, torch.ones(num_classes, dtype=torch.bool, device=labels.device))
    per_class = margin.new_zeros(num_classes).index_add_(0, labels, margin) / counts
    return HeadMargin(
        margin=float(margin.mean()),
        margin_low=float(margin.quantile(LOW_QUANTILE)),
        class_margin=on_host(per_class),
        tried=on_host(counts),
        hits=on_host(hits),
        classes=names,
        pairs=on_host(pairs),
    )


def _of_window(window: SourceWindow) -> HeadMargin | None:
    part = window.part
    places, paired = window.paired, window.names(window.rows[window.paired])
    if part is None:
        return head_margin(window.samples, window.sample_labels, window.num_classes, paired)
    if len(part.labels) == 0:
        return None
    own, other = part.scores.unbind(1)
    classes = torch.tensor(part.classes, device=part.labels.device)
    position = torch.full((len(window.rows),), -1, dtype=torch.long, device=part.labels.device)
    position[places] = torch.arange(len(places), device=part.labels.device)
    rows = position[window.labels]
    pairs = score_discriminability(window.features[rows >= 0][:, window.rows[places]], rows[rows >= 0])
    return _margins(own, other, classes[part.labels], part.num_classes, paired, pairs)


MEASURE = Measure(
    "head",
    _of_window,
    (
        Tag(
            name="separation/head_accuracy",
            label="accuracy of the head",
            unit="",
            meaning="Share of a window's samples that the head classified rightly when they were trained on.",
            look_for="chance is 1/K",
            better="higher",
            chart="accuracy",
            read=lambda head: head.accuracy,
            essential=True,
        ),
        Tag(
            name="separation/head_margin",
            label="margin of the head",
            unit="logits",
            meaning="Logit of the label minus the largest other, mean over a window's samples.",
            look_for="grows as long as the head learns",
            better="higher",
            chart="margin",
            read=lambda head: head.margin,
        ),
        Tag(
            name="separation/head_margin_low",
            label="5 % quantile of the margin",
            unit="logits",
            meaning="The margin that 5 % of a window's samples do not reach.",
            look_for="below 0: some are wrong",
            better="higher",
            chart="margin",
            read=lambda head: head.margin_low,
            essential=True,
        ),
    ),
    layers=("logits",),
)
