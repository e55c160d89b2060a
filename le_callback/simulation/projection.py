"""A and B of a trajectory for its imitation: growth of each mode along the pattern that it starts with.

Legend: T times, K classes, p feature dimensions, z coordinates of the class means, u and v log growth of both modes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from le_callback.elasticity.inputs import check_means
from le_callback.errors import require
from le_callback.similarity import LEModel, as_model
from le_callback.simulation.strengths import LEIntegrals


def project_integrals(means: Any, times: Any = None, *, model: LEModel | str, floor: float = 0.01) -> LEIntegrals:
    """A and B from projections of the modes on their start.

    The LE-ODE scales a mode m(t) and never turns it. Of what it can do, a_t = ⟨m(t), m(0)⟩/‖m(0)‖² comes nearest to
    m(t) in least squares; u = log a_t for the common mode, v for the difference mode. A norm, as in
    ``estimate_coefficients``, says how large the mode is, and overstates it along the old pattern where the genuine
    mode has turned. This fit is for imitation; it is no estimate of α and β.

    Args:
        means: ``(T, K, p)``, finite.
        times: ``(T,)``, strictly increasing; None counts 0, 1, …
        model: with two modes under balanced sampling, or its short name, ``"I"`` or ``"L"``.
        floor: least a_t; a mode that has turned by a right angle or more is taken as this small.

    Returns:
        A and B since the first time.

    Raises:
        ValueError: shapes, values that are not finite, a mode that starts at zero, a model without modes, or a floor
            that is not between 0 and 1.
        TypeError: a model that is none.

    >>> found = project_integrals(np.exp([0.0, 0.3])[:, None, None] * np.array([[1.0], [3.0]]), model="I")
    >>> found.A.round(6), (found.B + 0).round(6) + 0
    (array([0. , 0.6]), array([0., 0.]))
    """
    model = as_model(model)
    X, t = check_means(means, times, model)
    require(bool(np.isfinite(X).all()), "means", X, "finite", "Start at a later time.")
    require(0 < floor <= 1, "floor", floor, "above 0 and at most 1")
    weights = model.mode_weights(X.shape[1])
    z = model.coordinates(torch.from_numpy(X)).numpy()
    common = z.mean(1, keepdims=True)
    growth = []
    for mode in (common, z - common):
        square = (mode[0] ** 2).sum()
        expected = "such that no mode is zero at the first time"
        require(square > 0, "means", X[0], expected, "Start at a later time.")
        growth.append(np.log(np.maximum((mode * mode[0]).sum((1, 2)) / square, floor)))
    u, v = growth
    return LEIntegrals(
        t,
        weights.common_in_A * u + weights.difference_in_A * v,
        weights.common_in_B * u + weights.difference_in_B * v,
    )
