"""One training as the callback follows it, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from le_callback.alerts.alert import Alert, describe
from le_callback.capture.base import Capture
from le_callback.capture.classes import chosen_classes, resolve_class_names
from le_callback.capture.head import HeadCapture
from le_callback.capture.labels import LabelReader, align
from le_callback.capture.outputs import OutputsCapture
from le_callback.moments.following import limits
from le_callback.moments.window import ClassWindow
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.probe import Probe
from le_callback.report.publisher import Publisher
from le_callback.report.table import summary_table
from le_callback.trainer.alarm import Alarm
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.measurement import Measurement, Unsettled
from le_callback.trainer.own_cost import Clock
from le_callback.trainer.probing import NoProbing, Probing
from le_callback.trainer.processes import processes_of
from le_callback.trainer.resuming import VERSION, TrainerMark, resume
from le_callback.trainer.schedule import due_for_figures, learning_rate, log_steps, steps_per_epoch
from le_callback.trainer.timeline import Timeline
from le_callback.trajectory import Trajectory


class Idle:
    """No training is followed: before one starts, or where the Trainer logs nothing.

    Args:
        saved: state that the next training may continue; empty without one.
    """

    def __init__(self, saved: dict[str, Any]) -> None:
        self.measurement: Measurement | Unsettled = Unsettled(saved)
        self.notices = Notices()
        self.ended_in = TrainerMark()  # the Trainer in which the training came to its end, not to an exception

    def left_for(self, trainer: Trainer) -> dict[str, Any]:
        """State that a training which starts now continues; empty where it is another one."""
        return self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.measurement.saved if isinstance(self.measurement, Unsettled) else {}

    def trajectory(self) -> Trajectory | None:
        """The class means of all windows; None before the first training batch."""
        return None

    def table(self) -> str:
        """The table of the last window; empty before the first."""
        return ""

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """The training starts."""

    def begin_batch(self, trainer: Trainer) -> None:
        """A training batch starts."""

    def before_backward(self) -> None:
        """A backward pass starts."""

    def end_batch(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """A training batch is over."""

    def end(self, trainer: Trainer) -> None:
        """The training is over."""

    def release(self) -> None:
        """Leave the module as it was."""

    def withdraw(self, trainer: Trainer) -> None:
        """Leave module and Trainer as if nothing had been followed."""


class Session(Idle):
    """Follows one training.

    Args:
        arguments: what the user asked for.
        trainer: of the training.
        module: of the training.
        saved: state that is continued if it belongs to this head and these classes.

    Raises:
        ValueError: as ``HeadCapture``.
    """

    def __init__(self, arguments: Arguments, trainer: Trainer, module: LightningModule, saved: dict[str, Any]) -> None:
        super().__init__(saved)
        self._arguments = arguments
        self._every = arguments.every_n_steps or log_steps(trainer)
        self._last_step = trainer.global_step
        self._batches_since_step = 0
        self._rate = 0.0
        self._timeline = Timeline(arguments.time_axis)
        self._clock = Clock()
        self._labels = LabelReader(arguments.label)
        self._publisher = Publisher(self.notices, arguments.name, arguments.tags, arguments.progress_bar)
        self._alarm = Alarm(arguments.alerts, arguments.actions, self._publisher, self.notices)
        self._processes = processes_of(trainer.strategy)
        self._capture: Capture
        if arguments.outputs is None:
            self._capture = HeadCapture(module, arguments.head, arguments.num_classes, arguments.ignore_index)
        else:
            self._capture = OutputsCapture(arguments.outputs, arguments.num_classes)
        self._probing = NoProbing()
        if arguments.probe is not None:
            probe = Probe(arguments.probe, self._labels, arguments.probe_forward, arguments.ignore_index)
            every = arguments.probe_every_n_steps or self._every
            self._probing = Probing(probe, every, self._capture, self._processes, self.notices, self._clock)

    @override
    def left_for(self, trainer: Trainer) -> dict[str, Any]:
        # after an exception a checkpoint may be continued, but not what was seen on the way to it
        same = self.ended_in.is_of(trainer) and self._last_step == trainer.global_step > 0
        return self.state_dict() if same else {}

    @override
    def state_dict(self) -> dict[str, Any]:
        measured = self.measurement
        if isinstance(measured, Unsettled):
            return measured.saved
        with self.notices.surviving("the state could not be saved"):
            return self._state(measured.monitor)
        return {}

    def _state(self, monitor: SeparationMonitor) -> dict[str, Any]:
        return {
            "version": VERSION,
            "monitor": monitor.state_dict(),
            "alerts": self._alarm.state_dict(),
            "probe": self._probing.state_dict(),
            "timeline": self._timeline.state_dict(),
        }

    @override
    def trajectory(self) -> Trajectory | None:
        measured = self.measurement
        return None if isinstance(measured, Unsettled) else measured.trajectory(self._timeline.unit)

    @override
    def table(self) -> str:
        measured = self.measurement
        if isinstance(measured, Unsettled) or measured.last_record is None:
            return ""
        alerts = [describe(alert, measured.class_names) for alert in measured.alarm.raised]
        cost, forecast = self._clock.cost(), measured.forecast.sentence()
        table = summary_table(measured.last_record, measured.class_names, cost, alerts, forecast)
        return f"{self._arguments.name}: {table}" if self._arguments.name else table

    @override
    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Hook the model; with a probe, read it before the first step. What is wrong with it raises."""
        self._capture.attach()
        if self._arguments.reset_compiler:
            torch.compiler.reset()
        self._probing.begin(trainer, module, partial(self._settle, trainer))
        if isinstance(self.measurement, Measurement):
            monitor = self.measurement.monitor
            due = monitor.start_step == trainer.global_step == 0
            self._probing.read(trainer, module, monitor, self._timeline.now, due=due)
        self._expect(trainer)

    @override
    def begin_batch(self, trainer: Trainer) -> None:
        self._capture.clear()
        self._clock.start_step()
        self._rate = self._learning_rate(trainer)

    @override
    def before_backward(self) -> None:
        if isinstance(self.measurement, Unsettled):
            self._capture.note_order()

    @override
    def end_batch(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        self._capture.offer(outputs)
        with torch.no_grad(), self._clock.updating():
            if isinstance(self.measurement, Unsettled):
                self._settle(trainer, self._labels(batch))
            if isinstance(self.measurement, Measurement):
                self._add(self.measurement.monitor, batch)
        self._batches_since_step += 1
        step, last = trainer.global_step, self._last_step
        self._timeline.advance(step, self._rate, self._steps_per_epoch(trainer))
        if step > last:
            if isinstance(self.measurement, Measurement):
                due = self._probing.is_due(step, last)
                self._probing.read(trainer, module, self.measurement.monitor, self._timeline.now, due=due)
            if step // self._every > last // self._every:
                self._evaluate(trainer)
            self._batches_since_step = 0
        self._last_step = step
        self._clock.end_step()

    @override
    def end(self, trainer: Trainer) -> None:
        self.ended_in = TrainerMark(trainer)
        windows = self.measurement.windows
        sampled = isinstance(self.measurement, Measurement) and self.measurement.monitor.has_samples
        if windows == 0 and (sampled or self._processes.count > 1):
            self._evaluate(trainer)
        elif not due_for_figures(windows):
            self._draw(trainer)
        self.release()

    @override
    def release(self) -> None:
        self._capture.detach()

    @override
    def withdraw(self, trainer: Trainer) -> None:
        self.release()
        self._publisher.withdraw(trainer)

    def _expect(self, trainer: Trainer) -> None:
        """Let monitors of the Trainer find every tag from now on; which there are does not depend on the classes."""
        settings = replace(self._arguments.monitor, matrix_classes=None)
        with torch.no_grad(), self.notices.surviving("the tags could not be announced"):
            record = SeparationMonitor(2, settings).close(0)
            self._publisher.expect(trainer, replace(record, alerts=self._alarm.standing()))

    def _add(self, monitor: SeparationMonitor, batch: Any) -> None:
        """Add what the head saw of a batch; what cannot be used is counted and told once."""
        captured = self._capture.take()
        if captured is None:
            self._skip(monitor, "head_not_called", self._capture.absence)
            return
        try:
            features, logits, target = align(*captured, self._labels(batch), monitor.num_classes)
        except Exception as error:
            self._skip(monitor, "unusable_labels", str(error))
            return
        monitor.update(features=features, logits=logits, target=target, time=self._timeline.now)
        self._probing.add_batch(target)

    def _skip(self, monitor: SeparationMonitor, key: str, detail: str) -> None:
        monitor.skip(key)
        self.notices.tell_skipped(key, detail)

    def _settle(self, trainer: Trainer, labels: Tensor) -> None:
        """Decide on head and classes on the first batch in which the head is called; what is wrong raises."""
        found = self._capture.settle(labels)
        captured = self._capture.take()
        if found is None or captured is None:
            absent = "the classifier head was not called in the first training batch, so nothing is measured"
            self.notices.tell(absent, self._capture.absence)
            return
        classes = self._capture.num_classes
        features, logits, _ = align(*captured, labels, classes)
        names = resolve_class_names(self._arguments.class_names, trainer.train_dataloader, classes)
        if told := limits(classes, features.shape[1]):
            self.notices.tell(told)
        monitor = SeparationMonitor(classes, self._settings(names))
        if not self._resumed(monitor, features, logits):
            monitor.start_step = self._last_step
            self._timeline.advance(self._last_step, self._learning_rate(trainer), self._steps_per_epoch(trainer))
        self.measurement = Measurement(monitor, names, self._alarm)

    def _resumed(self, monitor: SeparationMonitor, features: Tensor, logits: Tensor) -> bool:
        """Continue the saved state, if there is one and it belongs to batches like this; else it is told why not."""
        saved, device = self.state_dict(), features.device
        if not saved:
            return False
        loads: dict[str, Callable[[Any], None]] = {
            "monitor": lambda state: monitor.load_state_dict(state, device),
            "alerts": self._alarm.load_state_dict,
            "probe": lambda state: self._probing.load_state_dict(state, device),
            "timeline": self._timeline.load_state_dict,
        }
        now = {"features": features, "logits": logits}
        why = resume(saved, self._state(monitor), loads, lambda: _other_widths(monitor.window, now))
        if why:
            self.notices.tell("the saved state is not continued, everything starts anew", why)
        elif self._processes.rank > 0 and monitor.window is not None:
            monitor.window.clear()  # its samples count once, on the first process
        return not why

    def _settings(self, names: list[str]) -> MonitorSettings:
        return replace(self._arguments.monitor, matrix_classes=chosen_classes(self._arguments.matrix_classes, names))

    def _learning_rate(self, trainer: Trainer) -> float:
        return learning_rate(trainer) if self._timeline.axis == "lr" else 0.0

    def _steps_per_epoch(self, trainer: Trainer) -> float:
        return steps_per_epoch(trainer, trainer.global_step - self._last_step, self._batches_since_step)

    def _evaluate(self, trainer: Trainer) -> None:
        """Close the window and hand it on; all processes call this at the same steps."""
        alerts: list[Alert] = []
        measured = self.measurement
        told = "a window could not be evaluated"
        with torch.no_grad(), self.notices.surviving(told), self._clock.evaluating():
            if not self._processes.pool(measured.window):
                self.notices.tell(self._processes.obstacle)
                return
            if isinstance(measured, Unsettled):
                return
            before = measured.last_record
            record, alerts = measured.close(trainer.global_step)
            self._publisher.window(trainer, record, before)
            for key in record.skipped:
                self.notices.tell_skipped(key)
        if due_for_figures(measured.windows):
            self._draw(trainer)
        alerts = self._processes.of_first(alerts)
        if alerts and isinstance(measured, Measurement):
            measured.alarm.act(trainer, alerts, measured.class_names)

    def _draw(self, trainer: Trainer) -> None:
        """Figures of the last window, and the forecast."""
        measured = self.measurement
        if isinstance(measured, Unsettled) or measured.last_record is None:
            return
        if not (self._arguments.figures and trainer.is_global_zero):
            return
        record = measured.last_record
        with self.notices.surviving("a figure could not be drawn"), self._clock.drawing():
            self._publisher.heatmaps(trainer, record, measured.class_names)
        with self.notices.surviving("a forecast could not be made"), self._clock.drawing():
            trajectory = measured.trajectory(self._timeline.unit)
            if due_for_figures(measured.windows):
                measured.forecast.renew(trajectory, measured.windows)
            self._publisher.forecast(trainer, measured.forecast, trajectory, record.step)


def _other_widths(window: ClassWindow | None, batch: Mapping[str, Tensor]) -> str:
    """What in a window is of another width than in a batch, by source."""
    if window is None or window.accepts(batch):
        return ""
    widths = {name: (moments.reference.shape[1], batch[name].shape[1]) for name, moments in window.moments.items()}
    return ", ".join(f"its {name} are {old} wide, here {new}" for name, (old, new) in widths.items() if old != new)
