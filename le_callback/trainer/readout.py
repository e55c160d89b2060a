"""What a callback tells of the training that it follows."""

from __future__ import annotations

from le_callback.monitor import SeparationMonitor
from le_callback.probe.epoch_pass import EpochReading
from le_callback.records import WindowRecord
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.measurement import Measurement
from le_callback.trainer.namespaces import AnyCallback
from le_callback.trainer.session import Idle
from le_callback.trajectory import Trajectory
from le_callback.values import html_table


class Readout(AnyCallback):
    """Reads the session of a training, also after its end."""

    arguments: Arguments
    _session: Idle

    @property
    def monitor(self) -> SeparationMonitor | None:
        """The engine with the open window; None before the first training batch."""
        measured = self._session.measurement
        return measured.monitor if isinstance(measured, Measurement) else None

    @property
    def last_record(self) -> WindowRecord | None:
        """What the last window said; None before the first."""
        return self._session.measurement.last_record

    @property
    def last_epoch(self) -> EpochReading | None:
        """What ``exact`` and ``out_of_distribution`` said at the end of the last epoch in which they were read."""
        return self._session.last_epoch

    @property
    def trajectory(self) -> Trajectory | None:
        """The class means of all windows; None before the first training batch."""
        return self._session.trajectory()

    def summary_table(self) -> str:
        """The table of the last window; empty before the first."""
        return self._session.table()

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        title = f"{type(self).__name__} {self.arguments.name or ''}".strip()
        return html_table(title, self._session.highlights() or [("", "no window has closed yet")])
