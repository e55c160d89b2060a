"""From recorded runs to what the figures show: LE coefficients, and the LE-ODE beside the genuine class means.

K classes, T readings of the probe from the first identifiable step on, n runs of one experiment.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from experiments import WINDOW, Run

from le_callback import IModel, LECoefficients, LModel, estimate_coefficients, relative_difference, simulate_ode
from le_callback.simulation import LEIntegrals, fit_class_strengths, project_integrals

SMOOTHING = 21  # readings in a window of the local fits

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Imitation:
    """The LE-ODE with estimated A and B, from the first identifiable step.

    Attributes:
        path: ``(T, K, K)``.
        difference: ``(T, K)`` relative difference (paper, eq. 20) in the seminorm of the model's H.
        full: ``(T, K)`` the same in the full norm.
    """

    name: str
    path: Floats
    difference: Floats
    full: Floats

    @property
    def mean(self) -> float:
        """Of the relative difference over classes and later times."""
        return float(self.difference[1:].mean())


@dataclass(frozen=True)
class Analysed:
    """One run.

    Attributes:
        times, means: ``(T,)``, ``(T, K, K)``.
        coefficients: of the I- and the L-model.
        imitations: by how A and B were estimated.
    """

    run: Run
    times: Floats
    means: Floats
    coefficients: dict[str, LECoefficients]
    imitations: dict[str, Imitation]

    @property
    def best(self) -> Imitation:
        """The L-model's with an α of each class: that of the smallest full norm."""
        return self.imitations["L, class-wise"]


METHODS: dict[str, tuple[IModel | LModel, str]] = {  # in the order of the table
    "I, entrywise (paper)": (IModel(), "closed_form"),
    "L, entrywise (paper)": (LModel(), "closed_form"),
    "I, modes": (IModel(), "modes"),
    "L, modes": (LModel(), "modes"),
    "L, projected": (LModel(), "projection"),
    "L, class-wise": (LModel(), "class_strengths"),
}


def first_identifiable(run: Run) -> float:
    """Step from which both modes of both models are above the sampling noise of windows of training batches.

    It is at least one window long.

    Raises:
        ValueError: if they never are.
    """
    starts = [float(WINDOW)]
    known = np.isfinite(run.window_noise).all(1)
    for model in (IModel(), LModel()):
        found = estimate_coefficients(
            run.window_means[known].astype(float),
            run.window_times[known],
            model=model,
            noise=run.window_noise[known].astype(float),
            window=SMOOTHING,
        )
        starts.append(found.reference_time)
    if not np.isfinite(starts).all():
        name, seed = run.about["experiment"]["name"], run.about["seed"]
        raise ValueError(f"The classes of {name}, seed {seed}, never rise above the sampling noise; train longer.")
    return max(starts)


def analyse(runs: list[Run]) -> list[Analysed]:
    """All runs of an experiment from one common start, the latest of their first identifiable steps.

    Raises:
        ValueError: see ``first_identifiable``, or too few readings are left.
    """
    start = max(first_identifiable(run) for run in runs)
    return [_analyse(run, start) for run in runs]


def analyse_average(analysed: list[Analysed]) -> Analysed:
    """Of the class means averaged over the runs, from their common start; about the first run."""
    runs = [a.run for a in analysed]
    mean = np.mean([run.means for run in runs], axis=0)
    return _analyse(replace(runs[0], means=mean), float(analysed[0].times[0]))


def _analyse(run: Run, start: float) -> Analysed:
    first = int(np.searchsorted(run.times, start))
    t, x = run.times[first:], run.means[first:].astype(float)
    window = min(SMOOTHING, len(t) // 2)
    coefficients = {m.name: estimate_coefficients(x, t, model=m, window=window) for m in (IModel(), LModel())}
    imitations = {}
    for name, (model, method) in METHODS.items():
        path = simulate_ode(x[0], _strengths(x, t, model, method, window), model, t)
        genuine = torch.from_numpy(x)
        imitations[name] = Imitation(
            name,
            path.numpy(),
            relative_difference(genuine, path, model).numpy(),
            relative_difference(genuine, path).numpy(),
        )
    return Analysed(run, t, x, coefficients, imitations)


def _strengths(x: Floats, t: Floats, model: IModel | LModel, method: str, window: int) -> Any:
    if method == "projection":
        return project_integrals(x, t, model=model)
    if method == "class_strengths":
        return fit_class_strengths(x, t, model=model)
    return LEIntegrals.of(estimate_coefficients(x, t, model=model, method=method, window=window))


def centre_and_spread(curves: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Mean over runs, and one standard deviation below and above; NaN where a run has none."""
    stacked = np.stack(curves)
    mean, deviation = stacked.mean(0), stacked.std(0, ddof=1 if len(curves) > 1 else 0)
    return mean, mean - deviation, mean + deviation
