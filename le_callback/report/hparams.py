"""The end of a run as a row of TensorBoard's HPARAMS tab: verdict, worst pair and the values of the overview.

The row is a run of its own below that of the training, as those of ``SummaryWriter.add_hparams`` are, and holds nothing
but these values. What a run logs of its own hyperparameters, before or after the training, is not touched: the first
entry of a run is the one that TensorBoard shows, and the first list of columns that it finds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def write_hparams(folder: Path, values: Mapping[str, str | float]) -> None:
    """Write the row.

    Args:
        folder: of the row's own run, in that of the training; the row is named after the last two parts of the latter.
        values: what is known at the end; a number that is not finite is left out.

    Raises:
        OSError: if it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_hparams(Path(folder), {"verdict": "separated", "worst_pair": 5.6})
    ...     len(list(Path(folder).iterdir()))
    1
    """
    known = {key: value for key, value in values.items() if isinstance(value, str) or math.isfinite(value)}
    for old in folder.glob("events.out.tfevents.*"):  # of a fit before: a run has one row
        old.unlink()
    writer = EventFileWriter(str(folder))
    try:
        writer.add_event(Event(summary=hparams_pb(known, trial_id="/".join(folder.absolute().parts[-3:-1]))))
    finally:
        writer.close()
