"""The class means of a run, window by window, kept within a budget and saved as one file.

K classes, p feature dimensions, T windows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.forecast.bands import Forecast, forecast
from le_callback.moments.sums import ClassStatistics
from le_callback.records import PROBE
from le_callback.similarity import IModel, LEModel, LModel

BUDGET_BYTES = 16 * 2**20  # of each source
MIN_WINDOWS = 32  # a source of which fewer windows fit the budget is left out

_FORMAT = 1
_CENTRED = ("times", "A", "B", "alpha", "beta", "gamma", "alpha_interval", "beta_interval", "gamma_interval")


@dataclass(frozen=True)
class SourceTrajectory:
    """Class means of one source over time; NaN where a class was not seen in a window."""

    times: NDArray[np.float64]  # (T,)
    means: NDArray[np.float32]  # (T, K, p)
    mean_noise: NDArray[np.float32]  # (T, K) within-class variance over samples: squared error of each mean
    counts: NDArray[np.float32]  # (T, K) samples


@dataclass(frozen=True)
class Trajectory:
    """What a run leaves for later analysis, without training again.

    >>> recorder = TrajectoryRecorder()
    >>> moments = ClassStatistics(*(torch.ones(2) for _ in range(2)), torch.ones(2, 3), torch.ones(2), torch.zeros(2))
    >>> for t in range(3):
    ...     recorder.add("logits", float(t), moments)
    >>> recorder.trajectory("step", ["cat", "dog"]).sources["logits"].means.shape
    (3, 2, 3)
    """

    sources: Mapping[str, SourceTrajectory]
    time_unit: str
    class_names: tuple[str, ...]

    def estimate(self, source: str, model: LEModel, **options: Any) -> LECoefficients:
        """Coefficients of one source, centred in time unless ``causal=True``; options of ``estimate_coefficients``.

        Times before every class was seen are left out. The window is at most the length of the run.

        Raises:
            ValueError: if there is no such source, or as ``estimate_coefficients``.
        """
        if source not in self.sources:
            raise ValueError(f"Expected `source` to be one of {', '.join(self.sources) or 'none'}, but got {source!r}.")
        data = self.sources[source]
        options.setdefault("window", min(51, len(data.times)))
        noise = None if source.startswith(PROBE) else data.mean_noise
        return estimate_coefficients(data.means, data.times, model=model, noise=noise, **options)

    def forecast(
        self, source: str, model: LEModel, *, generator: torch.Generator | None = None, **options: Any
    ) -> Forecast:
        """Continue one source by simulation; options of ``dynamics.forecast.forecast``, such as ``until`` or ``level``.

        The within-class variances of the source give the separation time; for all sources but the probe's, the sampling
        error of the means is taken into account. Without a ``generator`` one of seed 0 is used.

        Raises:
            ValueError: if there is no such source, or as ``forecast``.
        """
        if source not in self.sources:
            raise ValueError(f"Expected `source` to be one of {', '.join(self.sources) or 'none'}, but got {source!r}.")
        data = self.sources[source]
        return forecast(
            data.means,
            data.times,
            model=model,
            generator=generator or torch.Generator().manual_seed(0),
            spread=data.mean_noise.astype(np.float64) * data.counts,
            sampling_noise=None if source.startswith(PROBE) else data.mean_noise,
            time_unit=self.time_unit,
            **options,
        )

    def centred(self) -> dict[str, LECoefficients]:
        """Centred estimates by ``<model>_<source>``: the I-model of every source, the L-model of logits.

        A source with too few windows is left out.
        """
        found = {}
        for source in self.sources:
            for model in (IModel(), LModel()) if source.endswith("logits") else (IModel(),):
                with contextlib.suppress(ValueError):
                    found[f"{model.name}_{source}"] = self.estimate(source, model)
        return found

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` file; overwrites.

        Class means as ``<source>/<field>`` and, for readers without this package, the centred estimates as
        ``centred/<model>_<source>/<field>``.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, source in self.sources.items():
            for key, value in vars(source).items():
                arrays[f"{name}/{key}"] = value
        for name, coefficients in self.centred().items():
            for key in _CENTRED:
                arrays[f"centred/{name}/{key}"] = getattr(coefficients, key)
        about = {"format": _FORMAT, "time_unit": self.time_unit, "class_names": list(self.class_names)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read what ``save`` wrote; nothing in the file can run code.

        Raises:
            ValueError: if the file was not written by ``save``.
        """
        with np.load(Path(path), allow_pickle=False) as archive:
            if "about" not in archive:
                raise ValueError(f"Expected a trajectory written by `Trajectory.save`, but {path} holds none.")
            about = json.loads(str(archive["about"]))
            if about.get("format") != _FORMAT:
                raise ValueError(
                    f"The trajectory {path} has format {about.get('format')}; this version reads {_FORMAT}."
                )
            names = dict.fromkeys(key.split("/")[0] for key in archive.files if key.count("/") == 1)
            sources = {
                name: SourceTrajectory(
                    *(archive[f"{name}/{key}"] for key in ("times", "means", "mean_noise", "counts"))
                )
                for name in names
            }
        return cls(sources, about["time_unit"], tuple(about["class_names"]))


@dataclass
class _Rows:
    """Windows of one source: every ``stride``-th is kept, and the stride doubles when the budget is full."""

    stride: int = 1
    added: int = 0
    times: list[float] = field(default_factory=list)
    windows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)


@dataclass
class TrajectoryRecorder:
    """Collects windows; each source stays within ``budget`` bytes whatever the length of the run."""

    budget: int = BUDGET_BYTES
    _rows: dict[str, _Rows] = field(default_factory=dict)

    def add(self, source: str, time: float, statistics: ClassStatistics) -> None:
        """Keep the class moments of a window, if its source fits the budget."""
        capacity = self.budget // (4 * (statistics.mean.numel() + 2 * len(statistics.weight)))
        if capacity < MIN_WINDOWS:
            return
        rows = self._rows.setdefault(source, _Rows())
        if rows.added % rows.stride == 0:
            noise = statistics.mean_noise
            if source.startswith(PROBE):  # always the same samples: no noise, but a spread
                noise = statistics.variance / statistics.weight
            rows.times.append(time)
            rows.windows.append(tuple(x.detach().cpu().float() for x in (statistics.mean, noise, statistics.weight)))  # type: ignore[arg-type]
        rows.added += 1
        if len(rows.times) >= capacity:
            rows.times, rows.windows = rows.times[::2], rows.windows[::2]
            rows.stride *= 2

    def trajectory(self, time_unit: str, class_names: Sequence[str]) -> Trajectory:
        """What was collected so far."""
        sources = {}
        for name, rows in self._rows.items():
            means, noise, counts = (torch.stack(column).numpy() for column in zip(*rows.windows, strict=True))
            sources[name] = SourceTrajectory(np.array(rows.times), means, noise, counts)
        return Trajectory(sources, time_unit, tuple(class_names))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            name: {
                "stride": rows.stride,
                "added": rows.added,
                "times": list(rows.times),
                "windows": [torch.stack(column) for column in zip(*rows.windows, strict=True)],
            }
            for name, rows in self._rows.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._rows = {
            name: _Rows(
                saved["stride"],
                saved["added"],
                list(saved["times"]),
                list(zip(*(column.unbind() for column in saved["windows"]), strict=True)),
            )
            for name, saved in state.items()
        }
