"""Intra-class strengths of each class of its own, fitted so that the simulated class means follow the genuine ones.

With one α, the classes of a balanced LE-ODE grow alike; in real trainings some separate early and go farther. Here
E_kk = α_k and E_kl = β. Stepwise regressions of the increments on such a model fit every step and yet imitate badly,
since the drift amplifies what goes wrong early. So each window is fitted from where the *simulation* stands: what is
missing at its start is made up for by its end.

Legend: T times, K classes, p dimensions, W windows, n coordinates that the drift couples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.linalg import expm
from scipy.optimize import least_squares

from le_callback.elasticity.inputs import check_times
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.inputs import check_count, check_start
from le_callback.simulation.linear import Space, space_of
from le_callback.values import Array

_TIE = 1e-4  # of the size of the means: what a change by 1 of a log growth costs, where the data say nothing of it
_LARGEST = 10.0  # log growth of a class in a window


@dataclass(frozen=True)
class ClassStrengths:
    """α_k and β, constant in each of W windows; those at the ends go on. Callable, as ``simulate_ode`` takes E.

    Attributes:
        edges: ends of the windows ``(W + 1,)``.
        alpha: ``(W, K)``, per unit of time.
        beta: ``(W,)``.

    >>> ClassStrengths(np.array([0.0, 1.0]), np.array([[2.0, 3.0]]), np.array([-1.0]))(0.5)
    array([[ 2., -1.],
           [-1.,  3.]])
    """

    edges: Array
    alpha: Array
    beta: Array

    def __call__(self, times: Any) -> Array:
        """E ``(n, K, K)`` at ``times (n,)``, or ``(K, K)`` at a single time.

        >>> strengths = ClassStrengths(np.array([0.0, 1.0]), np.array([[2.0, 3.0]]), np.array([-1.0]))
        >>> strengths([0.5, 2.0]).shape
        (2, 2, 2)
        """
        window = np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, len(self.beta) - 1)
        return _matrices(self.alpha[window], self.beta[window])


def fit_class_strengths(
    x: Any, times: Any, *, model: LEModel | str = "L", window: int = 12, shared: bool = False
) -> ClassStrengths:
    """Fit α_k(t) and β(t) by shooting: window after window, from where the simulation stands.

    In each window, min Σ_i ‖X̃(t_i) − X̄(t_i)‖² over α_1 … α_K, β, where dX̃/dt = ((E ∘ P) ⊗ 1) ∘ H X̃, E_kk = α_k,
    E_kl = β, balanced P, from where the window before has ended. These are K + 1 numbers a window for K·p coordinates;
    in the seminorm of the L-model's H, which has K coordinates, that is no constraint: judge the fit in the full norm.
    Where all y_k are equal, only the differences α_k − β act, and for K = 2 the numbers are not unique either: the fit
    then stays near that of the window before.

    Args:
        x: class means ``(T, K, p)``.
        times: ``(T,)``, strictly increasing.
        model: any, or its short name, ``"I"`` or ``"L"``.
        window: intervals of ``times`` in a window; the last may be shorter.
        shared: whether all classes have one α, as in the paper: two numbers a window.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, unordered times, a ``window`` below 1.
        TypeError: a model that is none.

    >>> from le_callback.simulation.ode import simulate_ode
    >>> t, x0 = np.linspace(0, 10, 21), np.array([[2.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])
    >>> genuine = simulate_ode(x0, np.diag([0.4, 0.2, 0.1]), "L", t)
    >>> fit_class_strengths(genuine, t, window=20).alpha.round(3)
    array([[0.4, 0.2, 0.1]])
    """
    model = as_model(model)
    t = check_times(times)
    means = np.asarray(torch.as_tensor(x).detach().double().cpu().numpy())
    fits = means.ndim == 3 and len(means) == len(t) >= 2
    require(fits, "x", means.shape, f"of shape ({len(t)}, K, p), class means at each of the times, at least 2")
    require(bool(np.isfinite(means).all()), "x", means, "finite")
    window = check_count(window, "window")
    check_start(torch.from_numpy(means[0]), model)
    K, p = means.shape[1:]
    space = space_of(model, K, p)
    ends = [*range(0, len(t) - 1, window), len(t) - 1]
    coordinates = space.enter(torch.from_numpy(means)).numpy()
    state, rates, found = coordinates[0], np.zeros(2 if shared else K + 1), []
    for a, b in pairwise(ends):
        length = t[b] - t[a]
        steps = np.diff(t[a : b + 1]) / length
        grown = _shoot(space, K, steps, state, coordinates[a + 1 : b + 1], np.clip(rates * length, -_LARGEST, _LARGEST))
        state, rates = _path(space, K, grown, steps, state)[-1], grown / length
        found.append(rates)
    fitted = np.stack(found)
    return ClassStrengths(t[ends], np.broadcast_to(fitted[:, :-1], (len(fitted), K)).copy(), fitted[:, -1])


def _shoot(space: Space, K: int, steps: Array, start: Array, genuine: Array, guess: Array) -> Array:
    """Integrals of α_k and β over a window that take ``start`` (n, m) closest to the ``genuine`` readings (S, n, m)."""
    tie = _TIE * float(np.linalg.norm(genuine))

    def missed(grown: Array) -> Array:
        return np.concatenate([(_path(space, K, grown, steps, start) - genuine).ravel(), tie * (grown - guess)])

    return np.asarray(least_squares(missed, guess, bounds=(-_LARGEST - 1, _LARGEST + 1), max_nfev=50).x)


def _path(space: Space, K: int, grown: Array, steps: Array, start: Array) -> Array:
    """States (S, n, m) after each of the ``steps`` (S,), shares of a window."""
    drift = space.drift(_matrices(np.broadcast_to(grown[:-1], (K,)), grown[-1]) / K)
    flows: dict[float, Array] = {}
    state, path = start, []
    for step in np.round(steps, 12).tolist():
        if step not in flows:
            flows[step] = np.asarray(expm(step * drift))
        state = flows[step] @ state
        path.append(state)
    return np.stack(path)


def _matrices(alpha: Array, beta: Any) -> Array:
    K = alpha.shape[-1]
    own = np.eye(K, dtype=bool)
    return np.where(own, alpha[..., :, None], np.asarray(beta)[..., None, None])
