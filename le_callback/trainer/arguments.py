"""The arguments of ``LECallback``, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from le_callback.capture.labels import LabelReader, LabelSource
from le_callback.errors import require, require_type
from le_callback.monitor import MonitorSettings
from le_callback.probe.data import ProbeData
from le_callback.probe.epoch_pass import OutData, WholeData, check_data
from le_callback.probe.probe import Forward
from le_callback.report.tags import LEVELS, Level
from le_callback.trainer.alarm import Actions
from le_callback.trainer.timeline import UNITS, TimeAxis

Outputs = tuple[str, str]


@dataclass(frozen=True)
class Arguments:
    """What the user asked for; ``LECallback`` explains each.

    Raises:
        ValueError: if one is out of its range.
        TypeError: if one has the wrong type.
    """

    head: str | nn.Module | None
    label: LabelSource
    num_classes: int | None
    class_names: Sequence[str] | None
    ignore_index: int | None
    every_n_steps: int | None
    smoothing: int
    identifiability: float
    confidence: float
    time_axis: TimeAxis
    probe: ProbeData | None
    probe_every_n_steps: int | None
    probe_forward: Forward | None
    matrix_classes: Sequence[int | str] | None
    exact: WholeData | None
    out_of_distribution: OutData | None
    exact_every_n_epochs: int
    alerts: bool | Sequence[Callable[..., Any]]
    actions: Actions
    name: str | None
    outputs: Outputs | None
    tags: Level
    reset_compiler: bool
    figures: bool
    page: bool
    report: bool
    progress_bar: bool
    summary: bool

    def __post_init__(self) -> None:
        self._check_numbers()
        head, name = self.head, self.name
        require_type(head is None or isinstance(head, str | nn.Module), "head", head, "a dotted name, a module or None")
        LabelReader(self.label)
        require_type(name is None or isinstance(name, str), "name", name, "a string or None")
        tidy = name is None or (name != "" and name == name.strip("/ "))
        require(tidy, "name", name, "text that neither is empty nor ends in a slash")
        require(self.tags in LEVELS, "tags", self.tags, f"one of {', '.join(map(repr, LEVELS))}")
        require(self.page or not self.report, "report", self.report, "False where `page` is False")
        check_data(self.exact, self.out_of_distribution)
        self._check_outputs()

    def _check_numbers(self) -> None:
        for argument, least in (
            ("num_classes", 2),
            ("every_n_steps", 1),
            ("probe_every_n_steps", 1),
            ("exact_every_n_epochs", 1),
        ):
            value = getattr(self, argument)
            require(value is None or value >= least, argument, value, f"at least {least}")
        smoothing, probe = self.smoothing, self.probe
        require(smoothing >= 4, "smoothing", smoothing, "at least 4 windows", "11 is the default.")
        require(self.identifiability > 1, "identifiability", self.identifiability, "above 1")
        require(0 < self.confidence < 1, "confidence", self.confidence, "between 0 and 1")
        require(self.time_axis in UNITS, "time_axis", self.time_axis, f"one of {', '.join(UNITS)}")
        require(not isinstance(probe, int) or probe >= 1, "probe", probe, "at least 1 sample of each class")

    def _check_outputs(self) -> None:
        outputs = self.outputs
        if outputs is None:
            return
        pair = isinstance(outputs, Sequence) and not isinstance(outputs, str) and len(outputs) == 2
        keys = pair and all(isinstance(key, str) for key in outputs)
        require_type(keys, "outputs", outputs, 'the keys of features and logits, such as ("features", "logits")')
        require(self.head is None, "head", self.head, "None where `outputs` is given: no module is hooked then")

    @property
    def monitor(self) -> MonitorSettings:
        """What the estimates depend on."""
        return MonitorSettings(
            self.ignore_index,
            self.smoothing,
            self.identifiability,
            self.confidence,
            self.probe is not None,
            time_unit=UNITS[self.time_axis],
        )
