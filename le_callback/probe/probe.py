"""Pass a small fixed labelled set through the model now and then, without touching the training.

The same samples every time: differences between two times carry no sampling noise, so gaps far below the noise of
training batches are seen. K classes, p feature dimensions, N samples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from le_callback.capture.base import Capture
from le_callback.capture.labels import LabelReader, align
from le_callback.moments.following import Following, followed_classes
from le_callback.moments.statistics import ClassStatistics, class_statistics
from le_callback.moments.sums import MomentState, empty_moments, initial_reference, update_moments
from le_callback.probe.data import ProbeData, gather_probe, probe_batches
from le_callback.probe.step_response import batch_composition

Forward = Callable[[nn.Module, Any], Any]


@contextmanager
def untouched(module: nn.Module, device: torch.device | str = "cpu") -> Iterator[None]:
    """Evaluation mode without gradients; training flags and every random state are put back afterwards.

    >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    >>> with untouched(model):
    ...     model.training, torch.is_grad_enabled()
    (False, False)
    >>> model.training
    True
    """
    training = [(m, m.training) for m in module.modules()]
    with undisturbed_randomness(device), torch.no_grad():
        try:
            module.eval()
            yield
        finally:
            for m, flag in training:
                m.training = flag


@contextmanager
def undisturbed_randomness(device: torch.device | str = "cpu") -> Iterator[None]:
    """Random states of torch (CPU and ``device``), numpy and Python are put back afterwards.

    Inside they are the same every time, so that a model that draws in evaluation mode draws the same.

    >>> before = torch.get_rng_state()
    >>> with undisturbed_randomness():
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    device = torch.device(device)
    accelerators = [device] if device.type != "cpu" else []
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(accelerators, device_type=device.type if accelerators else "cuda"):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def forward_inputs(module: nn.Module, batch: Any, labels: Tensor | None) -> Any:
    """Call the module on a batch without its labels: one tensor if only one is left, else what is left.

    >>> x, y = torch.zeros(4, 2), torch.zeros(4)
    >>> forward_inputs(nn.Linear(2, 3), {"pixels": x, "digit": y}, y).shape
    torch.Size([4, 3])
    """
    if isinstance(batch, Mapping):
        inputs = {key: value for key, value in batch.items() if value is not labels}
        tensors = [value for value in inputs.values() if isinstance(value, Tensor)]
        return module(tensors[0]) if len(tensors) == 1 else module(inputs)
    if isinstance(batch, tuple | list):
        return module(next(value for value in batch if value is not labels))
    return module(batch)


class Passing(NamedTuple):
    """How a batch gets to the model: moved to its device, and run in its precision."""

    to_device: Callable[[Any], Any]
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext


def run_batch(
    module: nn.Module, capture: Capture, batch: Any, labels: Tensor | None, passing: Passing, forward: Forward | None
) -> None:
    """Pass a batch, on its device already, through the model: by ``forward``, or without its labels."""
    with passing.precision():
        outputs = forward_inputs(module, batch, labels) if forward is None else forward(module, batch)
        capture.offer(outputs)


class Probe:
    """A fixed labelled set and how to pass it through a model.

    Args:
        data: a loader, a dataset, a pair of tensors (inputs, labels), or a number of samples of each class that are
            taken from the training data.
        read_labels: finds the labels in a batch.
        forward: how to call the model on a batch; by default the module is called on the batch without its labels.
        ignore_index: integer label that is left out.
    """

    def __init__(
        self,
        data: ProbeData,
        read_labels: LabelReader,
        forward: Forward | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self._data = data
        self._read_labels = read_labels
        self._forward = forward
        self._ignore_index = ignore_index
        self._batches: list[Any] = []
        self._references: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}  # means of the last reading, until the next step is observed
        self._composition: Tensor | None = None  # class weights of the batches since then

    def prepare(
        self,
        module: nn.Module,
        capture: Capture,
        training_loader: Any,
        passing: Passing,
        settle: Callable[[Tensor], None],
    ) -> None:
        """Pass the first batch through the model, ``settle`` the head on its labels and collect the other batches.

        Raises:
            ValueError: if the forward pass of the probe does not reach the head, or there are no samples.
        """
        with untouched(module, device_of(module)):
            first = next(probe_batches(self._data, training_loader), None)
            if first is None:
                raise ValueError("Expected argument `probe` to hold samples, but it is empty.")
            capture.clear()
            try:
                labels = self._run(module, capture, first, passing)
            except Exception as error:
                raise ValueError(
                    f"The probe could not be passed through {type(module).__name__} ({type(error).__name__}: {error})."
                    " Pass `probe_forward=` a callable of the module and a batch that runs the model on it."
                ) from error
            settle(labels)
            if capture.take() is None:
                raise ValueError(
                    "The forward pass of the probe did not call the classifier head. Pass `probe_forward=` a callable"
                    " of the module and a batch that runs the head on it, or name the head with `head=`."
                )
            capture.clear()
            if not self._batches:
                self._batches = gather_probe(self._data, self._read_labels, capture.num_classes, training_loader)

    def read(self, module: nn.Module, capture: Capture, passing: Passing) -> dict[str, ClassStatistics]:
        """Class moments of the probe now, by source, with no noise of the means: the samples are always the same.

        Of very many classes those that are followed, see ``moments.following``.
        """
        moments: dict[str, MomentState] = {}
        with untouched(module, device_of(module)):
            for batch in self._batches:
                capture.clear()
                labels = self._run(module, capture, batch, passing)
                captured = capture.take()
                if captured is None:
                    raise RuntimeError("the forward pass of the probe did not call the head")
                features, logits, target = align(*captured, labels, capture.num_classes)
                self._add(moments, features, logits, target, capture.num_classes)
            capture.clear()
        statistics = {source: class_statistics(m) for source, m in moments.items()}
        for source, s in statistics.items():
            self._references[source] = torch.where(s.seen.unsqueeze(1), s.mean, moments[source].reference)
        return {
            source: s._replace(mean_noise=torch.where(s.seen, 0.0, s.mean_noise)) for source, s in statistics.items()
        }

    def _add(
        self, moments: dict[str, MomentState], features: Tensor, logits: Tensor, target: Tensor, num_classes: int
    ) -> None:
        """Add a batch to the ``moments`` of a reading."""
        batch, ignored = {"features": features, "logits": logits}, self._ignore_index
        if (classes := followed_classes(num_classes, features.shape[1])) is not None:
            batch, target = Following(num_classes, classes, ignored).select(features, logits, target)
            num_classes, ignored = len(classes), Following.ignore_index
        for source in ("features", "logits"):
            x = batch[source]
            if source not in moments:
                reference = self._references.get(source)
                moments[source] = empty_moments(initial_reference(x, num_classes) if reference is None else reference)
            update_moments(moments[source], x, target, ignored)

    def observe_next_step(self, statistics: Mapping[str, ClassStatistics], num_classes: int) -> None:
        """From this reading on, collect what the next optimizer step is made of."""
        self._before = {source: s.mean for source, s in statistics.items()}
        self._composition = torch.zeros(num_classes)

    def add_batch(self, target: Tensor) -> None:
        """Add the labels (N,) or class weights (N, K) of a batch to the observed step."""
        if self._composition is not None:
            self._composition += batch_composition(target, len(self._composition)).cpu()

    @property
    def observing(self) -> bool:
        """Whether the next step is to be followed by a reading."""
        return self._composition is not None

    def observed(self) -> tuple[Tensor, dict[str, Tensor]] | None:
        """End the observation: class weights (K,) of the step and the probe means before it; ``None`` without one."""
        composition, self._composition = self._composition, None
        return None if composition is None else (composition, self._before)

    def state_dict(self) -> dict[str, Any]:
        """The means that the next reading is taken about, and the step that is being observed."""
        return {
            "references": {source: reference.cpu().clone() for source, reference in self._references.items()},
            "before": {source: mean.cpu().clone() for source, mean in self._before.items()},
            "composition": None if self._composition is None else self._composition.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str) -> None:
        """Continue where ``state_dict`` was taken."""
        if state:
            self._references = {source: mean.to(device, copy=True) for source, mean in state["references"].items()}
            self._before = {source: mean.to(device, copy=True) for source, mean in state["before"].items()}
            self._composition = None if state["composition"] is None else state["composition"].clone()

    def _run(self, module: nn.Module, capture: Capture, batch: Any, passing: Passing) -> Tensor:
        batch = passing.to_device(batch)
        labels = self._read_labels(batch)
        run_batch(module, capture, batch, labels, passing, self._forward)
        return labels


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter of a module is."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
