"""Find the classifier head and capture what goes in and comes out of it.

p feature dimensions (input of the head), K classes (its output).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from le_callback.capture.base import Capture, check_width
from le_callback.capture.compiled import is_compiled, wrapped_names
from le_callback.capture.detect import Decision, Detection, Named
from le_callback.capture.labels import describe
from le_callback.capture.rows import nearest
from le_callback.capture.search import may_be_head
from le_callback.capture.slot import CONVOLUTIONS, CallHook, Captured, CaptureHook, Slot, Switch, width_fits
from le_callback.errors import require_type
from le_callback.notices import inform


def is_linear_like(module: nn.Module) -> bool:
    """A dense layer by its interface (``in_features``, ``out_features``) or a convolution with kernel size 1.

    >>> is_linear_like(nn.Linear(2, 3)), is_linear_like(nn.Conv2d(2, 3, 1)), is_linear_like(nn.ReLU())
    (True, True, False)
    """
    if isinstance(module, CONVOLUTIONS):
        return all(size == 1 for size in module.kernel_size)
    return isinstance(getattr(module, "in_features", None), int) and isinstance(
        getattr(module, "out_features", None), int
    )


def class_count_hint(module: nn.Module) -> int | None:
    """The number of classes that a module states: ``num_classes`` of itself, its hyperparameters or its metrics.

    ``None`` if it states none or several.
    """
    places = [module, getattr(module, "hparams", None), *module.modules()]
    stated = {value for place in places if (value := _stated_count(place)) is not None}
    return stated.pop() if len(stated) == 1 else None


def _stated_count(place: Any) -> int | None:
    value = place.get("num_classes") if isinstance(place, dict) else getattr(place, "num_classes", None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 2 else None


class HeadCapture(Capture):
    """Watches the classifier head of a module: between ``attach`` and ``detach`` every forward pass fills the slot.

    Without a given head all linear-like layers are watched until ``settle`` picks the last one of the forward pass
    that fits the labels and the number of classes.

    Args:
        module: the model.
        head: dotted name or module of the classifier; found by itself if ``None``.
        num_classes: K; the output width of the head if ``None``. May be 2 for a head of width 1.
        ignore_index: integer label that says nothing about the number of classes.

    Raises:
        ValueError: if a named head does not exist, or no layer can be the head.
        TypeError: if ``head`` is neither.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> capture = HeadCapture(model)
    >>> capture.attach()
    >>> _ = model(torch.zeros(5, 4))
    >>> capture.settle(torch.tensor([0, 1, 2, 0, 1]))
    '2'
    >>> capture.take().features.shape
    torch.Size([5, 8])
    >>> capture.detach()
    """

    def __init__(
        self,
        module: nn.Module,
        head: str | nn.Module | None = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.name: str | None = None
        self._module = module
        super().__init__(num_classes)
        self._given_classes = num_classes
        self._ignore_index = ignore_index
        self._slot = Slot()
        self._order: list[str] = []
        self._switches: dict[str, Switch] = {}
        self._kind: type[CaptureHook] | None = None  # of the hooks
        self._on = False
        self._start: int | None = None
        self._resized = False
        self.lasting = is_compiled(module)
        if head is None:
            self._watched = self._candidates()
            if not self._watched:
                raise ValueError(
                    f"Found no classifier head in {type(module).__name__}: it has no linear-like layer. Its modules"
                    f" are {_listing(n for n, _ in module.named_children())}. Name the head with `head=`, by dotted"
                    " name or as the module, or return features and logits from `training_step` in a dict and pass"
                    ' `outputs=("features", "logits")`.'
                )
        else:
            self.name, found = _find_given(module, head)
            self._watched = {self.name: found}
        self._given = self.name

    @property
    def absence(self) -> str:
        """Why the head may not have been called, and what to do."""
        if not is_compiled(self._module):
            return "is it another layer (`head=`)? Code that was compiled before the training does not call it either"
        return (
            "the model is compiled, and code that was compiled before the training started does not call the hook of"
            " this callback. Pass `reset_compiler=True`, or return features and logits from `training_step` in a dict"
            ' and pass `outputs=("features", "logits")`. If the model was not run before, name the layer with `head=`'
        )

    @property
    def module(self) -> nn.Module | None:
        """The head, once it is known."""
        return None if self.name is None else self._watched.get(self.name)

    def attach(self) -> None:
        """Put on the hooks."""
        if self._on:
            self.pause()
        kind = CaptureHook if self.lasting or self.name is None else CallHook
        if self._kind is not kind:
            self._kind = kind
            self._switches = {name: Switch(m, kind(self._slot, name)) for name, m in self._watched.items()}
        for switch in self._switches.values():
            switch.on()
        self._on = True

    def pause(self) -> None:
        """Take off every hook, and keep what was captured."""
        if self._on:
            for switch in self._switches.values():
                switch.off()
            self._on = False

    def detach(self) -> None:
        """Remove every hook and forget the captures."""
        self.pause()
        self._slot.clear()

    def before_backward(self, loss: Tensor, *, closures: bool) -> None:
        """A backward pass begins; with ``closures`` what follows is another pass of the same step."""
        if self.name is None:
            self.note_order()
        if closures and not self.lasting:
            self._slot.restart()

    def detection(self, batch: Any, label: bool) -> Detection | None:
        """What watches the losses of a step on ``batch``, or ``None`` where a compiled model would compile once more.

        Args:
            batch: of the step.
            label: whether the labels were named.
        """
        named = Named(self._given, label, self._given_classes)
        if self.lasting:
            return None  # compiled code would be compiled once more for a step in which losses are watched
        layers = {self._given: self._watched[self._given]} if self._given else dict(self._module.named_modules())
        may = {name: (m, is_linear_like(m) or name == self._given) for name, m in layers.items()}
        return Detection({n: (m, linear) for n, (m, linear) in may.items() if may_be_head(m, linear)}, batch, named)

    def candidates(self) -> Mapping[str, Captured]:
        """What was captured of the layers of compiled code that may be the head, in the order of their calls."""
        self.note_order()
        return {n: self._slot.captured[n] for n in self._order if n in self._slot.captured} if self.lasting else {}

    def hold(self, captured: Captured | None) -> None:
        """Take what a named head saw in a step of which the losses did not decide."""
        if captured is not None and self._given is not None:
            self._slot.graded[self._given] = captured

    def adopt(self, decision: Decision, *, repeated: bool) -> None:
        """Follow the head that a step decided on.

        Args:
            decision: of that step.
            repeated: whether the head was called several times in it.

        Raises:
            ValueError: if another head was decided on before, or its width is not the number of classes.
        """
        finding, match = decision.finding, decision.finding.match
        assert match is not None
        self.check_guess(decision)
        wanted = self._num_classes
        check_width(f"head `{match.name}`", match.widths[1], wanted or finding.num_classes)
        self.name, self._num_classes = match.name, wanted or finding.num_classes
        self._watched = {match.name: self._module.get_submodule(match.name)} if not self._given else self._watched
        self._slot.wanted = match.call if repeated else None
        self._start, self._resized = finding.start, match.resized
        if not self.lasting:
            self._slot.graded.clear()
            if match.captured is not None:
                self._slot.graded[match.name] = match.captured
        else:
            self._keep_only(match.name)

    def check_guess(self, decision: Decision) -> None:
        """Compare with the head that was decided on before."""
        finding, match = decision.finding, decision.finding.match
        if match is not None and self.name not in (None, match.name):
            raise ValueError(
                f"The head was taken for `{self.name}` when the probe was passed through the model, but the loss"
                f" `{finding.loss}` is that of `{match}`. Name the right one with `head=`."
            )

    def clear(self) -> None:
        """Forget the captures of the last forward pass."""
        self._slot.clear()

    def note_order(self) -> None:
        """Keep the order of the calls so far; for use before a backward pass, where checkpointed layers run again."""
        self._order += [name for name in self._slot.captured if name not in self._order]

    def take(self) -> Captured | None:
        """What the head saw last, or ``None`` if it was not called since ``clear``."""
        return None if self.name is None else self._slot.get(self.name)

    def line_up(self, captured: Captured, labels: Tensor) -> tuple[Captured, Tensor]:
        """The rows that a loss saw of a head with more rows than labels; labels reshaped where a loss did so.

        Where the logits are resized behind the head, each position of the head has the label of the nearest one.
        """
        features, logits = captured
        if self._start is None or labels.ndim == 0:
            return captured, labels
        lead = features.shape[:-1]
        if labels.shape[: len(lead)] == lead:
            return captured, labels
        n, beyond = labels.shape[0], labels.shape[len(lead) :]
        if n < lead[0] and labels.shape[1 : len(lead)] == lead[1:] and beyond in ((), (1,), (self.num_classes,)):
            rows = slice(self._start, self._start + n)
            return Captured(features[rows], logits[rows]), labels
        if self._resized and labels.ndim == len(lead) and n == lead[0]:
            return captured, nearest(labels, lead)
        count = lead.numel()
        if labels.numel() == count:
            return captured, labels.reshape(lead)
        if labels.numel() == count * self.num_classes and labels.shape[-1] == self.num_classes:
            return captured, labels.reshape(*lead, self.num_classes)
        return captured, labels

    def settle(self, labels: Tensor) -> str | None:
        """Decide on the head after a first forward pass; synchronises once.

        Returns:
            The name of the head, or ``None`` if no watched layer was called.

        Raises:
            ValueError: if layers were called but none of them fits.
        """
        captured = self._slot.captured
        if self.name is None and captured:
            self._pick(labels)
        if self.name is None or (seen := captured.get(self.name)) is None:
            return None
        self._num_classes = check_width(f"head `{self.name}`", seen.logits.shape[-1], self._num_classes)
        return self.name

    def _pick(self, labels: Tensor) -> None:
        wanted = self._num_classes or _hint(self._module, self._slot.captured)
        # in the order of the calls; containers and wrappers finish after what they contain
        self.note_order()
        captured = {n: self._slot.captured[n] for n in self._order if n in self._slot.captured}
        fitting = [n for n, c in captured.items() if _fits(c, labels, wanted, self._ignore_index)]
        if not fitting:
            widths = [f"{name} ({c.features.shape[-1]} to {c.logits.shape[-1]})" for name, c in captured.items()]
            expected = f" and {wanted} outputs" if wanted else " and an output for each label"
            raise ValueError(
                f"Found no classifier head: no linear-like layer of the forward pass fits the labels,"
                f" {describe(labels)},{expected}. Layers called: {_listing(widths)}. Name the head with `head=`,"
                " the number of classes with `num_classes=` or the labels with `label=`."
            )
        flowing = fitting if self.reached is None else [n for n in fitting if n in self.reached]
        if not flowing:
            raise ValueError(
                f"Found no classifier head: no gradient of the loss reaches the layers that fit the labels,"
                f" {_listing(fitting)}. Name the head with `head=`, or the labels with `label=`."
            )
        self._keep_only(flowing[-1])

    def _keep_only(self, name: str) -> None:
        self.name = name
        if self._on and len(self._switches) > 1 and is_compiled(self._module):
            inform(
                f"found the head `{self.name}` of a compiled model. The hooks of the other layers are"
                f" removed, which compiles once more; `head={self.name!r}` saves that."
            )
        self._watched = {self.name: self._watched[self.name]}
        for name in [n for n in self._switches if n != self.name]:
            self._switches.pop(name).off()
            self._slot.graded.pop(name, None)
            self._slot.plain.pop(name, None)

    def _candidates(self) -> dict[str, nn.Module]:
        """The linear-like layers. Of a compiled model only those that fit, as removing a hook compiles it once more."""
        layers = {name: m for name, m in self._module.named_modules() if is_linear_like(m)}
        if not is_compiled(self._module):
            return layers
        inside = wrapped_names(self._module)
        outermost = {name: m for name, m in layers.items() if name not in inside}
        wanted = self._num_classes or class_count_hint(self._module)
        fitting = {name: m for name, m in outermost.items() if wanted and width_fits(_width(m), wanted)}
        return fitting or outermost


def _hint(module: nn.Module, captured: Mapping[str, Captured]) -> int | None:
    """The number of classes that the module states, if something captured has as many logits."""
    hint = class_count_hint(module)
    return hint if any(c.logits.shape[-1] == hint for c in captured.values()) else None


def _find_given(module: nn.Module, head: str | nn.Module) -> tuple[str, nn.Module]:
    if isinstance(head, nn.Module):
        for name, candidate in module.named_modules():
            if candidate is head:
                return name, head
        return type(head).__name__, head
    require_type(isinstance(head, str), "head", head, "a dotted name, a module or None")
    try:
        return head, module.get_submodule(head)
    except AttributeError:
        names = [name for name, m in module.named_modules() if is_linear_like(m)]
        raise ValueError(
            f"Expected `head={head!r}` to name a module of {type(module).__name__}, but there is none."
            f" Its linear-like layers are {_listing(names)}."
        ) from None


def _width(module: nn.Module) -> int:
    width = getattr(module, "out_channels" if isinstance(module, CONVOLUTIONS) else "out_features")
    return width if isinstance(width, int) else -1


def _fits(captured: Captured, labels: Tensor, num_classes: int | None, ignore_index: int | None) -> bool:
    lead, width = captured.logits.shape[:-1], captured.logits.shape[-1]
    if num_classes is not None and not width_fits(width, num_classes):
        return False
    if width < 2 and num_classes is None:
        return False
    if labels.shape == (*lead, num_classes or width):
        return True
    if labels.shape != lead and labels.shape != (*lead, 1):
        return False
    in_range = labels < (num_classes or width)
    return bool((in_range if ignore_index is None else in_range | (labels == ignore_index)).all())


def _listing(names: Iterator[str] | list[str], limit: int = 12) -> str:
    listed = list(names)
    shown = ", ".join(listed[:limit]) or "none"
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
