"""The former place of ``sampling_noise``."""

from le_callback.elasticity.sampling_noise import SamplingNoise as SamplingNoise
