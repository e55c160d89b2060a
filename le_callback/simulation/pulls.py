"""Drifts that imitate class means: sums of what the classes pull, with strengths that are constant in a window.

Legend: K classes, p dimensions, B states side by side, m strengths; S_j (p,) the pull of class j.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from le_callback.errors import require
from le_callback.values import Array


@dataclass(frozen=True)
class Pulls:
    """dX̄_k/dt = Σ_j E_kj S_j/K + c + μ_k 1: which entries of E are one strength, and whether S_j saturates.

    Attributes:
        name: of the model.
        groups: strength that stands at each entry of E ``(K, K)``, 0 … m − 1.
        saturating: S_j = e_j − softmax(X̄_j); else S_j = y_j d_j of the L-model.
        offset: whether all classes move by c besides, and the mean over the outputs of each class by μ_k: 2K more
            strengths. No pull moves that mean, and cross-entropy does not see it.

    >>> pulls_of("alpha", 3).groups
    array([[0, 1, 1],
           [1, 0, 1],
           [1, 1, 0]])
    """

    name: str
    groups: Array
    saturating: bool
    offset: bool

    @property
    def count(self) -> int:
        """Strengths in a window, m."""
        return int(self.groups.max()) + 1 + self.offset * 2 * len(self.groups)

    def terms(self, x: Array) -> Array:
        """What each strength adds to the drift ``(B, m, K, p)`` at ``x (B, K, p)``."""
        K = len(self.groups)
        pull = _softmax_pull(x) if self.saturating else _direction_pull(x)
        own = np.arange(int(self.groups.max()) + 1)[:, None, None] == self.groups  # (m, K, K)
        terms = np.einsum("mkj,bjp->bmkp", own / K, pull)
        if not self.offset:
            return np.asarray(terms)
        shared = np.broadcast_to(np.eye(K)[:, None, :], (len(x), K, K, K))
        own_mean = np.broadcast_to(np.eye(K)[:, :, None], (len(x), K, K, K))
        return np.concatenate([terms, shared, own_mean], axis=1)

    def drift(self, x: Array, strengths: Array) -> Array:
        """dX̄/dt ``(B, K, p)`` at ``x (B, K, p)`` with ``strengths (B, m)``."""
        pull = _softmax_pull(x) if self.saturating else _direction_pull(x)
        K, entries = len(self.groups), int(self.groups.max()) + 1
        moved = strengths[:, self.groups] @ pull / K
        if self.offset:
            moved = moved + strengths[:, None, entries : entries + K] + strengths[:, entries + K :, None]
        return np.asarray(moved)

    def sensitivity(self, x: Array) -> Array:
        """Norm of what each strength adds to the derivative of the drift by the state ``(B, m)`` at ``x (B, K, p)``.

        A small error grows by strengths times this; c and μ let none grow.
        """
        K = len(self.groups)
        square = np.ones(x.shape[:-1])
        if self.saturating:
            share = _softmax(x)
            own = share[..., None] * (np.eye(x.shape[-1]) - share[..., None, :])
            square = (own**2).sum((-1, -2))
        each = np.arange(int(self.groups.max()) + 1)[:, None, None] == self.groups  # (m, K, K)
        found = np.sqrt(np.einsum("mkj,bj->bm", each, square)) / K
        return np.concatenate([found, np.zeros((len(x), self.count - found.shape[1]))], axis=1)

    def offsets_of(self, change: Array) -> Array:
        """Strengths ``(W, m)`` by which c and μ alone move the classes as they may of ``change (W, K, p)``."""
        K = len(self.groups)
        strengths, common = np.zeros((len(change), self.count)), change.mean(1)
        strengths[:, -2 * K : -K] = common
        strengths[:, -K:] = (change - common[:, None]).mean(-1)
        return strengths

    def permuted(self, strengths: Array, order: Array) -> Array:
        """Strengths ``(..., m)`` of the classes in another order: new class i was class ``order[i]``."""
        K, entries = len(self.groups), int(self.groups.max()) + 1
        E = strengths[..., self.groups][..., order[:, None], order[None, :]]
        found = np.empty_like(strengths)
        found[..., self.groups.ravel()] = E.reshape(*strengths.shape[:-1], K * K)
        if self.offset:
            found[..., entries : entries + K] = strengths[..., entries : entries + K][..., order]
            found[..., entries + K :] = strengths[..., entries + K :][..., order]
        return found


MODELS: Mapping[str, str] = {
    "alpha": "one α and one β",
    "alpha_k": "an α of each class, one β",
    "softmax": "one α and one β on pulls that saturate, e_j − softmax(X̄_j)",
    "row_beta": "an α and a β of each class that is moved",
    "matrix": "all K×K strengths",
    "softmax_matrix": "all K×K strengths on pulls that saturate",
}


def pulls_of(model: str, num_classes: int, *, offset: bool = False) -> Pulls:
    """The model of that name.

    Args:
        model: one of ``MODELS``.
        num_classes: K.
        offset: whether all classes move by a common c besides, and each one's mean over the outputs.

    Raises:
        ValueError: another name.

    >>> [pulls_of(name, 3).count for name in MODELS], pulls_of("alpha", 3, offset=True).count
    ([2, 4, 2, 6, 9, 9], 8)
    """
    require(model in MODELS, "model", model, f"one of {', '.join(MODELS)}")
    K = num_classes
    k, own = np.arange(K), np.eye(K, dtype=bool)
    rows = np.broadcast_to(k[:, None], (K, K))
    groups = {
        "alpha": np.where(own, 0, 1),
        "softmax": np.where(own, 0, 1),
        "alpha_k": np.where(own, rows, K),
        "row_beta": np.where(own, rows, K + rows),
        "matrix": np.arange(K * K).reshape(K, K),
        "softmax_matrix": np.arange(K * K).reshape(K, K),
    }[model]
    return Pulls(model, groups, model.startswith("softmax"), offset)


def _direction_pull(x: Array) -> Array:
    """y_j d_j ``(B, K, K)`` with d_j = e_j − 1/K."""
    K = x.shape[-1]
    own = np.diagonal(x, axis1=-2, axis2=-1)
    y = (own - x.mean(-1)) / (1 - 1 / K)
    return np.asarray(y[..., None] * (np.eye(K) - 1 / K))


def _softmax_pull(x: Array) -> Array:
    return np.asarray(np.eye(x.shape[-1]) - _softmax(x))


def _softmax(x: Array) -> Array:
    share = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(share / share.sum(-1, keepdims=True))
