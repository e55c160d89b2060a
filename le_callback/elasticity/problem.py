"""What a method of estimation is given, and what a method is. T times, K classes, q coordinates a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from le_callback.elasticity.amplitudes import Flags, ModePair, mode_noise, norm_series, split_modes
from le_callback.elasticity.coefficients import MethodResult
from le_callback.elasticity.inputs import Run, as_array
from le_callback.elasticity.sampling_noise import coordinate_variance
from le_callback.elasticity.sliding import WindowSettings
from le_callback.errors import require
from le_callback.similarity import LEModel, ModeWeights
from le_callback.values import Array


@dataclass(frozen=True)
class Problem:
    """One run whose coefficients are wanted.

    Attributes:
        run: class means, checked.
        model: similarity model.
        priors: as the caller gave them.
        wanted: indices of times at which α, β, γ are wanted.
        settings: of the windows.
        threshold: a mode is identifiable where its squared norm is above this many times its sampling noise.
    """

    run: Run
    model: LEModel
    priors: Any
    wanted: list[int]
    settings: WindowSettings
    threshold: float

    def balanced_weights(self, method: str) -> ModeWeights:
        """The weights of the two modes in A and B, for a method that needs balanced sampling.

        Raises:
            ValueError: priors that are not balanced, or a model without two modes.
        """
        priors = self.priors
        balanced = priors is None or bool(np.allclose(as_array(priors), as_array(priors).flat[0]))
        remedy = 'Use method="regression" for others.'
        require(balanced, "priors", priors, f"balanced, all equal, for method {method!r}", remedy)
        return self.model.mode_weights(self.run.means.shape[1])

    def coordinates(self) -> tuple[Array, Array]:
        """Common ``(T, 1, q)`` and difference part ``(T, K, q)`` of the class means' coordinates, NaN where unknown."""
        z = self.model.coordinates(torch.from_numpy(self.run.means)).numpy()
        return split_modes(np.where(self.run.finite[:, None, None], z, np.nan))

    def norm_modes(self) -> ModePair:
        """Log norms of the modes, corrected for the sampling noise."""
        common, difference = self.coordinates()
        _, K, q = difference.shape
        total = mode_noise(coordinate_variance(self.run.noise, self.model, self.run.means.shape[2]))
        return ModePair(
            norm_series(common, total[0], q, threshold=self.threshold),
            norm_series(difference, total[1], (K - 1) * q, threshold=self.threshold),
        )


@dataclass(frozen=True)
class Method:
    """An entry of the list of methods.

    Attributes:
        solve: coefficients of a problem, and the times ``(T,)`` at which both modes are identifiable.
        extra_times: that it needs beyond a window.
    """

    solve: Callable[[Problem], tuple[MethodResult, Flags]]
    extra_times: int = 0
