"""The Lightning callback: its arguments, and hooks that hand on to the session of a training.

Lightning is imported here, in ``entry_point``, in ``trainer`` and in ``report.publisher``, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from le_callback.capture.labels import LabelSource
from le_callback.errors import require
from le_callback.probe.data import ProbeData
from le_callback.probe.epoch_pass import OutData, WholeData
from le_callback.probe.probe import Forward
from le_callback.report.rich_table import show_table
from le_callback.report.tags import Level
from le_callback.trainer.alarm import Actions, OnAlert
from le_callback.trainer.arguments import Arguments
from le_callback.trainer.readout import Readout
from le_callback.trainer.schedule import log_steps
from le_callback.trainer.session import Idle, Session
from le_callback.trainer.timeline import TimeAxis


class LECallback(Readout):
    """Tracks class means, local elasticity and separability of a classifier while it trains.

    On every step the features that enter the classifier head and the logits that leave it are added to class moments on
    the model's device, without a host synchronisation. Every ``every_n_steps`` optimizer steps the window is evaluated
    and logged: coefficients ``le/<model>/…`` (per optimizer step), angles ``etf/<source>/…`` (degrees) and
    measured separability ``separation/<source>/…``. All values are in ``trainer.callback_metrics``, so
    ``EarlyStopping`` and ``ModelCheckpoint`` can monitor them. Steps are those of ``trainer.global_step``: with
    gradient accumulation one of several batches, with several optimizers every step of each.

    Works with ``lightning.pytorch`` and ``pytorch_lightning``, in code and in the configuration of LightningCLI.

    Source of the method: Zhang, Wang, Su, "Imitating Deep Learning Dynamics via Locally Elastic Stochastic Differential
    Equations", NeurIPS 2021.

    Args:
        head: dotted name or module of the classifier head. By default the layer that made the logits of the loss in
            the first training batch. Where the loss cannot be watched (a compiled model) or is not computed yet (a
            probe): the last linear-like layer of the forward pass that fits the labels.
        label: where the labels are in a batch: a key, an index or a callable of the batch. By default where that
            loss's target is; else the second element of a tuple or list, or the key ``label``, ``labels``, ``target``,
            ``targets`` or ``y``.
        num_classes: number of classes K. By default that of the loss, else the output width of the head.
        class_names: K names. By default ``classes`` of the training dataset, or 0, 1, ….
        ignore_index: integer label that is left out. At its default, −100, that of the loss if the loss has another.
        every_n_steps: optimizer steps of a window. By default the Trainer's ``log_every_n_steps``.
        smoothing: windows after which a change of α, β, γ is as likely as not before anything was seen: more make them
            smoother and slower to follow.
        identifiability: a mode is identifiable while its squared amplitude exceeds this many times its sampling noise.
        confidence: coverage of the intervals.
        time_axis: unit of time of the coefficients: optimizer ``steps``, cumulative learning rate ``lr`` (so that the
            decay of a schedule is not read as lost elasticity) or ``epochs``. Windows are counted in steps anyway.
        probe: a small fixed labelled set that is passed through the model in evaluation mode, without gradients and
            without touching the training: a loader, a dataset, a pair of tensors (inputs, labels), or a number of
            samples of each class that are taken from the training data. Logged as ``le/<model>_probe_<source>/…``,
            and ``le/measured_<source>/…``: what the step after each reading did to it. Off by default.
        probe_every_n_steps: optimizer steps between two readings of the probe. By default the window.
        probe_forward: how to call the model on a batch of the probe, of ``exact`` and of ``out_of_distribution``: a
            callable of the module and the batch. By default the module is called on the batch without its labels.
        matrix_classes: classes, by name or index, of the LE matrix E that a probe measures, drawn as ``le/matrix``. By
            default all classes, if these are at most 64, else none.
        exact: labelled samples that are passed through the model at the end of epochs, all of them, as the probe is:
            ``"train"`` for the training data, read by index, or a loader, a dataset or a pair of tensors.
            Their neural collapse is logged as ``collapse/epoch/<measure>`` and, as ``…_difference``, how far the last
            window was from it. Every process reads all of them. Off by default.
        out_of_distribution: samples of none of the classes, a loader, a dataset or a tensor, that are passed through
            the model then, too: ``collapse/epoch/nc5`` is their orthogonality to the class means, those of the windows
            where ``exact`` is not given.
        exact_every_n_epochs: epochs between two such readings.
        alerts: rules that look at every window: True for the default rules, False for none, or rules of your own:
            callables of the ``WindowRecord`` that return an ``Alert`` or ``None``, or objects as those in
            ``le_callback.alerts``. Each raises once, and again after it was over; ``alerts/<rule>`` is 1 meanwhile.
        on_alert: what follows: ``warn`` only, ``stop`` the training, ``raise`` a ``SeparabilityError``, or a callable
            of the alert. Alerts are told in any case.
        alert_checkpoints: folder in which a checkpoint is saved on each alert.
        notify: addresses of webhooks and chat services that alerts are sent to, as Apprise writes them
            (``pip install le-callback[notify]``).
        name: goes before every tag (``<name>/le/…``, so that loggers group what belongs together), the entry in the
            progress bar and the state in checkpoints. Needed where a Trainer has several of these callbacks.
        outputs: keys of features and logits in the dict that ``training_step`` returns. They are then read from
            there, and no module is hooked. With a probe, ``probe_forward`` has to return such a dict.
        tags: which scalars loggers get: the ``essential`` ones, at most 24, or ``all``. ``trainer.callback_metrics``
            always hold all of them.
        reset_compiler: whether to discard what ``torch.compile`` has compiled when the training starts. Needed if the
            compiled model was run before: its code does not call a hook that is registered later.
        figures: whether to draw heatmaps, on windows 1, 4, 16, 64, … and the last.
        page: whether to write, into the folder of each logger that has one, the data of the tab "Separability" in
            TensorBoard and of ``python -m le_callback report``: at most a few megabytes, however long the run.
        report: whether to write that page as one HTML file at the end, too. Needs ``page``.
        progress_bar: whether to show γ in the progress bar.
        summary: whether to print a table at the end.

    Raises:
        ValueError: if an argument is out of its range; at the first training batch, if head or labels are not found or
            the training computes no classification loss (``NoClassificationError``).
        TypeError: if an argument has the wrong type.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[LECallback()], logger=False, enable_progress_bar=False, enable_checkpointing=False)
    """

    steps_aside = False  # whether it leaves the Trainer to other instances
    state_key = ""  # made once, and no property: Lightning asks for it at every hook

    def __init__(  # noqa: PLR0913 -- each is a setting that a command line names
        self,
        head: str | nn.Module | None = None,
        label: LabelSource = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = -100,
        every_n_steps: int | None = None,
        smoothing: int = 11,
        identifiability: float = 3.0,
        confidence: float = 0.95,
        time_axis: TimeAxis = "steps",
        probe: ProbeData | None = None,
        probe_every_n_steps: int | None = None,
        probe_forward: Forward | None = None,
        matrix_classes: Sequence[int | str] | None = None,
        exact: WholeData | None = None,
        out_of_distribution: OutData | None = None,
        exact_every_n_epochs: int = 1,
        alerts: bool | Sequence[Callable[..., Any]] = True,
        on_alert: OnAlert = "warn",
        alert_checkpoints: str | Path | None = None,
        notify: Sequence[str] = (),
        name: str | None = None,
        outputs: tuple[str, str] | None = None,
        tags: Level = "essential",
        reset_compiler: bool = False,
        figures: bool = True,
        page: bool = True,
        report: bool = False,
        progress_bar: bool = True,
        summary: bool = True,
    ) -> None:
        super().__init__()
        self.arguments = Arguments(
            head=head,
            label=label,
            num_classes=num_classes,
            class_names=class_names,
            ignore_index=ignore_index,
            every_n_steps=every_n_steps,
            smoothing=smoothing,
            identifiability=identifiability,
            confidence=confidence,
            time_axis=time_axis,
            probe=probe,
            probe_every_n_steps=probe_every_n_steps,
            probe_forward=probe_forward,
            matrix_classes=matrix_classes,
            exact=exact,
            out_of_distribution=out_of_distribution,
            exact_every_n_epochs=exact_every_n_epochs,
            alerts=alerts,
            actions=Actions(on_alert, alert_checkpoints, notify),
            name=name,
            outputs=outputs,
            tags=tags,
            reset_compiler=reset_compiler,
            figures=figures,
            page=page,
            report=report,
            progress_bar=progress_bar,
            summary=summary,
        )
        self._session = Idle({})
        named = type(head).__name__ if isinstance(head, nn.Module) else head
        self.state_key = self._generate_state_key(head=named, outputs=outputs, name=name)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        names = [c.arguments.name for c in callbacks if isinstance(c, LECallback) and not c.steps_aside]
        expected = "another one for each LECallback of a Trainer, as it goes before their tags"
        name = self.arguments.name
        require(names.count(name) < 2, "name", name, expected)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        saved = self._session.left_for(trainer)
        self._session = Idle(saved)
        if trainer.barebones or (self.arguments.every_n_steps or log_steps(trainer)) < 1:
            return
        if self.arguments.time_axis == "epochs" and math.isinf(trainer.num_training_batches):
            raise ValueError(
                "Expected training data of known length for `time_axis='epochs'`, but its length is infinite. Use"
                " `time_axis='steps'` or `limit_train_batches=` of the Trainer."
            )
        self._session = Session(self.arguments, trainer, pl_module, saved, quiet=self.steps_aside)
        self._session.begin(trainer, pl_module)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._session.begin_batch(trainer, batch)

    @override
    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self._session.capturing.after_forward(trainer)

    @override
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._session.capturing.before_backward(trainer, loss)

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._session.capturing.after_backward(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._session.end_batch(trainer, pl_module, outputs, batch)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._session.end_epoch(trainer, pl_module)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._session.end(trainer)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.arguments.summary and (table := self._session.closing_table(trainer)):
            rich = any(kind.__name__.startswith("Rich") for c in trainer.callbacks for kind in type(c).__mro__)  # type: ignore[attr-defined]
            show_table(table, pretty=rich)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._session.release()

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._session.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._session = Idle(deepcopy(state_dict))
