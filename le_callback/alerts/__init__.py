"""Alert rules with a stated false-alarm rate, and the book that raises each alert once."""

from le_callback.alerts.alert import Alert, describe
from le_callback.alerts.book import AlertBook, Ended
from le_callback.alerts.defaults import default_rules
from le_callback.alerts.rule import Rule, UserRule
from le_callback.alerts.rules.class_vanished import ClassVanished
from le_callback.alerts.rules.elasticity_lost import ElasticityLost
from le_callback.alerts.rules.feature_collapse import FeatureCollapse
from le_callback.alerts.rules.labels_changed import LabelsChanged
from le_callback.alerts.rules.loader_stuck import LoaderStuck
from le_callback.alerts.rules.non_finite import NonFinite
from le_callback.alerts.rules.pair_merging import PairMerging
from le_callback.alerts.rules.scale_changed import ScaleChanged
from le_callback.alerts.rules.separability_lost import SeparabilityLost

__all__ = [
    "Alert",
    "AlertBook",
    "ClassVanished",
    "ElasticityLost",
    "Ended",
    "FeatureCollapse",
    "LabelsChanged",
    "LoaderStuck",
    "NonFinite",
    "PairMerging",
    "Rule",
    "ScaleChanged",
    "SeparabilityLost",
    "UserRule",
    "default_rules",
    "describe",
]
