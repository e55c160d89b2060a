"""How the user is told: errors about arguments, and warnings that appear once while the training goes on."""

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


def require(holds: bool, argument: str, value: object, expected: str) -> None:
    """Raise a ``ValueError`` that names the argument, unless ``holds``.

    >>> require(False, "smoothing", 2, "at least 4 windows")
    Traceback (most recent call last):
    ValueError: Expected argument `smoothing` to be at least 4 windows, but got 2.
    """
    if not holds:
        raise ValueError(f"Expected argument `{argument}` to be {expected}, but got {value!r}.")
