"""Several processes count their samples together: one all-reduce a window, after which all evaluate the same window.

Legend: K classes, p feature dimensions, W processes, R rows of the window's ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from le_callback.moments.window import ClassWindow

T = TypeVar("T")


class OneProcess:
    """A run in which one process does all, or all see the same samples: nothing has to be agreed on."""

    count = 1
    rank = 0
    agreed = True
    obstacle = ""

    def pool(self, *windows: ClassWindow) -> bool:
        """The windows hold all samples."""
        return True

    def sum(self, x: Tensor) -> Tensor:
        """``x`` as it is."""
        return x

    def of_first(self, found: T) -> T:
        """What was found."""
        return found


class SeveralProcesses(OneProcess):
    """The data-parallel processes of a run. All of them call ``pool`` at the same optimizer steps.

    Args:
        group: their process group; ``None`` is the default group.
    """

    def __init__(self, group: Any = None) -> None:
        self._group = group
        self.count = dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        self._first = dist.get_global_rank(group, 0) if group is not None else 0
        self.agreed = False
        self.obstacle = ""  # why they have not agreed

    @override
    def pool(self, *windows: ClassWindow) -> bool:
        """Make the open windows of every process those of all samples; a collective.

        Returns:
            False, on every process, while some process has seen no batch yet: its windows stay open.
        """
        if not self.agreed and not self._agree(windows):
            return False
        for window in windows:
            pool_window(window, self.rank, self.count, self._group)
        return True

    @override
    def sum(self, x: Tensor) -> Tensor:
        """``x`` summed over the processes, in place; a collective."""
        dist.all_reduce(x, group=self._group)
        return x

    @override
    def of_first(self, found: T) -> T:
        """What the first process has found; a collective. For decisions that all have to make alike."""
        objects = [found]
        dist.broadcast_object_list(objects, self._first, group=self._group)
        return objects[0]

    def _agree(self, windows: Sequence[ClassWindow]) -> bool:
        """Take over the references of the first process, once all processes have some."""
        signatures: list[Any] = [None] * self.count
        dist.all_gather_object(signatures, [window.signature() for window in windows], group=self._group)
        if [] in signatures:
            some = any(signatures)  # where none was called, each process has told why
            open_so_far = "the head was not called on every process yet; until then the first window stays open"
            self.obstacle = open_so_far if some else ""
            return False
        if any(signature != signatures[0] for signature in signatures):
            self.obstacle = "the processes found different heads, so nothing is measured; name the head with `head=`"
            return False
        for window in windows:
            references = {name: moments.reference for name, moments in window.moments.items()}
            agreed = {name: reference.contiguous().clone() for name, reference in references.items()}
            for reference in agreed.values():
                dist.broadcast(reference, self._first, group=self._group)
            window.rebase(agreed)
        self.agreed = True
        return True


def processes_of(strategy: Any) -> OneProcess:
    """Those of a Lightning strategy.

    >>> processes_of(None).count
    1
    """
    if not (dist.is_available() and dist.is_initialized()):
        return OneProcess()
    mesh = getattr(strategy, "device_mesh", None)
    if mesh is not None and "data_parallel" in (mesh.mesh_dim_names or ()):
        found = SeveralProcesses(mesh["data_parallel"].get_group())
    else:
        found = SeveralProcesses()
    return found if found.count > 1 else OneProcess()


def pool_window(window: ClassWindow, rank: int, count: int, group: Any = None) -> None:
    """Replace the window's moments by those of all processes, and its samples by equal numbers of each; a collective.

    The samples of a process are put where those of the others are zero, so that one sum also gathers. If a window has
    at most R/W samples on each process, all of them are kept.
    """
    share = window.ring.capacity // count
    sums, (labels, rows) = window.sums(), window.ring.last(share)
    mine = slice(rank * share, rank * share + len(labels))
    gathered = {name: x.new_zeros(share * count, x.shape[1]) for name, x in rows.items()}
    for name, x in rows.items():
        gathered[name][mine] = x
    marks = labels.new_zeros(share * count)
    marks[mine] = labels + 1  # zero is a row without a sample; negative labels are left out of moments, too
    reduced = _sum_flat([*sums.values(), *gathered.values(), marks], group)
    marks = reduced.pop()
    filled = marks > 0
    window.replace(
        dict(zip(sums, reduced, strict=False)),
        marks[filled] - 1,
        {name: x[filled] for name, x in zip(gathered, reduced[len(sums) :], strict=True)},
    )


def _sum_flat(tensors: list[Tensor], group: Any) -> list[Tensor]:
    """Sums over all processes in one collective, in the widest of the dtypes."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    flat = torch.cat([t.reshape(-1).to(dtype) for t in tensors])
    dist.all_reduce(flat, group=group)
    parts = torch.split(flat, [t.numel() for t in tensors])
    return [part.view(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]
