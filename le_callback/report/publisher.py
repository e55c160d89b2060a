"""Hands what a window says to the loggers, the Trainer's metrics and its progress bar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer

from le_callback.records import WindowRecord
from le_callback.report.fan_chart import fan_chart
from le_callback.report.heatmaps import cosine_figure, matrix_figure
from le_callback.report.running_forecast import RunningForecast, primary_source
from le_callback.report.tags import Level, scalars
from le_callback.report.writers import figure_writers, log_scalars, text_writers
from le_callback.trajectory import Trajectory


class Publisher:
    """Knows under which names things are told, and to whom.

    Args:
        name: of the callback; goes before every tag and behind γ in the progress bar.
        level: which tags loggers get; ``trainer.callback_metrics`` hold all of them.
        progress_bar: whether γ is put into the progress bar.
    """

    def __init__(self, name: str | None = None, level: Level = "essential", progress_bar: bool = True) -> None:
        self.prefix = f"{name}/" if name else ""
        self._symbol = f"γ {name}" if name else "γ"
        self._level = level
        self._progress_bar = progress_bar

    def window(self, trainer: Trainer, record: WindowRecord, before: WindowRecord | None) -> None:
        """Tell what is told of every window: scalars, γ in the progress bar, the verdict where it has changed."""
        self.scalars(trainer, record)
        if self._progress_bar:
            trainer.progress_bar_metrics[self._symbol] = record.primary.gamma.value
        if before is None or getattr(before.regime, "name", None) != getattr(record.regime, "name", None):
            self.verdict(trainer, record)

    def scalars(self, trainer: Trainer, record: WindowRecord) -> None:
        """Give the scalars to all loggers, and to ``trainer.callback_metrics`` where other callbacks can monitor them.

        ``self.log`` would be flushed on the Trainer's own log steps only.
        """
        everything = {f"{self.prefix}{tag}": value for tag, value in scalars(record).items()}
        logged = {f"{self.prefix}{tag}": value for tag, value in scalars(record, self._level).items()}
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        for logger in trainer.loggers:
            log_scalars(logger, logged, step)
        values = torch.tensor(list(everything.values())).unbind()
        trainer.callback_metrics.update(zip(everything, values, strict=True))

    def text(self, trainer: Trainer, tag: str, text: str, step: int) -> None:
        """Give a text to those loggers that take text."""
        for writer in text_writers(trainer.loggers):
            writer.add_text(f"{self.prefix}{tag}", text, step)

    def verdict(self, trainer: Trainer, record: WindowRecord) -> None:
        """Give the verdict as text."""
        if record.regime is not None:
            text = f"**{record.regime.name}**: {record.regime.reason}"
            self.text(trainer, "separation/regime", text, record.step)

    def heatmaps(self, trainer: Trainer, record: WindowRecord, class_names: Sequence[str]) -> None:
        """Give the figures of a window to those loggers that take figures."""
        measured = any(matrix.strongest_pair for matrix in record.response_matrix.values())
        for writer in figure_writers(trainer.loggers):
            if record.etf:
                figure = cosine_figure(record.etf, class_names, f"Cosines of class means, step {record.step:,}")
                writer.add_figure(f"{self.prefix}etf/cosines", figure, record.step)
            if measured:
                title = f"LE matrix, measured up to step {record.step:,}"
                figure = matrix_figure(record.response_matrix, class_names, title)
                writer.add_figure(f"{self.prefix}le/matrix", figure, record.step)

    def forecast(self, trainer: Trainer, running: RunningForecast, trajectory: Trajectory, step: int) -> None:
        """Give the latest forecast, and the one before with what came since, as figures and text.

        The latest is ``le/forecast``; the one before, of which most is known by now, ``le/forecast_checked``.
        """
        source = primary_source(trajectory)
        if source is None or running.latest is None:
            return
        truth = trajectory.sources[source]
        for tag, forecast in (("le/forecast", running.latest), ("le/forecast_checked", running.previous)):
            if forecast is not None:
                for writer in figure_writers(trainer.loggers):
                    writer.add_figure(f"{self.prefix}{tag}", fan_chart(forecast, truth), step)
        self.text(trainer, "separation/forecast", running.sentence(), step)
