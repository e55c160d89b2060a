"""Hands what a window says to the loggers, the Trainer's metrics and its progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from le_callback.monitor import MODELS, MonitorSettings, SeparationMonitor
from le_callback.notices import Notices
from le_callback.probe.epoch_pass import EpochReading
from le_callback.records import WindowRecord
from le_callback.report.fan_chart import fan_chart
from le_callback.report.heatmaps import cosine_figure, matrix_figure
from le_callback.report.overview import GROUP, overview
from le_callback.report.running_forecast import RunningForecast, primary_source
from le_callback.report.tags import Level, epoch_scalars, find_tag, scalars
from le_callback.report.terminal import spelled, terminal_encoding
from le_callback.report.writers import Audience
from le_callback.trajectory import Trajectory
from le_callback.values import Source


class Publisher:
    """Knows under which names things are told, and to whom.

    Args:
        notices: where loggers that fail are told.
        name: of the callback; goes before every tag and behind γ in the progress bar.
        level: which tags loggers get; ``trainer.callback_metrics`` hold all of them.
        progress_bar: whether γ is put into the progress bar.
    """

    def __init__(
        self, notices: Notices, name: str | None = None, level: Level = "essential", progress_bar: bool = True
    ) -> None:
        self.prefix = f"{name}/" if name else ""
        self._audience = Audience(notices, self._meaning)
        self._laid_out = False
        self._symbol = spelled(f"γ {name}" if name else "γ", terminal_encoding())
        self._level = level
        self._progress_bar = progress_bar
        self._expected: dict[str, Tensor] = {}
        self._never: tuple[str, ...] = ()

    def expect(
        self, trainer: Trainer, settings: MonitorSettings, alerts: Mapping[str, bool], of_epochs: Sequence[str] = ()
    ) -> None:
        """Put every tag into ``trainer.callback_metrics``, NaN until a window has closed: monitors may look before.

        Which tags there are does not depend on the classes. What is there already stays.

        Args:
            trainer: of the training.
            settings: of its monitor.
            alerts: rules that are asked.
            of_epochs: values that are read at the end of epochs.
        """
        record = SeparationMonitor(2, replace(settings, matrix_classes=None)).close(0)
        tags = list(self._named(replace(record, alerts=alerts)))
        nothing = EpochReading(0, dict.fromkeys(of_epochs, math.nan), samples=0, out_samples=0)
        tags += [f"{self.prefix}{tag}" for tag in epoch_scalars(nothing, None)]
        self._expected = {tag: torch.tensor(math.nan) for tag in tags}
        for tag, unknown in self._expected.items():
            trainer.callback_metrics.setdefault(tag, unknown)

    def leave_out(self, trainer: Trainer, widths: Mapping[str, int], num_classes: int) -> None:
        """Tell no tags of models that layers of these widths are too narrow for: they would be NaN for ever."""
        models = [f"{m.name}_{{}}{layer}" for m, layer in MODELS if widths[layer] < m.min_dimensions(num_classes)]
        self._never = tuple(f"le/{model.format(probe)}/" for model in models for probe in ("", "probe_"))
        if any(model.startswith("L_") for model in models):
            self._never += ("collapse/predicted",)
        for tag in [tag for tag in self._expected if tag.removeprefix(self.prefix).startswith(self._never)]:
            if trainer.callback_metrics.get(tag) is self._expected.pop(tag):
                del trainer.callback_metrics[tag]

    def _named(self, record: WindowRecord, level: Level = "all") -> dict[str, float]:
        """The scalars of a window by their names here."""
        found = scalars(record, level).items()
        return {f"{self.prefix}{tag}": value for tag, value in found if not tag.startswith(self._never)}

    def withdraw(self, trainer: Trainer) -> None:
        """Take back what was expected and never came."""
        for tag, unknown in self._expected.items():
            if trainer.callback_metrics.get(tag) is unknown:
                del trainer.callback_metrics[tag]

    def window(self, trainer: Trainer, record: WindowRecord, before: WindowRecord | None) -> None:
        """Tell what is told of every window: scalars, γ in the progress bar, the verdict where it has changed."""
        self.metrics(trainer, record)
        self.scalars(trainer, record)
        if before is None or getattr(before.regime, "name", None) != getattr(record.regime, "name", None):
            self.verdict(trainer, record)

    def metrics(self, trainer: Trainer, record: WindowRecord) -> None:
        """Put all scalars into ``trainer.callback_metrics`` for monitors, and γ into the progress bar once it is known.

        ``self.log`` would be flushed on the Trainer's own log steps only.
        """
        found = self._named(record)
        values = torch.tensor(list(found.values())).unbind()
        trainer.callback_metrics.update(zip(found, values, strict=True))
        gamma = record.primary.gamma.value
        if self._progress_bar and not math.isnan(gamma):
            trainer.progress_bar_metrics[self._symbol] = gamma
        else:
            trainer.progress_bar_metrics.pop(self._symbol, None)

    def scalars(self, trainer: Trainer, record: WindowRecord) -> None:
        """Give the scalars of the level to all loggers."""
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        named = self._named(record, self._level)
        self._audience.scalars(trainer.loggers, named, step, overview(named, self.prefix))
        if not self._laid_out:
            self._laid_out = True
            title = self.prefix.rstrip("/") or "separability"
            self._audience.layout(trainer.loggers, {title: _charts(named, self.prefix)})

    def epoch(self, trainer: Trainer, reading: EpochReading, record: WindowRecord | None) -> None:
        """Tell what whole data sets say at the end of an epoch, beside the last window."""
        for tag, value in epoch_scalars(reading, record).items():
            trainer.callback_metrics[f"{self.prefix}{tag}"] = torch.tensor(value)
        named = {f"{self.prefix}{tag}": x for tag, x in epoch_scalars(reading, record, self._level).items()}
        self._audience.scalars(trainer.loggers, named, trainer.fit_loop.epoch_loop._batches_that_stepped)

    def _meaning(self, tag: str) -> str:
        """What TensorBoard tells beside a tag."""
        found = find_tag(tag.removeprefix(self.prefix))
        return "" if found is None else f"{found.meaning} Look for: {found.look_for}."

    def finish(self, trainer: Trainer, record: WindowRecord, class_names: Sequence[str]) -> None:
        """The end of the run as a row of TensorBoard's HPARAMS tab: verdict, worst pair, and the overview's values."""
        named = self._named(record, self._level)
        values: dict[str, str | float] = {f"{GROUP}/0_verdict": getattr(record.regime, "name", "not known")}
        found = record.discriminability.get("logits") or record.discriminability.get("features")
        if found is not None and found.worst:
            values[f"{GROUP}/3_worst_pair_classes"] = " / ".join(class_names[k] for k in found.worst[0][:2])
        values |= {
            f"{GROUP}/{card.partition('/')[2]}": named[tag] for card, tag in overview(named, self.prefix).items()
        }
        self._audience.hparams(
            trainer.loggers, f"{GROUP.lower()}{self.prefix and '-' + self.prefix.rstrip('/')}", values
        )

    def has_viewers(self, trainer: Trainer) -> bool:
        """Whether a logger could show a figure or a text."""
        return self._audience.sees(trainer.loggers)

    def text(self, trainer: Trainer, tag: str, text: str, step: int) -> None:
        """Give a text to those loggers that take text."""
        self._audience.text(trainer.loggers, f"{self.prefix}{tag}", text, step)

    def verdict(self, trainer: Trainer, record: WindowRecord) -> None:
        """Give the verdict as text."""
        if record.regime is not None:
            text = f"**{record.regime.name}**: {record.regime.reason}.\n\nTheorem: {record.regime.theorem}"
            self.text(trainer, "separation/regime", text, record.step)

    def heatmaps(self, trainer: Trainer, record: WindowRecord, class_names: Sequence[str]) -> None:
        """Give the figures of a window to those loggers that take figures."""
        figures: dict[str, Callable[[], Any]] = {}
        if record.etf:
            title = f"Cosines of class means, step {record.step:,}"
            figures["etf/cosines"] = partial(cosine_figure, record.etf, class_names, title)
        if any(matrix.strongest_pair for matrix in record.response_matrix.values()):
            title = f"LE matrix, measured up to step {record.step:,}"
            figures["le/matrix"] = partial(matrix_figure, record.response_matrix, class_names, title)
        for tag, draw in figures.items():
            self._audience.figure(trainer.loggers, f"{self.prefix}{tag}", draw, record.step)

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
                draw = partial(fan_chart, forecast, truth, noisy=not Source.parse(source).probe)
                self._audience.figure(trainer.loggers, f"{self.prefix}{tag}", draw, step)
        self.text(trainer, "separation/forecast", running.sentence(), step)


def _charts(tags: Iterable[str], prefix: str) -> dict[str, list[Any]]:
    """A chart with a band for each tag that has an interval, as TensorBoard's writer takes them."""
    known = set(tags)
    bands = {tag: (f"{tag}_low", f"{tag}_high") for tag in known}
    return {
        tag.removeprefix(prefix): ["Margin", [tag, *ends]] for tag, ends in sorted(bands.items()) if known >= set(ends)
    }
