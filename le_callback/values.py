"""Plain values that all rooms share: arrays, numbers with intervals, sources, series of bounded length, tags."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NAN = math.nan
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval.

    Attributes:
        value: the estimate; NaN where nothing can be estimated.
        low, high: ends of the interval.

    >>> Estimate(0.2, 0.1, 0.3).low
    0.1
    """

    value: float
    low: float
    high: float

    @classmethod
    def unknown(cls) -> Estimate:
        """What is reported where nothing can be estimated."""
        return cls(NAN, NAN, NAN)


@dataclass(frozen=True)
class Source:
    """Where class means are taken, and of which samples.

    Attributes:
        layer: ``"features"``, what enters the head, or ``"logits"``, what leaves it.
        probe: whether the samples are those of the probe, always the same, instead of training batches.

    >>> str(Source("logits", probe=True)), Source.parse("probe_logits") == Source("logits", probe=True)
    ('probe_logits', True)
    """

    layer: str
    probe: bool = False

    def __str__(self) -> str:
        return f"probe_{self.layer}" if self.probe else self.layer

    @classmethod
    def parse(cls, name: str) -> Source:
        """The source of that name."""
        layer = name.removeprefix("probe_")
        return cls(layer, probe=layer != name)


@dataclass
class BoundedSeries(Generic[T]):
    """Points (time, value) of a run of any length: every ``stride``-th is kept, and the stride doubles when full.

    Attributes:
        capacity: points that are kept at most.
        stride: every how many-th point is kept.
        added: points that were given.
        times: of the points that are kept.
        values: these points.

    >>> series = BoundedSeries(capacity=4)
    >>> for t in range(6):
    ...     series.add(float(t), 10 * t)
    >>> series.times, series.stride
    ([0.0, 2.0, 4.0], 2)
    """

    capacity: int = 4096
    stride: int = 1
    added: int = 0
    times: list[float] = field(default_factory=list)
    values: list[T] = field(default_factory=list)

    def add(self, time: float, value: T) -> None:
        """Append a point; thin when full."""
        if self.added % self.stride == 0:
            self.times.append(time)
            self.values.append(value)
        self.added += 1
        self.shrink(self.capacity)

    def shrink(self, capacity: int) -> None:
        """Keep less than ``capacity`` points from now on, at least one."""
        self.capacity = capacity
        while len(self.times) >= max(capacity, 2):
            self.times, self.values = self.times[::2], self.values[::2]
            self.stride *= 2

    def state_dict(self) -> dict[str, Any]:
        """Arguments for a series that goes on from here; the values as they are."""
        return {"stride": self.stride, "added": self.added, "times": list(self.times), "values": list(self.values)}


@dataclass(frozen=True)
class Tag:
    """A scalar that loggers, tables and pages are given, and how it is read from a record.

    Attributes:
        name: the tag; ``{model}``, ``{source}`` or ``{rule}`` in it stands for each of what it is read from.
        label: short name, for axes.
        unit: of the value; empty where it has none.
        meaning: one sentence.
        look_for: what healthy looks like, and what trouble does.
        better: whether ``higher`` or ``lower`` values are good, or ``neither``.
        chart: the values of one chart have this in common.
        read: from the record that the tag belongs to.
        essential: whether loggers get it by default; or for which models, sources or rules.
        interval: whether ``read`` gives an ``Estimate``: then ``<name>_low`` and ``<name>_high`` go with it.
        ends_essential: whether loggers get these two by default, too.
        per_time: whether the value is per unit of time, which is then in the tag unless it is the optimizer step.
        row: its row in the table at the end of a run; ``{unit}`` and ``{ideal}`` are filled in. Empty: none.
        classes: reads the classes that the value is about, which the table names.
    """

    name: str
    label: str
    unit: str
    meaning: str
    look_for: str
    better: Literal["higher", "lower", "neither"]
    chart: str
    read: Callable[[Any], float | Estimate]
    essential: bool | tuple[str, ...] = False
    interval: bool = False
    ends_essential: bool = True
    per_time: bool = False
    row: str = ""
    classes: Callable[[Any], tuple[int, ...] | None] | None = None

    def is_essential(self, key: str) -> bool:
        """Whether loggers get it by default for this model, source or rule."""
        return self.essential if isinstance(self.essential, bool) else key in self.essential


def html_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A table of two columns for notebooks; everything in it is text.

    >>> html_table("a < b", [("name", "value")])
    '<table><caption>a &lt; b</caption><tr><th>name</th><td>value</td></tr></table>'
    """
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"
