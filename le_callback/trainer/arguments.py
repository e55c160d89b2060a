"""Refuses configurations that make no sense, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from le_callback.errors import require
from le_callback.trainer.timeline import UNITS


def check_arguments(
    *,
    head: Any,
    num_classes: int | None,
    every_n_steps: int | None,
    smoothing: int,
    identifiability: float,
    confidence: float,
    time_axis: str,
    probe: Any,
    probe_every_n_steps: int | None,
    name: Any,
    outputs: Any,
) -> None:
    """Check the arguments of ``LECallback``, which explains them.

    Raises:
        ValueError: if one is out of its range.
        TypeError: if one has the wrong type.
    """
    require(num_classes is None or num_classes >= 2, "num_classes", num_classes, "at least 2")
    require(every_n_steps is None or every_n_steps >= 1, "every_n_steps", every_n_steps, "at least 1")
    require(smoothing >= 4, "smoothing", smoothing, "at least 4 windows, so that a quadratic has a residual")
    require(identifiability > 1, "identifiability", identifiability, "above 1")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    require(time_axis in UNITS, "time_axis", time_axis, f"one of {', '.join(UNITS)}")
    positive = probe_every_n_steps is None or probe_every_n_steps >= 1
    require(positive, "probe_every_n_steps", probe_every_n_steps, "at least 1")
    require(not isinstance(probe, int) or probe >= 1, "probe", probe, "at least 1 sample of each class")
    if head is not None and not isinstance(head, str | nn.Module):
        raise TypeError(f"Expected argument `head` to be a dotted name, a module or None, but got {head!r}.")
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f"Expected argument `name` to be a string or None, but got {name!r}.")
        require(name != "" and name == name.strip("/ "), "name", name, "text that neither is empty nor ends in a slash")
    if outputs is not None:
        keys = isinstance(outputs, Sequence) and not isinstance(outputs, str) and len(outputs) == 2
        if not keys or not all(isinstance(key, str) for key in outputs):
            raise TypeError(
                "Expected argument `outputs` to be the keys of features and logits, such as"
                f' ("features", "logits"), but got {outputs!r}.'
            )
        require(head is None, "head", head, "None where `outputs` is given: no module is hooked then")
