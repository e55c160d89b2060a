"""The rules of the house, in the order in which they are asked: the most specific first. A new one is entered here."""

from __future__ import annotations

from typing import Any

from le_callback.alerts.rule import Rule
from le_callback.alerts.rules.class_vanished import ClassVanished
from le_callback.alerts.rules.elasticity_lost import ElasticityLost
from le_callback.alerts.rules.feature_collapse import FeatureCollapse
from le_callback.alerts.rules.labels_changed import LabelsChanged
from le_callback.alerts.rules.loader_stuck import LoaderStuck
from le_callback.alerts.rules.non_finite import NonFinite
from le_callback.alerts.rules.pair_merging import PairMerging
from le_callback.alerts.rules.scale_changed import ScaleChanged
from le_callback.alerts.rules.separability_lost import SeparabilityLost


def default_rules() -> tuple[Rule[Any], ...]:
    """All rules with their default settings, the most specific first.

    >>> [rule.name for rule in default_rules()][:2]
    ['NonFinite', 'LoaderStuck']
    """
    return (
        NonFinite(),
        LoaderStuck(),
        ClassVanished(),
        LabelsChanged(),
        FeatureCollapse(),
        PairMerging(),
        SeparabilityLost(),
        ElasticityLost(),
        ScaleChanged(),
    )
