"""How loggers take figures and texts: as TensorBoard's writer does, as Weights & Biases, or as MLflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from le_callback.report.event_file import event_writer

Give = Callable[[str, Any, int], Any]
"""Called with a tag, a matplotlib figure or a text, and a step."""


def figure_giver(logger: Any) -> Give | None:
    """How a logger is given a figure; None where it takes none.

    >>> from types import SimpleNamespace
    >>> seen = []
    >>> wandb = SimpleNamespace(log_image=lambda key, images, step: seen.append((key, images, step)))
    >>> figure_giver(wandb)("le/forecast", "a figure", 100)
    >>> seen, figure_giver(SimpleNamespace())
    ([('le/forecast', ['a figure'], 100)], None)
    """
    experiment = getattr(logger, "experiment", None)
    if callable(add := getattr(experiment, "add_figure", None)):
        return add  # type: ignore[no-any-return]
    if callable(log := getattr(logger, "log_image", None)):
        return lambda tag, figure, step: log(key=tag, images=[figure], step=step)
    return _as_artifact(logger, experiment, "log_figure", "png")


def text_giver(logger: Any) -> Give | None:
    """How a logger is given a text; None where it takes none.

    >>> from types import SimpleNamespace
    >>> text_giver(SimpleNamespace(experiment=SimpleNamespace(add_text=print)))("alerts", "a text", 100)
    alerts a text 100
    """
    experiment = getattr(logger, "experiment", None)
    if (writer := event_writer(logger)) is not None:
        return partial(_write_text, writer)
    if callable(add := getattr(experiment, "add_text", None)):
        return add  # type: ignore[no-any-return]
    if callable(log := getattr(logger, "log_text", None)):
        return lambda tag, text, step: log(key=tag, columns=["step", "text"], data=[[str(step), text]], step=step)
    return _as_artifact(logger, experiment, "log_text", "txt")


def _write_text(writer: Any, tag: str, text: str, step: int) -> None:
    """As ``add_text`` does, but under the tag itself, without ``/text_summary`` behind it."""
    kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    content = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=TensorShapeProto())
    content.tensor_shape.dim.add(size=1)
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, metadata=kind, tensor=content)]), step)


def _as_artifact(logger: Any, experiment: Any, method: str, ending: str) -> Give | None:
    """Into a file of an MLflow run."""
    run = getattr(logger, "run_id", None)
    if run is None or not callable(log := getattr(experiment, method, None)):
        return None
    return partial(_write_artifact, log, run, ending)


def _write_artifact(log: Callable[..., Any], run: str, ending: str, tag: str, content: Any, step: int) -> None:
    log(run, content, f"{tag}/step-{step:08d}.{ending}")
