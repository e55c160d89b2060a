"""Keeps the data files of a training, one in the folder of each logger that has one."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from le_callback.alerts.alert import Alert, filled
from le_callback.page.advice import ADVICE
from le_callback.page.datafile import DataFile
from le_callback.page.folders import data_name
from le_callback.page.rows import about_columns, columns_of, frame_of, row_of, verdict_of
from le_callback.records import WindowRecord

JUMP = 3.0  # factor between the learning rates of two windows that is told
DONE = ("separated", "converged")
QUIET = ("", "cannot tell", "not identifiable", "separating")  # have nothing to add to a jump of the rate


def folder_of(logger: Any) -> Path | None:
    """Where a logger keeps what belongs to its run; None where it has no folder.

    >>> from types import SimpleNamespace
    >>> folder_of(SimpleNamespace(log_dir="logs/version_0")).name, folder_of(SimpleNamespace(save_dir=None))
    ('version_0', None)
    """
    found = getattr(logger, "log_dir", None)
    if isinstance(found, (str, Path)) and str(found):
        return _local(found)
    save, name, version = (getattr(logger, key, None) for key in ("save_dir", "name", "version"))
    if not isinstance(save, (str, Path)) or not str(save) or version is None:
        return None
    parts = [str(part) for part in (name, version) if part not in (None, "")]
    root = _local(str(save).removeprefix("file:"))
    return None if root is None else root.joinpath(*(re.sub(r"[^\w.+-]", "_", part) for part in parts))


def _local(folder: str | Path) -> Path | None:
    return None if "://" in str(folder) else Path(folder)


@dataclass(frozen=True)
class About:
    """What the page says of a training as a whole.

    Attributes:
        version: of this package.
        class_names: (K,).
        settings: arguments of the callback, as text.
        after: optimizer step after which the training goes on.
    """

    version: str
    class_names: Sequence[str]
    settings: Mapping[str, str]
    after: int

    def head(self, record: WindowRecord, columns: Sequence[str]) -> dict[str, Any]:
        """The head of a data file."""
        return {
            "version": self.version,
            "versions": {"torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version()},
            "settings": dict(self.settings),
            "classes": list(self.class_names),
            "unit": record.time_unit,
            "columns": list(columns),
            "about": about_columns(columns),
            "advice": ADVICE,
            "after": self.after,
        }


class PageWriter:
    """Writes what each window says into the data files of a training.

    Args:
        name: of the callback, for a file name of its own.

    Attributes:
        files: that are written; the folders are those of the first window.
    """

    def __init__(self, name: str | None = None) -> None:
        self.files: list[DataFile] = []
        self._name = data_name(name)
        self._columns: tuple[str, ...] = ()
        self._verdict: str | None = None
        self._since: int | None = None
        self._standing: set[str] = set()
        self._unframed: WindowRecord | None = None
        self._rate = 0.0
        self._jump: list[float] | None = None

    @property
    def paths(self) -> list[Path]:
        """Of the files."""
        return [file.path for file in self.files]

    def window(
        self,
        folders: Callable[[], Sequence[Path]],
        about: Callable[[], About],
        record: WindowRecord,
        cost: tuple[float, float],
        rate: float,
    ) -> None:
        """Write a window.

        Args:
            folders: gives those to write to, asked once.
            about: says what the training is, asked when a file begins.
            record: of the window.
            cost: own time, milliseconds a step and share of a step.
            rate: learning rate now.
        """
        values = columns_of(record)
        if self._columns != tuple(values):
            self._columns = tuple(values)
            self._begin(folders(), about(), record)
        if not self.files:
            return
        verdict = verdict_of(record)[0]
        if verdict != self._verdict:
            self._verdict, self._since = verdict, record.window[0] if self._verdict is not None else 0
            self._add("verdict", {"step": record.step, "name": verdict})
        standing = {rule for rule, stands in record.alerts.items() if stands}
        for rule in sorted(self._standing - standing):
            self._add("over", {"step": record.step, "rule": rule})
        self._standing = standing
        row = row_of(record, values, self._since) | {"cost": list(cost), "rate_now": rate}
        if self._rate and rate and max(self._rate / rate, rate / self._rate) >= JUMP:
            self._add("rate", {"step": record.step, "factor": rate / self._rate})
            self._jump = [record.step, rate / self._rate] if rate > self._rate else None
        self._rate = rate
        if self._jump is not None and verdict not in DONE:
            row |= {"jump": self._jump, "todo": ["jump", *(key for key in row["todo"] if key not in QUIET)]}
        self._add("row", row)
        self._unframed = record
        wanting = [file for file in self.files if file.wants("frame")]
        frame = frame_of(record) if wanting else {}
        for file in self.files:
            if file in wanting:
                file.add("frame", frame)
            else:
                file.skip("frame")

    def alerts(self, alerts: Sequence[Alert], class_names: Sequence[str]) -> None:
        """Write alerts that were raised."""
        for alert in alerts:
            names = [class_names[k] if 0 <= k < len(class_names) else str(k) for k in alert.classes]
            texts = {key: filled(getattr(alert, key), names) for key in ("cause", "advice")}
            self._add("alert", {"step": alert.step, "rule": alert.rule, "classes": list(alert.classes), **texts})

    def forecast(self, step: int, text: str, charts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write what the latest forecast says, and it and the one before beside what came (``outlook.outlook``)."""
        if text:
            self._add("forecast", {"step": step, "text": text, "charts": list(charts)})

    def finish(self) -> None:
        """The training ends: its last row and frame are written, whatever the strides."""
        for file in self.files:
            if self._unframed is not None and not file.framed:
                file.write("frame", frame_of(self._unframed))
            file.finish()

    def _add(self, kind: str, content: Mapping[str, Any]) -> None:
        for file in self.files:
            file.add(kind, content)

    def _begin(self, folders: Sequence[Path], about: About, record: WindowRecord) -> None:
        head = about.head(record, self._columns)
        if self.files:  # the tags have changed on the way
            head["after"] = record.window[0]
        paths = dict.fromkeys((folder / self._name).absolute() for folder in folders)
        self.files = [DataFile(path, head, head["after"]) for path in paths]
        for file in self.files[:1]:
            self._verdict = file.before.get("verdict", self._verdict)
            self._since = file.before.get("since", self._since)
            self._standing |= set(file.before.get("alerts", ()))
