"""What two alarms of Lightning would say of a recorded training."""

from __future__ import annotations

import statistics
from collections import deque

import torch
from alert_runs import VALIDATE, Run
from lightning.pytorch.callbacks import EarlyStopping


def early_stops(run: Run, since: int = 10**9) -> list[int]:
    """Steps at which Lightning's ``EarlyStopping`` on the validation loss, patience 3, would stop; it then goes on.

    Its patience starts anew at step ``since``.
    """
    callback, stops = EarlyStopping("val_loss", patience=3), []
    for step, loss in run.validation:
        if step - VALIDATE <= since < step:
            callback.wait_count = 0
        stop, _ = callback._evaluate_stopping_criteria(torch.tensor(loss))
        if stop:
            stops.append(step)
            callback.wait_count = 0
    return stops


def spike_steps(losses: list[float]) -> list[int]:
    """Steps at which Lightning's ``SpikeDetection`` with its defaults would raise.

    A loss that is not finite, or worse than the one before and off the mean of the last 10 by at least twice that mean.
    """
    recent: deque[float] = deque(maxlen=10)
    last, found = 0.0, []
    for i, loss in enumerate(losses):
        mean = statistics.fmean(recent) if recent else 0.0
        finite = abs(loss) < float("inf")
        if i >= 1 and (not finite or (loss > last and abs(loss - mean) >= abs(2 * mean))):
            found.append(i + 1)
        elif finite:
            recent.append(loss)
            last = loss
    return found
