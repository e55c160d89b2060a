"""How the user is told while the training goes on: warnings, each once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn

SKIPPED: Mapping[str, str] = {
    "nonfinite_features": "samples with features that are not finite",
    "nonfinite_logits": "samples with logits that are not finite, of finite features",
    "unknown_labels": "samples with a label outside the classes",
    "changed_width": "batches whose feature width changed",
    "head_not_called": "batches in which the head was not called",
    "unusable_labels": "batches without usable labels",
}
"""What may be left out of a window, by key: completes the sentence "skipped 3 …"."""


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
            warn(f"{what}{f' ({detail})' if detail else ''}.", DiagnosticWarning)

    def tell_skipped(self, key: str, detail: str = "") -> None:
        """Warn that something of ``SKIPPED`` was left out, unless that was said before."""
        self.tell(f"skipped {SKIPPED[key]}", detail)

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """A diagnostic that fails is told once; the training goes on."""
        try:
            yield
        except Exception as error:
            self.tell_failed(what, error)

    def tell_failed(self, what: str, error: Exception) -> None:
        """Warn that a diagnostic failed, unless that was said before."""
        self.tell(what, f"{type(error).__name__}: {error}")


def warn(what: str, category: type[Warning]) -> None:
    """Warn on the first process; never raises: where warnings are errors, the log says it."""
    text = f"LECallback: {what}"
    try:
        rank_zero_warn(text, category=category)
    except Exception:
        with suppress(Exception):
            _log_warning(text)


def inform(what: str) -> None:
    """Tell on the first process, as information; never raises."""
    with suppress(Exception):
        rank_zero_info(f"LECallback: {what}")


@rank_zero_only
def _log_warning(text: str) -> None:
    logging.getLogger("le_callback").warning(text)
