"""How separable each class and each pair of classes is, in the features and in the classifier head.

K classes, p feature dimensions, N samples. X̄_k class means, D_kl discriminability of a pair: the distance of two means
over the within-class deviation along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from le_callback.moments.sums import ClassStatistics
from le_callback.records import ClassSeparation, HeadSeparation, Linearisation
from le_callback.values import NAN, Array, Estimate

LOW_QUANTILE = 0.05  # of the head margin


def class_hits(features: Tensor, labels: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Samples of each class, and how many of them have their own class mean as the nearest (K,), (K,).

    Held out if ``means`` comes from other samples. Both are zero for classes whose mean is unknown.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p); rows with NaN are no candidates.

    >>> class_hits(torch.tensor([[0.1], [0.9], [0.2]]), torch.tensor([0, 1, 1]), torch.tensor([[0.0], [1.0]]))
    (tensor([1, 2]), tensor([1, 1]))
    """
    known = ~means.isnan().any(1)
    return _hits(*_projections(features, means), labels, known)


def held_out_discriminability(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Signed discriminability of every pair (K, K) along the difference of means of *other* samples.

    D_kl = (⟨x̄_k − x̄_l, d⟩)/σ with d = m_k − m_l from ``means``, x̄ the means of the samples and σ² the variance of
    ⟨x, d⟩ pooled over both classes. Since d does not depend on the samples, D_kl/√(1/n_k + 1/n_l) is a t
    statistic with n_k + n_l − 2 degrees of freedom: unlike the distance of two sample means, it is about zero for equal
    classes, however few samples and however many dimensions. NaN on the diagonal and where there are too few samples
    or no mean.

    Args:
        features: (N, p).
        labels: (N,) class indices.
        means: (K, p) from other samples, NaN rows where unknown.

    >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])
    >>> held_out_discriminability(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0], [4.0]]))[0, 1].item()
    7.07...
    """
    return score_discriminability(_projections(features, means)[0], labels)


def score_discriminability(scores: Tensor, labels: Tensor) -> Tensor:
    """Signed discriminability of every pair (K, K) by the difference of their scores, such as logits.

    With s = z_k − z_l: (mean of s over class k − mean of s over class l)/deviation of s within both.

    Args:
        scores: (N, K), one column a class.
        labels: (N,) class indices.

    >>> z = torch.tensor([[1.0, -1.0], [3.0, -3.0], [-1.0, 1.0], [-3.0, 3.0]])
    >>> score_discriminability(z, torch.tensor([0, 0, 1, 1]))[0, 1].item()
    2.82...
    """
    K = scores.shape[1]
    z = scores.double() if scores.numel() <= 2**20 else scores
    counts = torch.bincount(labels, minlength=K).to(z.dtype)
    table = z.new_zeros(K, K).index_add_(0, labels, z) / counts.clamp(min=1).unsqueeze(1)
    residual = z - table[labels]
    along = (residual.gather(1, labels.unsqueeze(1)) - residual).square()
    squares = z.new_zeros(K, K).index_add_(0, labels, along)
    dof = counts.unsqueeze(0) + counts.unsqueeze(1) - 2
    deviation = ((squares + squares.T) / dof.clamp(min=1)).sqrt()
    lead = table.diagonal().unsqueeze(1) - table  # mean over class k of s = z_k − z_l
    distance = lead + lead.T
    sampled = counts > 0
    usable = (dof >= 1) & sampled.unsqueeze(0) & sampled.unsqueeze(1) & (distance != 0)
    usable &= ~torch.eye(K, dtype=torch.bool, device=z.device)
    return torch.where(usable, distance / deviation, torch.nan)


def measure_classes(
    features: Tensor,
    labels: Tensor,
    statistics: ClassStatistics,
    previous_means: Tensor | None,
    classes: Sequence[int],
    rank: float = NAN,
) -> ClassSeparation:
    """What one window says of each class and pair.

    Args:
        features: (N, p) samples of the window.
        labels: (N,) rows of ``statistics``.
        statistics: of the K classes, all of them seen, in the whole window.
        previous_means: (K, p) of the windows before; ``None`` if there are none yet.
        classes: (K,) names of the rows as class indices.
        rank: effective rank of the samples.

    >>> x, y = torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    >>> from le_callback.moments.sums import ClassMoments
    >>> moments = ClassMoments(num_classes=2, num_features=1)
    >>> measure_classes(x, y, moments(x, y), torch.tensor([[0.0], [10.0]]), (0, 1)).accuracy
    array([1., 1.])
    """
    means = statistics.mean
    K = len(means)
    known = previous_means is not None and not bool(previous_means.isnan().any(1).all())
    if known and len(labels):
        assert previous_means is not None
        projections, squared = _projections(features, previous_means)
        tried, hits = _hits(projections, squared, labels, ~previous_means.isnan().any(1))
        pairs = score_discriminability(projections, labels)
        moved = (means - previous_means).double().norm(dim=1)
    else:
        tried = hits = torch.zeros(K, dtype=torch.long)
        pairs, moved = torch.full((K, K), torch.nan), torch.full((K,), torch.nan)
    between, radius, scatter = _total_scatter(statistics)
    return ClassSeparation(
        classes=tuple(classes),
        samples=_host(torch.bincount(labels, minlength=K)),
        tried=_host(tried),
        hits=_host(hits),
        pairs=_host(pairs),
        moved=_host(moved),
        between=between,
        radius=radius,
        scatter=scatter,
        effective_rank=rank,
        dead_units=float((features.amax(0) == features.amin(0)).double().mean()) if len(labels) > 1 else NAN,
    )


def _total_scatter(statistics: ClassStatistics) -> tuple[float, float, float]:
    """Return tr Σ_B, the mean distance of class means and the mean square of samples from the mean of all samples.

    The last by the law of total variance: Σ_k W_k (s_k + ‖X̄_k − X̄‖²)/W with s_k the variance about X̄_k.
    """
    share = (statistics.weight / statistics.weight.sum()).double().unsqueeze(1)
    centred = (statistics.mean - statistics.mean.mean(0)).double()
    between = centred.square().sum() / len(centred)
    distances = torch.linalg.vector_norm(centred - (share * centred).sum(0), dim=1)
    spread = (statistics.variance - statistics.mean_noise).double().nan_to_num(nan=0.0)
    total = (share.squeeze(1) * (spread + distances.square())).sum()
    found: list[float] = torch.stack([between, distances.mean(), total]).tolist()
    return found[0], found[1], found[2]


def measure_head(
    logits: Tensor, labels: Tensor, num_classes: int, paired: Sequence[int] | None = None
) -> HeadSeparation | None:
    """Margins of the classifier head: the logit of the label minus the largest other.

    Args:
        logits: (N, K), or (N, 1) for two classes told apart by the sign.
        labels: (N,) class indices.
        num_classes: K.
        paired: the classes whose pairs are measured, all if left out.

    Returns:
        ``None`` without samples, or where the logits are fewer than the classes.

    >>> head = measure_head(torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 4.0]]), torch.tensor([0, 1, 1]), 2)
    >>> head.margin, head.accuracy
    (1.333..., array([1. , 0.5]))
    """
    if logits.shape[1] == 1 and num_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if len(labels) == 0 or logits.shape[1] < num_classes:
        return None
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    margin = (own - other).double()
    counts, hits = _tally(labels, margin > 0, torch.ones(num_classes, dtype=torch.bool, device=labels.device))
    per_class = margin.new_zeros(num_classes).index_add_(0, labels, margin) / counts
    names = tuple(range(num_classes)) if paired is None else tuple(paired)
    scores, rows = logits, labels
    if len(names) < logits.shape[1]:
        chosen = torch.tensor(names, device=labels.device)
        position = torch.full((logits.shape[1],), -1, dtype=torch.long, device=labels.device)
        position[chosen] = torch.arange(len(names), device=labels.device)
        rows = position[labels]
        scores, rows = logits[rows >= 0][:, chosen], rows[rows >= 0]
    return HeadSeparation(
        margin=float(margin.mean()),
        margin_low=float(margin.quantile(LOW_QUANTILE)),
        class_margin=_host(per_class),
        tried=_host(counts),
        hits=_host(hits),
        classes=names,
        pairs=_host(score_discriminability(scores, rows)),
    )


def linearisation(logit_means: Tensor) -> Linearisation:
    """How far training still pulls (Ψ), and how well the linear model describes the pull (R).

    J_k = diag(p̄_k) − p̄_k p̄_kᵀ with p̄_k = softmax(X̄_k), Ψ_k = e_k − p̄_k, R_k = Ψ_k + J_k X̄_k; root mean squares
    over the classes of ‖Ψ_k‖ and ‖R_k‖. ‖Ψ‖ near zero: the loss is nearly spent (effective training).

    Args:
        logit_means: (K, K) class means of the logits; rows with NaN are left out.

    >>> linearisation(torch.zeros(2, 2))
    Linearisation(psi=0.707..., residue=0.707...)
    """
    seen = ~logit_means.isnan().any(1)
    X = logit_means[seen].double()
    target = torch.eye(len(logit_means), logit_means.shape[1], dtype=torch.float64, device=X.device)[seen]
    share = X.softmax(1)
    psi = target - share
    pulled = share * X - share * (share * X).sum(1, keepdim=True)
    rms = [float(v.square().sum(1).mean().sqrt()) if len(X) else NAN for v in (psi, psi + pulled)]
    return Linearisation(psi=rms[0], residue=rms[1])


def worst_pairs(pairs: Tensor, classes: Sequence[int], top: int = 3) -> tuple[tuple[int, int, float], ...]:
    """The ``top`` pairs of smallest discriminability as (class, class, D), the smallest first.

    >>> worst_pairs(torch.tensor([[torch.nan, 5.0, 2.0], [5.0, torch.nan, 1.0], [2.0, 1.0, torch.nan]]), "abc", 2)
    (('b', 'c', 1.0), ('a', 'c', 2.0))
    """
    K = len(pairs)
    usable = ~pairs.isnan() & torch.ones_like(pairs, dtype=torch.bool).triu_(1)
    largest = torch.finfo(pairs.dtype).max  # also for pairs that are infinitely far apart: they are known
    upper = torch.where(usable, pairs.clamp(max=largest), torch.inf).flatten()
    places = upper.topk(min(top, upper.numel()), largest=False).indices
    values, known = pairs.flatten()[places], usable.flatten()[places]
    return tuple(
        (classes[i // K], classes[i % K], v)
        for i, v, ok in zip(places.tolist(), values.tolist(), known.tolist(), strict=True)
        if ok
    )


def discriminability_growth(
    steps: Sequence[float], discriminability: Sequence[float], samples: Sequence[float], confidence: float = 0.95
) -> Estimate:
    """Growth of gap over noise: slope of log D per step, by weighted least squares over some windows.

    The sampling variance of log D with n samples of each class is (2/n)/D² + 1/(2(2n − 2)) by the delta method; it only
    weighs the windows, the interval comes from the residuals (Student t).

    Args:
        steps: (T,) of the windows.
        discriminability: (T,) D of the pair; windows where it is not positive and finite are left out.
        samples: (T,) n of each class.
        confidence: of the interval.

    >>> growth = discriminability_growth([0, 50, 100, 150], [1.0, 1.65, 2.72, 4.48], [100] * 4)
    >>> round(growth.value, 3)
    0.01
    """
    t, D, n = (np.asarray(v, dtype=np.float64) for v in (steps, discriminability, samples))
    keep = np.isfinite(D) & (D > 0) & (n >= 2)
    t, D, n = t[keep], D[keep], n[keep]
    if len(t) < 3 or np.ptp(t) == 0:
        return Estimate.unknown()
    weight = 1 / (2 / (n * D**2) + 1 / (4 * (n - 1)))
    weight = weight / weight.sum()
    centred = t - weight @ t
    spread = weight @ centred**2
    slope = (weight * centred) @ np.log(D) / spread
    residual = np.log(D) - weight @ np.log(D) - slope * centred
    # sandwich of the weighted fit: weights need not be the true ones
    error = math.sqrt(len(t) / (len(t) - 2) * np.sum((weight * centred * residual) ** 2)) / spread
    half = float(student.ppf(0.5 + confidence / 2, len(t) - 2)) * error
    return Estimate(float(slope), float(slope - half), float(slope + half))


def _projections(features: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """⟨x − c, m_k − c⟩ (N, K) and ‖m_k − c‖² (K,) about the centre c of the known means."""
    centre = means[~means.isnan().any(1)].mean(0)
    candidates = (means - centre).to(features.dtype)
    return (candidates @ (features - centre).T).T, candidates.square().sum(1)  # the faster order for few classes


def _hits(projections: Tensor, squared: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    distances = squared - 2 * projections  # ‖x − m‖² up to ‖x‖²
    return _tally(labels, distances.nan_to_num(nan=torch.inf).argmin(1) == labels, known)


def _tally(labels: Tensor, right: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    K = len(known)
    counted = torch.bincount(labels, minlength=K) * known
    return counted, torch.bincount(labels[right], minlength=K) * known


def _host(x: Tensor) -> Array:
    return np.asarray(x.double().cpu().numpy())
