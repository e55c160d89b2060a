"""The event file behind Lightning's TensorBoardLogger."""

from __future__ import annotations

from typing import Any

_PLAIN_TENSORBOARD = ("lightning.fabric.loggers.tensorboard", "lightning_fabric.loggers.tensorboard")


def event_writer(logger: Any) -> Any:
    """The open event file of a logger that writes metrics as Lightning's TensorBoardLogger does, else ``None``.

    >>> event_writer(object()) is None
    True
    """
    if getattr(getattr(type(logger), "log_metrics", None), "__module__", None) not in _PLAIN_TENSORBOARD:
        return None
    writer = logger.experiment
    return writer.file_writer if type(writer).__module__ == "torch.utils.tensorboard.writer" else None
