"""Alert rules with a stated false-alarm rate, and the book that raises each alert once."""

from le_callback.alerts.accuracy import ElasticityLost, SeparabilityLost
from le_callback.alerts.alert import Alert, Rule, UserRule
from le_callback.alerts.book import AlertBook, default_rules
from le_callback.alerts.pairs import PairMerging
from le_callback.alerts.structure import ClassVanished, FeatureCollapse, NonFinite

__all__ = [
    "Alert",
    "AlertBook",
    "ClassVanished",
    "ElasticityLost",
    "FeatureCollapse",
    "NonFinite",
    "PairMerging",
    "Rule",
    "SeparabilityLost",
    "UserRule",
    "default_rules",
]
