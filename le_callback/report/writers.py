"""Loggers as they are: scalars to all of them, figures and text to those that take them, each on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

from le_callback.notices import Notices
from le_callback.report.event_file import event_writer
from le_callback.report.hparams import write_hparams
from le_callback.report.viewers import figure_giver, text_giver

Describe = Callable[[str], str]
_SCALAR = SummaryMetadata.PluginData(plugin_name="scalars")


def log_scalars(
    logger: Any,
    metrics: Mapping[str, float],
    step: int,
    descriptions: Mapping[str, str] | None = None,
    again: Mapping[str, str] | None = None,
) -> None:
    """What ``logger.log_metrics(metrics, step)`` does; for TensorBoard as one event, which costs a tenth of one a tag.

    A logger that does something of its own with metrics gets them through its own ``log_metrics``.

    Args:
        logger: of the Trainer.
        metrics: values by tag.
        step: of them.
        descriptions: what TensorBoard shows beside a tag, of tags that are new to it.
        again: further tags for TensorBoard alone, and the tag whose value each shows once more.

    >>> from types import SimpleNamespace
    >>> seen = []
    >>> log_scalars(SimpleNamespace(log_metrics=lambda metrics, step: seen.append((metrics, step))), {"loss": 1.0}, 3)
    >>> seen
    [({'loss': 1.0}, 3)]
    """
    writer = event_writer(logger)
    if writer is None:
        logger.log_metrics(dict(metrics), step=step)
        return
    prefix = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if logger._prefix else ""
    told = descriptions or {}
    shown = [*((tag, tag) for tag in metrics), *((tag, of) for tag, of in (again or {}).items() if of in metrics)]
    values = [
        Summary.Value(
            tag=f"{prefix}{tag}",
            simple_value=metrics[of],
            metadata=SummaryMetadata(summary_description=told[of], plugin_data=_SCALAR) if told.get(of) else None,
        )
        for tag, of in shown
    ]
    writer.add_summary(Summary(value=values), step)


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
        self._finite_only: set[int] = set()
        self._left_out: list[tuple[Any, str]] = []

    def scalars(
        self, loggers: Sequence[Any], metrics: Mapping[str, float], step: int, again: Mapping[str, str] | None = None
    ) -> None:
        """Give scalars to all of them, some once more under other tags to TensorBoard (``log_scalars``)."""
        for logger in loggers:
            with self._on_its_own(logger, "scalars"):
                if not self._is_left_out(logger, "scalars"):
                    self._give(logger, metrics, step, again)

    def _give(self, logger: Any, metrics: Mapping[str, float], step: int, again: Mapping[str, str] | None) -> None:
        """Give scalars to one; to one that refuses what is not finite from then on only what is."""
        known = self._described.setdefault(id(logger), set())
        new = {tag: self._describe(tag) for tag in metrics if tag not in known}
        finite = {tag: value for tag, value in metrics.items() if math.isfinite(value)}
        try:
            log_scalars(logger, finite if id(logger) in self._finite_only else metrics, step, new, again)
        except Exception as error:
            if id(logger) in self._finite_only or len(finite) == len(metrics):
                raise
            log_scalars(logger, finite, step, new, again)
            self._finite_only.add(id(logger))
            text = f"the logger {type(logger).__name__} gets no values that are not known, as it refuses them"
            self._notices.tell(text, f"{type(error).__name__}: {error}")
        known.update(metrics)

    def layout(self, loggers: Sequence[Any], layout: Mapping[str, Any]) -> None:
        """Give a layout of charts to those that take one (``add_custom_scalars``, as TensorBoard's writer has it)."""
        for logger, add in self._givers(loggers, "layouts", _layout_giver):
            with self._on_its_own(logger, "layouts"):
                add(_prefixed(logger, layout))

    def text(self, loggers: Sequence[Any], tag: str, text: str, step: int) -> None:
        """Give a text to those that take text."""
        for logger, give in self._givers(loggers, "texts", text_giver):
            with self._on_its_own(logger, "texts"):
                give(tag, text, step)

    def figure(self, loggers: Sequence[Any], tag: str, draw: Callable[[], Any], step: int) -> None:
        """Give a figure to those that can show it; it is drawn for each of them."""
        for logger, give in self._givers(loggers, "figures", figure_giver):
            figure = draw()  # what fails here is not the logger
            with self._on_its_own(logger, "figures"):
                give(tag, figure, step)

    def hparams(self, loggers: Sequence[Any], name: str, values: Mapping[str, str | float]) -> None:
        """Give TensorBoard a row of its HPARAMS tab, in a folder of this name; not where the run has a row already."""
        for logger in loggers:
            with self._on_its_own(logger, "hyperparameters"):
                if event_writer(logger) is not None and not getattr(logger, "hparams", None):
                    write_hparams(Path(logger.log_dir) / name, values)

    def sees(self, loggers: Sequence[Any]) -> bool:
        """Whether one of them takes figures or texts."""
        kinds = (("figures", figure_giver), ("texts", text_giver))
        return any(True for kind, find in kinds for _ in self._givers(loggers, kind, find))

    def _givers(
        self, loggers: Sequence[Any], kind: str, find: Callable[[Any], Callable[..., Any] | None]
    ) -> Iterator[tuple[Any, Callable[..., Any]]]:
        for logger in loggers:
            give = None
            if not self._is_left_out(logger, kind):
                with self._on_its_own(logger, kind):
                    give = find(logger)
            if give is not None:
                yield logger, give

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


def _layout_giver(logger: Any) -> Callable[..., Any] | None:
    found = getattr(getattr(logger, "experiment", None), "add_custom_scalars", None)
    return found if callable(found) else None


def _prefixed(logger: Any, layout: Mapping[str, Any]) -> dict[str, Any]:
    """The layout with tags as the logger writes them."""
    prefix = getattr(logger, "_prefix", "")
    before = f"{prefix}{logger.LOGGER_JOIN_CHAR}" if prefix else ""
    return {
        group: {title: [kind, [f"{before}{tag}" for tag in tags]] for title, (kind, tags) in charts.items()}
        for group, charts in layout.items()
    }
