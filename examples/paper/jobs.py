"""Run trainings in a few processes under one progress bar that counts their steps."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class Job:
    """A training: ``function(*arguments, report)``, of so many ``steps``."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    steps: int


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[Any]:
    """The results, as they come; with one process nothing is started."""
    with tqdm(total=sum(job.steps for job in jobs), unit="step", disable=not jobs) as bar:
        done = 0

        def note(job: Job) -> None:
            nonlocal done
            done += 1
            bar.set_postfix_str(f"{done} of {len(jobs)} trainings, last: {job.name}")

        if processes == 1 or len(jobs) < 2:
            _quiet()
            for job in jobs:
                result = job.function(*job.arguments, bar.update)
                note(job)
                yield result
            return
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            steps = manager.Queue()
            with ProcessPoolExecutor(processes, context, _quiet) as pool:
                pending = {pool.submit(job.function, *job.arguments, steps.put): job for job in jobs}
                while pending:
                    finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                    bar.update(_drained(steps))
                    for future in finished:
                        note(pending.pop(future))
                        yield future.result()


def _drained(steps: Any) -> int:
    total = 0
    while True:
        try:
            total += steps.get_nowait()
        except queue.Empty:
            return total


def _quiet() -> None:
    """Leave the terminal to the progress bar."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
