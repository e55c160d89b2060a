"""The LE-SDE as a twin of the training: simulate it and score it.

The way of the data: ``inputs`` (what a caller may pass) → ``strengths`` (E(t) from coefficients) and ``diffusion``
(Σ(t) from numbers or covariances) → ``modes`` (two modes, exact) or ``linear`` (matrix exponentials) → ``ode`` and
``sde`` (trajectories) → ``scores``, ``probabilities``, ``exits`` (what is read from them). What a run gives to its
imitation: ``projection`` its A and B, ``class_strengths`` an α of each class, ``noise`` its Σ. ``imitation`` scores
what models made of ``pulls``, fitted by ``shooting`` in ``windows``, describe and predict; ``spectrum`` and
``ordering`` ask the theorem of any E and of all classes at once.

The estimators never import this package: it is their independent oracle.
"""

from le_callback.simulation.class_strengths import ClassStrengths, fit_class_strengths
from le_callback.simulation.exits import exit_times
from le_callback.simulation.imitation import Imitation, imitate
from le_callback.simulation.noise import NoiseEstimate, estimate_mean_noise, estimate_sample_noise
from le_callback.simulation.ode import simulate_ode
from le_callback.simulation.ordering import CommonDirection, common_direction
from le_callback.simulation.probabilities import gaussian_separation_probability, simulated_separation_probability
from le_callback.simulation.projection import project_integrals
from le_callback.simulation.scores import relative_difference
from le_callback.simulation.sde import simulate_sde
from le_callback.simulation.spectrum import PairOutlook, SeparationSpectrum, separation_spectrum
from le_callback.simulation.strengths import LEIntegrals

__all__ = [
    "ClassStrengths",
    "CommonDirection",
    "Imitation",
    "LEIntegrals",
    "NoiseEstimate",
    "PairOutlook",
    "SeparationSpectrum",
    "common_direction",
    "estimate_mean_noise",
    "estimate_sample_noise",
    "exit_times",
    "fit_class_strengths",
    "gaussian_separation_probability",
    "imitate",
    "project_integrals",
    "relative_difference",
    "separation_spectrum",
    "simulate_ode",
    "simulate_sde",
    "simulated_separation_probability",
]
