"""What loggers are given: scalars under a fixed set of tags, and when and to whom figures go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from le_callback.records import WindowRecord
from le_callback.values import NAN, Estimate

SOURCES = ("features", "logits")


def scalars(record: WindowRecord) -> dict[str, float]:
    """Every scalar of a window under its tag; the set of tags is the same for every record, NaN where unknown.

    Tags: ``le/<model>/…`` coefficients (per optimizer step, or with the unit in the tag), ``etf/<source>/…`` angles
    (degrees), ``separation/<source>/…`` measured separability, ``separation/…`` of the head and of the verdict.

    >>> from le_callback.monitor import SeparationMonitor
    >>> tags = scalars(SeparationMonitor(num_classes=3).close(step=50))
    >>> sorted(tags)[:3]
    ['etf/features/angle_deviation_deg', 'etf/features/angle_mean_deg', 'etf/features/angle_smallest_deg']
    """
    values: dict[str, float] = {}
    per = "" if record.time_unit == "step" else f"_per_{record.time_unit.replace(' ', '_')}"
    for model, c in record.coefficients.items():
        values |= {
            f"le/{model}/A": c.A,
            f"le/{model}/B": c.B,
            f"le/{model}/tail_A": c.tail_A,
            f"le/{model}/tail_B": c.tail_B,
            f"le/{model}/tail_gamma": c.tail_gamma,
            f"le/{model}/amplitude_common": c.amplitude_common,
            f"le/{model}/amplitude_difference": c.amplitude_difference,
        }
        for name, estimate in (("alpha", c.alpha), ("beta", c.beta), ("gamma", c.gamma)):
            values |= {
                f"le/{model}/{name}{per}": estimate.value,
                f"le/{model}/{name}{per}_low": estimate.low,
                f"le/{model}/{name}{per}_high": estimate.high,
            }
    for source, response in record.step_response.items():
        for name, estimate in (("intra", response.intra), ("inter", response.inter), ("gamma", response.gamma)):
            values |= {
                f"le/measured_{source}/{name}": estimate.value,
                f"le/measured_{source}/{name}_low": estimate.low,
                f"le/measured_{source}/{name}_high": estimate.high,
            }
    for source in SOURCES:
        etf = record.etf.get(source)
        values |= {
            f"etf/{source}/angle_mean_deg": etf.mean if etf else NAN,
            f"etf/{source}/angle_deviation_deg": etf.deviation if etf else NAN,
            f"etf/{source}/angle_smallest_deg": etf.smallest if etf else NAN,
            f"etf/{source}/norm_variation": etf.norm_variation if etf else NAN,
        }
        separation = record.separation.get(source)
        values |= {
            f"separation/{source}/nearest_mean_accuracy": separation.nearest_mean_accuracy if separation else NAN,
            f"separation/{source}/discriminability_min": separation.discriminability if separation else NAN,
        }
    return values | _verdict(record)


def _verdict(record: WindowRecord) -> dict[str, float]:
    regime, head, linear = record.regime, record.head, record.linearisation
    index = regime.index if regime else Estimate.unknown()
    return {
        "separation/tail_local": index.value,
        "separation/tail_local_low": index.low,
        "separation/tail_local_high": index.high,
        "separation/t_gamma": regime.t_gamma if regime else NAN,
        "separation/converged": float(regime.name == "converged") if regime else NAN,
        "separation/head_accuracy": float(head.hits.sum() / max(head.tried.sum(), 1)) if head else NAN,
        "separation/head_margin": head.margin if head else NAN,
        "separation/head_margin_low": head.margin_low if head else NAN,
        "separation/effective_training": linear.psi if linear else NAN,
        "separation/linearisation_residue": linear.residue if linear else NAN,
    }


def figure_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that can draw figures (``add_figure``, as TensorBoard's writer has it)."""
    return _writers(loggers, "add_figure")


def text_writers(loggers: Sequence[Any]) -> Iterator[Any]:
    """The experiments of those loggers that take text (``add_text``, as TensorBoard's writer has it)."""
    return _writers(loggers, "add_text")


def _writers(loggers: Sequence[Any], method: str) -> Iterator[Any]:
    for logger in loggers:
        experiment = getattr(logger, "experiment", None)
        if callable(getattr(experiment, method, None)):
            yield experiment


def due_for_figures(window: int) -> bool:
    """Whether the ``window``-th window (from 1) draws: 1, 4, 16, 64, …, so that the cost of a long run stays small.

    >>> [w for w in range(1, 100) if due_for_figures(w)]
    [1, 4, 16, 64]
    """
    return window > 0 and window & (window - 1) == 0 and window.bit_length() % 2 == 1
