"""Loggers as they are: scalars to all of them, figures and text to those that take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary

_PLAIN_TENSORBOARD = ("lightning.fabric.loggers.tensorboard", "lightning_fabric.loggers.tensorboard")


def log_scalars(logger: Any, metrics: Mapping[str, float], step: int) -> None:
    """What ``logger.log_metrics(metrics, step)`` does; for TensorBoard as one event, which costs a tenth of one a tag.

    A logger that does something of its own with metrics gets them through its own ``log_metrics``.

    >>> from types import SimpleNamespace
    >>> seen = []
    >>> log_scalars(SimpleNamespace(log_metrics=lambda metrics, step: seen.append((metrics, step))), {"loss": 1.0}, 3)
    >>> seen
    [({'loss': 1.0}, 3)]
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
    if getattr(getattr(type(logger), "log_metrics", None), "__module__", None) not in _PLAIN_TENSORBOARD:
        return None
    writer = logger.experiment
    return writer.file_writer if type(writer).__module__ == "torch.utils.tensorboard.writer" else None


def figure_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that can draw figures (``add_figure``, as TensorBoard's writer has it)."""
    return _writers(loggers, "add_figure")


def text_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that take text (``add_text``, as TensorBoard's writer has it)."""
    return _writers(loggers, "add_text")


def _writers(loggers: Sequence[Any], method: str) -> Iterator[Any]:
    for logger in loggers:
        experiment = getattr(logger, "experiment", None)
        if callable(getattr(experiment, method, None)):
            yield experiment
