"""Local fits of a growth curve: its slope now, with an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from le_callback.records import Estimate


def local_slope(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    at: float,
    order: int = 2,
    confidence: float = 0.95,
) -> Estimate:
    """Derivative at time ``at`` of the least-squares polynomial through the points.

    On regular times this is the Savitzky–Golay derivative; at the last time it is the causal one. The interval is
    Student's t on the residuals of the fit, with n − order − 1 degrees of freedom.

    Args:
        times: (n,) in steps.
        values: (n,).
        at: time of the derivative, in steps.
        order: degree of the polynomial.
        confidence: coverage of the interval.

    Returns:
        The slope per step; unknown with fewer than ``order + 2`` points.

    >>> t = np.arange(6.0)
    >>> round(local_slope(t, 3 * t + 1, at=5.0).value, 9)
    3.0
    """
    n = len(times)
    if n < order + 2:
        return Estimate.unknown()
    scale = float(np.ptp(times)) or 1.0
    powers = np.vander((times - at) / scale, order + 1, increasing=True)
    solution, _, rank, _ = np.linalg.lstsq(powers, values, rcond=None)
    if rank < order + 1:
        return Estimate.unknown()
    residual = values - powers @ solution
    dof = n - order - 1
    variance = float(residual @ residual) / dof * np.linalg.inv(powers.T @ powers)[1, 1]
    half = float(stdtrit(dof, 0.5 + confidence / 2) * np.sqrt(max(variance, 0.0))) / scale
    slope = float(solution[1]) / scale
    return Estimate(slope, slope - half, slope + half)
