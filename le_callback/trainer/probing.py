"""When the probe is read in a training, and what its readings are given to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from le_callback.capture.base import Capture, watching
from le_callback.monitor import SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.probe import Passing, Probe
from le_callback.trainer.own_cost import Clock
from le_callback.trainer.processes import OneProcess


class NoProbing:
    """There is no probe."""

    def begin(self, trainer: Trainer, module: LightningModule, settle: Callable[[Tensor], None]) -> None:
        """Nothing to pass through the model."""

    def add_batch(self, target: Tensor) -> None:
        """Nothing to observe."""

    def is_due(self, step: int, last_step: int) -> bool:
        """Whether a step after ``last_step``, up to ``step``, is one after which the probe is read."""
        return False

    def read(
        self, trainer: Trainer, module: LightningModule, monitor: SeparationMonitor, time: float, *, due: bool
    ) -> None:
        """Nothing to read."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """What a probe left is dropped."""


class Probing(NoProbing):
    """Reads the probe every so many optimizer steps, and once more after the step that follows.

    Args:
        probe: what is passed through the model.
        every: optimizer steps between two readings.
        capture: of the training.
        processes: those of the training.
        notices: where failures are told.
        clock: that takes the time.
    """

    def __init__(
        self, probe: Probe, every: int, capture: Capture, processes: OneProcess, notices: Notices, clock: Clock
    ) -> None:
        self._probe, self._every, self._capture = probe, every, capture
        self._processes, self._notices, self._clock = processes, notices, clock

    def begin(self, trainer: Trainer, module: LightningModule, settle: Callable[[Tensor], None]) -> None:
        """Pass the first batch through the model and ``settle`` the head on its labels; what is wrong raises."""
        with watching(self._capture):
            self._probe.prepare(module, self._capture, trainer.train_dataloader, passing_in(trainer), settle)

    def add_batch(self, target: Tensor) -> None:
        """Add the labels (N,) or class weights (N, K) of a batch to the observed step."""
        self._probe.add_batch(target)

    def is_due(self, step: int, last_step: int) -> bool:
        """Whether a step after ``last_step``, up to ``step``, is one after which the probe is read."""
        return step // self._every > last_step // self._every

    def read(
        self, trainer: Trainer, module: LightningModule, monitor: SeparationMonitor, time: float, *, due: bool
    ) -> None:
        """Read the probe if it is ``due``, and once more after the step that follows; failures are told."""
        probe, processes = self._probe, self._processes
        if not (due or probe.observing):
            return
        with self._notices.surviving("the probe could not be read"), self._clock.probing():
            observed = probe.observed()
            if observed is not None and processes.count > 1:
                observed = (processes.sum(observed[0]), observed[1]) if processes.agreed else None
            with watching(self._capture):
                statistics = probe.read(module, self._capture, passing_in(trainer))
            if observed is not None:
                monitor.add_step(*observed, {layer: s.mean for layer, s in statistics.items()})
            if due:
                monitor.add_probe(time, statistics)
                probe.observe_next_step(statistics, monitor.num_classes)

    def state_dict(self) -> dict[str, Any]:
        """That of the probe."""
        return self._probe.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue where ``state_dict`` was taken."""
        self._probe.load_state_dict(state, device)


def passing_in(trainer: Trainer) -> Passing:
    """How a batch gets to the model in a training."""

    def to_device(batch: Any) -> Any:
        return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))

    return Passing(to_device, trainer.precision_plugin.forward_context)
