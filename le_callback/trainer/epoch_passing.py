"""When whole data sets are passed through the model in a training."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from le_callback.capture.base import Capture, watching
from le_callback.monitor import SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.epoch_pass import EpochPass, EpochReading
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.capturing import Capturing
from le_callback.trainer.own_cost import Clock
from le_callback.trainer.probing import passing_in


class NoEpochPassing:
    """Nothing is passed."""

    names: tuple[str, ...] = ()  # of the values that are read

    def begin(self, trainer: Trainer) -> None:
        """Nothing to check."""

    def read(self, trainer: Trainer, module: LightningModule, monitor: SeparationMonitor) -> EpochReading | None:
        """Nothing to read."""
        return None


class EpochPassing(NoEpochPassing):
    """Reads the data at the end of every so many epochs.

    Args:
        data: what is passed through the model.
        every: epochs between two readings.
        capture: of the training.
        notices: where failures are told.
        clock: that takes the time.
    """

    def __init__(self, data: EpochPass, every: int, capture: Capture, notices: Notices, clock: Clock) -> None:
        self._data, self._every, self._capture = data, every, capture
        self._notices, self._clock = notices, clock
        self.names = data.names

    def begin(self, trainer: Trainer) -> None:
        """Training data that cannot be read raise before the first step."""
        self._data.check(trainer.train_dataloader)

    def read(self, trainer: Trainer, module: LightningModule, monitor: SeparationMonitor) -> EpochReading | None:
        """What the data say if the epoch is one after which they are read; failures are told."""
        if (trainer.current_epoch + 1) % self._every:
            return None
        told = "the data could not be read at the end of the epoch"
        with self._notices.surviving(told), self._clock.probing(), watching(self._capture):
            passing, loader, step = passing_in(trainer), trainer.train_dataloader, trainer.global_step
            return self._data.read(module, self._capture, loader, passing, step, monitor.known_means())
        return None


def epoch_passing(arguments: Arguments, capturing: Capturing, notices: Notices, clock: Clock) -> NoEpochPassing:
    """What the arguments ask for."""
    a = arguments
    if a.exact is None and a.out_of_distribution is None:
        return NoEpochPassing()
    data = EpochPass(a.exact, a.out_of_distribution, capturing.labels, a.probe_forward, a.ignore_index)
    return EpochPassing(data, a.exact_every_n_epochs, capturing.capture, notices, clock)
