"""Inner products of all that moves between two windows, class by class. K classes, q coordinates a class, J weights.

With z_k before and z′_k after, c the mean of z_k over the classes, e_k = z_k − c and d_k = z′_k − z_k: what a growth is
read from is a sum of e_k and d_k, which each class has of its own, and of c, Σ_k w_k e_k and Σ_k w_k d_k, which all
share. So their products are taken once, and all that follows is of a few numbers a class, whatever q. Differences are
taken before products, so that nothing cancels that did not cancel before.

Legend: n pairs of windows, m = 3 + 2J vectors that sums are made of: e_k, d_k, c, the J means of e, the J means of d.
"""

from __future__ import annotations

import numpy as np

from le_callback.values import Array

E, D, C, MEANS = 0, 1, 2, 3  # places among the m
_AT_ONCE = 2**16  # numbers: what the cache holds


def class_products(before: Array, after: Array, weights: Array) -> Array:
    """Products ``(K, m, m)`` of the m vectors of each class.

    Args:
        before: z ``(K, q)``, finite.
        after: z′ ``(K, q)``.
        weights: ``(J, K)``.

    >>> z = np.array([[1.0], [3.0]])
    >>> class_products(z, 2 * z, np.array([[0.5, 0.5]]))[0]  # e, d, c, mean of e, mean of d
    array([[ 1., -1., -2.,  0., -2.],
           [-1.,  1.,  2.,  0.,  2.],
           [-2.,  2.,  4.,  0.,  4.],
           [ 0.,  0.,  0.,  0.,  0.],
           [-2.,  2.,  4.,  0.,  4.]])
    """
    K, q = before.shape
    centre, w = before.mean(0), weights.astype(before.dtype)
    J, rows = len(w), max(1, _AT_ONCE // q)
    shared = np.zeros((1 + 2 * J, q), before.dtype)
    shared[0] = centre
    pieces = [slice(start, start + rows) for start in range(0, K, rows)]
    found = np.empty((K, 2 + len(shared), 2 + len(shared)))
    for piece in pieces:
        e, d = before[piece] - centre, after[piece] - before[piece]
        shared[1 : 1 + J] += w[:, piece] @ e
        shared[1 + J :] += w[:, piece] @ d
        found[piece, E, E], found[piece, D, D] = _products(e, e), _products(d, d)
        found[piece, E, D] = found[piece, D, E] = _products(e, d)
    for piece in pieces:  # once the means are known
        for own, vectors in ((E, before[piece] - centre), (D, after[piece] - before[piece])):
            found[piece, own, C:] = found[piece, C:, own] = vectors @ shared.T
    found[:, C:, C:] = shared @ shared.T
    return found


def _products(x: Array, y: Array) -> Array:
    """⟨x_k, y_k⟩ of rows ``(K, q)``."""
    return np.asarray((x[:, None] @ y[..., None])[:, 0, 0])


def chosen(products: Array, weights: slice) -> Array:
    """Products ``(n, K, m′, m′)`` with some of the J weights only, of ``(n, K, m, m)``.

    >>> chosen(np.zeros((1, 2, 13, 13)), slice(0, 3)).shape
    (1, 2, 9, 9)
    """
    m = products.shape[-1]
    J = (m - MEANS) // 2
    place = np.concatenate([[E, D, C], np.arange(MEANS, m).reshape(2, J)[:, weights].ravel()])
    return np.asarray(products[..., place[:, None], place])


class Vectors:
    """Sums of the m vectors, one a class, by factors ``(n, K, m)``; shared by all classes, by factors ``(n, m)``.

    Args:
        products: ``(n, K, m, m)`` of n pairs of windows.
        weights: ``(n, J, K)`` of the means among them.

    Attributes:
        before, moved: factors ``(m,)`` of z and z′ − z.

    >>> z, weights = np.array([[1.0], [3.0]]), np.array([[[0.5, 0.5]]])
    >>> vectors = Vectors(class_products(z, 2 * z, weights[0])[None], weights)
    >>> vectors.mean_before(0)  # of c and of the mean of e
    array([[0., 0., 1., 1., 0.]])
    >>> vectors.along(vectors.before) @ vectors.before  # ‖z_k‖²
    array([[1., 9.]])
    """

    def __init__(self, products: Array, weights: Array) -> None:
        self._products, self._weights = products, weights
        n, self._J, _ = weights.shape
        m = products.shape[-1]
        self._none: Array = np.zeros((n, m))
        self.before, self.moved = np.zeros(m), np.zeros(m)
        self.before[[E, C]], self.moved[D] = 1.0, 1.0

    def mean_before(self, j: int) -> Array:
        """Σ_k W_jk z_k ``(n, m)``."""
        found: Array = self._none.copy()
        found[:, C], found[:, MEANS + j] = self._weights[:, j].sum(-1), 1.0
        return found

    def mean_moved(self, j: int) -> Array:
        """Σ_k W_jk (z′_k − z_k) ``(n, m)``."""
        found: Array = self._none.copy()
        found[:, MEANS + self._J + j] = 1.0
        return found

    def along(self, vectors: Array) -> Array:
        """⟨x_k, y⟩ of vectors x with each y of the m ``(n, K, m)``; axes of n or K may be missing, or 1 long."""
        factors = np.broadcast_to(vectors, self._products.shape[:-1])
        return np.asarray(np.einsum("nkij,nkj->nki", self._products, factors))

    def shared(self, *vectors: Array) -> Array:
        """Products ``(n, s, s)`` of s shared vectors ``(n, m)``."""
        stacked = np.stack(vectors, 1)
        return np.asarray(stacked @ self._products[:, 0] @ stacked.swapaxes(1, 2))
