"""What every way of capturing features and logits has in common. p feature dimensions, K classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from le_callback.capture.detect import Decision, Detection
from le_callback.capture.slot import Captured, width_fits


class Capture(ABC):
    """Gives the features and logits of a training step.

    Args:
        num_classes: K, if it is known.

    Attributes:
        reached: layers through which the gradient of a hidden loss flows, among which the head is looked for; None
            where that is not known.
    """

    reached: set[str] | None = None

    def __init__(self, num_classes: int | None) -> None:
        self._num_classes = num_classes

    @property
    def num_classes(self) -> int:
        """K: as given, or the width of the logits.

        Raises:
            RuntimeError: before ``settle`` has found it.
        """
        if self._num_classes is not None:
            return self._num_classes
        raise RuntimeError("The number of classes is not known before `settle`.")

    @property
    @abstractmethod
    def absence(self) -> str:
        """Why there may be nothing to take, and what to do."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the captures of the last forward pass."""

    @abstractmethod
    def take(self) -> Captured | None:
        """What was captured last, or ``None``."""

    @abstractmethod
    def settle(self, labels: Tensor) -> str | None:
        """Decide on head and number of classes after a first forward pass; the name of the logits' source.

        ``None`` if nothing was captured.

        Raises:
            ValueError: if what was captured does not fit.
        """

    @property
    def module(self) -> nn.Module | None:
        """The head, where it is a module that is known."""
        return None

    lasting = True  # whether what captures stays between the steps

    def attach(self) -> None:  # noqa: B027 -- nothing to do is a default
        """Begin to capture."""

    def detach(self) -> None:
        """Leave the module as it was and forget the captures."""
        self.clear()

    def pause(self) -> None:  # noqa: B027
        """Stop capturing, and keep what was captured."""

    def detection(self, batch: Any, label: bool) -> Detection | None:
        """What watches the losses of a step on ``batch``; ``None`` where that is not needed.

        Args:
            batch: of the step.
            label: whether the labels were named.
        """
        return None

    def adopt(self, decision: Decision, *, repeated: bool) -> None:  # noqa: B027
        """Follow the head that a step decided on; ``repeated`` if it was called several times in it."""

    def before_backward(self, loss: Tensor, *, closures: bool) -> None:  # noqa: B027
        """A backward pass from ``loss`` begins, in which checkpointed layers run again.

        Args:
            loss: whose gradients are computed.
            closures: whether what follows is another pass of the same step.
        """

    def after_backward(self) -> None:  # noqa: B027
        """A backward pass is over; another forward pass may follow."""

    def candidates(self) -> Mapping[str, Captured]:
        """What was captured of the layers of compiled code that may be the head, by name."""
        return {}

    def labels(self) -> Tensor | None:
        """The labels that the loss of this step was given; None where the batch tells them."""
        return None

    def check_guess(self, decision: Decision) -> None:  # noqa: B027
        """Raise if another head was decided on before."""

    def hold(self, captured: Captured | None) -> None:  # noqa: B027
        """Take what a named head saw in a step of which the losses did not decide."""

    def line_up(self, captured: Captured, labels: Tensor) -> tuple[Captured, Tensor]:
        """The rows of a capture that have labels, and labels of the shape of these rows."""
        return captured, labels

    def offer(self, outputs: Any) -> None:  # noqa: B027
        """Take what a training step returned, where that is of interest."""


@contextmanager
def watching(capture: Capture) -> Iterator[None]:
    """Capture inside, also where that is else done only in a training step."""
    if capture.lasting:
        yield
        return
    capture.attach()
    try:
        yield
    finally:
        capture.pause()
        capture.clear()


def check_width(what: str, width: int, num_classes: int | None) -> int:
    """The number of classes of a head that is ``width`` wide.

    Raises:
        ValueError: if that is not ``num_classes``, or is below 2.
    """
    if num_classes is not None and not width_fits(width, num_classes):
        raise ValueError(
            f"Expected the {what} to have `num_classes={num_classes}` outputs, but it has"
            f" {width}. Correct `num_classes=` or name another head with `head=`."
        )
    if num_classes is None and width < 2:
        raise ValueError(
            f"The {what} has {width} output. For a binary classifier with one logit pass"
            " `num_classes=2`; otherwise name the head with `head=`."
        )
    return num_classes or width
