"""What a window says of its classes: one file a measure.

A measure is a pure function of moments or samples, the record it gives, and a ``MEASURE`` entry with its tags. ``base``
says what it is given, ``geometry`` and ``mean_geometry`` hold what several share, ``pair_cosines`` and ``near_pairs``
read the pairs of many classes, and ``metrics`` are the torchmetrics forms.
"""

from le_callback.measures import (
    class_clouds,
    collapse,
    common_margin,
    discriminability,
    effective_training,
    head_margin,
    nearest_mean,
    neural_collapse,
    scatter,
    spread,
)
from le_callback.measures.base import Measure, SourceWindow
from le_callback.measures.class_clouds import ClassClouds
from le_callback.measures.collapse import Collapse, Prediction, orthogonality, predict, self_duality, stable_rank
from le_callback.measures.common_margin import CommonMargin
from le_callback.measures.discriminability import (
    Discriminability,
    held_out_discriminability,
    pair_discriminability,
    score_discriminability,
)
from le_callback.measures.effective_training import EffectiveTraining
from le_callback.measures.head_margin import HeadMargin
from le_callback.measures.metrics import ETFAngles, NeuralCollapse
from le_callback.measures.nearest_mean import NearestMean, nearest_mean_accuracy
from le_callback.measures.neural_collapse import EtfAngles, etf_angle, etf_angles
from le_callback.measures.scatter import Scatter
from le_callback.measures.spread import Spread, sample_spread

MEASURES: tuple[Measure, ...] = (
    neural_collapse.MEASURE,
    collapse.MEASURE,
    nearest_mean.MEASURE,
    discriminability.MEASURE,
    common_margin.MEASURE,
    scatter.MEASURE,
    spread.MEASURE,
    head_margin.MEASURE,
    effective_training.MEASURE,
    class_clouds.MEASURE,
)
"""All measures, in the order in which they are taken and told."""

__all__ = [
    "MEASURES",
    "ClassClouds",
    "Collapse",
    "CommonMargin",
    "Discriminability",
    "ETFAngles",
    "EffectiveTraining",
    "EtfAngles",
    "HeadMargin",
    "Measure",
    "NearestMean",
    "NeuralCollapse",
    "Prediction",
    "Scatter",
    "SourceWindow",
    "Spread",
    "etf_angle",
    "etf_angles",
    "held_out_discriminability",
    "nearest_mean_accuracy",
    "orthogonality",
    "pair_discriminability",
    "predict",
    "sample_spread",
    "score_discriminability",
    "self_duality",
    "stable_rank",
]
