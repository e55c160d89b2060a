"""Hands a window's record to the loggers, the Trainer's metrics and its progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from tensorboard.compat.proto.summary_pb2 import Summary

from le_callback.monitor import PRIMARY_MODEL
from le_callback.records import WindowRecord
from le_callback.report.dashboards import figure_writers, text_writers
from le_callback.report.fan_chart import fan_chart
from le_callback.report.heatmaps import cosine_figure, matrix_figure
from le_callback.report.running_forecast import Outlook, primary_source
from le_callback.trajectory import Trajectory

_PLAIN_TENSORBOARD = ("lightning.fabric.loggers.tensorboard", "lightning_fabric.loggers.tensorboard")


def publish(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Give ``metrics`` to all loggers, and to ``trainer.callback_metrics`` where other callbacks can monitor them.

    ``self.log`` would be flushed on the Trainer's own log steps only.
    """
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for logger in trainer.loggers:
        log_scalars(logger, metrics, step)
    values = torch.tensor(list(metrics.values())).unbind()
    trainer.callback_metrics.update(zip(metrics, values, strict=True))


def log_scalars(logger: Any, metrics: Mapping[str, float], step: int) -> None:
    """What ``logger.log_metrics(metrics, step)`` does; for TensorBoard as one event, which costs a tenth of one a tag.

    A logger that does something of its own with metrics gets them through its own ``log_metrics``.

    >>> from lightning.pytorch.loggers import CSVLogger
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(folder)
    ...     log_scalars(logger, {"loss": 1.0}, step=3)
    ...     logger.experiment.metrics
    [{'loss': 1.0, 'step': 3}]
    """
    writer = _event_writer(logger)
    if writer is None:
        logger.log_metrics(dict(metrics), step=step)
        return
    prefix = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if logger._prefix else ""
    values = [Summary.Value(tag=f"{prefix}{tag}", simple_value=value) for tag, value in metrics.items()]
    writer.add_summary(Summary(value=values), step)


def _event_writer(logger: Any) -> Any:
    """The open event file of a logger that writes metrics as Lightning's TensorBoardLogger does, else ``None``."""
    if getattr(type(logger).log_metrics, "__module__", None) not in _PLAIN_TENSORBOARD:
        return None
    writer = logger.experiment
    return writer.file_writer if type(writer).__module__ == "torch.utils.tensorboard.writer" else None


def show_progress(trainer: Trainer, record: WindowRecord, name: str | None = None) -> None:
    """Put γ into the progress bar, as ``γ`` or ``γ <name>``."""
    trainer.progress_bar_metrics[f"γ {name}" if name else "γ"] = record.coefficients[PRIMARY_MODEL].gamma.value


def tell_regime(trainer: Trainer, record: WindowRecord, prefix: str = "") -> None:
    """Give the verdict as text to those loggers that take text."""
    if record.regime is not None:
        for writer in text_writers(trainer.loggers):
            writer.add_text(
                f"{prefix}separation/regime", f"**{record.regime.name}**: {record.regime.reason}", record.step
            )


def draw(trainer: Trainer, record: WindowRecord, class_names: Sequence[str], prefix: str = "") -> None:
    """Give the figures of ``record`` to those loggers that take figures; ``prefix`` goes before their tags."""
    measured = any(matrix.strongest_pair for matrix in record.response_matrix.values())
    for writer in figure_writers(trainer.loggers):
        if record.etf:
            figure = cosine_figure(record.etf, class_names, f"Cosines of class means, step {record.step:,}")
            writer.add_figure(f"{prefix}etf/cosines", figure, record.step)
        if measured:
            title = f"LE matrix, measured up to step {record.step:,}"
            figure = matrix_figure(record.response_matrix, class_names, title)
            writer.add_figure(f"{prefix}le/matrix", figure, record.step)


def draw_forecast(trainer: Trainer, outlook: Outlook, trajectory: Trajectory, step: int, prefix: str = "") -> None:
    """Give the latest forecast, and the one before with what came since, to those loggers that take figures or text.

    The latest is ``le/forecast``; the one before, of which most is known by now, ``le/forecast_checked``.
    """
    source = primary_source(trajectory)
    if source is None or outlook.latest is None:
        return
    truth = trajectory.sources[source]
    for tag, forecast in (("le/forecast", outlook.latest), ("le/forecast_checked", outlook.previous)):
        if forecast is not None:
            for writer in figure_writers(trainer.loggers):
                writer.add_figure(f"{prefix}{tag}", fan_chart(forecast, truth), step)
    for writer in text_writers(trainer.loggers):
        writer.add_text(f"{prefix}separation/forecast", outlook.sentence(), step)
