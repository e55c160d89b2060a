"""Tags of what whole data sets say at the end of an epoch, and how far the last window was from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from le_callback.probe.epoch_pass import EpochReading
from le_callback.records import WindowRecord
from le_callback.report.tag_group import TagGroup
from le_callback.values import NAN, Tag

_ESSENTIAL = ("nc1", "nc2_angle_deviation", "nc3_duality", "nc4", "nc5")


class Compared(NamedTuple):
    """One value of a reading.

    Attributes:
        exact: of all samples.
        streamed: of the last window; NaN where there is none.
    """

    exact: float
    streamed: float


EPOCH = TagGroup(
    (
        Tag(
            name="collapse/epoch/{measure}_difference",
            label="window minus all samples",
            unit="",
            meaning="The value of the last window minus that of all samples at the end of the epoch.",
            look_for=(
                "near 0: the windows can be trusted. They hold fewer samples, as the training saw them (dropout,"
                " augmentation), of a network on the move"
            ),
            better="neither",
            chart="collapse of all samples",
            read=lambda found: found.streamed - found.exact,
            essential=_ESSENTIAL,
        ),
        Tag(
            name="collapse/epoch/{measure}",
            label="collapse of all samples",
            unit="",
            meaning=(
                "`nc1` to `nc5`, `effective_rank` and `stable_rank` as `NeuralCollapse` has them, of the data given as"
                " `exact` and `out_of_distribution`, in evaluation mode, at the end of an epoch."
            ),
            look_for="as those of the windows; `nc5`, mean |cos| of class means and other data, falls to 0",
            better="neither",
            chart="collapse of all samples",
            read=lambda found: found.exact,
            essential=_ESSENTIAL,
        ),
    ),
    lambda record: {},  # they are told at the end of epochs, not with windows
)

STREAMED: Mapping[str, Callable[[WindowRecord], float]] = {
    "nc1": lambda record: record.measures["collapse"]["features"].within,
    "nc1_trace": lambda record: record.measures["collapse"]["features"].trace_ratio,
    "nc1_cdnv": lambda record: record.measures["collapse"]["features"].distance,
    "nc2_angle_mean": lambda record: record.etf["features"].mean,
    "nc2_angle_deviation": lambda record: record.etf["features"].deviation,
    "nc2_angle_smallest": lambda record: record.etf["features"].smallest,
    "nc2_norm_variation": lambda record: record.etf["features"].norm_variation,
    "nc2_etf_error": lambda record: record.etf["features"].error,
    "nc2_uniformity": lambda record: record.etf["features"].uniformity,
    "nc2_cosine_excess": lambda record: record.etf["features"].excess,
    "nc3_duality": lambda record: record.measures["collapse"]["features"].duality,
    "nc3_cosine": lambda record: record.measures["collapse"]["features"].duality_cosine,
    "nc4": lambda record: record.measures["collapse"]["features"].agreement,
    "effective_rank": lambda record: record.measures["collapse"]["features"].rank,
    "stable_rank": lambda record: record.measures["collapse"]["features"].stable_rank,
}
"""The values that windows have, too, by their names in ``NeuralCollapse``."""


def compared(reading: EpochReading, record: WindowRecord | None) -> dict[str, Compared]:
    """Each value of a reading beside that of the last window.

    >>> compared(EpochReading(9, {"nc5": 0.25}, 0, 50), None)
    {'nc5': Compared(exact=0.25, streamed=nan)}
    """
    measured = record is not None and record.collapse is not None and "features" in record.etf
    return {
        name: Compared(value, STREAMED[name](record) if record is not None and measured and name in STREAMED else NAN)
        for name, value in reading.values.items()
    }
