"""What a terminal can show: symbols are spelled out where it has none, and a print never raises."""

from __future__ import annotations

import contextlib
import sys

SPELLED = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "Γ": "Gamma",
    "σ": "sigma",
    "Ψ": "Psi",
    "Σ": "sum ",
    "∫": "int ",
    "√": "sqrt ",
    "∞": "inf",
    "°": " deg",
    "±": "+-",
    "−": "-",
    "–": "-",
    "…": "...",
    "·": "*",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "→": "->",
    "‖": "||",
    "²": "^2",
    "½": "1/2",
    "₀": "0",
    "ₖ": "_k",
    "ₗ": "_l",
    "\u0304": "",  # the bar of a mean
    "\u030c": "",
    "\u00a0": " ",
}
"""Symbols of the table and how they are spelled in ASCII."""

_SYMBOLS = "".join(SPELLED)
_TABLE = str.maketrans(SPELLED)


def spelled(text: str, encoding: str | None) -> str:
    """``text`` as an encoding can hold it.

    Args:
        text: any.
        encoding: of the terminal or file; None holds everything.

    Returns:
        The text itself, or with all symbols spelled out if the encoding lacks one of them; what it cannot hold even
        then, such as a class name in another script, has question marks.

    >>> spelled("γ 120.0° ± ∞", "utf-8"), spelled("γ 120.0° ± ∞", "ascii"), spelled("γ of café", "latin-1")
    ('γ 120.0° ± ∞', 'gamma 120.0 deg +- inf', 'gamma of café')
    """
    if encoding is None or _holds(encoding, _SYMBOLS + text):
        return text
    if not _holds(encoding, _SYMBOLS):
        text = text.translate(_TABLE)
    if _holds(encoding, text):
        return text
    known = encoding if _holds(encoding, "") else "ascii"
    return text.encode(known, "replace").decode(known)


def _holds(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def terminal_encoding() -> str | None:
    """That of the standard output now; None where it takes any text, or there is none.

    >>> import io
    >>> with contextlib.redirect_stdout(io.StringIO()):
    ...     found = terminal_encoding()
    >>> found is None
    True
    """
    encoding = getattr(sys.stdout, "encoding", None)
    return encoding if isinstance(encoding, str) else None


def show(text: str) -> None:
    """Print a text as the terminal can show it; nothing where it is closed, full or missing.

    >>> show("γ above 0")
    γ above 0
    """
    with contextlib.suppress(Exception):
        print(spelled(text, terminal_encoding()), flush=True)
