"""The LE-ODE: class means from their start and the LE coefficients.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.elasticity.inputs import check_times
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.inputs import check_count, check_start
from le_callback.simulation.linear import Space, across_basis, flows, refined, space_of
from le_callback.simulation.modes import growth, has_exact_modes, mode_solution
from le_callback.simulation.strengths import Rate, Strengths, as_affine, as_sampling, as_strengths
from le_callback.values import Array

METHODS = ("auto", "modes", "exponential")


def simulate_ode(
    x0: Any,
    coefficients: Any,
    model: LEModel | str,
    times: Any,
    *,
    priors: Any = None,
    affine: Any = None,
    method: str = "auto",
    substeps: int = 1,
) -> Tensor:
    """Solve dX̄/dt = M(t) X̄ + R(t), M = ((E ∘ P) ⊗ 1) ∘ H.

    ``"modes"`` is exact: models with two modes under balanced sampling, E of two numbers, no affine term. The integrals
    of α and β are taken by 8-point Gauss–Legendre between two points of the grid. ``"exponential"`` serves all else by
    matrix exponentials: exact where E, P and R are constant between the points of the grid, else of fourth order in
    their distance (Magnus). The grid is ``times``, the breaks of the coefficients, and ``substeps`` parts of each
    piece. The I-model costs exponentials of size K, direction models K·min(K, p), general blocks K·p.

    Args:
        x0: class means at ``times[0]``, ``(K, p)``.
        coefficients: one of

            - :class:`LECoefficients` or :class:`LEIntegrals`: A and B, linear between their times;
            - a tuple (α, β), each a number, an array ``(T,)`` at ``times``, linear in between, or a function of time;
            - E itself: ``(K, K)``, ``(T, K, K)`` linear between ``times``, or a function of time to ``(K, K)``;
            - :class:`LEMatrix`: constant in each window, which ends half-way to the next; those at the ends go on.
        model: any, or its short name, ``"I"`` or ``"L"``.
        times: ``(T,)``, strictly increasing, in the unit of 1/α.
        priors: see ``similarity.sampling_matrix``; those that change with time are linear between ``times``.
        affine: R: ``(K, p)``, ``(T, K, p)`` linear between ``times``, or a function of time; such as the residue of a
            linearisation.
        method: ``"auto"`` takes the modes where they are exact.
        substeps: parts of each interval.

    Returns:
        ``(T, K, p)`` with the type and device of ``x0``; computed in double precision on the CPU.

    Raises:
        ValueError: wrong shapes, values that are not finite, times that do not increase, an unknown method, or
            ``"modes"`` where there are none.
        TypeError: a model that is none.

    Source: Zhang, Wang, Su 2021, the LE-ODE and its solution, eq. 19.

    >>> path = simulate_ode([[1.0], [-1.0]], (0.3, 0.1), "I", [0.0, 10.0])  # difference mode: exp(10·0.2/2)
    >>> path[-1].squeeze().numpy().round(4)
    array([ 2.7183, -2.7183])
    """
    model = as_model(model)
    t = check_times(times)
    x = check_start(x0, model)
    K, p = x.shape
    require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    parts = check_count(substeps, "substeps")
    strengths = as_strengths(coefficients, t, K, model)
    sampling, balanced = as_sampling(priors, t, K)
    modes = balanced and affine is None and strengths.pair is not None and has_exact_modes(model, K)
    remedy = (
        "The modes need the I-model or simplex directions, coefficients of two numbers, balanced priors and no affine"
        " term."
    )
    require(modes or method != "modes", "method", method, "auto or exponential here", remedy)
    start = x.double().cpu()
    if modes and method != "exponential":
        grid, at = refined(t, strengths.breaks, parts)
        found = mode_solution(start.numpy(), growth(strengths, grid, K), model)[at]
        return torch.from_numpy(found).to(x)
    rate = None if affine is None else as_affine(affine, t, (K, p))[0]
    return _by_exponentials(start, space_of(model, K, p), strengths, sampling, rate, t, parts).to(x)


def coupled_drift(space: Space, strengths: Strengths, sampling: Rate) -> Rate:
    """G(t) ``(n_t, n, n)`` in the coordinates of ``space``, from W = E ∘ P.

    Args:
        space: of the model.
        strengths: E(t).
        sampling: P(t) ``(n_t, K, K)``.

    >>> from le_callback.similarity import IModel
    >>> t = np.zeros(1)
    >>> strengths = as_strengths((2.0, 1.0), t, 2, IModel())
    >>> G = coupled_drift(space_of(IModel(), 2, 1), strengths, as_sampling(None, t, 2)[0])
    >>> G(t)[0]
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    return lambda t: space.drift(strengths.matrix(t) * sampling(t))


def coupled_affine(space: Space, affine: Rate) -> Rate:
    """R(t) in the coordinates of ``space``; what is across its basis is left out.

    >>> coupled_affine(Space(None, None), lambda t: np.ones((len(t), 2, 3)))(np.zeros(1)).shape
    (1, 2, 3)
    """
    return lambda t: np.asarray(space.enter(torch.from_numpy(np.ascontiguousarray(affine(t)))).numpy())


def _by_exponentials(
    start: Tensor, space: Space, strengths: Strengths, sampling: Rate, affine: Rate | None, t: Array, parts: int
) -> Tensor:
    K = len(start)
    grid, at = refined(t, np.concatenate([strengths.breaks, t]), parts)
    pushes = None if affine is None else coupled_affine(space, affine)
    steps = flows(coupled_drift(space, strengths, sampling), grid, pushes)
    c = space.enter(start)
    rest = start - space.leave(c, K)  # does not drift
    path = [c]
    for i, flow in enumerate(torch.from_numpy(steps.flow)):
        c = flow @ c
        if steps.shift is not None:
            c = c + torch.from_numpy(steps.shift[i])
        path.append(c)
    means = space.leave(torch.stack([path[i] for i in at]), K) + rest
    if affine is not None and space.basis is not None:
        across = np.cumsum(across_basis(affine, grid, space.basis), axis=0)
        means = means + torch.from_numpy(np.concatenate([np.zeros((1, *start.shape)), across])[at])
    return means
