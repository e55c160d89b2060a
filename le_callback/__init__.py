"""Whether and how classes become separable while a network trains.

``LECallback`` goes into an existing ``Trainer(callbacks=[LECallback()])``. What is below it works without Lightning:
``SeparationMonitor`` takes batches and gives one record a window, ``ClassMoments`` is a torchmetrics metric,
``estimate_coefficients`` analyses recorded class means, ``simulate_ode`` runs the LE-ODE.

Rooms: ``measures`` (what a window says of its classes), ``similarity`` (I-model, L-model, directions), ``elasticity``
(α, β, γ and the LE matrix from class means), ``simulation`` (LE-ODE and LE-SDE), ``forecast``, ``alerts``.

Names are imported when they are first used (PEP 562): TensorBoard imports ``le_callback.page.plugin`` whenever it
starts, and must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "callback": ("LECallback",),
    "elasticity": ("LECoefficients", "LEMatrix", "estimate_coefficients", "estimate_le_matrix"),
    "measures": ("etf_angles",),
    "moments": ("ClassMoments",),
    "monitor": ("MonitorSettings", "SeparationMonitor"),
    "notices": ("DiagnosticWarning",),
    "records": ("WindowRecord",),
    "similarity": ("DirectionModel", "IModel", "LModel"),
    "simulation": ("relative_difference", "simulate_ode", "simulate_sde"),
    "trainer.alarm": ("SeparabilityError", "SeparabilityWarning"),
    "trajectory": ("Trajectory",),
    "values": ("Estimate",),
}
_ROOMS = ("alerts", "elasticity", "forecast", "measures", "moments", "similarity", "simulation")


def __getattr__(name: str) -> Any:
    """A public name, or a room, imported now."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
