"""Whether and how classes become separable while a network trains.

``LECallback`` goes into an existing ``Trainer(callbacks=[LECallback()])``. The parts below it work without Lightning:
``SeparationMonitor`` takes batches and gives one record a window, ``ClassMoments`` is a torchmetrics metric, and
``etf_angles`` and ``pair_discriminability`` are plain functions of class means.
"""

from le_callback.callback import DiagnosticWarning, LECallback
from le_callback.collapse import etf_angle, etf_angles
from le_callback.elasticity.models import IModel, LModel
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.records import Coefficients, Estimate, EtfAngles, Separation, WindowRecord
from le_callback.separation import nearest_mean_accuracy, pair_discriminability
from le_callback.statistics import ClassMoments, ClassStatistics

__version__ = "0.1.0"

__all__ = [
    "ClassMoments",
    "ClassStatistics",
    "Coefficients",
    "DiagnosticWarning",
    "Estimate",
    "EtfAngles",
    "IModel",
    "LECallback",
    "LModel",
    "MonitorSettings",
    "Separation",
    "SeparationMonitor",
    "WindowRecord",
    "etf_angle",
    "etf_angles",
    "nearest_mean_accuracy",
    "pair_discriminability",
]
