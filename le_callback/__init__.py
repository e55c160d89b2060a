"""Whether and how classes become separable while a network trains.

``LECallback`` goes into an existing ``Trainer(callbacks=[LECallback()])``. The parts below it work without Lightning:
``SeparationMonitor`` takes batches and gives one record a window, ``ClassMoments`` is a torchmetrics metric, and
``etf_angles`` and ``pair_discriminability`` are plain functions of class means. ``estimate_coefficients`` and
``estimate_le_matrix`` analyse recorded class means.
"""

from le_callback.callback import LECallback
from le_callback.elasticity.coefficients import LECoefficients, TailIndex
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.elasticity.le_matrix import LEMatrix, estimate_le_matrix
from le_callback.elasticity.sampling import SamplingNoise
from le_callback.elasticity.stages import Stages, detect_stages
from le_callback.elasticity.window_coefficients import WindowCoefficients
from le_callback.forecast.bands import Forecast, forecast
from le_callback.measures.neural_collapse import etf_angle, etf_angles
from le_callback.measures.separation import nearest_mean_accuracy, pair_discriminability
from le_callback.moments.metric import ClassMoments
from le_callback.moments.statistics import ClassStatistics
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.notices import DiagnosticWarning
from le_callback.records import EtfAngles, Separation, WindowRecord
from le_callback.similarity import DirectionModel, GeneralModel, IModel, LModel
from le_callback.simulation.class_strengths import ClassStrengths, fit_class_strengths
from le_callback.simulation.exits import exit_times
from le_callback.simulation.noise import NoiseEstimate, estimate_mean_noise, estimate_sample_noise
from le_callback.simulation.ode import simulate_ode
from le_callback.simulation.probabilities import gaussian_separation_probability, simulated_separation_probability
from le_callback.simulation.projection import project_integrals
from le_callback.simulation.scores import relative_difference
from le_callback.simulation.sde import simulate_sde
from le_callback.simulation.strengths import LEIntegrals
from le_callback.trajectory import Trajectory
from le_callback.values import Estimate

__version__ = "0.1.0"

__all__ = [
    "ClassMoments",
    "ClassStatistics",
    "ClassStrengths",
    "DiagnosticWarning",
    "DirectionModel",
    "Estimate",
    "EtfAngles",
    "Forecast",
    "GeneralModel",
    "IModel",
    "LECallback",
    "LECoefficients",
    "LEIntegrals",
    "LEMatrix",
    "LModel",
    "MonitorSettings",
    "NoiseEstimate",
    "SamplingNoise",
    "Separation",
    "SeparationMonitor",
    "Stages",
    "TailIndex",
    "Trajectory",
    "WindowCoefficients",
    "WindowRecord",
    "detect_stages",
    "estimate_coefficients",
    "estimate_le_matrix",
    "estimate_mean_noise",
    "estimate_sample_noise",
    "etf_angle",
    "etf_angles",
    "exit_times",
    "fit_class_strengths",
    "forecast",
    "gaussian_separation_probability",
    "nearest_mean_accuracy",
    "pair_discriminability",
    "project_integrals",
    "relative_difference",
    "simulate_ode",
    "simulate_sde",
    "simulated_separation_probability",
]
