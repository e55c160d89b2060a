"""Local-elasticity coefficients α, β, γ of class means, with intervals: of a whole run, or live.

The way of the data of a whole run, each file using only those before it:

1. ``sampling_noise``: what is known of the noise; ``inputs``: class means, times, noise and sampling, checked.
2. ``amplitudes``: log amplitudes of the two modes.
3. ``increments``: fit of one window; ``growth``: functions of time in it; ``rates``: α, β, γ from the modes;
   ``regression``: from class means, projected on what pulls them; ``sliding``: a window for each time.
4. ``tail_index``: how fast a coefficient falls off; ``coefficients``: what a method finds, and the record of it.
5. ``problem``: what a method is given; ``method_modes``, ``method_closed_form``, ``method_regression``.
6. ``estimators``: ``estimate_coefficients``, which picks the method.

Beside it: ``le_matrix`` estimates the full matrix E, ``stages`` finds a change of the growth rate.

Live, window after window (``live``): ``frequencies`` of the classes and ``mode_readings`` → ``class_growth`` between
two windows → ``growth_path`` of each mode → ``rate_filters`` (with ``mixtures``) and ``cumulative`` → ``tracker`` →
``window_coefficients``; ``rate_index`` says how γ falls now.

Source of the model: Zhang, Wang, Su, "Imitating Deep Learning Dynamics via Locally Elastic Stochastic Differential
Equations", NeurIPS 2021, arXiv 2110.05960.
"""

from le_callback.elasticity.coefficients import LECoefficients
from le_callback.elasticity.estimators import estimate_coefficients
from le_callback.elasticity.le_matrix import LEMatrix, estimate_le_matrix
from le_callback.elasticity.mode_readings import Mode, ModeReading, read_modes
from le_callback.elasticity.rate_index import local_tail_index
from le_callback.elasticity.sampling_noise import SamplingNoise
from le_callback.elasticity.stages import Stages, detect_stages
from le_callback.elasticity.tail_index import TailIndex, finite_time_index
from le_callback.elasticity.window_coefficients import WindowCoefficients

__all__ = [
    "LECoefficients",
    "LEMatrix",
    "Mode",
    "ModeReading",
    "SamplingNoise",
    "Stages",
    "TailIndex",
    "WindowCoefficients",
    "detect_stages",
    "estimate_coefficients",
    "estimate_le_matrix",
    "finite_time_index",
    "local_tail_index",
    "read_modes",
]
