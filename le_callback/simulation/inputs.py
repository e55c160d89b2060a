"""What the simulators accept, checked once.

Legend: T times, K classes, p feature dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from le_callback.errors import require, require_type
from le_callback.similarity import LEModel


def check_start(x0: Any, model: LEModel, *, samples: bool = False) -> Tensor:
    """Start ``(K, p)``, or with ``samples`` also ``(K, n, p)``, as a floating tensor that keeps its device.

    Args:
        x0: what the caller gave.
        model: that must be defined for K classes in p dimensions.
        samples: whether each path may start elsewhere.

    >>> from le_callback.similarity import IModel
    >>> check_start([[1, 2], [3, 4]], IModel()).dtype
    torch.float64

    Raises:
        ValueError: another shape, fewer than two classes, too few dimensions for the model, complex or not finite.
    """
    x = x0.detach() if isinstance(x0, Tensor) else torch.as_tensor(np.asarray(x0))
    require(not x.is_complex(), "x0", x.dtype, "real")
    if not x.is_floating_point():
        x = x.double()
    shapes, ranks = ("(K, p) or (K, n, p)", (2, 3)) if samples else ("(K, p)", (2,))
    fits = x.ndim in ranks and x.shape[0] >= 2 and 0 not in x.shape
    require(fits, "x0", tuple(x.shape), f"of shape {shapes} with K ≥ 2")
    require(bool(torch.isfinite(x).all()), "x0", x, "finite", "Start at a later time.")
    K, p = x.shape[0], x.shape[-1]
    least = model.min_dimensions(K)
    expected = f"of p ≥ {least} dimensions for the {model.name}-model of {K} classes"
    require(p >= least, "x0", tuple(x.shape), expected, "Use another model.")
    model.coordinates(x if x.ndim == 2 else x[:, 0])  # raises where the model does not fit the shape
    return x


def check_count(value: Any, argument: str, least: int = 1) -> int:
    """A whole number, ``least`` or more.

    Args:
        value: what the caller gave.
        argument: its name.
        least: smallest number allowed.

    >>> check_count(2, "substeps")
    2

    Raises:
        ValueError: anything else.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(whole and value >= least, argument, value, f"a whole number ≥ {least}")
    return int(value)


def check_generator(generator: Any) -> torch.Generator:
    """A source of random numbers.

    >>> check_generator(torch.Generator()).device.type
    'cpu'

    Raises:
        TypeError: anything else, as None: the global random state is never used.
    """
    known = isinstance(generator, torch.Generator)
    require_type(known, "generator", generator, "a torch.Generator", "Pass torch.Generator().manual_seed(…).")
    source: torch.Generator = generator
    return source
