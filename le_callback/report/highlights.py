"""What a window says first: verdict, worst pair, and what the theorem says."""

from __future__ import annotations

from collections.abc import Sequence

from le_callback.records import WindowRecord

_OVERLAP = 2.0  # D below which two classes overlap


def highlights(record: WindowRecord, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Titles and sentences; what is not known is left out.

    Args:
        record: of the window.
        class_names: (K,).

    >>> from le_callback import SeparationMonitor
    >>> highlights(SeparationMonitor(num_classes=2).close(step=9), ["cat", "dog"])[0][0]
    'Verdict'
    """
    found = []
    if record.regime is not None:
        found.append(("Verdict", f"{record.regime.name}. {capital(record.regime.reason)}."))
    for layer in ("logits", "features"):
        measured = record.discriminability.get(layer)
        if measured is not None and measured.worst:
            k, m, distance = measured.worst[0]
            apart = "they overlap" if distance < _OVERLAP else f"they overlap below {_OVERLAP:g}"
            pair = f"{class_names[k]} / {class_names[m]}"
            found.append(("Worst pair", f"{pair}, {distance:.3g} deviations apart in the {layer} ({apart})"))
            break
    if record.regime is not None:
        found.append(("Theorem", record.regime.theorem))
    return found


def capital(text: str) -> str:
    """With a capital letter, unless it begins with a symbol: Γ is not γ.

    >>> capital("nothing grows"), capital("γ is spent")
    ('Nothing grows', 'γ is spent')
    """
    return text[:1].upper() + text[1:] if text[:1].isascii() else text
