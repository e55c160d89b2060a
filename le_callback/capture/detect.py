"""Decide on head and labels by what the losses of one training step say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from le_callback.capture.evidence import MADE_UP, Evidence, NoClassificationError
from le_callback.capture.findings import Finding, InStep
from le_callback.capture.search import Search
from le_callback.capture.slot import Captured, width_fits
from le_callback.capture.watching import Watch

_NAME = "name the head with `head=` and the labels with `label=`"
_RETURN = 'return features and logits from `training_step` in a dict and pass `outputs=("features", "logits")`'


_ALTERNATIVES = (
    "`{loss}` chooses between {shape[1]} positions or alternatives (logits {shape}, of `{head}`, {width} wide):"
    " these are no classes of a head. Whether one is right can be followed as two classes: return features and one"
    ' logit for each alternative from `training_step` in a dict and pass `outputs=("features", "logits")`,'
    " `num_classes=2` and `label=` a callable that returns 0 or 1 for each"
)


@dataclass(frozen=True)
class Named:
    """What the user named; it ranks above all evidence.

    Attributes:
        head: name of the layer; None if it is to be found.
        label: whether the labels were named.
        num_classes: K, or None.
    """

    head: str | None = None
    label: bool = False
    num_classes: int | None = None


@dataclass(frozen=True)
class Decision:
    """What a step decided.

    Attributes:
        finding: of the loss that is followed.
        others: of losses that could be followed as well, with the arguments that take them.
        together: findings of all losses that are followed.
        mixed: whether these train the same logits on several targets.
        numbers: which calls of the loss in a pass count; None for all.
        named: whether the labels were named.
    """

    finding: Finding
    others: tuple[str, ...] = ()
    together: tuple[Finding, ...] = ()
    mixed: bool = False
    numbers: frozenset[int] | None = None
    named: bool = False

    def samples(self) -> tuple[Captured, Tensor] | None:
        """Features (rows, p), logits (rows, K) and labels of the first batch; None if they were given up."""
        found = [samples for f in self.together if (samples := f.samples) is not None]
        if len(found) != len(self.together):
            return None
        if self.mixed:
            parts = [(target, f.share) for (_, target), f in zip(found, self.together, strict=True)]
            weights = mixed_weights(parts, self.finding.num_classes)
            return None if weights is None else (found[0][0], weights)
        captured = Captured(*(torch.cat([getattr(seen, name) for seen, _ in found]) for name in Captured._fields))
        return captured, torch.cat([target for _, target in found])

    def __str__(self) -> str:
        match = self.finding.match
        assert match is not None
        labels = " and ".join(dict.fromkeys(str(f.labels) for f in self.together or (self.finding,)))
        where = "labels by the usual place" if self.finding.labels is None else f"labels {labels}"
        if self.mixed:
            where += ", weighed by their parts in the loss"
        where = "labels as named" if self.named else where
        sure = f"by {self.finding.loss}" + ("" if self.finding.told else ", which does not tell its labels")
        return f"head {match} ({match.widths[0]} → {match.widths[1]}), {where}, {sure}"


def mixed_weights(parts: list[tuple[Tensor, Any]], num_classes: int) -> Tensor | None:
    """Several targets of the same logits, each with its share in the loss, as class weights (rows, K).

    None where a share is not known or negative.

    >>> mixed_weights([(torch.tensor([0, 1]), 0.75), (torch.tensor([1, 1]), 0.25)], 2)
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    if any(share is None for _, share in parts):
        return None
    total = sum(share for _, share in parts)
    tables = []
    for target, share in parts:
        classes = torch.arange(num_classes, device=target.device)
        table = target if target.ndim == 2 else target[:, None] == classes
        part = torch.as_tensor(share / total, device=target.device)
        tables.append(table * (part[:, None] if part.ndim else part))
    return torch.stack(tables).sum(0).float()


class Detection:
    """Watches layers and losses of one training step.

    Args:
        layers: what may be the head, by name: the layer, and whether it is linear-like.
        batch: of the step.
        named: what the user named.

    >>> import torch
    >>> model, (x, y) = nn.Linear(4, 3), (torch.zeros(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> detection = Detection({"fc": (model, True)}, (x, y), Named())
    >>> detection.enter()
    >>> loss = nn.functional.cross_entropy(model(x), y)
    >>> detection.leave()
    >>> print(detection.decide())
    head fc (4 → 3), labels batch[1], by cross_entropy
    """

    def __init__(
        self,
        layers: dict[str, tuple[nn.Module, bool]],
        batch: Any,
        named: Named,
    ) -> None:
        self._named = named
        self.search = Search(layers)
        self._evidence = Evidence(batch, self.search)
        self._watch = Watch(self._evidence.called)
        self._closed = False
        self.last: Captured | None = None

    @property
    def empty(self) -> bool:
        """Whether no loss was seen and no layer called."""
        return not self._evidence.seen and not self._evidence.findings and not self.search.calls

    def enter(self) -> None:
        """Begin to watch."""
        if self._closed:
            return
        self.search.attach()
        self._watch.enter()

    def leave(self) -> None:
        """Stop watching; can go on with ``enter``."""
        self._watch.leave()
        self.search.detach()

    def close(self) -> None:
        """Stop watching, and give up what is not needed for the decision."""
        self.leave()
        if not self._closed:
            self._closed = True
            self._evidence.close()
            self.last = self.search.last if self._named.head is not None else None
            self.search.forget()

    def decide(self) -> Decision | None:
        """The loss to follow; ``None`` where the loss was hidden in compiled code.

        Raises:
            NoClassificationError: if the step computed no classification loss on labels of the batch.
            ValueError: if it did, but its head or labels cannot be followed; says what settles it.
        """
        self.close()
        findings = self._evidence.findings
        if self._named.head is not None:
            findings = [f for f in findings if f.head == self._named.head]
            if not findings:
                return None
        usable = [f for f in findings if self._usable(f)]
        usable = self._wide_enough(usable)
        loose = any(f.told and f.match is None and not f.problem for f in findings)
        told = sorted([f for f in usable if f.told], key=lambda f: f.problem != "") or ([] if loose else usable[-1:])
        if not told:
            raise self._refusal(findings)
        chosen = told[0]
        self._check_targets(chosen, findings)
        if loose and isinstance(chosen.labels, InStep) and not chosen.labels.moved:
            raise self._refusal(findings)  # parts of a classification, as those of a tree of classes
        again = [f for f in told if _place(f) == _place(chosen)]
        last = max(f.turn for f in again)  # a step that repeats itself counts with its last pass
        again = [f for f in again if f.turn == last]
        others = self._others(again[0], told[1:])
        if mixed := self._mixed(again[0], told):
            return Decision(again[0], others, (again[0], *mixed), mixed=True)
        if not isinstance(again[0].labels, InStep) or self._named.label:
            numbers = frozenset([again[0].number])
            return Decision(again[0], others, (again[0],), numbers=numbers, named=self._named.label)
        there = [f for f in findings if (f.turn, f.site, f.head) == (last, again[0].site, again[0].head)]
        followed = frozenset(f.number for f in again)
        return Decision(again[0], others, tuple(again), numbers=None if len(there) == len(again) else followed)

    def _mixed(self, chosen: Finding, told: list[Finding]) -> list[Finding]:
        """Other losses that train the same rows on other labels."""
        if self._named.label or not chosen.told:
            return []
        same = [f for f in told if f.turn == chosen.turn and f.head == chosen.head and _rows(f) == _rows(chosen)]
        mixed = [f for f in same if f.told and f is not chosen and not _same_labels(f, chosen)]
        if mixed and any(f.share is None or not _positive(f.share) for f in (chosen, *mixed)):
            targets = " and ".join(str(f.labels) for f in (chosen, *mixed))
            raise ValueError(
                f"The logits of `{chosen.head}` are trained on several targets, {targets}, of which it is not known how"
                f" much each counts. Pass `label=` a callable of the batch that returns labels or"
                f" (N, {chosen.num_classes}) class weights"
            )
        return mixed

    def restart(self, loss: Tensor, *, closures: bool) -> None:
        """A backward pass from ``loss`` begins; with ``closures`` what comes after is the same step again."""
        self.leave()
        self._evidence.backward(loss)
        if closures:
            self.search.restart()

    def repeated(self, decision: Decision) -> bool:
        """Whether the head was called several times in a pass."""
        return decision.finding.match is not None and self.search.times(decision.finding.match) > 1

    def _usable(self, finding: Finding) -> bool:
        if finding.match is None:
            return False
        if self._named.label:
            return True
        return finding.labels is not None and (not finding.problem or self._named.head is not None)

    def _wide_enough(self, findings: list[Finding]) -> list[Finding]:
        wanted = self._named.num_classes
        if wanted is None or self._named.head is not None:
            return findings
        fitting = [f for f in findings if f.match is not None and width_fits(f.match.widths[1], wanted)]
        if findings and not fitting:
            called = {seen.name: seen.widths for seen in self.search.calls if seen.linear}
            layers = ", ".join(f"{name} ({p} to {k})" for name, (p, k) in list(called.items())[:12])
            raise ValueError(
                f"Found no classifier head with {wanted} outputs: the logits of `{findings[0].loss}` come from"
                f" `{findings[0].head}`. Layers called: {layers}. Name another head with `head=`, or correct"
                " `num_classes=`."
            )
        return fitting

    def _others(self, chosen: Finding, rest: list[Finding]) -> tuple[str, ...]:
        listed: list[str] = []
        for other in rest:
            if other.head == chosen.head:
                continue
            arguments = f"`head={other.head!r}`"
            if other.labels is not None and other.labels != chosen.labels:
                arguments += f" with the labels {other.labels} (`label=`)"
            if arguments not in listed:
                listed.append(arguments)
        return tuple(listed)

    def _check_targets(self, chosen: Finding, findings: list[Finding]) -> None:
        """Logits that are also trained on a target of the step's own are those of mixed or adversarial training."""
        if self._named.label or not chosen.told:
            return
        for other in findings:
            if other.head != chosen.head or other.problem != MADE_UP:
                continue
            if other.num_classes == 2 and other.shape[-1:] != (2,):
                raise NoClassificationError(
                    f"this training computes no classification loss (seen: {', '.join(self._evidence.seen)}, with"
                    f" targets that were made up in the step, as adversarial training has them). If it does, {_NAME}"
                )
            if other.told and _rows(other) == _rows(chosen):
                raise ValueError(
                    f"The logits of `{chosen.head}` are trained on {chosen.labels} and on a second target that is not"
                    " in the batch (mixed samples?). Pass `label=` a callable of the batch that returns labels or"
                    f" (N, {chosen.num_classes}) class weights; `label=` with the place of {chosen.labels} takes those"
                    " as they are"
                )

    def _refusal(self, findings: list[Finding]) -> ValueError:
        seen = ", ".join(self._evidence.seen) or "none that is known"
        for f in findings:
            if f.match is None and f.told and (self._named.label or not f.problem):
                if f.near is not None and f.near[1] < f.num_classes:
                    return ValueError(_ALTERNATIVES.format(loss=f.loss, shape=f.shape, head=f.near[0], width=f.near[1]))
                labels = "" if f.labels is None else f", with `label=` a callable for the labels ({f.labels})"
                return ValueError(
                    f"The logits {f.shape} of `{f.loss}` are the output of no single layer, so that their features are"
                    f" not known: {_RETURN}{labels}; or name the layer that gives them with `head=`"
                )
        for f in findings:
            if f.told and f.problem and f.problem != MADE_UP:
                return ValueError(
                    f"The loss `{f.loss}` on logits {f.shape} cannot be followed: {f.problem}. For another loss of this"
                    f" training {_NAME}: `label=` takes a callable that returns one label or K class weights a sample."
                    f" For scores that are made of these outputs {_RETURN}"
                )
        for f in findings:
            if f.problem == MADE_UP and f.match is not None and f.told:
                return NoClassificationError(
                    f"this training computes no classification loss on labels of the batch (seen: {seen}; head"
                    f" `{f.head}`, but {f.problem}). If the labels follow from the batch, pass `label=` a callable that"
                    f" takes the batch and returns them. For scores that are made of these outputs {_RETURN}"
                )
        return NoClassificationError(
            f"this training computes no classification loss (seen: {seen}). If it is a classification, {_NAME}, or"
            f" {_RETURN}"
        )


def _place(finding: Finding) -> tuple[Any, ...]:
    """What is the same of a loss in each pass of a step."""
    return finding.loss, finding.head, finding.labels, finding.start, bool(finding.problem)


def _same_labels(a: Finding, b: Finding) -> bool:
    if a.value is None or b.value is None or a.value.shape != b.value.shape:
        return a.labels == b.labels
    return torch.equal(a.value.double(), b.value.double())


def _positive(share: Any) -> bool:
    return bool((torch.as_tensor(share) >= 0).all())


def _rows(finding: Finding) -> tuple[int, int]:
    """Which rows of which call a loss saw."""
    return (-1 if finding.match is None else finding.match.call), finding.start
