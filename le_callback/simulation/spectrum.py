"""The separation theorem for any measured E(t): the spectrum of M(t), and which pairs of classes it takes apart.

The theorem of the paper has E with α on the diagonal and β elsewhere, positive semi-definite. For any other E the sign
of γ says nothing: the growth of a pair's difference under M(t) takes its place, against 1/t and against the noise.

Legend: T times, K classes, p dimensions, P pairs, n coordinates that the drift couples; E (K, K), M (n, n).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from le_callback.elasticity.inputs import as_array, check_times
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.diffusion import as_noise_rate
from le_callback.simulation.inputs import check_start
from le_callback.simulation.linear import Space, flows, refined, space_of
from le_callback.simulation.ode import coupled_drift, simulate_ode
from le_callback.simulation.strengths import as_sampling, as_strengths
from le_callback.values import Array

_LEAST = 3  # times in a tail
_ROUNDING = 1e-9  # of the means


@dataclass(frozen=True)
class PairOutlook:
    """What happens to the difference of each pair of class means, by M(t) or as it was measured.

    Attributes:
        growth: log ‖X̄_k − X̄_l‖ since the first time ``(T, P)``; NaN where it is lost to rounding beside the means.
        rate: of the growth in the tail, per unit of time ``(P,)``: positive where the pair moves apart.
        index: r of the rate ~ t^(−r) in the tail ``(P,)``; NaN where the pair does not move apart.
        separates: whether the pair moves apart faster than 1/t, r < 1 ``(P,)``: the theorem's condition ω(1/t).

    >>> t = np.arange(1.0, 41.0)
    >>> _outlook(np.exp(0.1 * t)[:, None], t, 0.5).separates
    array([ True])
    """

    growth: Array = field(repr=False)
    rate: Array
    index: Array
    separates: NDArray[np.bool_]


@dataclass(frozen=True)
class SeparationSpectrum:
    """The theorem's side of a run with any E(t), beside what was measured.

    Attributes:
        times: ``(T,)``.
        pairs: ``(P, 2)`` with k < l.
        eigenvalues: of M(t), largest real part first ``(T, n)``, complex; n = K for the I-model, for every dimension.
        predicted: by the LE-ODE from the first class means.
        measured: of the class means, None where only the first were given.
        signal: ‖X̄_k − X̄_l‖ over the deviation of x_k − x_l along it by the LE-SDE, at the last time ``(P,)``; None
            without noise.

    >>> found = separation_spectrum([[0.0, 1.0], [1.0, 0.0]], np.eye(2), np.arange(1.0, 9.0), model="I")
    >>> found.eigenvalues[0].real, found.predicted.separates  # β > α: the pair moves together
    (array([ 0.5, -0.5]), array([False]))
    """

    times: Array = field(repr=False)
    pairs: NDArray[np.intp]
    eigenvalues: NDArray[np.complex128] = field(repr=False)
    predicted: PairOutlook
    measured: PairOutlook | None
    signal: Array | None

    @property
    def agreement(self) -> float:
        """Share of the pairs of which prediction and measurement say the same; NaN where nothing was measured."""
        if self.measured is None:
            return float("nan")
        return float((self.predicted.separates == self.measured.separates).mean())


def separation_spectrum(
    coefficients: Any,
    means: Any,
    times: Any,
    *,
    model: LEModel | str,
    priors: Any = None,
    noise: Any = None,
    tail: float = 0.5,
) -> SeparationSpectrum:
    """Spectrum of M(t) = ((E ∘ P) ⊗ 1) ∘ H, and which pairs of classes it takes apart.

    E may be any matrix: not symmetric, not semi-definite. The LE-ODE is solved from the first class means, by matrix
    exponentials, and the difference of each pair followed: its growth g_kl(t) = log ‖X̄_k − X̄_l‖ is ∫γ/K in the
    paper's case. With g' ~ t^(−r) over the tail, r = 1 − d log(g' t)/d log t, the theorem's ω(1/t) is r < 1.

    Args:
        coefficients: E(t), as ``simulate_ode`` takes it: ``(K, K)``, ``(T, K, K)``, ``LEMatrix``, a function, …
        means: class means at the first time ``(K, p)``, or at all times ``(T, K, p)``: then what was measured is given
            beside what is predicted.
        times: ``(T,)``, above zero and strictly increasing, counted from the start of the training.
        model: any, or its short name.
        priors: as in ``simulate_ode``.
        noise: σ, σ_k or Σ_k of samples as in ``simulate_sde``, without spread at the first time; gives ``signal``.
        tail: share of the times, at the end, over which rates and indices are read.

    Raises:
        ValueError: as ``simulate_ode``, times that are not above zero, a tail of fewer than three times.
        TypeError: a model that is none.

    Source: Zhang, Wang, Su 2021, section 2 and the theorem on separation; any E is asked for in their discussion.

    >>> E = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])  # classes 0 and 1 pull on each other
    >>> found = separation_spectrum(E, np.eye(3), np.linspace(1, 30, 30), model="I")
    >>> found.predicted.rate.round(3)  # of the pairs 01, 02, 12
    array([0.033, 0.633, 0.633])
    """
    model = as_model(model)
    t = check_times(times)
    require(t[0] > 0, "times", t, "above zero", "Leave out the start of the training.")
    require(0 < tail <= 1 and round(tail * len(t)) >= _LEAST, "tail", tail, f"a share with {_LEAST} times or more")
    X = as_array(means)
    given = X.ndim == 3
    require(not given or len(X) == len(t), "means", X.shape, f"of shape (K, p) or ({len(t)}, K, p)")
    start = check_start(X[0] if given else X, model)
    K, p = start.shape
    strengths, sampling = as_strengths(coefficients, t, K, model), as_sampling(priors, t, K)[0]
    space = space_of(model, K, p)
    G = coupled_drift(space, strengths, sampling)(t)
    values = np.linalg.eigvals(G).astype(np.complex128)
    values = np.take_along_axis(values, np.argsort(-values.real, axis=1), axis=1)
    path = simulate_ode(start, coefficients, model, t, priors=priors, method="exponential").numpy()
    pairs = np.stack(np.triu_indices(K, 1), axis=1)
    signal = None
    if noise is not None:
        covariance = _covariance(coefficients, model, t, (K, p), priors, noise)
        signal = np.array([_signal(path[-1], covariance, *pair) for pair in pairs])
    measured = _outlook(_differences(X, pairs), t, tail) if given else None
    return SeparationSpectrum(t, pairs, values, _outlook(_differences(path, pairs), t, tail), measured, signal)


def _differences(means: Array, pairs: NDArray[np.intp]) -> Array:
    """‖X̄_k − X̄_l‖ ``(T, P)``; NaN where rounding is all that is left of it."""
    a, b = means[:, pairs[:, 0]], means[:, pairs[:, 1]]
    size = np.linalg.norm(a - b, axis=-1)
    known = size > _ROUNDING * np.maximum(np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1))
    return np.where(known, size, np.nan)


def _outlook(size: Array, t: Array, tail: float) -> PairOutlook:
    """From ‖X̄_k − X̄_l‖ ``(T, P)``."""
    growth = np.log(size) - np.log(size[0])
    first = len(t) - max(_LEAST, round(tail * len(t)))
    rate = _slope(t[first:], growth[first:])
    middle = (first + len(t)) // 2
    early, late = slice(first, middle + 1), slice(middle, len(t))
    logs = np.log(t)
    # growth per unit of log time, t·g', at both halves of the tail
    speed = [(growth[s][-1] - growth[s][0]) / (logs[s][-1] - logs[s][0]) for s in (early, late)]
    apart = np.array([(logs[s][-1] + logs[s][0]) / 2 for s in (early, late)])
    with np.errstate(divide="ignore", invalid="ignore"):
        index = 1 - np.log(speed[1] / speed[0]) / (apart[1] - apart[0])
    index = np.where((rate > 0) & (speed[0] > 0) & (speed[1] > 0), index, np.nan)
    accelerates = (rate > 0) & (speed[0] <= 0) & (speed[1] > 0)  # it turned: no power of time, and faster than any
    return PairOutlook(growth, rate, index, accelerates | (index < 1))


def _slope(t: Array, y: Array) -> Array:
    centred = t - t.mean()
    return np.asarray((centred[:, None] * y).sum(0) / (centred @ centred))


def _covariance(coefficients: Any, model: LEModel, t: Array, shape: tuple[int, int], priors: Any, noise: Any) -> Array:
    """Covariance of the stacked samples at the last time ``(Kp, Kp)``, from none at the first."""
    K, p = shape
    space = space_of(model, K, p, full=True)
    strengths, sampling = as_strengths(coefficients, t, K, model), as_sampling(priors, t, K)[0]
    known = as_noise_rate(noise, float(t[0]), K, p)
    whole = space if space.blocks is not None else Space(np.broadcast_to(np.eye(p), (K, K, p, p)), None)
    grid, _ = refined(t, np.concatenate([strengths.breaks, t]), 1)
    steps = flows(coupled_drift(whole, strengths, sampling), grid, None, lambda s: known.in_coordinates(whole, s))
    C = np.zeros((K * p, K * p))
    assert steps.covariance is not None
    for flow, added in zip(steps.flow, steps.covariance, strict=True):
        C = flow @ C @ flow.T + added
    return C


def _signal(means: Array, covariance: Array, k: int, l: int) -> float:  # noqa: E741
    difference = means[k] - means[l]
    size = float(np.linalg.norm(difference))
    along = np.zeros_like(means)
    along[k], along[l] = difference / max(size, 1e-300), -difference / max(size, 1e-300)
    a = torch.from_numpy(along).flatten().numpy()
    return size / float(np.sqrt(max(a @ covariance @ a, 1e-300)))
