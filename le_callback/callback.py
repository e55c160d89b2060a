"""The Lightning callback: schedule, devices, state and wiring. The only file that knows Lightning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from typing_extensions import override

from le_callback.alerts.alert import Alert, describe
from le_callback.capture.head import HeadCapture
from le_callback.capture.labels import LabelReader, LabelSource, align, chosen_classes, resolve_class_names
from le_callback.capture.outputs import OutputsCapture
from le_callback.errors import require
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.data import ProbeData
from le_callback.probe.probe import Forward, Passing, Probe
from le_callback.records import WindowRecord
from le_callback.report.dashboards import due_for_figures, scalars
from le_callback.report.publisher import draw, draw_forecast, publish, show_progress, tell_regime
from le_callback.report.running_forecast import Outlook
from le_callback.report.table import summary_table
from le_callback.trainer.alarm import Alarm, OnAlert
from le_callback.trainer.arguments import check_arguments
from le_callback.trainer.namespaces import AnyCallback
from le_callback.trainer.own_cost import Clock
from le_callback.trainer.processes import Processes
from le_callback.trainer.schedule import learning_rate, log_steps, steps_per_epoch
from le_callback.trainer.timeline import UNITS, TimeAxis, Timeline
from le_callback.trajectory import Trajectory


class LECallback(AnyCallback):
    """Tracks class means, local elasticity and separability of a classifier while it trains.

    On every step the features that enter the classifier head and the logits that leave it are added to class moments on
    the model's device, without a host synchronisation. Every ``every_n_steps`` optimizer steps the window is evaluated
    and logged: coefficients ``le/<model>/…`` (per optimizer step), angles ``etf/<source>/…`` (degrees) and
    measured separability ``separation/<source>/…``. All values are in ``trainer.callback_metrics``, so
    ``EarlyStopping`` and ``ModelCheckpoint`` can monitor them. Steps are those of ``trainer.global_step``: with
    gradient accumulation one of several batches, with several optimizers every step of each.

    Works with ``lightning.pytorch`` and ``pytorch_lightning``, in code and in the configuration of LightningCLI.

    Source of the method: Zhang, Wang, Su, "Imitating Deep Learning Dynamics via Locally Elastic Stochastic Differential
    Equations", NeurIPS 2021.

    Args:
        head: dotted name or module of the classifier head. By default the last linear-like layer of the forward pass
            that fits the labels.
        label: where the labels are in a batch: a key, an index or a callable of the batch. By default the second
            element of a tuple or list, or the key ``label``, ``labels``, ``target``, ``targets`` or ``y``.
        num_classes: number of classes K. By default the output width of the head.
        class_names: K names. By default ``classes`` of the training dataset, or 0, 1, ….
        ignore_index: integer label that is left out.
        every_n_steps: optimizer steps of a window. By default the Trainer's ``log_every_n_steps``.
        smoothing: windows of the local fit whose slope is α, β, γ.
        identifiability: a mode is identifiable while its squared amplitude exceeds this many times its sampling noise.
        confidence: coverage of the intervals.
        time_axis: unit of time of the coefficients: optimizer ``steps``, cumulative learning rate ``lr`` (so that the
            decay of a schedule is not read as lost elasticity) or ``epochs``. Windows are counted in steps anyway.
        probe: a small fixed labelled set that is passed through the model in evaluation mode, without gradients and
            without touching the training: a loader, a dataset, a pair of tensors (inputs, labels), or a number of
            samples of each class that are taken from the training data. Logged as ``le/<model>_probe_<source>/…``,
            and ``le/measured_<source>/…``: what the step after each reading did to it. Off by default.
        probe_every_n_steps: optimizer steps between two readings of the probe. By default the window.
        probe_forward: how to call the model on a batch of the probe, a callable of the module and the batch. By default
            the module is called on the batch without its labels.
        matrix_classes: classes, by name or index, of the LE matrix E that a probe measures, drawn as ``le/matrix``. By
            default all classes, if these are at most 64, else none.
        alerts: rules that look at every window: True for the default rules, False for none, or rules of your own:
            callables of the ``WindowRecord`` that return an ``Alert`` or ``None``, or objects as those in
            ``le_callback.alerts``. Each raises once, and again after it was over; ``alerts/<rule>`` is 1 meanwhile.
        on_alert: what follows: ``warn`` only, ``stop`` the training, ``raise`` a ``SeparabilityError``, or a callable
            of the alert. Alerts are told in any case.
        alert_checkpoints: folder in which a checkpoint is saved on each alert.
        notify: addresses of webhooks and chat services that alerts are sent to, as Apprise writes them
            (``pip install le-callback[notify]``).
        name: goes before every tag (``<name>/le/…``, so that loggers group what belongs together), the entry in the
            progress bar and the state in checkpoints. Needed where a Trainer has several of these callbacks.
        outputs: keys of features and logits in the dict that ``training_step`` returns. They are then read from
            there, and no module is hooked. With a probe, ``probe_forward`` has to return such a dict.
        reset_compiler: whether to discard what ``torch.compile`` has compiled when the training starts. Needed if the
            compiled model was run before: its code does not call a hook that is registered later.
        figures: whether to draw heatmaps, on windows 1, 4, 16, 64, … and the last.
        progress_bar: whether to show γ in the progress bar.
        summary: whether to print a table at the end.

    Raises:
        ValueError: if an argument is out of its range; at the first training batch, if head or labels are not found.
        TypeError: if an argument has the wrong type.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[LECallback()], logger=False, enable_progress_bar=False, enable_checkpointing=False)
    """

    steps_aside = False  # whether it leaves the Trainer to other instances

    def __init__(
        self,
        head: str | nn.Module | None = None,
        label: LabelSource = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = -100,
        every_n_steps: int | None = None,
        smoothing: int = 11,
        identifiability: float = 3.0,
        confidence: float = 0.95,
        time_axis: TimeAxis = "steps",
        probe: ProbeData | None = None,
        probe_every_n_steps: int | None = None,
        probe_forward: Forward | None = None,
        matrix_classes: Sequence[int | str] | None = None,
        alerts: bool | Sequence[Callable[..., Any]] = True,
        on_alert: OnAlert = "warn",
        alert_checkpoints: str | Path | None = None,
        notify: Sequence[str] = (),
        name: str | None = None,
        outputs: tuple[str, str] | None = None,
        reset_compiler: bool = False,
        figures: bool = True,
        progress_bar: bool = True,
        summary: bool = True,
    ) -> None:
        super().__init__()
        check_arguments(
            head=head,
            num_classes=num_classes,
            every_n_steps=every_n_steps,
            smoothing=smoothing,
            identifiability=identifiability,
            confidence=confidence,
            time_axis=time_axis,
            probe=probe,
            probe_every_n_steps=probe_every_n_steps,
            name=name,
            outputs=outputs,
        )
        self.head = head
        self.num_classes = num_classes
        self.class_names = None if class_names is None else list(class_names)
        self.every_n_steps = every_n_steps
        self.settings = MonitorSettings(
            ignore_index, smoothing, identifiability, confidence, probe is not None, time_unit=UNITS[time_axis]
        )
        self.matrix_classes = None if matrix_classes is None else list(matrix_classes)
        self.name = name
        self.outputs = None if outputs is None else (outputs[0], outputs[1])
        self.reset_compiler = reset_compiler
        self.figures = figures
        self.progress_bar = progress_bar
        self.summary = summary
        self.last_record: WindowRecord | None = None
        self._read_labels = LabelReader(label)
        self.probe_every_n_steps = probe_every_n_steps
        self._probe = None if probe is None else Probe(probe, self._read_labels, probe_forward, ignore_index)
        self._capture: HeadCapture | OutputsCapture | None = None
        self._monitor: SeparationMonitor | None = None
        self._saved_state: dict[str, Any] | None = None
        self._processes: Processes | None = None
        self._names: list[str] = []
        self._timeline = Timeline(time_axis)
        self._rate = 0.0
        self._last_step = 0
        self._batches_since_step = 0
        self._settled = False
        self._notices = Notices()
        self._alarm = Alarm(alerts, on_alert, alert_checkpoints, notify, self._notices)
        self._outlook = Outlook()
        self._clock = Clock()

    @property
    @override
    def state_key(self) -> str:
        head = type(self.head).__name__ if isinstance(self.head, nn.Module) else self.head
        return self._generate_state_key(head=head, outputs=self.outputs, name=self.name)

    @property
    def monitor(self) -> SeparationMonitor | None:
        """The engine with the open window, ``None`` before the first training batch."""
        return self._monitor

    @property
    def trajectory(self) -> Trajectory | None:
        """The class means of all windows, ``None`` before the first training batch."""
        if self._monitor is None:
            return None
        return Trajectory(self._monitor.recorder.sources(), self._timeline.unit, tuple(self._names))

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        names = [c.name for c in callbacks if isinstance(c, LECallback) and not c.steps_aside]
        expected = "another one for each LECallback of a Trainer, as it goes before their tags"
        require(names.count(self.name) < 2, "name", self.name, expected)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.barebones or self._window_steps(trainer) < 1:
            return
        if self._timeline.axis == "epochs" and math.isinf(trainer.num_training_batches):
            raise ValueError(
                "Expected training data of known length for `time_axis='epochs'`, but its length is infinite. Use"
                " `time_axis='steps'` or `limit_train_batches=` of the Trainer."
            )
        if self.outputs is None:
            self._capture = HeadCapture(pl_module, self.head, self.num_classes, self.settings.ignore_index)
        else:
            self._capture = OutputsCapture(self.outputs, self.num_classes)
        self._capture.attach()
        if self.reset_compiler:
            torch.compiler.reset()
        self._clock = Clock()
        self._last_step = trainer.global_step
        self._settled = False
        self._processes = Processes.of(trainer.strategy)
        if self._monitor is not None and trainer.global_step < self._monitor.start_step:
            self._monitor = None  # the callback was used before, by a Trainer that counted from the start
            self._timeline = Timeline(self._timeline.axis)
        if self._probe is not None:
            self._begin_probe(trainer, pl_module)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._capture is not None:
            self._capture.clear()
            self._clock.start_step()
            self._rate = self._learning_rate(trainer)

    @override
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._capture is not None and not self._settled:
            self._capture.note_order()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._capture is None:
            return
        self._capture.offer(outputs)
        with torch.no_grad(), self._clock.updating():
            self._update(trainer, batch)
        self._batches_since_step += 1
        step, every = trainer.global_step, self._window_steps(trainer)
        self._timeline.advance(step, self._rate, self._steps_per_epoch(trainer))
        if self._probe is not None and step > self._last_step:
            every_probe = self.probe_every_n_steps or every
            self._read_probe(trainer, pl_module, due=step // every_probe > self._last_step // every_probe)
        if step // every > self._last_step // every:
            with torch.no_grad():
                self._evaluate(trainer)
        self._batches_since_step = 0 if step > self._last_step else self._batches_since_step
        self._last_step = step
        self._clock.end_step()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._capture is not None:
            windows = 0 if self._monitor is None else self._monitor.windows
            sampled = self._monitor is not None and self._monitor.has_samples
            if windows == 0 and (sampled or self._processes is not None):
                with torch.no_grad():
                    self._evaluate(trainer)
            elif not due_for_figures(windows):
                self._draw(trainer)
        self._release()

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.summary and trainer.is_global_zero and self.last_record is not None:
            print(f"\n{self.summary_table()}\n", flush=True)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._monitor is not None:
            return {
                "monitor": self._monitor.state_dict(),
                "probe": self._probe.state_dict() if self._probe else {},
                "timeline": self._timeline.state_dict(),
                "alerts": self._alarm.state_dict(),
            }
        return self._saved_state or {}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved_state = state_dict
        self._monitor = None

    def summary_table(self) -> str:
        """The table of the last window; empty before the first."""
        if self.last_record is None:
            return ""
        alerts = [describe(alert, self._names) for alert in self._alarm.raised]
        table = summary_table(self.last_record, self._names, self._clock.cost(), alerts, self._outlook.sentence())
        return f"{self.name}: {table}" if self.name else table

    @property
    def _prefix(self) -> str:
        return f"{self.name}/" if self.name else ""

    def _window_steps(self, trainer: Trainer) -> int:
        return self.every_n_steps or log_steps(trainer)

    def _update(self, trainer: Trainer, batch: Any) -> None:
        assert self._capture is not None
        if not self._settled:
            self._settle(trainer, self._read_labels(batch))
        if self._monitor is None or not self._settled:
            return
        if (captured := self._capture.take()) is None:
            self._skip("batches in which the head was not called", self._capture.absence)
            return
        try:
            features, logits, target = align(*captured, self._read_labels(batch), self._monitor.num_classes)
        except Exception as error:
            self._skip("batches without usable labels", str(error))
        else:
            self._monitor.update(features=features, logits=logits, target=target, time=self._timeline.now)
            if self._probe is not None:
                self._probe.add_batch(target)

    def _settle(self, trainer: Trainer, labels: Tensor) -> None:
        """Decide on head and classes on the first batch in which the head is called; what is wrong raises."""
        assert self._capture is not None
        if self._capture.settle(labels) is None:
            self._notices.tell(
                "the classifier head was not called in the first training batch, so nothing is measured",
                self._capture.absence,
            )
            return
        captured = self._capture.take()
        assert captured is not None
        classes = self._capture.num_classes
        features, logits, _ = align(*captured, labels, classes)
        self._names = resolve_class_names(self.class_names, trainer.train_dataloader, classes)
        if self._monitor is None or not self._monitor.fits(features=features, logits=logits, num_classes=classes):
            self._monitor = self._new_monitor(trainer, classes, features, logits)
        self._settled = True

    def _new_monitor(self, trainer: Trainer, num_classes: int, features: Tensor, logits: Tensor) -> SeparationMonitor:
        """A monitor that continues the saved state, if there is one and it belongs to batches like this."""
        saved, self._saved_state = self._saved_state, None
        settings = replace(self.settings, matrix_classes=chosen_classes(self.matrix_classes, self._names))
        if saved:
            monitor = SeparationMonitor(saved["monitor"]["num_classes"], settings)
            monitor.load_state_dict(saved["monitor"], features.device)
            if monitor.fits(features=features, logits=logits, num_classes=num_classes):
                self._timeline.load_state_dict(saved["timeline"])
                self._alarm.load_state_dict(saved["alerts"])
                if self._probe is not None:
                    self._probe.load_state_dict(saved["probe"], features.device)
                if self._processes is not None and self._processes.rank > 0 and monitor.window is not None:
                    monitor.window.clear()  # its samples count once, on the first process
                return monitor
            self._notices.tell("the saved state belongs to another number of classes or features; starting anew")
        self._outlook = Outlook()
        monitor = SeparationMonitor(num_classes, settings)
        monitor.start_step = self._last_step
        self._timeline.advance(self._last_step, self._learning_rate(trainer), self._steps_per_epoch(trainer))
        return monitor

    def _learning_rate(self, trainer: Trainer) -> float:
        return learning_rate(trainer) if self._timeline.axis == "lr" else 0.0

    def _steps_per_epoch(self, trainer: Trainer) -> float:
        return steps_per_epoch(trainer, trainer.global_step - self._last_step, self._batches_since_step)

    def _begin_probe(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the probe before the first step; what is wrong with it raises."""
        assert self._probe is not None
        assert self._capture is not None
        settle = partial(self._settle, trainer)
        self._probe.prepare(pl_module, self._capture, trainer.train_dataloader, self._passing(trainer), settle)
        assert self._monitor is not None
        if self._monitor.start_step == trainer.global_step == 0:
            self._read_probe(trainer, pl_module, due=True)

    def _read_probe(self, trainer: Trainer, pl_module: LightningModule, due: bool) -> None:
        """Read the probe if it is ``due``, and once more after the step that follows."""
        assert self._probe is not None
        assert self._capture is not None
        if self._monitor is None or not (due or self._probe.observing):
            return
        with self._notices.surviving("the probe could not be read"), self._clock.probing():
            observed = self._probe.observed()
            if observed is not None and self._processes is not None:
                observed = (self._processes.sum(observed[0]), observed[1]) if self._processes.agreed else None
            statistics = self._probe.read(pl_module, self._capture, self._passing(trainer))
            if observed is not None:
                self._monitor.add_step(*observed, {name: s.mean for name, s in statistics.items()})
            if due:
                self._monitor.add_probe(self._timeline.now, statistics)
                self._probe.observe_next_step(statistics, self._monitor.num_classes)

    def _passing(self, trainer: Trainer) -> Passing:
        def to_device(batch: Any) -> Any:
            return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))

        return Passing(to_device, trainer.precision_plugin.forward_context)

    def _evaluate(self, trainer: Trainer) -> None:
        """Close the window and hand it on; all processes call this at the same steps."""
        alerts: list[Alert] = []
        with self._notices.surviving("a window could not be evaluated"), self._clock.evaluating():
            if self._processes is not None and not self._processes.pool(self._monitor):
                self._notices.tell(self._processes.obstacle)
                return
            if self._monitor is None:
                return
            record = self._monitor.close(trainer.global_step)
            before, self.last_record = self.last_record, record
            alerts = self._alarm.add(record)
            metrics = scalars(record) | self._alarm.metrics()
            publish(trainer, {f"{self._prefix}{tag}": value for tag, value in metrics.items()})
            if self.progress_bar:
                show_progress(trainer, record, self.name)
            if before is None or before.regime is None or before.regime.name != getattr(record.regime, "name", None):
                tell_regime(trainer, record, self._prefix)
            for reason in record.skipped:
                self._notices.tell(f"skipped {reason}")
        if self._monitor is not None and due_for_figures(self._monitor.windows):
            self._draw(trainer)
        if self._processes is not None:
            alerts = self._processes.of_first(alerts)
        if alerts:
            self._alarm.act(trainer, alerts, self._names, self._prefix)

    def _draw(self, trainer: Trainer) -> None:
        if self.figures and self.last_record is not None and trainer.is_global_zero:
            with self._notices.surviving("a figure could not be drawn"), self._clock.drawing():
                draw(trainer, self.last_record, self._names, self._prefix)
            trajectory = self.trajectory
            with self._notices.surviving("a forecast could not be made"), self._clock.drawing():
                if trajectory is not None and self._monitor is not None:
                    if due_for_figures(self._monitor.windows):
                        self._outlook.renew(trajectory, self._monitor.windows)
                    draw_forecast(trainer, self._outlook, trajectory, self.last_record.step, self._prefix)

    def _skip(self, reason: str, detail: str = "") -> None:
        assert self._monitor is not None
        self._monitor.skip(reason)
        self._notices.tell(f"skipped {reason}", detail)

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.detach()
            self._capture = None
