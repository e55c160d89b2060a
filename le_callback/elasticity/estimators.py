"""LE coefficients of one run from its class means: A, B, α, β, γ with intervals.

Three methods, one file each, the same record:

- ``"closed_form"`` (``method_closed_form``): the paper's eq. (19) on mean log entries, with its Savitzky–Golay
  derivative.
- ``"modes"`` (``method_modes``): log norms of the two modes, corrected for noise. Balanced sampling. A process noise
  for each mode.
- ``"regression"`` (``method_regression``): maximum likelihood of the drift. Any sampling matrix, any similarity blocks.

Legend: T times, K classes, p feature dimensions, m levels in a window; numpy float64 inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from le_callback.elasticity import method_closed_form, method_modes, method_regression
from le_callback.elasticity.amplitudes import Flags
from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.inputs import Run
from le_callback.elasticity.problem import Method, Problem
from le_callback.elasticity.sliding import WindowEstimates, WindowSettings
from le_callback.elasticity.window_choice import FINER, choose_window
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model

METHODS: Mapping[str, Method] = {
    "closed_form": method_closed_form.METHOD,
    "modes": method_modes.METHOD,
    "regression": method_regression.METHOD,
}


def estimate_coefficients(  # noqa: PLR0913 -- one keyword for each choice of the analysis
    means: Any,
    times: Any = None,
    *,
    model: LEModel | str,
    method: str = "modes",
    priors: Any = None,
    noise: Any = None,
    window: int | None = None,
    order: int | None = None,
    confidence: float = 0.95,
    causal: bool = False,
    threshold: float = 3.0,
    evaluate: Sequence[int] | None = None,
) -> LECoefficients:
    """Estimate the LE coefficients of one run.

    Args:
        means: class means X̄ ``(T, K, p)``: list, array or tensor. NaN where a class was not seen.
        times: ``(T,)``, strictly increasing; None counts 0, 1, …  Their unit is that of 1/α and 1/β.
        model: a similarity model, ``"I"`` or ``"L"``.
        method: ``"closed_form"``, ``"modes"`` or ``"regression"``.
        priors: class frequencies or a sampling matrix, see ``similarity.sampling_matrix``; None: balanced.
        noise: sampling variance of the class means: a ``SamplingNoise``, or its trace ``(T, K)`` or ``(K,)``; None is
            exact means (a probe).
        window: number of times in a window, m; None is 51, all in a shorter run, and fewer where the class means are so
            free of noise that this pays, see ``window_choice``.
        order: number of functions of time that make up α and β within a window (1: constant), see
            ``growth.rate_basis``; ``"closed_form"``: degree of the polynomial. None is 2; where there is no noise up to
            4, with ``"regression"`` 3.
        confidence: of all intervals.
        causal: use only the past of each time, as in live use; else windows are centred.
        threshold: a mode is identifiable where its squared norm is above ``threshold`` times its sampling noise.
        evaluate: indices of times at which α, β, γ are wanted; None is all.

    Returns:
        The coefficients; what cannot be estimated is NaN, and ``status`` says why.

    Raises:
        TypeError: for a ``model`` that is none.
        ValueError: wrong shapes or settings, K = 1, p too small for the model, times that do not increase, or a method
            that the model or the priors do not allow.

    Source: Zhang, Wang, Su 2021, section 2 (model) and eq. 19.

    >>> t = np.arange(60.0)
    >>> start = np.array([[1.0, 0.5], [0.6, 1.2]])
    >>> slow, fast = np.exp(0.01 * t)[:, None, None], np.exp(0.03 * t)[:, None, None]
    >>> means = start.mean(0) * slow + (start - start.mean(0)) * fast
    >>> found = estimate_coefficients(means, t, model="I", window=21)
    >>> round(float(found.alpha[30]), 4), round(float(found.beta[30]), 4)
    (0.04, -0.02)
    """
    model = as_model(model)
    require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    chosen = METHODS[method]
    run = Run.of(means, times, noise, model)
    T = len(run.times)
    wanted = list(range(T)) if evaluate is None else sorted({range(T)[i] for i in evaluate})
    problem = Problem(run, model, priors, wanted, WindowSettings(), threshold)
    window, order = choose_window(
        problem.norm_modes(), run.times, window=window, order=order, finer=FINER[method], spare=chosen.extra_times
    )
    settings = _window_settings(window, order, causal, confidence)
    result, identifiable = chosen.solve(replace(problem, settings=settings))
    long_enough = T >= window + chosen.extra_times
    return result.to_coefficients(
        run.times,
        identifiable,
        model=model.name,
        method=method,
        confidence=confidence,
        notes=_notes(run.finite, identifiable, result.rates, window, long_enough),
    )


def _window_settings(window: int, order: int, causal: bool, confidence: float) -> WindowSettings:
    require(order >= 1, "order", order, "at least 1", "2 is the paper's.")
    require(window >= order + 3, "window", window, f"at least order + 3 = {order + 3} times")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1", "0.95 gives 95 % intervals.")
    return WindowSettings(window, order, causal, confidence)


def _notes(finite: Flags, identifiable: Flags, rates: WindowEstimates, window: int, long_enough: bool) -> list[str]:
    """What is missing and why."""
    T, notes = len(finite), []
    if not finite.all():
        notes.append(
            f"{int((~finite).sum())} of {T} times have class means or noise that are not finite and are left out"
        )
    if not long_enough:
        notes.append(f"only {T} times for a window of {window}: no α, β, γ; use a smaller window")
    if not identifiable.any():
        notes.append("not identifiable: the modes never rise above the sampling noise; train longer or use a probe")
    elif long_enough and not np.isfinite(rates.estimate).any():
        notes.append("no window in which all times are identifiable and α and β can be told apart")
    return notes
