"""What a notebook shows of a callback."""

from __future__ import annotations

from typing import Any

from le_callback.report.highlights import highlights
from le_callback.values import html_table


class InNotebook:
    """Shows verdict, worst pair, standing alerts and step of the last window as a small table.

    Attributes:
        arguments: with the ``name`` of the callback.

    >>> from types import SimpleNamespace
    >>> class Example(InNotebook):
    ...     arguments = SimpleNamespace(name=None)
    ...     _session = SimpleNamespace(measurement=SimpleNamespace(last_record=None))
    >>> Example()._repr_html_()
    '<table><caption>LECallback</caption><tr><th></th><td>no window has closed yet</td></tr></table>'
    """

    arguments: Any
    _session: Any

    def _repr_html_(self) -> str:
        title, measured = f"LECallback {self.arguments.name or ''}".strip(), self._session.measurement
        if (record := measured.last_record) is None:
            return html_table(title, [("", "no window has closed yet")])
        standing = ", ".join(rule for rule, stands in record.alerts.items() if stands) or "none"
        rows = [*highlights(record, measured.class_names), ("Alerts", standing), ("Step", f"{record.step:,}")]
        return html_table(title, rows)
