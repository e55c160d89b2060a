"""Whether and how classes become separable while a network trains.

``LECallback`` goes into an existing ``Trainer(callbacks=[LECallback()])``. What is below it works without Lightning:
``SeparationMonitor`` takes batches and gives one record a window, ``ClassMoments`` is a torchmetrics metric,
``estimate_coefficients`` analyses recorded class means, ``simulate_ode`` runs the LE-ODE.

Rooms: ``measures`` (what a window says of its classes), ``similarity`` (I-model, L-model, directions), ``elasticity``
(α, β, γ and the LE matrix from class means), ``simulation`` (LE-ODE and LE-SDE), ``forecast``, ``alerts``.
"""

from le_callback.callback import LECallback
from le_callback.elasticity import LECoefficients, LEMatrix, estimate_coefficients, estimate_le_matrix
from le_callback.measures import etf_angles
from le_callback.moments import ClassMoments
from le_callback.monitor import MonitorSettings, SeparationMonitor
from le_callback.notices import DiagnosticWarning
from le_callback.records import WindowRecord
from le_callback.similarity import DirectionModel, IModel, LModel
from le_callback.simulation import relative_difference, simulate_ode, simulate_sde
from le_callback.trainer.alarm import SeparabilityError, SeparabilityWarning
from le_callback.trajectory import Trajectory
from le_callback.values import Estimate

__version__ = "0.1.0"

__all__ = [
    "ClassMoments",
    "DiagnosticWarning",
    "DirectionModel",
    "Estimate",
    "IModel",
    "LECallback",
    "LECoefficients",
    "LEMatrix",
    "LModel",
    "MonitorSettings",
    "SeparabilityError",
    "SeparabilityWarning",
    "SeparationMonitor",
    "Trajectory",
    "WindowRecord",
    "estimate_coefficients",
    "estimate_le_matrix",
    "etf_angles",
    "relative_difference",
    "simulate_ode",
    "simulate_sde",
]
