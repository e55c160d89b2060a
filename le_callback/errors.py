"""One way to say that an argument is wrong: "Expected argument `x` to be …, but got …"."""

from __future__ import annotations

from typing import Any


def require(holds: bool, argument: str, value: object, expected: str, remedy: str = "") -> None:
    """Raise a ``ValueError`` that names the argument, unless ``holds``.

    Args:
        holds: whether the argument is right.
        argument: its name.
        value: what was given.
        expected: completes "Expected argument `x` to be …".
        remedy: a sentence on what to do, if that does not follow.

    Raises:
        ValueError: unless ``holds``.

    >>> require(False, "smoothing", 2, "at least 4 windows")
    Traceback (most recent call last):
    ValueError: Expected argument `smoothing` to be at least 4 windows, but got 2.
    """
    if not holds:
        raise ValueError(message(argument, value, expected, remedy))


def require_type(holds: bool, argument: str, value: object, expected: str, remedy: str = "") -> None:
    """As ``require``, but a ``TypeError``.

    Raises:
        TypeError: unless ``holds``.

    >>> require_type(False, "label", 2.5, "a key, an index, a callable or None")
    Traceback (most recent call last):
    TypeError: Expected argument `label` to be a key, an index, a callable or None, but got 2.5.
    """
    if not holds:
        raise TypeError(message(argument, value, expected, remedy))


def message(argument: str, value: Any, expected: str, remedy: str = "") -> str:
    """The sentence of ``require``.

    >>> message("times", (3,), "of shape (4,), as the means", "Give one time for each matrix.")
    'Expected argument `times` to be of shape (4,), as the means, but got (3,). Give one time for each matrix.'
    """
    return f"Expected argument `{argument}` to be {expected}, but got {value!r}.{f' {remedy}' if remedy else ''}"
