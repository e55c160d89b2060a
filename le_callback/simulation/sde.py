"""The LE-SDE: samples of the features, and Euler–Maruyama on given Brownian increments.

Legend: S simulated paths, T times, K classes, p feature dimensions, n coordinates that the drift couples (``linear``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.similarity import LEModel
from le_callback.simulation.inputs import check_start, check_substeps, check_times
from le_callback.simulation.linear import Space, across_basis, flows, gauss_integrals, refined, space_of, square_roots
from le_callback.simulation.ode import coupled_affine, coupled_drift
from le_callback.simulation.strengths import as_affine, as_sampling, as_strengths
from le_callback.values import Array

METHODS = ("exact", "euler")


@dataclass(frozen=True)
class Noise:
    """Noise of each class per unit of time.

    Attributes:
        isotropic: ``at`` gives σ_k ``(n_t, K)``, else covariance rates ``(n_t, K, p, p)``.
        at: function of times ``(n_t,)``.
    """

    isotropic: bool
    at: Callable[[Array], Array]


def as_noise_rate(noise: Any, start: float, num_classes: int, dimensions: int) -> Noise:
    """Noise from σ, σ_k ``(K,)``, covariance rates ``(K, p, p)``, or a function of time to one of these.

    >>> as_noise_rate(0.5, 0.0, 2, 3).at(np.zeros(1))
    array([[0.5, 0.5]])

    Raises:
        ValueError: another shape, not finite, negative σ, or covariance rates that are no covariances.
    """
    K, p = num_classes, dimensions

    def read(value: Any) -> Array:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = array.astype(np.float64)
        if array.shape not in ((), (K,), (K, p, p)):
            raise ValueError(
                f"Expected argument `noise` to be a number or to have shape {(K,)} or {(K, p, p)}, but got "
                f"{array.shape}."
            )
        if not np.isfinite(array).all():
            raise ValueError("Expected argument `noise` to be finite, but it holds NaN or infinity.")
        if array.ndim < 2:
            if (array < 0).any():
                raise ValueError(f"Expected argument `noise` (σ) not to be negative, but got {array.min():g}.")
            return np.broadcast_to(array, (K,))
        tolerance = 1e-9 * np.abs(array).max()
        if np.abs(array - np.swapaxes(array, 1, 2)).max() > tolerance or np.linalg.eigvalsh(array).min() < -tolerance:
            raise ValueError(
                "Expected argument `noise` to hold symmetric covariance rates without negative eigenvalues."
            )
        return array

    if callable(noise) and not isinstance(noise, (Tensor, np.ndarray)):
        first = read(noise(start))

        def rate(t: Array) -> Array:
            rows = [read(noise(float(s))) for s in t]
            if any(row.shape != first.shape for row in rows):
                raise ValueError("Expected argument `noise` to return one shape at all times, but the shapes differ.")
            return np.stack(rows) if rows else np.zeros((0, *first.shape))

        return Noise(first.ndim == 1, rate)
    constant = read(noise)
    return Noise(constant.ndim == 1, lambda t: np.broadcast_to(constant, (len(t), *constant.shape)))


def simulate_sde(
    x0: Any,
    coefficients: Any,
    model: LEModel,
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
        TypeError: a generator that is none.

    Source: the paper's LE-SDE.

    >>> from le_callback.similarity import IModel
    >>> g = torch.Generator().manual_seed(0)
    >>> x = simulate_sde(torch.zeros(2, 3), (0.0, 0.0), IModel(), [0.0, 4.0], noise=0.5, samples=2000, generator=g)
    >>> x.shape, round(x[:, -1].std().item(), 1)  # 0.5·√4
    (torch.Size([2000, 2, 2, 3]), 1.0)
    """
    t = check_times(times)
    x = check_start(x0, model, samples=True)
    K, p = x.shape[0], x.shape[-1]
    S = _number_of_paths(x, samples)
    if method not in METHODS:
        raise ValueError(f"Expected argument `method` to be one of {', '.join(METHODS)}, but got {method!r}.")
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"Expected argument `generator` to be a torch.Generator, but got {type(generator).__name__}; "
            "pass torch.Generator().manual_seed(…)."
        )
    parts = check_substeps(substeps)
    strengths = as_strengths(coefficients, t, K, model)
    sampling, _ = as_sampling(priors, t, K)
    rate = as_noise_rate(noise, float(t[0]), K, p)
    R = None if affine is None else as_affine(affine, t, (K, p))[0]
    grid, at = refined(t, np.concatenate([strengths.breaks, t]), parts)
    start = (x.unsqueeze(0) if x.ndim == 2 else x.transpose(0, 1)).expand(S, K, p)
    work = start if start.dtype in (torch.float32, torch.float64) else start.float()
    space = space_of(model, K, p, full=not rate.isotropic)
    drift = coupled_drift(space, strengths, sampling)
    path = torch.empty(S, len(t), K, p, dtype=x.dtype, device=x.device)
    wanted = {int(g): i for i, g in enumerate(at)}

    def keep(i: int, value: Tensor) -> None:
        if i in wanted:
            path[:, wanted[i]] = value.to(path)

    keep(0, work)
    if method == "euler":
        full_drift = drift(grid[:-1])
        matrices = [torch.from_numpy(G).to(work) for G in full_drift]
        scales = _noise_roots(rate, grid[:-1])
        for i, h in enumerate(np.diff(grid)):
            dB = _normal((S, K, p), generator, work) * float(np.sqrt(h))
            force = None if R is None else torch.from_numpy(R(grid[i : i + 1])[0].copy()).to(work)
            pull = space.leave(matrices[i] @ space.enter(work), K)
            work = euler_step(work, pull, float(h), _colour(torch.from_numpy(scales[i].copy()).to(work), dB), force)
            keep(i + 1, work)
        return path
    steps = flows(drift, grid, None if R is None else coupled_affine(space, R), _coupled_noise(rate, space, K, p))
    assert steps.covariance is not None
    roots = square_roots(steps.covariance)
    across = (
        None if space.basis is None or space.basis.shape[1] == p else gauss_integrals(lambda s: rate.at(s) ** 2, grid)
    )  # (N, K)
    lateral = None if R is None or space.basis is None else across_basis(R, grid, space.basis)
    c = space.enter(work)
    rest = work - space.leave(c, K)
    for i in range(len(grid) - 1):
        z = _normal((S, K, p), generator, work)
        inside = space.enter(z)
        c = torch.from_numpy(steps.flow[i]).to(c) @ c + torch.from_numpy(roots[i]).to(c) @ inside
        if steps.shift is not None:
            c = c + torch.from_numpy(steps.shift[i]).to(c)
        if across is not None:
            rest = rest + (z - space.leave(inside, K)) * torch.from_numpy(np.sqrt(across[i])).to(z).unsqueeze(-1)
        if lateral is not None:
            rest = rest + torch.from_numpy(lateral[i]).to(rest)
        keep(i + 1, space.leave(c, K) + rest)
    return path


def euler_step(x: Tensor, pull: Tensor, h: float, kick: Tensor, force: Tensor | None = None) -> Tensor:
    """One step x + h (M x + R) + Σ^½ ΔB, all ``(S, K, p)``.

    >>> one = torch.ones(1, 2, 1)
    >>> euler_step(one, -one, 0.1, 0 * one).flatten()
    tensor([0.9000, 0.9000])
    """
    return x + h * (pull if force is None else pull + force) + kick


def euler_maruyama(
    x0: Tensor, coefficients: Any, model: LEModel, grid: Any, increments: Tensor, *, noise: Any, priors: Any = None
) -> Tensor:
    """Euler–Maruyama on given Brownian increments: paths ``(S, N + 1, K, p)``.

    For comparisons on the same Brownian path: summing neighbouring increments gives those of a coarser grid.

    Args:
        x0: ``(K, p)``.
        coefficients: as in ``simulate_sde``.
        model: as there.
        grid: ``(N + 1,)``, every point a step.
        increments: ΔB ``(S, N, K, p)``, normal with the variance of the step.
        noise: as in ``simulate_sde``.
        priors: as there.

    Raises:
        ValueError: as ``simulate_sde``, or increments of another shape.

    >>> from le_callback.similarity import IModel
    >>> dB = torch.zeros(1, 2, 2, 1)
    >>> euler_maruyama(torch.ones(2, 1), (0.2, 0.0), IModel(), [0.0, 1.0, 2.0], dB, noise=1.0)[0, -1].flatten()
    tensor([1.2100, 1.2100])
    """
    t = check_times(grid)
    x = check_start(x0, model)
    K, p = x.shape
    if increments.ndim != 4 or tuple(increments.shape[1:]) != (len(t) - 1, K, p):
        raise ValueError(
            f"Expected argument `increments` to have shape (S, {len(t) - 1}, {K}, {p}), but got "
            f"{tuple(increments.shape)}."
        )
    space = space_of(model, K, p)
    drift = coupled_drift(space, as_strengths(coefficients, t, K, model), as_sampling(priors, t, K)[0])
    rate = as_noise_rate(noise, float(t[0]), K, p)
    matrices, scales = (torch.from_numpy(f.copy()).to(x) for f in (drift(t[:-1]), _noise_roots(rate, t[:-1])))
    path = [x.expand(len(increments), K, p)]
    for i, h in enumerate(np.diff(t)):
        pull = space.leave(matrices[i] @ space.enter(path[-1]), K)
        path.append(euler_step(path[-1], pull, float(h), _colour(scales[i], increments[:, i].to(x))))
    return torch.stack(path, dim=1)


def _number_of_paths(x: Tensor, samples: int | None) -> int:
    given = x.shape[1] if x.ndim == 3 else None
    if samples is None:
        return given or 1
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
        raise ValueError(f"Expected argument `samples` to be a whole number ≥ 1, but got {samples!r}.")
    if given not in (None, samples):
        raise ValueError(f"Expected argument `samples` to be {given}, one for each start in `x0`, but got {samples}.")
    return int(samples)


def _normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _noise_roots(rate: Noise, t: Array) -> Array:
    """σ_k ``(n_t, K)`` or Σ_k^½ ``(n_t, K, p, p)``."""
    values = rate.at(t)
    return values if rate.isotropic else square_roots(values)


def _colour(root: Tensor, dB: Tensor) -> Tensor:
    """Σ_k^½ ΔB_k ``(S, K, p)``."""
    return root.unsqueeze(-1) * dB if root.ndim == 1 else torch.einsum("kab,skb->ska", root, dB)


def _coupled_noise(rate: Noise, space: Space, K: int, p: int) -> Callable[[Array], Array]:
    """S(t) ``(n_t, n, n)`` in the coordinates of ``space``."""

    def at(t: Array) -> Array:
        values = rate.at(t)
        if rate.isotropic:
            each = 1 if space.blocks is None else space.blocks.shape[-1]
            return np.repeat(values**2, each, axis=1)[:, :, None] * np.eye(K * each)
        blocks = np.einsum("tiab,ij->tiajb", values, np.eye(K))
        return np.asarray(blocks.reshape(len(t), K * p, K * p))

    return at
