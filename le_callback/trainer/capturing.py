"""What is captured in a training, from which head and labels, and when."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from le_callback.capture import gradients, graph
from le_callback.capture.base import Capture
from le_callback.capture.batches import BatchPath
from le_callback.capture.detect import Decision, Detection
from le_callback.capture.evidence import NoClassificationError
from le_callback.capture.graph import Visible, visible_losses
from le_callback.capture.head import HeadCapture
from le_callback.capture.labels import LabelReader, align, one_each
from le_callback.capture.outputs import OutputsCapture
from le_callback.capture.slot import Captured
from le_callback.capture.step import Reading, StepCapture
from le_callback.notices import Notices, inform
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.schedule import one_pass

DEFAULT_IGNORED = -100
_MOST_REFUSALS = 20  # steps, of one of several processes, in which nothing could be followed


class Passes(NamedTuple):
    """How often the model is called in a step.

    Attributes:
        automatic: whether the optimization is.
        one: whether once, as no optimizer evaluates the loss again.
    """

    automatic: bool
    one: bool


class NoCapturing:
    """Nothing is captured."""

    def after_forward(self, trainer: Trainer) -> None:
        """Gradients are cleared, before a backward pass."""

    def before_backward(self, trainer: Trainer, loss: Tensor) -> None:
        """A backward pass starts."""

    def after_backward(self, trainer: Trainer) -> None:
        """A backward pass is over."""

    def pause(self) -> Detection | None:
        """No training batch runs."""
        return None


class Capturing(NoCapturing):
    """Captures while a step runs, and in the first one watches the losses to find head and labels.

    Args:
        arguments: what the user asked for.
        module: of the training.
        notices: where the user is told.
        alone: whether this is the only process. An error in one of several would leave the others waiting.
        quiet: whether a training that is no classification is no fault, as nobody asked for it to be followed.

    Attributes:
        capture: of features and logits.
        labels: reads them in a batch.
        ignore_index: label that is left out: as given, or as the loss has it.
        undecided: whether head and labels are to be found in the next step.

    Raises:
        ValueError: as ``HeadCapture``.
    """

    def __init__(
        self,
        arguments: Arguments,
        module: LightningModule,
        notices: Notices,
        *,
        alone: bool = True,
        quiet: bool = False,
    ) -> None:
        self._arguments, self._notices, self._alone, self._quiet = arguments, notices, alone, quiet
        self._refusals = 0
        self._visible: Visible | None = None
        self._hidden = "the loss was not seen"
        self._module = module
        self._detection: Detection | None = None
        self._decision: Decision | None = None
        self._untold = True  # whether the user has not been told what is followed
        self._passes: Passes | None = None
        self.capture: Capture
        if arguments.outputs is None:
            self.capture = HeadCapture(module, arguments.head, arguments.num_classes, arguments.ignore_index)
        else:
            self.capture = OutputsCapture(arguments.outputs, arguments.num_classes)
        self.labels = LabelReader(arguments.label)
        self.ignore_index = arguments.ignore_index
        self.undecided = True

    def begin(self) -> None:
        """The training starts; hooks in compiled models have to be there before."""
        if self.capture.lasting:
            self.capture.attach()

    def begin_batch(self, batch: Any) -> None:
        """A training batch starts."""
        if self._refusals == _MOST_REFUSALS:
            return
        if self.capture.lasting:  # hooks that stay have seen what ran between the steps
            self.capture.clear()
        self.labels.peek(batch)
        if self.undecided:
            self._detection = self.capture.detection(batch, self._arguments.label is not None)
        if self._detection is not None:
            self._detection.enter()
        elif not self.capture.lasting:
            self.capture.attach()

    def after_forward(self, trainer: Trainer) -> None:
        """Gradients are cleared, after the forward pass if Lightning does it."""
        if isinstance(self.capture, StepCapture) and self._passing(trainer).automatic:
            self.capture.after_forward()

    def before_backward(self, trainer: Trainer, loss: Tensor) -> None:
        """A backward pass starts: the forward pass is over, unless the step has several."""
        if self.undecided and self.capture.lasting and self._visible is None:
            with suppress(Exception):
                self._visible = visible_losses(loss)
        passes = self._passes or self._passing(trainer)
        self.capture.before_backward(loss, closures=passes.automatic)
        if self._detection is not None:
            self._detection.restart(loss, closures=passes.automatic)
            if passes.one:
                self._detection.close()
        elif passes.one and not self.capture.lasting:
            self.capture.pause()

    def after_backward(self, trainer: Trainer) -> None:
        """A backward pass is over; another forward pass may follow."""
        if (self._passes or self._passing(trainer)).one:
            return
        if self._detection is not None:
            self._detection.enter()
        else:
            self.capture.after_backward()

    def _passing(self, trainer: Trainer) -> Passes:
        """How often the model is called in a step; looked up once an epoch, as it takes longer than all the rest."""
        if self._passes is None:
            self._passes = Passes(trainer.lightning_module.automatic_optimization, one_pass(trainer))
        return self._passes

    def end_epoch(self) -> None:
        """An epoch is over: another optimizer may follow."""
        self._passes = None

    def pause(self) -> Detection | None:
        """No training batch runs: the module is as it was. What watched the losses of the step, if that was needed."""
        detection, self._detection = self._detection, None
        if detection is not None:
            detection.close()
        if not self.capture.lasting:
            self.capture.pause()
        return detection

    def decide(self, outputs: Any, batch: Any) -> bool:
        """End a step; whether head and labels can be settled on it. What is wrong raises."""
        self.capture.offer(outputs)
        detection = self.pause()
        if self._refusals == _MOST_REFUSALS:
            return False
        if batch is None or (detection is not None and detection.empty and not outputs):
            why = "it is None" if batch is None else "the training step returned nothing"
            self._notices.tell("the first training batch cannot be used; waiting for another", why)
            return False
        try:
            decision = self._by_values(batch) if detection is None else detection.decide()
        except ValueError as error:
            if self._alone:
                raise
            self._refusals += 1
            if self._quiet and isinstance(error, NoClassificationError):
                if self._refusals == 1:
                    inform(f"nothing to follow on this process so far: {error}")
            else:
                self._notices.tell("nothing is measured on this process so far", str(error))
            return False
        if decision is not None:
            reading = None if detection is None else Reading.of(decision)
            if reading is None:
                repeated = detection is not None and detection.repeated(decision)
                self.capture.adopt(decision, repeated=repeated)
            else:
                self._read_steps(decision, reading)
            self._follow(decision)
        elif detection is not None:
            self.capture.hold(detection.last)
        return True

    def _by_values(self, batch: Any) -> Decision | None:
        """What the graph of gradients told of a compiled model."""
        visible, self._visible = self._visible, None
        candidates = self.capture.candidates() if self._arguments.head is None else {}
        if visible is None or not candidates:
            return None
        classes, ignored = self._arguments.num_classes, self.ignore_index
        decision = graph.decide(visible, candidates, batch, classes)
        if decision is None:
            layers = {name: self._module.get_submodule(name) for name in candidates}
            decision = gradients.decide(layers, candidates, batch, classes, ignored)
            self.capture.reached = gradients.reached(layers, self._module)
        self._hidden = "the loss is hidden in compiled code" if visible.hidden else "no loss tells it"
        return decision if decision is None else replace(decision, named=self._arguments.label is not None)

    def _read_steps(self, decision: Decision, reading: Reading) -> None:
        """From now on what the loss is given is read in every step."""
        self.capture.check_guess(decision)
        self.capture = StepCapture(self._module, decision, reading, self._arguments.num_classes)

    def _follow(self, decision: Decision) -> None:
        """Read the labels where the loss has them, and leave out what it leaves out."""
        finding = decision.finding
        if isinstance(finding.labels, BatchPath) and self._arguments.label is None:
            self.labels.follow(finding.labels, finding.value)
        if finding.ignore_index is not None and self.ignore_index == DEFAULT_IGNORED:
            self.ignore_index = finding.ignore_index
        self._decision = decision

    def settled(self) -> None:
        """Head and classes are known: the user is told what was found, once."""
        self.undecided = False
        if self._untold:
            self._tell()

    def _tell(self) -> None:
        decision, self._decision = self._decision, None
        if decision is None:
            self._tell_unwatched()
            return
        self._untold = False
        inform(str(decision))
        for other in decision.others:
            self._notices.tell(
                f"this training has several classification losses; followed is the head `{decision.finding.head}`",
                f"{other} with another `name=` follows another one",
            )

    def _tell_unwatched(self) -> None:
        """What is followed where no loss decided: once for each training."""
        named, captured = self._arguments, self.capture.take()
        self._untold = False
        if captured is None:
            return
        name = getattr(self.capture, "name", None) or "as returned by `training_step`"
        what = f"head {name} ({captured.features.shape[-1]} → {captured.logits.shape[-1]})"
        labels = "labels as named" if named.label is not None else "labels by the usual place"
        if named.head is None and named.outputs is None:
            labels += f", by position: {self._hidden}; name `head=` and `label=` to be sure"
        inform(f"{what}, {labels}")

    def end_step(self, outputs: Any) -> None:
        """End a step once head and labels are known."""
        self.capture.offer(outputs)
        if not self.capture.lasting:
            self.capture.pause()

    def samples(self, captured: Captured, batch: Any, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, p), logits (N, K) and labels (N,) or class weights (N, K) of the rows that have labels."""
        labels = self.target(batch)
        if one_each(captured, labels):
            return *captured, labels
        captured, labels = self.capture.line_up(captured, labels)
        return align(*captured, labels, num_classes)

    def target(self, batch: Any) -> Tensor:
        """The labels of this step: those that its loss was given where these are read, else those of the batch."""
        given = self.capture.labels()
        return self.labels(batch) if given is None else given

    def end_batch(self) -> None:
        """Nothing of a step is held until the next."""
        self.capture.clear()
        self.labels.forget()
