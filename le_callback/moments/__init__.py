"""Streaming class moments: sums about a reference, statistics read from them, the window of a log step, the metric.

``sums`` (what a step adds) → ``statistics`` (means, variances, their noise) ; ``window`` keeps both and the most recent
samples of several sources; ``metric`` is the torchmetrics form.
"""

from le_callback.moments.metric import ClassMoments
from le_callback.moments.statistics import ClassStatistics

__all__ = ["ClassMoments", "ClassStatistics"]
