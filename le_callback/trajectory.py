"""The class means of a run as one file, and what can be estimated and forecast from them without training again.

K classes, p feature dimensions, T windows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.errors import require
from le_callback.forecast.bands import Forecast, forecast
from le_callback.recorder import SourceTrajectory
from le_callback.similarity import IModel, LEModel, LModel
from le_callback.values import Source

_FORMAT = 1
_CENTRED = ("times", "A", "B", "alpha", "beta", "gamma", "alpha_interval", "beta_interval", "gamma_interval")


@dataclass(frozen=True)
class Trajectory:
    """What a run leaves for later analysis, without training again.

    Attributes:
        sources: by name: ``features``, ``logits``, and with a probe ``probe_features``, ``probe_logits``.
        time_unit: of all times, in the singular.
        class_names: (K,).

    >>> times, means = np.arange(3.0), np.ones((3, 2, 4), dtype=np.float32)
    >>> source = SourceTrajectory(times, means, np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))
    >>> Trajectory({"logits": source}, "step", ("cat", "dog")).sources["logits"].means.shape
    (3, 2, 4)
    """

    sources: Mapping[str, SourceTrajectory]
    time_unit: str
    class_names: tuple[str, ...]

    def estimate(self, source: str, model: LEModel | str, **options: Any) -> LECoefficients:
        """Coefficients of one source, centred in time unless ``causal=True``; options of ``estimate_coefficients``.

        Times before every class was seen are left out. The window is at most the length of the run.

        Raises:
            ValueError: if there is no such source, or as ``estimate_coefficients``.
        """
        data = self._source(source)
        options.setdefault("window", min(51, len(data.times)))
        noise = None if Source.parse(source).probe else data.mean_noise
        return estimate_coefficients(data.means, data.times, model=model, noise=noise, **options)

    def forecast(
        self, source: str, model: LEModel | str, *, generator: torch.Generator | None = None, **options: Any
    ) -> Forecast:
        """Continue one source by simulation; options of ``dynamics.forecast.forecast``, such as ``until`` or ``level``.

        The within-class variances of the source give the separation time; for all sources but the probe's, the sampling
        error of the means is taken into account. Without a ``generator`` one of seed 0 is used.

        Raises:
            ValueError: if there is no such source, or as ``forecast``.
        """
        data = self._source(source)
        return forecast(
            data.means,
            data.times,
            model=model,
            generator=generator or torch.Generator().manual_seed(0),
            spread=data.mean_noise.astype(np.float64) * data.counts,
            sampling_noise=None if Source.parse(source).probe else data.mean_noise,
            time_unit=self.time_unit,
            **options,
        )

    def centred(self) -> dict[str, LECoefficients]:
        """Centred estimates by ``<model>_<source>``: the I-model of every source, the L-model of logits.

        A source with too few windows is left out.
        """
        found = {}
        for source in self.sources:
            for model in (IModel(), LModel()) if Source.parse(source).layer == "logits" else (IModel(),):
                with contextlib.suppress(ValueError):
                    found[f"{model.name}_{source}"] = self.estimate(source, model)
        return found

    def _source(self, name: str) -> SourceTrajectory:
        require(name in self.sources, "source", name, f"one of {', '.join(self.sources) or 'none'}")
        return self.sources[name]

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
