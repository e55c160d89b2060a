"""Loggers as they are: scalars to all of them, figures and text to those that take them, each on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

from le_callback.notices import Notices

_PLAIN_TENSORBOARD = ("lightning.fabric.loggers.tensorboard", "lightning_fabric.loggers.tensorboard")


Describe = Callable[[str], str]


def log_scalars(
    logger: Any, metrics: Mapping[str, float], step: int, descriptions: Mapping[str, str] | None = None
) -> None:
    """What ``logger.log_metrics(metrics, step)`` does; for TensorBoard as one event, which costs a tenth of one a tag.

    A logger that does something of its own with metrics gets them through its own ``log_metrics``.

    Args:
        logger: of the Trainer.
        metrics: values by tag.
        step: of them.
        descriptions: what TensorBoard shows beside a tag, of tags that are new to it.

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
    told = descriptions or {}
    values = [
        Summary.Value(
            tag=f"{prefix}{tag}",
            simple_value=value,
            metadata=SummaryMetadata(summary_description=told[tag]) if told.get(tag) else None,
        )
        for tag, value in metrics.items()
    ]
    writer.add_summary(Summary(value=values), step)


def _event_writer(logger: Any) -> Any:
    """The open event file of a logger that writes metrics as Lightning's TensorBoardLogger does, else ``None``."""
    if getattr(getattr(type(logger), "log_metrics", None), "__module__", None) not in _PLAIN_TENSORBOARD:
        return None
    writer = logger.experiment
    return writer.file_writer if type(writer).__module__ == "torch.utils.tensorboard.writer" else None


class Audience:
    """Hands things to loggers. One that raises is told once and left out from then on; the others get everything.

    A logger that fails with scalars gets nothing any more; one that fails with figures or texts no more of these.

    Args:
        notices: where failures are told.
        describe: what a tag means; empty where there is nothing to say.

    >>> from types import SimpleNamespace
    >>> seen = []
    >>> loggers = [SimpleNamespace(log_metrics=lambda metrics, step: seen.append((metrics, step)))]
    >>> Audience(Notices()).scalars(loggers, {"loss": 1.0}, 3)
    >>> seen
    [({'loss': 1.0}, 3)]
    """

    def __init__(self, notices: Notices, describe: Describe = lambda tag: "") -> None:
        self._notices, self._describe = notices, describe
        self._described: dict[int, set[str]] = {}  # tags by logger
        self._left_out: list[tuple[Any, str]] = []

    def scalars(self, loggers: Sequence[Any], metrics: Mapping[str, float], step: int) -> None:
        """Give scalars to all of them."""
        for logger in loggers:
            with self._on_its_own(logger, "scalars"):
                if not self._is_left_out(logger, "scalars"):
                    known = self._described.setdefault(id(logger), set())
                    log_scalars(logger, metrics, step, {t: self._describe(t) for t in metrics if t not in known})
                    known.update(metrics)

    def layout(self, loggers: Sequence[Any], layout: Mapping[str, Any]) -> None:
        """Give a layout of charts to those that take one (``add_custom_scalars``, as TensorBoard's writer has it)."""
        for logger, writer in self._writers(loggers, "layouts", "add_custom_scalars"):
            with self._on_its_own(logger, "layouts"):
                writer.add_custom_scalars(_prefixed(logger, layout))

    def text(self, loggers: Sequence[Any], tag: str, text: str, step: int) -> None:
        """Give a text to those that take text (``add_text``, as TensorBoard's writer has it)."""
        for logger, writer in self._writers(loggers, "texts", "add_text"):
            with self._on_its_own(logger, "texts"):
                writer.add_text(tag, text, step)

    def figure(self, loggers: Sequence[Any], tag: str, draw: Callable[[], Any], step: int) -> None:
        """Give a figure to those that can show it (``add_figure``); it is drawn for each of them."""
        for logger, writer in self._writers(loggers, "figures", "add_figure"):
            figure = draw()  # what fails here is not the logger
            with self._on_its_own(logger, "figures"):
                writer.add_figure(tag, figure, step)

    def sees(self, loggers: Sequence[Any]) -> bool:
        """Whether one of them takes figures or texts."""
        kinds = (("figures", "add_figure"), ("texts", "add_text"))
        return any(True for kind, method in kinds for _ in self._writers(loggers, kind, method))

    def _writers(self, loggers: Sequence[Any], kind: str, method: str) -> Iterator[tuple[Any, Any]]:
        for logger in loggers:
            experiment = None
            if not self._is_left_out(logger, kind):
                with self._on_its_own(logger, kind):
                    experiment = getattr(logger, "experiment", None)
            if callable(getattr(experiment, method, None)):
                yield logger, experiment

    def _is_left_out(self, logger: Any, kind: str) -> bool:
        return any(logger is other and kinds in ("scalars", kind) for other, kinds in self._left_out)

    @contextmanager
    def _on_its_own(self, logger: Any, kind: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._left_out.append((logger, kind))
            what = "" if kind == "scalars" else f" of {kind}"
            text = f"the logger {type(logger).__name__} failed and is left out{what} from now on"
            self._notices.tell(text, f"{type(error).__name__}: {error}")


def _prefixed(logger: Any, layout: Mapping[str, Any]) -> dict[str, Any]:
    """The layout with tags as the logger writes them."""
    prefix = getattr(logger, "_prefix", "")
    before = f"{prefix}{logger.LOGGER_JOIN_CHAR}" if prefix else ""
    return {
        group: {title: [kind, [f"{before}{tag}" for tag in tags]] for title, (kind, tags) in charts.items()}
        for group, charts in layout.items()
    }
