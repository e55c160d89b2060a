"""Which classes are followed where there are too many to follow all, and what of a batch belongs to them.

Class means are K·(p + K) numbers: those of the features, and those of the logits. Above a budget only S of the K
classes are followed, evenly spaced, by their own samples and their own logits. Under the LE-SDE these obey the same
coefficients as all classes do, since every class and, in the I-model, every dimension follows them by itself.

K classes of which S are followed, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_FULL = 1024  # classes; more are not all followed
MAX_NUMBERS = 2**24  # K·(p + K) from which not all classes are followed
MAX_FOLLOWED = 512  # classes where not all are
FOLLOWED_NUMBERS = 2**23  # S·(p + S) at most
HEAD = "head"  # the source of the margins: (N, 2), the logit of the label and the largest other

_LEFT_OUT, _UNKNOWN = -100, -1
_PIECE = 2**21  # logits that are copied at once


def followed_classes(num_classes: int, num_features: int) -> tuple[int, ...] | None:
    """The S classes that are followed, evenly spaced; None where all are.

    Args:
        num_classes: K.
        num_features: p.

    >>> followed_classes(1000, 512) is None, len(followed_classes(5000, 64)), len(followed_classes(100, 10**6))
    (True, 500, 8)
    """
    if num_classes <= MAX_FULL and num_classes * (num_features + num_classes) <= MAX_NUMBERS:
        return None
    most = min(MAX_FOLLOWED, num_classes)
    while most > 2 and most * (num_features + most) > FOLLOWED_NUMBERS:
        most -= 1
    found = tuple(range(0, num_classes, -(-num_classes // most)))
    return None if len(found) == num_classes else found


def limits(num_classes: int, num_features: int) -> str:
    """What is not measured of so many classes and dimensions, as a sentence; empty where nothing is left out.

    >>> limits(33278, 200)[:44]
    '512 of 33,278 classes are followed, evenly s'
    >>> limits(10, 512)
    ''
    """
    classes = followed_classes(num_classes, num_features)
    if classes is None:
        return ""
    return (
        f"{len(classes):,} of {num_classes:,} classes are followed, evenly spaced, as class means of all would take"
        f" {num_classes * (num_features + num_classes):,} numbers; the L-model, effective training and the measured"
        " LE matrix are left out"
    )


class Following:
    """What of a batch belongs to the followed classes.

    Args:
        num_classes: K.
        classes: the S classes that are followed, in order.
        ignore_index: integer label that is left out.

    >>> follow = Following(5, [0, 2, 4])
    >>> batch, labels = follow.select(torch.ones(3, 1), torch.eye(3, 5), torch.tensor([0, 1, 2]))
    >>> labels, batch["logits"]
    (tensor([0, 1]), tensor([[1., 0., 0.],
            [0., 1., 0.]]))
    """

    ignore_index = _LEFT_OUT  # of the labels that ``select`` returns

    def __init__(self, num_classes: int, classes: Sequence[int], ignore_index: int | None = None) -> None:
        self.num_classes = num_classes
        self.classes = tuple(classes)
        self._ignored = ignore_index
        self._columns = torch.tensor(self.classes)
        self._rows = torch.full((num_classes,), _LEFT_OUT)
        self._rows[self._columns] = torch.arange(len(self.classes))

    def select(self, features: Tensor, logits: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The samples of the followed classes; no host synchronisation where the samples are on a device.

        A mixed sample belongs to its heaviest class, with the weights that it has of followed classes.

        Args:
            features: (N, p).
            logits: (N, K).
            target: integer labels (N,) or class weights (N, K).

        Returns:
            ``features`` (n, p), ``logits`` (n, S) and ``head`` (n, 2), the logit of the label and the largest other;
            and labels (n,) of which 0..S−1 are rows of ``classes``, −1 stands for labels outside 0..K−1 and
            ``ignore_index`` for what is left out; or weights (n, S). On the host n counts what is not left out, on a
            device it is N.
        """
        self._columns, self._rows = self._columns.to(target.device), self._rows.to(target.device)
        labels = target if target.ndim == 1 else heaviest(target)
        known = labels.clamp(0, self.num_classes - 1)
        rows = torch.where(known == labels, self._rows[known], _UNKNOWN)
        if self._ignored is not None:
            rows = torch.where(labels == self._ignored, _LEFT_OUT, rows)
        kept = self._kept(rows)
        batch = {
            "features": features[kept],
            "logits": logits[kept.unsqueeze(1), self._columns],
            HEAD: own_and_other(logits, known, kept),
        }
        if target.ndim == 1:
            return batch, rows[kept]
        return batch, target[kept.unsqueeze(1), self._columns] * (rows[kept] >= 0).unsqueeze(1)

    @staticmethod
    def _kept(rows: Tensor) -> Tensor:
        """Which samples are taken: on the host those that are followed, on a device, which would have to wait, all."""
        samples = torch.arange(len(rows), device=rows.device)
        return samples[rows != _LEFT_OUT] if rows.device.type == "cpu" else samples

    def count(self, target: Tensor) -> Tensor:
        """Samples of each of all classes (K,) in labels (N,), or their weights in class weights (N, K)."""
        if target.ndim > 1:
            return target.nan_to_num(nan=0.0).clamp(min=0).sum(0).float()
        inside = (target >= 0) & (target < self.num_classes)
        if self._ignored is not None:
            inside &= target != self._ignored
        counts = torch.zeros(self.num_classes, device=target.device)
        return counts.index_add_(0, target.clamp(0, self.num_classes - 1).long(), inside.float())


def own_and_other(logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """The logit of the label and the largest other, (n, 2), for some samples; piece by piece, as rows are wide.

    Args:
        logits: (N, K).
        labels: (N,), within 0..K−1.
        rows: (n,) samples.

    >>> own_and_other(torch.tensor([[1.0, 5.0, 3.0]]), torch.tensor([1]), torch.tensor([0]))
    tensor([[5., 3.]])
    """
    found = [logits.new_zeros(0, 2)]
    for piece in torch.split(rows, max(1, _PIECE // logits.shape[1])):
        own = labels[piece].unsqueeze(1)
        scores = logits[piece]
        lead = scores.gather(1, own)
        found.append(torch.cat([lead, scores.scatter_(1, own, -torch.inf).amax(1, keepdim=True)], dim=1))
    return torch.cat(found)


def heaviest(weights: Tensor) -> Tensor:
    """The class of the largest weight (N,) of weights (N, K); −1 for rows that are no weights or weigh nothing.

    >>> heaviest(torch.tensor([[0.2, 0.8], [0.0, 0.0], [2.0, -1.0]]))
    tensor([ 1, -1, -1])
    """
    mass = weights.sum(1)
    usable = (weights >= 0).all(1) & (mass > 0) & mass.isfinite()
    return torch.where(usable, weights.argmax(1), _UNKNOWN)
