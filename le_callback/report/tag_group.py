"""Tags that are read from the same records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from le_callback.records import WindowRecord
from le_callback.values import Tag


@dataclass(frozen=True)
class TagGroup:
    """Tags that are read from the same records.

    Attributes:
        tags: the tags.
        subjects: from a window's record the records that the tags are read from, by model, source or rule; None for
            one that is missing. The keys are the same for every window of a run.
    """

    tags: tuple[Tag, ...]
    subjects: Callable[[WindowRecord], Mapping[str, Any]]
