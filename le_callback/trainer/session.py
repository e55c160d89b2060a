"""One training as the callback follows it, from its start to its end."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from le_callback.alerts import NonFinite
from le_callback.alerts.alert import Alert, describe
from le_callback.capture.classes import chosen_classes, resolve_class_names
from le_callback.capture.labels import align
from le_callback.moments.following import limits
from le_callback.monitor import SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.epoch_pass import EpochReading
from le_callback.probe.probe import Probe
from le_callback.report.highlights import highlights
from le_callback.report.publisher import Publisher
from le_callback.report.table import Block, laid_out, summary_blocks
from le_callback.trainer.alarm import Alarm
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.capturing import Capturing, NoCapturing
from le_callback.trainer.epoch_passing import epoch_passing
from le_callback.trainer.measurement import Measurement, Unsettled
from le_callback.trainer.own_cost import Clock
from le_callback.trainer.paging import NoPaging, Paging
from le_callback.trainer.probing import NoProbing, Probing
from le_callback.trainer.processes import processes_of
from le_callback.trainer.resuming import Continuity, TrainerMark
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
        self.capturing = NoCapturing()
        self.last_epoch: EpochReading | None = None
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

    def highlights(self) -> list[tuple[str, str]]:
        """What the last window says first; empty before the first."""
        return []

    def blocks(self) -> list[Block]:
        """The table of the last window; empty before the first."""
        return []

    def table(self) -> str:
        """The same as text."""
        return laid_out(self.blocks())

    def closing_table(self, trainer: Trainer) -> list[Block]:
        """The table that a fit of this Trainer ends with; empty where there is none."""
        if self.ended_in.is_of(trainer) and trainer.is_global_zero:
            with self.notices.surviving("the table could not be made"):
                return self.blocks()
        return []

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """The training starts."""

    def begin_batch(self, trainer: Trainer, batch: Any) -> None:
        """A training batch starts."""

    def end_batch(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """A training batch is over."""

    def end_epoch(self, trainer: Trainer, module: LightningModule) -> None:
        """An epoch is over."""

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
        quiet: whether a training that is no classification is no fault.

    Raises:
        ValueError: as ``HeadCapture``.
    """

    def __init__(
        self,
        arguments: Arguments,
        trainer: Trainer,
        module: LightningModule,
        saved: dict[str, Any],
        *,
        quiet: bool = False,
    ) -> None:
        super().__init__(saved)
        self._arguments = arguments
        self._every = arguments.every_n_steps or log_steps(trainer)
        self._last_step = trainer.global_step
        self._batches_since_step = 0
        self._rate = 0.0
        self._timeline = Timeline(arguments.time_axis)
        self._clock = Clock()
        self._publisher = Publisher(self.notices, arguments.name, arguments.tags, arguments.progress_bar)
        self._alarm = Alarm(arguments.alerts, arguments.actions, self._publisher, self.notices)
        self._processes = processes_of(trainer.strategy)
        alone = self._processes.count == 1
        self.capturing = self._capturing = Capturing(arguments, module, self.notices, alone=alone, quiet=quiet)
        self._probing = NoProbing()
        if arguments.probe is not None:
            probe = Probe(arguments.probe, self._capturing.labels, arguments.probe_forward, arguments.ignore_index)
            every = arguments.probe_every_n_steps or self._every
            self._probing = Probing(probe, every, self._capturing.capture, self._processes, self.notices, self._clock)
        self._epochs = epoch_passing(arguments, self._capturing, self.notices, self._clock)
        self._paging = NoPaging()
        self._continuity = Continuity(self._alarm, self._probing, self._timeline, self._processes, self.notices)

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
            return self._continuity.state(measured.monitor)
        return {}

    @override
    def trajectory(self) -> Trajectory | None:
        measured = self.measurement
        return None if isinstance(measured, Unsettled) else measured.trajectory(self._timeline.unit)

    @override
    def highlights(self) -> list[tuple[str, str]]:
        measured = self.measurement
        if isinstance(measured, Unsettled) or (record := measured.last_record) is None:
            return []
        standing = ", ".join(rule for rule, stands in record.alerts.items() if stands) or "none"
        return [*highlights(record, measured.class_names), ("Alerts", standing), ("Step", f"{record.step:,}")]

    @override
    def blocks(self) -> list[Block]:
        measured = self.measurement
        if isinstance(measured, Unsettled) or measured.last_record is None:
            return []
        alerts = [describe(alert, measured.class_names) for alert in measured.alarm.raised]
        cost, forecast = self._clock.cost(), measured.forecast.sentence()
        title, *blocks = summary_blocks(measured.last_record, measured.class_names, cost, alerts, forecast)
        return [f"{self._arguments.name}: {title}" if self._arguments.name else title, *blocks]

    @override
    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Hook the model; with a probe, read it before the first step. What is wrong with it raises."""
        self._capturing.begin()
        if self._arguments.reset_compiler:
            torch.compiler.reset()
        self._epochs.begin(trainer)
        self._probing.begin(trainer, module, partial(self._settle, trainer))
        if isinstance(self.measurement, Measurement):
            monitor = self.measurement.monitor
            due = monitor.start_step == trainer.global_step == 0
            self._probing.read(trainer, module, monitor, self._timeline.now, due=due)
        with self.notices.surviving("the tags could not be announced"):
            alerts = self._alarm.standing()
            self._publisher.expect(trainer, self._arguments.monitor, alerts, self._epochs.names)

    @override
    def begin_batch(self, trainer: Trainer, batch: Any) -> None:
        self._capturing.begin_batch(batch)
        self._clock.start_step()
        if self._timeline.axis == "lr":
            self._rate = learning_rate(trainer)

    @override
    def end_batch(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        began = time.perf_counter()
        capturing = self._capturing
        if capturing.undecided:
            with torch.no_grad():
                self._decide(trainer, outputs, batch)
        else:
            capturing.end_step(outputs)
        if isinstance(self.measurement, Measurement):
            self._add(self.measurement.monitor, batch)
        capturing.end_batch()
        updated = time.perf_counter() - began
        self._batches_since_step += 1
        step, last = trainer.global_step, self._last_step
        if step > last:
            self._timeline.advance(step, self._rate, self._steps_per_epoch(trainer, step))
            if isinstance(self.measurement, Measurement):
                due = self._probing.is_due(step, last)
                self._probing.read(trainer, module, self.measurement.monitor, self._timeline.now, due=due)
            if step // self._every > last // self._every:
                self._evaluate(trainer)
            self._batches_since_step = 0
        self._last_step = step
        self._clock.end_step(updated)

    def _decide(self, trainer: Trainer, outputs: Any, batch: Any) -> None:
        """The end of a step in which head and labels are looked for."""
        if self._capturing.decide(outputs, batch) and isinstance(self.measurement, Unsettled):
            self._settle(trainer, self._capturing.target(batch))
        if isinstance(self.measurement, Measurement):
            self._capturing.settled()

    @override
    def end_epoch(self, trainer: Trainer, module: LightningModule) -> None:
        measured = self.measurement
        if isinstance(measured, Measurement):
            reading = self._epochs.read(trainer, module, measured.monitor)
            if reading is not None:
                self.last_epoch = reading
                with self.notices.surviving("the values of the epoch could not be told"):
                    self._publisher.epoch(trainer, reading, measured.last_record)
        self._capturing.pause()
        self._capturing.end_epoch()

    @override
    def end(self, trainer: Trainer) -> None:
        self.ended_in = TrainerMark(trainer)
        windows = self.measurement.windows
        sampled = isinstance(self.measurement, Measurement) and self.measurement.monitor.has_samples
        if windows == 0 and (sampled or self._processes.count > 1):
            self._evaluate(trainer)
        elif not due_for_figures(windows):
            self._draw(trainer)
        if isinstance(measured := self.measurement, Measurement):
            self._paging.end(trainer, measured)
            if measured.last_record is not None and trainer.is_global_zero:
                with self.notices.surviving("the end of the run could not be told"):
                    self._publisher.finish(trainer, measured.last_record, measured.class_names)
        self.release()

    @override
    def release(self) -> None:
        self._capturing.pause()
        self._capturing.capture.detach()

    @override
    def withdraw(self, trainer: Trainer) -> None:
        self.release()
        self._publisher.withdraw(trainer)

    def _add(self, monitor: SeparationMonitor, batch: Any) -> None:
        """Add what the head saw of a batch; what cannot be used is counted and told once."""
        captured = self._capturing.capture.take()
        if captured is None:
            self._skip(monitor, "head_not_called", self._capturing.capture.absence)
            return
        try:
            features, logits, target = self._capturing.samples(captured, batch, monitor.num_classes)
        except Exception as error:
            self._skip(monitor, "unusable_labels", str(error))
            return
        try:  # a context manager would take as long as all that is outside of the update
            monitor.update(features=features, logits=logits, target=target, time=self._timeline.now)
            self._probing.add_batch(target)
        except Exception as error:
            self.notices.tell_failed("a batch could not be added", error)

    def _skip(self, monitor: SeparationMonitor, key: str, detail: str) -> None:
        monitor.skip(key)
        self.notices.tell_skipped(key, detail)

    def _settle(self, trainer: Trainer, labels: Tensor) -> None:
        """Decide on head and classes on the first batch in which the head is called; what is wrong raises."""
        capture = self._capturing.capture
        found = capture.settle(labels)
        captured = capture.take()
        if found is None or captured is None:
            absent = "the classifier head was not called in the first training batch, so nothing is measured"
            self.notices.tell(absent, capture.absence)
            return
        classes = capture.num_classes
        captured, labels = capture.line_up(captured, labels)
        features, logits, _ = align(*captured, labels, classes)
        names = resolve_class_names(self._arguments.class_names, trainer.train_dataloader, classes)
        if told := limits(classes, features.shape[1]):
            self.notices.tell(told)
        chosen = chosen_classes(self._arguments.matrix_classes, names)
        ignored = self._capturing.ignore_index
        monitor = SeparationMonitor(
            classes, replace(self._arguments.monitor, matrix_classes=chosen, ignore_index=ignored)
        )
        monitor.judge.class_names = names
        batch = {"features": features, "logits": logits}
        self._publisher.leave_out(trainer, {layer: x.shape[1] for layer, x in batch.items()}, classes)
        if not self._continuity.resume(self.state_dict(), monitor, batch):
            monitor.start_step = self._last_step
            rate = learning_rate(trainer) if self._timeline.axis == "lr" else 0.0
            self._timeline.advance(self._last_step, rate, self._steps_per_epoch(trainer, trainer.global_step))
        self.measurement = Measurement(monitor, names, self._alarm)
        if self._arguments.page:
            self._paging = Paging(self._arguments, monitor.start_step, self.notices)

    def _steps_per_epoch(self, trainer: Trainer, step: int) -> float:
        if self._timeline.axis != "epochs":
            return 1.0
        return steps_per_epoch(trainer, step - self._last_step, self._batches_since_step)

    def _evaluate(self, trainer: Trainer) -> None:
        """Close the window and hand it on; all processes call this at the same steps."""
        alerts: list[Alert] = []
        measured = self.measurement
        told = "a window could not be evaluated"
        with torch.no_grad(), self.notices.surviving(told), self._clock.evaluating():
            if not self._processes.pool(*measured.open_windows):
                if self._processes.obstacle:
                    self.notices.tell(self._processes.obstacle)
                return
            if isinstance(measured, Unsettled):
                return
            before = measured.last_record
            record, alerts = measured.close(trainer.global_step, self._capturing.capture.module)
            self._publisher.window(trainer, record, before)
            self._paging.window(trainer, measured, self._clock.cost())
            self._paging.alerts(trainer, measured, alerts)
            by_an_alert = {"nonfinite_features"} if NonFinite.name in self._alarm.standing() else set()
            for key in record.skipped.keys() - by_an_alert:
                self.notices.tell_skipped(key)
        if due_for_figures(measured.windows):
            self._draw(trainer)
        alerts = self._processes.of_first(alerts)
        if isinstance(measured, Measurement):
            measured.alarm.tell_ended(trainer, measured.class_names)
        if alerts and isinstance(measured, Measurement):
            measured.alarm.act(trainer, alerts, measured.class_names)

    def _draw(self, trainer: Trainer) -> None:
        """Figures of the last window, and the forecast, where a logger can show them."""
        measured = self.measurement
        if isinstance(measured, Unsettled) or measured.last_record is None:
            return
        if not (self._arguments.figures and trainer.is_global_zero and self._publisher.has_viewers(trainer)):
            return
        record = measured.last_record
        with self.notices.surviving("a figure could not be drawn"), self._clock.drawing():
            self._publisher.heatmaps(trainer, record, measured.class_names)
        with self.notices.surviving("a forecast could not be made"), self._clock.drawing():
            trajectory = measured.trajectory(self._timeline.unit)
            if due_for_figures(measured.windows):
                measured.forecast.renew(trajectory, measured.windows)
            self._publisher.forecast(trainer, measured.forecast, trajectory, record.step)
            self._paging.forecast(trainer, measured, trajectory)
