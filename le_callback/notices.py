"""How the user is told while the training goes on: warnings, each once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_utilities.core.rank_zero import rank_zero_warn


class DiagnosticWarning(UserWarning):
    """Something could not be measured; the training goes on."""


class Notices:
    """Warnings, each told once in the life of this object.

    >>> import warnings
    >>> notices = Notices()
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     for _ in range(3):
    ...         notices.tell("skipped batches without labels")
    >>> len(caught)
    1
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, what: str, detail: str = "") -> None:
        """Warn about ``what``, unless that was said before."""
        if what not in self._told:
            self._told.add(what)
            rank_zero_warn(f"LECallback: {what}{f' ({detail})' if detail else ''}.", category=DiagnosticWarning)

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """A diagnostic that fails is told once; the training goes on."""
        try:
            yield
        except Exception as error:
            self.tell(what, f"{type(error).__name__}: {error}")
