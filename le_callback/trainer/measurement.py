"""What is measured of a training: nothing yet, or all that goes on when the training does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from le_callback.alerts.alert import Alert
from le_callback.moments.window import ClassWindow
from le_callback.monitor import SeparationMonitor
from le_callback.records import WindowRecord
from le_callback.report.running_forecast import RunningForecast
from le_callback.trainer.alarm import Alarm
from le_callback.trajectory import Trajectory


@dataclass
class Measurement:
    """One training once its head and classes are known.

    Attributes:
        monitor: the engine.
        class_names: (K,).
        alarm: alerts so far.
        forecast: the latest, and the one before.
        last_record: of the last window; None before the first.
    """

    monitor: SeparationMonitor
    class_names: list[str]
    alarm: Alarm
    forecast: RunningForecast = field(default_factory=RunningForecast)
    last_record: WindowRecord | None = None

    @property
    def open_windows(self) -> tuple[ClassWindow, ...]:
        """What holds the samples since the last record; empty before the first batch."""
        return self.monitor.open_windows

    @property
    def windows(self) -> int:
        """How many were closed."""
        return self.monitor.windows

    def close(self, step: int, head: nn.Module | None = None) -> tuple[WindowRecord, list[Alert]]:
        """Close the open window; its record, and the alerts that it raises."""
        record = self.monitor.close(step, head)
        alerts = self.alarm.add(record)
        self.last_record = replace(record, alerts=self.alarm.standing())
        return self.last_record, alerts

    def trajectory(self, time_unit: str) -> Trajectory:
        """The class means of all windows, of the classes that are followed."""
        names = tuple(self.class_names[k] for k in self.monitor.classes)
        return Trajectory(self.monitor.recorder.sources(), time_unit, names)


@dataclass(frozen=True)
class Unsettled:
    """Head and classes are not known yet: the first batch in which the head is called decides.

    Attributes:
        saved: state of a checkpoint that may be continued; empty without one.
    """

    saved: dict[str, Any]
    open_windows = ()
    windows = 0
    last_record = None
