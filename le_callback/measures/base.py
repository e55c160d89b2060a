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

from le_callback.measures.geometry import centred_gram, projections_on
from le_callback.moments.statistics import ClassStatistics, widened
from le_callback.values import Tag

MAX_COMPARED = 1024  # of more classes, quantities of pairs are taken on an evenly spaced subset
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

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.statistics.weight)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The K′ classes that are compared: those seen in the window, at most 1,024, evenly spaced."""
        rows = self._chosen.tolist()
        return tuple(rows) if self.part is None else tuple(self.part.classes[row] for row in rows)

    @property
    def rows(self) -> Tensor:
        """(K′,) of the compared classes among the K."""
        return self._chosen

    @cached_property
    def _chosen(self) -> Tensor:
        seen = self.statistics.seen.nonzero().flatten()
        return seen[:: max(1, -(-len(seen) // MAX_COMPARED))]

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
    def _compared(self) -> tuple[ClassStatistics, Tensor | None, Tensor, Tensor]:
        chosen, x, labels = self._chosen, self.samples, self.sample_labels
        if len(chosen) == self.num_classes:
            return self.statistics, self.previous_means, x, labels
        position = torch.full((self.num_classes,), -1, dtype=torch.long, device=labels.device)
        position[chosen] = torch.arange(len(chosen), device=labels.device)
        rows = position[labels]
        statistics = ClassStatistics(*(part[chosen] for part in self.statistics))
        previous = None if self.previous_means is None else self.previous_means[chosen]
        return statistics, previous, x[rows >= 0], rows[rows >= 0]

    @cached_property
    def wide_means(self) -> Tensor:
        """(K′, p) class means in double precision on the host, unless that is expensive."""
        return widened(self.statistics.mean[self._chosen], _WIDE_NUMBERS)

    @cached_property
    def gram(self) -> Tensor:
        """(K′, K′) inner products of ``wide_means`` about their centre."""
        return centred_gram(self.wide_means)

    @cached_property
    def projections(self) -> tuple[Tensor, Tensor] | None:
        """``geometry.projections_on`` the previous means; None where no sample has such a mean of its class."""
        if self.previous is None:
            return None
        known = ~self.previous.isnan().any(1)
        return projections_on(self.features, self.previous) if bool(known[self.labels].any()) else None


@dataclass(frozen=True)
class Measure:
    """An entry of the list of measures.

    Attributes:
        name: key in ``WindowRecord.measures``.
        compute: a record from one source of a window in which at least two classes were seen; None where there is
            nothing to say.
        tags: the scalars of that record.
        layers: the sources it is taken of.

    >>> Measure("samples", lambda window: len(window.samples)).layers
    ('features', 'logits')
    """

    name: str
    compute: Callable[[SourceWindow], Any]
    tags: tuple[Tag, ...] = ()
    layers: tuple[str, ...] = ("features", "logits")
