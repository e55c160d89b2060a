"""What the Trainer says about steps, epochs and learning rates."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer


def log_steps(trainer: Trainer) -> int:
    """Optimizer steps between two log steps of the Trainer."""
    # the attribute is set by one of its connectors, where type checkers do not see it
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]


def learning_rate(trainer: Trainer) -> float:
    """That of the first parameter group of the first optimizer."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def steps_per_epoch(trainer: Trainer, steps: int, batches: int) -> float:
    """Optimizer steps of an epoch; with manual optimization from ``steps`` counted over the last ``batches``."""
    if trainer.lightning_module.automatic_optimization:
        return trainer.num_training_batches / trainer.accumulate_grad_batches
    return trainer.num_training_batches * max(1, steps) / max(1, batches)


def due_for_figures(window: int) -> bool:
    """Whether the ``window``-th window (from 1) draws: 1, 4, 16, 64, …, so that the cost of a long run stays small.

    >>> [w for w in range(1, 100) if due_for_figures(w)]
    [1, 4, 16, 64]
    """
    return window > 0 and window & (window - 1) == 0 and window.bit_length() % 2 == 1


def one_pass(trainer: Trainer) -> bool:
    """Whether each batch has one forward pass: optimization is automatic, and no optimizer evaluates it again."""
    automatic = trainer.lightning_module.automatic_optimization
    return automatic and not any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers)
