"""Pass whole data sets through the model at the end of an epoch: neural collapse of all samples, and of other data.

The training is not touched, as by a probe. K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from le_callback.capture.base import Capture
from le_callback.capture.labels import LabelReader, align
from le_callback.errors import require, require_type
from le_callback.measures import NeuralCollapse, orthogonality
from le_callback.measures.head_weights import read_head
from le_callback.measures.metrics import COLLAPSE_NAMES
from le_callback.probe.data import BATCH_SIZE, by_index, ending, probe_batches, training_batches
from le_callback.probe.probe import Forward, Passing, device_of, run_batch, untouched

TRAIN: Literal["train"] = "train"
WholeData = Literal["train"] | Sequence[Any] | Dataset[Any] | DataLoader[Any]
OutData = Tensor | Sequence[Any] | Dataset[Any] | DataLoader[Any]


@dataclass(frozen=True)
class EpochReading:
    """What whole data sets say at the end of an epoch.

    Attributes:
        step: optimizer step.
        values: ``nc1``, …, ``stable_rank`` as ``NeuralCollapse`` computes them; NaN where unknown.
        samples: labelled samples that were read.
        out_samples: out-of-distribution samples that were read.

    >>> EpochReading(9, {"nc1": 0.5}, samples=100, out_samples=0).values["nc1"]
    0.5
    """

    step: int
    values: Mapping[str, float]
    samples: int
    out_samples: int


class EpochPass:
    """Labelled data, and data out of distribution, and how to pass them through a model.

    Args:
        exact: labelled samples: a loader, a dataset, a pair of tensors (inputs, labels), or ``"train"`` for the
            training data, which are read by index, in the order of the dataset; None: none.
        out: samples that belong to none of the classes: a loader, a dataset, a tensor; labels are not looked at.
        read_labels: finds the labels in a batch.
        forward: how to call the model on a batch; by default the module is called on the batch without its labels.
        ignore_index: integer label that is left out.

    Raises:
        TypeError: if ``exact`` or ``out`` is none of these.
    """

    def __init__(
        self,
        exact: WholeData | None,
        out: OutData | None,
        read_labels: LabelReader,
        forward: Forward | None = None,
        ignore_index: int | None = None,
    ) -> None:
        check_data(exact, out)
        self._exact, self._out = exact, out
        self._read_labels, self._forward = read_labels, forward
        self._ignore_index = ignore_index

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values that are read."""
        return ("nc5",) if self._exact is None else COLLAPSE_NAMES

    def check(self, training_loader: Any) -> None:
        """Refuse training data that cannot be read by index, where these are to be read.

        Raises:
            ValueError: for such data.
        """
        fits = not isinstance(self._exact, str) or by_index(training_loader)
        expected = "a loader, a Dataset or (inputs, labels), as the training data cannot be read by index"
        require(fits, "exact", self._exact, expected)

    def read(
        self,
        module: nn.Module,
        capture: Capture,
        training_loader: Any,
        passing: Passing,
        step: int,
        means: Tensor | None,
    ) -> EpochReading:
        """Pass all data through the model.

        Args:
            module: the model.
            capture: of the training.
            training_loader: of the training.
            passing: how a batch gets to the model.
            step: optimizer step now.
            means: class means (K, p) that ``nc5`` is taken of where there are no labelled data; NaN where unknown.

        Raises:
            RuntimeError: where the head is not called.
        """
        metric: NeuralCollapse | None = None
        samples = out_samples = 0
        total: Tensor | None = None
        with untouched(module, device_of(module)):
            for batch in ending(self._exact_batches(training_loader), self._exact, "exact"):
                features, logits, target = self._labelled(module, capture, batch, passing)
                if metric is None:
                    metric = self._metric(capture, features)
                metric.update(features, target, logits)
                samples += len(features)
            for batch in ending(_out_batches(self._out), self._out, "out_of_distribution"):
                features = self._unlabelled(module, capture, batch, passing)
                features = features[features.isfinite().all(1)]
                total = features.double().sum(0) + (0 if total is None else total)
                out_samples += len(features)
                if metric is not None:
                    metric.update_out(features)
            capture.clear()
        values = {} if metric is None else {name: float(value) for name, value in metric.compute().items()}
        if metric is None and means is not None and total is not None and out_samples:
            known = means[means.isfinite().all(1)]
            values = {"nc5": orthogonality(known.to(total), total / out_samples)} if len(known) else {}
        return EpochReading(step, values, samples, out_samples)

    def _exact_batches(self, training_loader: Any) -> Iterator[Any]:
        if self._exact is None:
            return iter(())
        if isinstance(self._exact, str):
            return training_batches(training_loader)
        return probe_batches(self._exact)

    def _metric(self, capture: Capture, features: Tensor) -> NeuralCollapse:
        """Each process reads all data, so that there is nothing to add up."""
        K, p = capture.num_classes, features.shape[1]
        metric = NeuralCollapse(K, p, ignore_index=self._ignore_index, sync_on_compute=False)
        metric = metric.to(features.device)
        if (head := read_head(capture.module, K, p, features.device)) is not None:
            metric.set_head(head)
        return metric

    def _labelled(
        self, module: nn.Module, capture: Capture, batch: Any, passing: Passing
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = passing.to_device(batch)
        labels = self._read_labels(batch)
        captured = self._captured(module, capture, batch, labels, passing)
        return tuple(_readable(x) for x in align(*captured, labels, capture.num_classes))  # type: ignore[return-value]

    def _unlabelled(self, module: nn.Module, capture: Capture, batch: Any, passing: Passing) -> Tensor:
        """Features (N, p)."""
        batch, labels = passing.to_device(batch), None
        with suppress(Exception):  # there need not be any
            labels = self._read_labels(batch)
        features, _ = self._captured(module, capture, batch, labels, passing)
        return _readable(features.reshape(-1, features.shape[-1]))

    def _captured(
        self, module: nn.Module, capture: Capture, batch: Any, labels: Tensor | None, passing: Passing
    ) -> tuple[Tensor, Tensor]:
        capture.clear()
        run_batch(module, capture, batch, labels, passing, self._forward)
        captured = capture.take()
        if captured is None:
            raise RuntimeError("the forward pass of the data did not call the head")
        features, logits = captured
        return features, logits


def check_data(exact: Any, out: Any) -> None:
    """Refuse arguments that are no data.

    >>> check_data("test", None)
    Traceback (most recent call last):
    TypeError: Expected argument `exact` to be "train", a DataLoader, a Dataset or a pair of tensors, but got 'test'.
    """
    readable = isinstance(exact, Dataset | DataLoader) or (_tensors(exact) and len(exact) == 2)
    fits = exact is None or (isinstance(exact, str) and exact == TRAIN) or readable
    require_type(fits, "exact", exact, '"train", a DataLoader, a Dataset or a pair of tensors')
    fits = out is None or isinstance(out, Tensor | Dataset | DataLoader) or _tensors(out)
    require_type(fits, "out_of_distribution", out, "a DataLoader, a Dataset or a tensor")


def _tensors(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) > 0 and all(isinstance(x, Tensor) for x in data)


def _out_batches(data: OutData | None) -> Iterator[Any]:
    if data is None:
        return iter(())
    if isinstance(data, Tensor):
        return iter(DataLoader(TensorDataset(data), batch_size=BATCH_SIZE))
    if isinstance(data, tuple | list):
        return iter(DataLoader(TensorDataset(*data), batch_size=BATCH_SIZE))
    return probe_batches(data)


def _readable(x: Tensor) -> Tensor:
    """On the host where the device has no double precision."""
    return x.detach().cpu() if x.device.type == "mps" else x.detach()
