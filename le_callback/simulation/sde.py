"""The LE-SDE: samples of the features.

Legend: S simulated paths, T times, K classes, p feature dimensions, N intervals of the grid, n coordinates that the
drift couples (``linear``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.elasticity.inputs import check_times
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.diffusion import Noise, across_space, as_noise_rate, colour
from le_callback.simulation.inputs import check_count, check_generator, check_start
from le_callback.simulation.linear import Space, across_basis, flows, gauss_integrals, refined, space_of, square_roots
from le_callback.simulation.ode import coupled_affine, coupled_drift
from le_callback.simulation.strengths import Rate, as_affine, as_sampling, as_strengths
from le_callback.values import Array

METHODS = ("exact", "euler")


def simulate_sde(  # noqa: PLR0913 -- the equation has as many parts, each with its default
    x0: Any,
    coefficients: Any,
    model: LEModel | str,
    times: Any,
    *,
    noise: Any,
    samples: int | None = None,
    generator: torch.Generator,
    method: str = "exact",
    priors: Any = None,
    affine: Any = None,
    substeps: int = 1,
) -> Tensor:
    """Simulate dX̃ = (M(t) X̃ + R(t)) dt + Σ(t)^½ dB.

    As in the paper, X̃ stacks one sample of each class (K·p numbers), and the drift of a path is M times that path's own
    stacked vector. Paths are independent; their mean follows the LE-ODE (``simulate_ode``).

    ``"exact"`` draws the Gaussian transition of each interval of the grid (``linear.flows``): exact in law, whatever
    the interval, where coefficients and noise are constant between the points of the grid, as with numbers,
    :class:`LEIntegrals`, :class:`LECoefficients` or :class:`LEMatrix`; else its mean and covariance are of fourth order
    in the interval. ``"euler"``: Euler–Maruyama, of strong order 1 (the noise is additive). The grid is ``times``, the
    breaks of the coefficients, and ``substeps`` parts of each piece.

    Args:
        x0: one start for all paths ``(K, p)``, or one for each ``(K, S, p)``.
        coefficients: as in ``simulate_ode``.
        model: as there.
        times: as there.
        noise: σ, or σ_k ``(K,)`` (per square root of time, equal in all dimensions), or covariance rates Σ_k
            ``(K, p, p)`` (per time), or a function of time to one of these. Classes are independent.
        samples: number of paths S; 1 if left out, or as many as ``x0`` has.
        generator: source of all random numbers; the global random state is left alone.
        method: ``"exact"`` or ``"euler"``.
        priors: as in ``simulate_ode``.
        affine: as there.
        substeps: as there.

    Returns:
        ``(S, T, K, p)`` with the type and device of ``x0``.

    Raises:
        ValueError: as ``simulate_ode``, noise of a wrong shape, or a number of samples other than that of ``x0``.
        TypeError: a generator or a model that is none.

    Source: Zhang, Wang, Su 2021, section 2, the LE-SDE.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = simulate_sde(torch.zeros(2, 3), (0.0, 0.0), "I", [0.0, 4.0], noise=0.5, samples=2000, generator=g)
    >>> x.shape, round(x[:, -1].std().item(), 1)  # 0.5·√4
    (torch.Size([2000, 2, 2, 3]), 1.0)
    """
    model = as_model(model)
    t = check_times(times)
    x = check_start(x0, model, samples=True)
    K, p = x.shape[0], x.shape[-1]
    S = _number_of_paths(x, samples)
    require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    source = check_generator(generator)
    parts = check_count(substeps, "substeps")
    strengths = as_strengths(coefficients, t, K, model)
    sampling, _ = as_sampling(priors, t, K)
    rate = as_noise_rate(noise, float(t[0]), K, p)
    R = None if affine is None else as_affine(affine, t, (K, p))[0]
    grid, at = refined(t, np.concatenate([strengths.breaks, t]), parts)
    space = space_of(model, K, p, full=not rate.isotropic)
    equation = Equation(space, coupled_drift(space, strengths, sampling), rate, R, grid)
    start = (x.unsqueeze(0) if x.ndim == 2 else x.transpose(0, 1)).expand(S, K, p)
    work = start if start.dtype in (torch.float32, torch.float64) else start.float()

    def white() -> Tensor:
        shape = (S, K, p)
        drawn = torch.randn(shape, generator=source, device=source.device, dtype=work.dtype)
        return drawn.to(work.device)

    path = torch.empty(S, len(t), K, p, dtype=x.dtype, device=x.device)
    wanted = {int(g): i for i, g in enumerate(at)}
    states = exact_states if method == "exact" else euler_states
    for g, state in enumerate(states(equation, work, white)):
        if g in wanted:
            path[:, wanted[g]] = state.to(path)
    return path


@dataclass(frozen=True)
class Equation:
    """An LE-SDE on a grid.

    Attributes:
        space: coordinates of the drift.
        drift: times ``(n_t,)`` to G ``(n_t, n, n)`` in these coordinates.
        noise: of each class.
        affine: times to R ``(n_t, K, p)``, or None.
        grid: ``(N + 1,)``.

    >>> decay = Equation(Space(None, None), lambda t: -np.ones((len(t), 1, 1)),
    ...                  Noise(True, lambda t: np.zeros((len(t), 1))), None, np.array([0.0, 0.5, 1.0]))
    >>> [x.item() for x in euler_states(decay, torch.ones(1, 1, 1), lambda: torch.zeros(1, 1, 1))]
    [1.0, 0.5, 0.25]
    """

    space: Space
    drift: Rate
    noise: Noise
    affine: Rate | None
    grid: Array


def euler_states(equation: Equation, start: Tensor, white: Callable[[], Tensor]) -> Iterator[Tensor]:
    """Euler–Maruyama x + h (M x + R) + Σ^½ ΔB: the state ``(S, K, p)`` at each point of the grid.

    Args:
        equation: with its grid.
        start: ``(S, K, p)``.
        white: draws the standard normal numbers ``(S, K, p)`` of the next interval.

    >>> still = Noise(True, lambda t: np.ones((len(t), 1)))
    >>> walk = Equation(Space(None, None), lambda t: np.zeros((len(t), 1, 1)), still, None, np.array([0.0, 4.0]))
    >>> [x.item() for x in euler_states(walk, torch.zeros(1, 1, 1), lambda: torch.ones(1, 1, 1))]  # √4
    [0.0, 2.0]
    """
    space, grid, R = equation.space, equation.grid, equation.affine
    x, K = start, start.shape[1]
    yield x
    drifts, roots = equation.drift(grid[:-1]), equation.noise.roots(grid[:-1])
    for i, h in enumerate(np.diff(grid)):
        kick = colour(_like(x, roots[i]), white() * float(np.sqrt(h)))
        pull = space.leave(_like(x, drifts[i]) @ space.enter(x), K)
        if R is not None:
            pull = pull + _like(x, R(grid[i : i + 1])[0])
        x = x + float(h) * pull + kick
        yield x


def exact_states(equation: Equation, start: Tensor, white: Callable[[], Tensor]) -> Iterator[Tensor]:
    """Gaussian transitions of the intervals: the state ``(S, K, p)`` at each point of the grid.

    What lies across the basis of the space does not drift: there only the noise and R act.

    Args:
        equation: with its grid.
        start: ``(S, K, p)``.
        white: draws the standard normal numbers ``(S, K, p)`` of the next interval.

    >>> one = Noise(True, lambda t: np.ones((len(t), 1)))
    >>> walk = Equation(Space(None, None), lambda t: np.zeros((len(t), 1, 1)), one, None, np.array([0.0, 4.0]))
    >>> [x.item() for x in exact_states(walk, torch.zeros(1, 1, 1), lambda: torch.ones(1, 1, 1))]  # √4
    [0.0, 2.0]
    """
    space, grid, R = equation.space, equation.grid, equation.affine
    K, p = start.shape[1:]
    pushes = None if R is None else coupled_affine(space, R)
    steps = flows(equation.drift, grid, pushes, lambda t: equation.noise.in_coordinates(space, t))
    assert steps.covariance is not None
    roots = square_roots(steps.covariance)
    loose = across_space(equation.noise, space, p)
    across = None if loose is None else np.sqrt(gauss_integrals(loose, grid))  # (N, K)
    lateral = None if R is None or space.basis is None else across_basis(R, grid, space.basis)  # (N, K, p)
    yield start
    c = space.enter(start)
    rest = start - space.leave(c, K)
    for i in range(len(grid) - 1):
        z = white()
        inside = space.enter(z)
        c = _like(c, steps.flow[i]) @ c + _like(c, roots[i]) @ inside
        if steps.shift is not None:
            c = c + _like(c, steps.shift[i])
        if across is not None:
            rest = rest + (z - space.leave(inside, K)) * _like(z, across[i]).unsqueeze(-1)
        if lateral is not None:
            rest = rest + _like(rest, lateral[i])
        yield space.leave(c, K) + rest


def _like(x: Tensor, values: Array) -> Tensor:
    """The values with the type and device of x."""
    return torch.from_numpy(values.copy()).to(x)


def _number_of_paths(x: Tensor, samples: int | None) -> int:
    given = x.shape[1] if x.ndim == 3 else None
    if samples is None:
        return given or 1
    S = check_count(samples, "samples")
    require(given in (None, S), "samples", S, f"{given}, one for each start in `x0`")
    return S
