"""The data of the page, beside what the Trainer's loggers write; and the report at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger

from le_callback.alerts.alert import Alert
from le_callback.notices import Notices
from le_callback.page.outlook import outlook
from le_callback.page.report import write_report
from le_callback.page.writer import About, PageWriter, folder_of
from le_callback.report.running_forecast import primary_source
from le_callback.report.table import OwnCost
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.measurement import Measurement
from le_callback.trainer.schedule import learning_rate
from le_callback.trajectory import Trajectory
from le_callback.values import Source


class NoPaging:
    """No data of the page are written."""

    def window(self, trainer: Trainer, measured: Measurement, cost: OwnCost) -> None:
        """A window was evaluated."""

    def alerts(self, trainer: Trainer, measured: Measurement, alerts: Sequence[Alert]) -> None:
        """Alerts were raised."""

    def forecast(self, trainer: Trainer, measured: Measurement, trajectory: Trajectory) -> None:
        """There is a forecast, or more has come of one."""

    def end(self, trainer: Trainer, measured: Measurement) -> None:
        """The training is over."""


class Paging(NoPaging):
    """Writes data files on the first process. What fails is told once and ends it; the training goes on.

    Args:
        arguments: what the user asked for.
        after: optimizer step after which the training goes on.
        notices: where failures are told.
    """

    def __init__(self, arguments: Arguments, after: int, notices: Notices) -> None:
        self._arguments, self._after, self._notices = arguments, after, notices
        self._writer: PageWriter | None = PageWriter(arguments.name)

    def window(self, trainer: Trainer, measured: Measurement, cost: OwnCost) -> None:
        """Write the last record."""
        record = measured.last_record
        if record is None:
            return
        per_step = 1e3 * (cost.update_seconds + cost.window_seconds + cost.probe_seconds) / max(1, cost.steps)
        self._surviving(
            trainer,
            lambda writer: writer.window(
                lambda: self._folders(trainer),
                lambda: self._about(measured),
                record,
                (per_step, cost.share),
                learning_rate(trainer) if trainer.optimizers else math.nan,
            ),
        )

    def alerts(self, trainer: Trainer, measured: Measurement, alerts: Sequence[Alert]) -> None:
        """Write alerts."""
        if alerts:
            self._surviving(trainer, lambda writer: writer.alerts(alerts, measured.class_names))

    def forecast(self, trainer: Trainer, measured: Measurement, trajectory: Trajectory) -> None:
        """Write the latest forecast, and the one before, beside what came since."""
        made, source = measured.forecast, primary_source(trajectory)
        if source is None or made.latest is None:
            return
        truth, noisy, step = trajectory.sources[source], not Source.parse(source).probe, trainer.global_step
        charts = [outlook(found, truth, noisy) for found in (made.latest, made.previous) if found is not None]
        self._surviving(trainer, lambda writer: writer.forecast(step, made.sentence(), charts))

    def end(self, trainer: Trainer, measured: Measurement) -> None:
        """Write what is left and, where the user asked for it, the report."""

        def finish(writer: PageWriter) -> None:
            writer.finish()
            if self._arguments.report:
                for path in writer.paths:
                    write_report([path], path.with_name(f"{path.name.split('.')[0]}-report.html"))

        self._surviving(trainer, finish)

    def _surviving(self, trainer: Trainer, write: Callable[[PageWriter], None]) -> None:
        if self._writer is None or not trainer.is_global_zero:
            return
        try:
            write(self._writer)
        except Exception as error:
            self._writer = None
            self._notices.tell("the data of the page cannot be written any more", f"{type(error).__name__}: {error}")

    def _folders(self, trainer: Trainer) -> list[Path]:
        folders = []
        for logger in trainer.loggers:
            with self._notices.surviving(f"the folder of the logger {type(logger).__name__} is not known"):
                folder = None if isinstance(logger, DummyLogger) else folder_of(logger)
                folders += [] if folder is None else [folder]
        if self._arguments.report and not folders and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folders = [Path(trainer.default_root_dir)]
        return folders

    def _about(self, measured: Measurement) -> About:
        try:
            own = version("le-callback")
        except PackageNotFoundError:
            own = ""
        settings = {
            field.name: _shown(getattr(self._arguments, field.name))
            for field in fields(self._arguments)
            if field.name != "actions"  # may hold addresses with passwords
        }
        return About(own, measured.class_names, settings, self._after)


def _shown(value: object) -> str:
    """A setting as short text; of an object its type, as it may hold anything."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(v, (bool, int, float, str)) for v in value):
        return ", ".join(map(str, value[:20])) + (", …" if len(value) > 20 else "")
    return type(value).__name__
