"""The class means of a run as one file, and what can be estimated and forecast from them without training again.

K classes, p feature dimensions, T windows.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.errors import require
from le_callback.forecast.bands import Forecast, forecast
from le_callback.recorder import SourceTrajectory
from le_callback.similarity import IModel, LEModel, LModel
from le_callback.values import Source, html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMAT = 1
_CENTRED = ("times", "A", "B", "alpha", "beta", "gamma", "alpha_interval", "beta_interval", "gamma_interval")
_SOURCES = tuple(str(Source(layer, probe)) for probe in (False, True) for layer in ("features", "logits"))
_DIMENSIONS = {"times": 1, "means": 3, "mean_noise": 2, "counts": 2}


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

        Times before every class was seen are left out.

        Raises:
            ValueError: if there is no such source, or as ``estimate_coefficients``.
        """
        data = self._source(source)
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

    def plot(
        self, what: str = "gap", source: str = "logits", model: LEModel | str = "I", ax: Axes | None = None
    ) -> Axes:
        """Draw the run, for a paper or a notebook, as ``plot`` of a torchmetrics metric does.

        Args:
            what: ``"gap"``: distance of two class means, root mean square over pairs, with a band from the nearest to
                the farthest pair; or ``"alpha"``, ``"beta"`` or ``"gamma"``: the coefficient with its interval.
            source: as in ``sources``.
            model: similarity model of the coefficient.
            ax: to draw into; new ones if left out.

        Returns:
            The axes; their figure is ``ax.figure``.

        Raises:
            ValueError: if there is no such quantity or source, or as ``estimate``.

        >>> means = np.arange(1.0, 9.0, dtype=np.float32)[:, None, None] * np.eye(2, dtype=np.float32)
        >>> ones = np.ones((8, 2), dtype=np.float32)
        >>> logits = SourceTrajectory(np.arange(8.0), means, 0 * ones, ones)
        >>> Trajectory({"logits": logits}, "step", ("cat", "dog")).plot("gap").get_ylabel()
        'distance of class means, logits'
        """
        known = ("gap", "alpha", "beta", "gamma")
        require(what in known, "what", what, f"one of {', '.join(known)}")
        curve = _gaps(self._source(source)) if what == "gap" else _coefficient(self.estimate(source, model), what)
        times, middle, low, high = curve
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(5, 3.2), layout="constrained").subplots()
        ax.plot(times, middle)
        ax.fill_between(times, low, high, alpha=0.2, linewidth=0)
        ax.set_xlabel(f"time, {self.time_unit}s")
        if what == "gap":
            ax.set_yscale("log")
            ax.set_ylabel(f"distance of class means, {source}")
        else:
            ax.axhline(0, color="0.5", linewidth=0.8)
            ax.set_ylabel(f"{ {'alpha': 'α', 'beta': 'β', 'gamma': 'γ'}[what] } per {self.time_unit}, {source}")
        return ax

    def _repr_html_(self) -> str:
        """A small table for notebooks: each source with its windows, and the gap between its classes at both ends."""
        unit, names = self.time_unit, self.class_names
        rows = [("classes", f"{len(names)}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}")]
        for name, source in self.sources.items():
            times, gaps, _, _ = _gaps(source)
            if len(times):
                span = f"{len(times)} windows, {unit} {times[0]:,.4g} to {times[-1]:,.4g}"
                rows.append((name.replace("_", " "), f"{span}; gap {gaps[0]:.3g} to {gaps[-1]:.3g}"))
        return html_table("Trajectory", rows)

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
        about["arrays"] = list(arrays)  # a damaged list of contents hides some without an error
        with Path(path).open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read what ``save`` wrote; nothing in the file can run code.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file was not written by ``save``, is damaged, or does not agree with itself.
        """
        try:
            arrays = _read(Path(path))
            about = json.loads(str(arrays.pop("about")))
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # zip, zlib, pickle, header and memory each have errors of their own
            raise ValueError(
                f"Expected a trajectory written by `Trajectory.save`, but {path} is none or is damaged"
                f" ({type(error).__name__}: {error})."
            ) from error
        try:
            return _assembled(about, arrays)
        except _InconsistentError as error:
            raise ValueError(f"The trajectory {path} cannot be used: {error}.") from None


def _gaps(source: SourceTrajectory) -> tuple[NDArray[Any], ...]:
    """Times, and the root mean square, smallest and largest distance of two class means (T,); NaN without two."""
    K = source.means.shape[1]
    rows, columns = np.triu_indices(K, 1)
    found = []
    for means in source.means.astype(np.float64):
        squares = (means**2).sum(1)
        pairs = (squares[:, None] + squares - 2 * means @ means.T)[rows, columns].clip(min=0)
        known = pairs[~np.isnan(pairs)]
        found.append((known.mean(), known.min(), known.max()) if len(known) else (np.nan,) * 3)
    return source.times, *np.sqrt(found).T


def _coefficient(coefficients: LECoefficients, name: str) -> tuple[NDArray[Any], ...]:
    """Times, a coefficient and the ends of its interval (T,)."""
    interval = getattr(coefficients, f"{name}_interval")
    return coefficients.times, getattr(coefficients, name), interval[:, 0], interval[:, 1]


class _InconsistentError(Exception):
    """What a file says does not fit together; completes "cannot be used: …"."""


def _insist(holds: bool, what: str) -> None:
    if not holds:
        raise _InconsistentError(what)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file that hold no objects, by name; raises whatever is wrong with it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        found = {}
        for name in names:
            with archive.open(name) as file:
                found[name.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                file.read()  # to the end, where the checksum is
    return found


def _assembled(about: Any, arrays: Mapping[str, NDArray[Any]]) -> Trajectory:
    _insist(isinstance(about, dict), "it does not say what it holds")
    form, unit, names = (about.get(key) for key in ("format", "time_unit", "class_names"))
    _insist(form == _FORMAT, f"it has format {form!r}, and this version reads {_FORMAT}")
    _insist(isinstance(unit, str), f"its unit of time is {unit!r}")
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _insist(named, "its class names are no list of names")
    told = about.get("arrays", [])  # older files do not tell
    _insist(isinstance(told, list), "its list of arrays is none")
    missing = [key for key in told if key not in arrays]
    _insist(not missing, f"{missing[0] if missing else ''} is missing")
    layers = dict.fromkeys(key.split("/")[0] for key in arrays if key.count("/") == 1)
    sources = {name: _source(name, arrays, len(names)) for name in layers}
    return Trajectory(sources, unit, tuple(names))


def _source(name: str, arrays: Mapping[str, NDArray[Any]], num_classes: int) -> SourceTrajectory:
    """One source of a file, once its arrays fit together."""
    _insist(name in _SOURCES, f"it holds a source {name!r}; there are {', '.join(_SOURCES)}")
    parts = {}
    for field, dimensions in _DIMENSIONS.items():
        array = arrays.get(f"{name}/{field}")
        _insist(array is not None, f"{name}/{field} is missing")
        assert array is not None
        _insist(array.dtype.kind in "fiu", f"{name}/{field} holds no numbers")
        _insist(array.ndim == dimensions, f"{name}/{field} has {array.ndim} dimensions, not {dimensions}")
        parts[field] = array
    T, K, p = parts["means"].shape
    expected = {"times": (T,), "mean_noise": (T, K), "counts": (T, K)}
    for field, shape in expected.items():
        _insist(
            parts[field].shape == shape,
            f"{name}/{field} has shape {parts[field].shape}, and {name}/means {parts['means'].shape}",
        )
    _insist(num_classes == K, f"it names {num_classes} classes, and {name}/means has {K}")
    _insist(T > 0 and K > 0 and p > 0, f"{name}/means is empty")
    times = parts["times"].astype(np.float64)
    ordered = bool(np.isfinite(times).all() and (np.diff(times) >= 0).all())
    _insist(ordered, f"{name}/times are not finite and in order")
    _insist(not (parts["counts"] < 0).any(), f"{name}/counts are below zero")
    rest = (parts[field].astype(np.float32, copy=False) for field in ("means", "mean_noise", "counts"))
    return SourceTrajectory(times, *rest)
