"""What a measure is, and what it is given: one source of one window.

K classes of which K′ are compared, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from le_callback.measures.geometry import nearest_by, projections_on
from le_callback.measures.head_weights import HeadWeights
from le_callback.measures.mean_geometry import MeanGeometry
from le_callback.measures.pair_cosines import PairCosines, pair_cosines
from le_callback.moments.statistics import ClassStatistics, widened
from le_callback.values import Tag

MAX_PAIRED = 256  # classes of which all pairs are kept in a record; of more, an evenly spaced choice
LEAST_JUDGED = 64  # samples that are compared with all class means, where these are very many
_JUDGED_WORK = 2**28  # multiplications for that
_WIDE_NUMBERS = 2**18  # means of up to so many numbers are taken to double precision on the host


@dataclass(frozen=True)
class Part:
    """The window follows a part of all classes; logits are those of the followed ones.

    Attributes:
        num_classes: of all.
        classes: (K,) that are followed.
        scores: (N, 2) of the samples: the logit of the label and the largest other, of all classes.
        labels: (N,) their rows among ``classes``.

    >>> Part(9, (0, 3, 6), torch.zeros(1, 2), torch.tensor([2])).classes[2]
    6
    """

    num_classes: int
    classes: tuple[int, ...]
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SourceWindow:
    """One source of a window: its moments and its most recent samples.

    Attributes:
        layer: ``features`` or ``logits``.
        statistics: of all K classes.
        samples: (N, p).
        sample_labels: (N,) class indices.
        previous_means: (K, p) of the windows before, NaN rows for classes never seen; None in the first window.
        part: where K are not all the classes that there are.
        outputs: (N, K) logits of the samples, where these are features and all logits are known.
        head: the weights of the head, where they can be read.

    >>> from le_callback.moments import ClassMoments
    >>> x, y = torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 2])
    >>> window = SourceWindow("features", ClassMoments(num_classes=3, num_features=1)(x, y), x, y, None)
    >>> window.classes, window.labels.tolist()
    ((0, 2), [0, 0, 1])
    """

    layer: str
    statistics: ClassStatistics
    samples: Tensor
    sample_labels: Tensor
    previous_means: Tensor | None
    part: Part | None = None
    outputs: Tensor | None = None
    head: HeadWeights | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.statistics.weight)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The K′ classes that are compared: those seen in the window."""
        return self.names(self.rows)

    def names(self, rows: Tensor) -> tuple[int, ...]:
        """Rows of the statistics as class indices."""
        named = rows.tolist()
        return tuple(named) if self.part is None else tuple(self.part.classes[row] for row in named)

    @cached_property
    def rows(self) -> Tensor:
        """(K′,) of the compared classes among the K."""
        return self.statistics.seen.nonzero().flatten()

    @cached_property
    def paired(self) -> Tensor:
        """Places among the compared classes of those of which all pairs are kept: the same in every window."""
        every = -(-self.num_classes // MAX_PAIRED)
        return (self.rows % every == 0).nonzero().flatten()

    @property
    def compared(self) -> ClassStatistics:
        """Moments of the compared classes; rows are ``classes``."""
        return self._compared[0]

    @property
    def previous(self) -> Tensor | None:
        """(K′, p) means of the compared classes in the windows before; None in the first window."""
        return self._compared[1]

    @property
    def features(self) -> Tensor:
        """The samples of the compared classes."""
        return self._compared[2]

    @property
    def labels(self) -> Tensor:
        """Their rows among ``classes``."""
        return self._compared[3]

    @cached_property
    def _compared(self) -> tuple[ClassStatistics, Tensor | None, Tensor, Tensor, Tensor | None]:
        chosen, x, labels = self.rows, self.samples, self.sample_labels
        if len(chosen) == self.num_classes:
            return self.statistics, self.previous_means, x, labels, self.outputs
        position = torch.full((self.num_classes,), -1, dtype=torch.long, device=labels.device)
        position[chosen] = torch.arange(len(chosen), device=labels.device)
        rows = position[labels]
        statistics = ClassStatistics(*(part.index_select(0, chosen) for part in self.statistics))
        previous = None if self.previous_means is None else self.previous_means.index_select(0, chosen)
        kept = (rows >= 0).nonzero().flatten()
        outputs = None if self.outputs is None else self.outputs.index_select(0, kept)
        return statistics, previous, x.index_select(0, kept), rows[kept], outputs

    @cached_property
    def wide_means(self) -> Tensor:
        """(K′, p) class means in double precision on the host, unless that is expensive."""
        return widened(self.compared.mean, _WIDE_NUMBERS)

    @cached_property
    def geometry(self) -> MeanGeometry:
        """``wide_means`` about their centre."""
        return MeanGeometry(self.wide_means)

    @cached_property
    def pairs(self) -> PairCosines:
        """What all pairs of class means say together; distances of features only."""
        spreads = self.compared.variance.to(self.wide_means.device) if self.layer == "features" else None
        return pair_cosines(self.geometry, spreads)

    @cached_property
    def judged(self) -> slice:
        """Which of ``features`` are compared with all class means: all, or an evenly spaced choice of at least 64."""
        n, (K, p) = len(self.labels), self.compared.mean.shape
        most = max(LEAST_JUDGED, _JUDGED_WORK // (K * p))
        return slice(0, n, max(1, -(-n // most)))

    @property
    def judged_labels(self) -> Tensor:
        """Their rows among ``classes``."""
        return self.labels[self.judged]

    @cached_property
    def said(self) -> Tensor | None:
        """The class that the head says for each of them, with its bias; None where that is not known."""
        if (outputs := self._compared[4]) is not None:
            z = outputs[self.judged]
            return z.argmax(1) if z.shape[1] > 1 else (z.squeeze(1) > 0).long()
        if self.head is None:
            return None
        x = self.features[self.judged]
        return self.head.like(x).decisions(x)

    @cached_property
    def projections(self) -> tuple[Tensor, Tensor] | None:
        """``geometry.projections_on`` the previous means, of the judged; None where none has one of its class."""
        if self.previous is None:
            return None
        known = ~self.previous[:, 0].isnan()
        return projections_on(self.features[self.judged], self.previous) if bool(known[self.labels].any()) else None

    @cached_property
    def nearest(self) -> Tensor | None:
        """Row of the previous class mean that is nearest to each judged sample; None where there are none."""
        return None if self.projections is None else nearest_by(*self.projections)


@dataclass(frozen=True)
class Measure:
    """An entry of the list of measures.

    Attributes:
        name: key in ``WindowRecord.measures``.
        compute: a record from one source of a window in which at least two classes were seen; None where there is
            nothing to say.
        tags: the scalars of that record.
        layers: the sources it is taken of.
        of_all: whether it is taken of all classes also where only a part of very many is followed.

    >>> Measure("samples", lambda window: len(window.samples)).layers
    ('features', 'logits')
    """

    name: str
    compute: Callable[[SourceWindow], Any]
    tags: tuple[Tag, ...] = ()
    layers: tuple[str, ...] = ("features", "logits")
    of_all: bool = False
