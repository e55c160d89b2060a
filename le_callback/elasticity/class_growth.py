"""How far the class means moved between two windows, in terms of the two coefficients, for any class frequencies.

The coordinates z_k of both models, those of a simplex of directions included, obey

    dz_k = (δ π_k z_k + ε s) dt,   s = Σ_j π_j z_j,

I-model: δ = γ, ε = β. Directions with ⟨d_i, d_j⟩ = −‖d_i‖²/(K−1): δ = γ + β K/(K−1), ε = −β/(K−1). What all classes
share leaves their differences alone, so two projections tell δ and ε apart (⟨·,·⟩ sums over classes and coordinates):

    difference   ∫δ = ⟨r, Δz⟩ / ∫⟨r, πz⟩,   r = πz of the earlier window, less its mean over the classes,
    common       ∫(ε + ρδ) = ⟨z̄, Δz̄⟩ / ∫⟨z̄, s⟩,   z̄ = Σ v_k z_k of the earlier window,

with ρ = ∫⟨z̄, Σ v_k π_k z_k⟩ / ∫⟨z̄, s⟩.

The integrals take f to grow as an exponential between the windows, so that balanced growth is exact at any step, and
then both are the log growth of the two modes (times K for the difference), projected on what they were. The earlier
window knows nothing of the process noise that comes after it, which lets norms grow without any drift. Its sampling
noise is in both factors, and so is a wobble about the mode, whose fading would be read as decay: what they add on
average is taken off, see ``unexplained``.

Everything is read from inner products, see ``class_products``, of all paths of all models at once.

Legend: K classes, q coordinates a class, n pairs of windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from le_callback.elasticity.class_products import Vectors, chosen, class_products
from le_callback.elasticity.class_reading import ClassReading, Flags
from le_callback.elasticity.frequencies import Frequencies, common_weights, contrast_weights
from le_callback.elasticity.unexplained import Unexplained
from le_callback.values import Array

_MOST = 1e6  # growth between two windows
_KEPT = 2**16  # numbers: changes of more are not kept for the next window


@dataclass(frozen=True)
class Growth:
    """What two windows say of one path.

    Attributes:
        value: growth of the path; NaN where the two windows do not tell.
        noise_before, noise_after: share of each class in the sampling variance of the path at both ends ``(K,)``.
        off: the change that the drift does not explain, scaled so that products are sums; None: not known.
        doubt: variance by what is not known of the class frequencies in these windows.
        lasting_doubt: standard deviation by what is not known of them over a longer time: no later window averages it.
        coupling: ρ; 0 for the difference.
        scatter: squared change that the drift does not explain, over what sampling noise makes of it; NaN: not known.
        echo: what the change before adds to ⟨r, Δz⟩ without sampling noise, over the same; NaN: not known.
    """

    value: float
    noise_before: Array
    noise_after: Array
    off: Array | None = None
    doubt: float = 0.0
    lasting_doubt: float = 0.0
    coupling: float = 0.0
    scatter: float = math.nan
    echo: float = math.nan

    @classmethod
    def unknown(cls, K: int) -> Growth:
        """The windows do not tell."""
        return cls(math.nan, np.zeros(K), np.zeros(K))


@dataclass(frozen=True)
class Join:
    """Two windows of a path that are to be joined.

    Attributes:
        path: ``"difference"`` for ∫δ, ``"common"`` for ∫(ε + ρδ).
        a: the earlier window.
        b: the later one.
        uniform: as in ``common_weights``.
        past: what the path did that drift does not explain.
    """

    path: Literal["common", "difference"]
    a: ClassReading
    b: ClassReading
    uniform: bool = False
    past: Unexplained = field(default_factory=Unexplained)


def difference_growth(a: ClassReading, b: ClassReading, frequencies: Frequencies) -> Growth:
    """∫δ between two windows.

    Args:
        a: the earlier window.
        b: the later one.
        frequencies: of the classes.

    >>> z = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> one = ClassReading(z, np.zeros(2), np.ones(2, dtype=bool), 2)
    >>> other = ClassReading(z * np.exp(0.3), np.zeros(2), one.seen, 2)
    >>> half = np.full(2, 0.5)
    >>> round(difference_growth(one, other, Frequencies(half, half)).value, 4)
    0.6
    """
    return growths([Join("difference", a, b)], frequencies)[0]


def common_growth(a: ClassReading, b: ClassReading, frequencies: Frequencies, uniform: bool) -> Growth:
    """∫(ε + ρδ) between two windows, and ρ; arguments as ``difference_growth`` and ``common_weights``.

    >>> one = ClassReading(np.array([[1.0], [2.0]]), np.zeros(2), np.ones(2, dtype=bool), 1)
    >>> other = ClassReading(one.z * np.exp(0.3), np.zeros(2), one.seen, 1)
    >>> half = np.full(2, 0.5)
    >>> round(common_growth(one, other, Frequencies(half, half), uniform=True).value, 12)
    0.3
    """
    return growths([Join("common", a, b, uniform)], frequencies)[0]


def growths(joins: Sequence[Join], frequencies: Frequencies) -> list[Growth]:
    """The growths of several pairs of windows of the same K classes, all at once.

    >>> growths([], Frequencies(np.ones(1), np.ones(1)))
    []
    """
    found = [Growth.unknown(len(frequencies.share)) for _ in joins]
    pairs: dict[tuple[int, int, bool], _Pair] = {}  # the paths of a model mostly join the same two windows
    known: dict[tuple[bool, bytes], _Weights] = {}
    for join in joins:
        key = id(join.a), id(join.b), join.uniform
        if key not in pairs:
            pairs[key] = _Pair.of(join, _weights(join, frequencies, known))
    own = [pairs[id(join.a), id(join.b), join.uniform] for join in joins]
    for path, read in (("difference", _differences), ("common", _commons)):
        places = [i for i, join in enumerate(joins) if join.path == path and path in own[i].weights.usable]
        if places:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                said = read([own[i] for i in places], [joins[i].past for i in places], frequencies)
            for i, growth in zip(places, said, strict=True):
                found[i] = growth
    return found


_CONTRAST, _COMMON = slice(0, 3), slice(3, 5)  # of the weights


class _Weights(NamedTuple):
    """Weights of the classes in the growths between two windows.

    Attributes:
        rows: w, w·usual, w·π of the difference, v and π of the common growth ``(5, K)``.
        parts: classes that both windows hold and that are trained on, less one.
        usable: the paths whose growth can be read.
    """

    rows: Array
    parts: int
    usable: tuple[str, ...]


def _weights(join: Join, frequencies: Frequencies, known: dict[tuple[bool, bytes], _Weights]) -> _Weights:
    """Those of a pair of windows; ``known`` are those of others."""
    share, usual = frequencies.share, frequencies.usual
    seen = join.a.seen & join.b.seen
    key = join.uniform, seen.tobytes()
    if key not in known:
        trained = seen & (usual > 0)
        averaged = seen if join.uniform else trained
        w = v = np.zeros(len(share))
        if contrasted := int(trained.sum()) > 1:
            w = contrast_weights(np.where(trained, usual, 0.0))
        if common := bool(averaged.any()):
            v = np.where(averaged, common_weights(usual, join.uniform), 0.0)
            v = v / v.sum()
        # of very many classes some are followed, for all
        rows = np.stack([w, w * usual, w * share, v, share / (share.sum() or 1.0)])
        usable = ("difference",) * contrasted + ("common",) * common
        known[key] = _Weights(rows, int(trained.sum()) - 1, usable)
    return known[key]


class _Pair(NamedTuple):
    """Two windows.

    Attributes:
        a, b: the windows.
        before, after: their coordinates ``(K, q)``; of classes that only one of them holds, those of that one.
        weights: of the classes.
        products: see ``class_products``.
    """

    a: ClassReading
    b: ClassReading
    before: Array
    after: Array
    weights: _Weights
    products: Array

    @classmethod
    def of(cls, join: Join, weights: _Weights) -> _Pair:
        a, b = join.a, join.b
        # a class that only one of the windows holds pulls all the same: it is taken where it was seen
        before = a.z if a.seen.all() else np.where(a.seen[:, None], a.z, b.z)
        after = b.z if b.seen.all() else np.where(b.seen[:, None], b.z, a.z)
        return cls(a, b, before, after, weights, class_products(before, after, weights.rows))


class _Stack:
    """n pairs of windows, with the weights of one path.

    Attributes:
        shares: ``noise_share`` of their paths ``(n,)``.
        weights: ``(J, n, K)``.
        noise: of both windows ``(2, n, K)``.
        each: the part of it in each direction ``(2, n, K)``.
    """

    def __init__(self, pairs: Sequence[_Pair], past: Sequence[Unexplained], chosen_weights: slice) -> None:
        self._past = past
        self.shares = np.array([p.noise_share for p in past])
        weights = np.stack([pair.weights.rows[chosen_weights] for pair in pairs])
        self.vectors = Vectors(chosen(np.stack([pair.products for pair in pairs]), chosen_weights), weights)
        self.weights = weights.swapaxes(0, 1)
        self.noise = np.array([[pair.a.noise for pair in pairs], [pair.b.noise for pair in pairs]])
        dimensions = [[[pair.a.dimensions] for pair in pairs], [[pair.b.dimensions] for pair in pairs]]
        self.each = self.noise / np.array(dimensions)
        self._directions = np.array([pair.a.dimensions for pair in pairs])
        self._averaged = np.array([pair.a.averaged for pair in pairs])

    def unexplained(
        self, offs: Sequence[Array | None], loose: Array, noises: Array, parts: Array
    ) -> tuple[Array, Array, Array]:
        """What a walk or a wobble adds to ⟨r, Δz⟩ ``(n,)``, ``scatter`` and ``echo``.

        The average of a window and what follows on it share a sixth of a walk's variance in a window, the difference
        of two averages has two thirds of it: a quarter of the squared change that drift and sampling noise do not
        explain. Successive changes share as much. Of a wobble that is over after each window, both are −½.

        Args:
            offs: changes off the drift, one a pair; None: not known.
            loose: their squares ``(n,)``.
            noises: of it, by sampling noise of either window, before the fit of one coefficient ``(2, n)``.
            parts: independent parts of ``dimensions`` directions each ``(n,)``.
        """
        directions = parts * self._directions
        free = 1 - 1 / directions
        expected = noises.sum(0) * free
        told = (directions > 1) & (expected > 0)
        together = np.array([_product(p.off, off) for p, off in zip(self._past, offs, strict=True)])
        walk = np.array([p.walk_share(bool(a)) for p, a in zip(self._past, self._averaged, strict=True)])
        added = np.where(directions > 1, (loose - self.shares * expected) * walk, 0.0)
        expected = np.where(told, expected, np.nan)
        return added, loose / expected, (together + self.shares * noises[0] * free) / expected


def _differences(pairs: Sequence[_Pair], past: Sequence[Unexplained], frequencies: Frequencies) -> list[Growth]:
    share, usual = frequencies.share, frequencies.usual
    stack = _Stack(pairs, past, _CONTRAST)
    shares = stack.shares
    vectors, (w, w_usual, _), (noise, _) = stack.vectors, stack.weights, stack.noise
    # r = w (usual z − its mean) sums to 0 over the classes; ⟨r, z⟩ holds the noise of the earlier window twice
    r = w[..., None] * (usual[:, None] * vectors.before - vectors.mean_before(1)[:, None])
    along = vectors.along(r)
    twice = shares[:, None] * w * (1 - w) * usual * noise
    along0, moved = along @ vectors.before - twice, along @ vectors.moved + twice
    f0, f1 = along0 @ share, (along0 + moved) @ share
    F, F0, F1 = log_mean(f0, f1)
    x = moved.sum(-1) / F
    # derivatives of top and bottom of x = T/F by both windows, K vectors each; those by the later one are r, F1 π r
    pulled = (F0 + F1)[:, None] * vectors.mean_before(2) + F1[:, None] * vectors.mean_moved(2)
    each = (F0 + F1)[:, None] * vectors.before + F1[:, None] * vectors.moved
    bottom = (F0[:, None] * share)[..., None] * r
    bottom += w_usual[..., None] * (share[:, None] * each[:, None] - pulled[:, None])
    top = w_usual[..., None] * (vectors.moved - vectors.mean_moved(0)[:, None]) - r - x[:, None, None] * bottom
    along_top = vectors.along(top)
    squared = (along_top * top).sum(-1), (along * r).sum(-1)
    share1 = F1[:, None] * share
    factor1 = 1 - x[:, None] * share1
    variances = [squared[0] * stack.each[0], factor1**2 * squared[1] * stack.each[1]]
    crossed = (along_top * bottom).sum(-1) * stack.each[0] + factor1 * share1 * squared[1] * stack.each[1]
    off = (1 - x[:, None] * share / 2)[..., None] * vectors.moved - (x[:, None] * share)[..., None] * vectors.before
    off -= (vectors.mean_moved(0) - x[:, None] * (vectors.mean_before(2) + vectors.mean_moved(2) / 2))[:, None]
    loose = (w_usual * (vectors.along(off) * off).sum(-1)).sum(-1)
    noises = (w * (1 - w) * usual * stack.noise).sum(-1)
    parts = np.array([pair.weights.parts for pair in pairs])
    offs = [_off_difference(pair, slope * share) for pair, slope in zip(pairs, x, strict=True)]
    added, scatter, echo = stack.unexplained(offs, loose, noises, parts)
    value = x + shares * crossed.sum(-1) / F**2 - added / F
    relative = frequencies.variance(2 * along0 + moved)
    variances = [v / F[:, None] ** 2 for v in variances]
    told = np.zeros(len(pairs)), scatter, echo
    return _growths(_comparable(f0, f1), value, variances, relative, frequencies, told, offs)


def _off_difference(pair: _Pair, pull: Array) -> Array | None:
    """Change of the classes apart from each other that growth by ``pull (K,)`` does not explain ``(K·q,)``."""
    if pair.before.size > _KEPT:
        return None
    w, w_usual, *_ = pair.weights.rows
    off = (1 - pull / 2)[:, None] * (pair.after - pair.before) - pull[:, None] * pair.before
    return np.asarray((np.sqrt(w_usual)[:, None] * (off - w @ off)).ravel())


def _product(before: Array | None, off: Array | None) -> float:
    return math.nan if before is None or off is None else float(before @ off)


def _commons(pairs: Sequence[_Pair], past: Sequence[Unexplained], frequencies: Frequencies) -> list[Growth]:
    stack = _Stack(pairs, past, _COMMON)
    shares = stack.shares
    vectors, (v, pull), (noise, _) = stack.vectors, stack.weights, stack.noise
    r, moved_mean = vectors.mean_before(0), vectors.mean_moved(0)
    along = vectors.along(r[:, None])
    twice = shares[:, None] * v * noise  # r holds the first noise
    along0, moved = along @ vectors.before - twice, along @ vectors.moved + twice
    h0, h1 = (pull * along0).sum(-1), (pull * (along0 + moved)).sum(-1)
    F, F0, F1 = log_mean(h0, h1)
    x = (v * moved).sum(-1) / F
    pulled, pulled_more = vectors.mean_before(1), vectors.mean_moved(1)
    # derivatives by the earlier window: top v g + π h, bottom v s − π h/x; by the later one: v r and F1 π r
    s = (F0 + F1)[:, None] * pulled + F1[:, None] * pulled_more
    g = moved_mean - r - x[:, None] * s
    off = moved_mean - x[:, None] * (pulled + pulled_more / 2)
    S = vectors.shared(r, g, s, off)[..., None]
    rr, gr, gg, sr, sg = S[:, 0, 0], S[:, 1, 0], S[:, 1, 1], S[:, 2, 0], S[:, 2, 1]
    x_, F0_, F1_ = x[:, None], F0[:, None], F1[:, None]
    back = F0_ * pull  # of r in the bottom; −x of it in the top
    variances = [
        (v**2 * gg - 2 * x_ * v * back * gr + (x_ * back) ** 2 * rr) * stack.each[0],
        (v - x_ * F1_ * pull) ** 2 * rr * stack.each[1],
    ]
    crossed = v**2 * sg + v * back * gr - x_ * v * back * sr - x_ * back**2 * rr
    crossed = crossed * stack.each[0] + (v - x_ * F1_ * pull) * F1_ * pull * rr * stack.each[1]
    noises = (v**2 * stack.noise).sum(-1)
    offs = [_off_common(pair, slope) for pair, slope in zip(pairs, x, strict=True)]
    added, scatter, echo = stack.unexplained(offs, S[:, 3, 3, 0], noises, np.ones(len(pairs)))
    value = x + shares * crossed.sum(-1) / F**2 - added / F
    relative = frequencies.variance(2 * along0 + moved)
    coupling = (v * frequencies.share * (2 * along0 + moved)).sum(-1) / (h0 + h1)
    variances = [y / F[:, None] ** 2 for y in variances]
    told = coupling, scatter, echo
    return _growths(_comparable(h0, h1), value, variances, relative, frequencies, told, offs)


def _off_common(pair: _Pair, slope: float) -> Array:
    """Change of the mean over classes that growth by ``slope`` does not explain ``(q,)``."""
    *_, v, pull = pair.weights.rows
    return np.asarray(v @ (pair.after - pair.before) - slope / 2 * (pull @ (pair.before + pair.after)))


def _growths(
    known: Flags,
    value: Array,
    variances: Sequence[Array],
    relative: Array,
    frequencies: Frequencies,
    told: Sequence[Array],
    offs: Sequence[Array | None],
) -> list[Growth]:
    before, after = (np.maximum(x, 0.0) for x in variances)
    doubt = value**2 * relative * frequencies.doubt
    lasting = np.abs(value) * np.sqrt(relative * frequencies.usual_doubt)
    numbers = np.stack([doubt, lasting, *told], -1)
    return [
        Growth(float(value[i]), before[i], after[i], offs[i], *map(float, numbers[i]))
        if known[i]
        else Growth.unknown(before.shape[1])
        for i in range(len(value))
    ]


def _comparable(a: Array, b: Array) -> Flags:
    """Whether growth from a to b can be read: both positive, and not more than a millionfold."""
    return np.asarray((a > 0) & (b > 0) & (b < _MOST * a) & (a < _MOST * b))


def log_mean(a: Any, b: Any) -> tuple[Array, Array, Array]:
    """Logarithmic mean (b − a)/log(b/a) of positive numbers, and its derivatives: the mean of an exponential.

    >>> [float(x.round(6)) for x in log_mean(1.0, math.e)]
    [1.718282, 0.718282, 0.367879]
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    step = np.log(b / a)
    small = np.abs(step) < 1e-4
    safe = np.where(small, 1.0, step)
    mean = np.where(small, (a + b) / 2, (b - a) / safe)
    return mean, np.where(small, 0.5, (mean / a - 1) / safe), np.where(small, 0.5, (1 - mean / b) / safe)
