"""The verdict on a run: whether its classes separate, by what is measured, and what the separation theorem says."""

from le_callback.verdict.judge import Judge
from le_callback.verdict.theorem import theorem_side

__all__ = ["Judge", "theorem_side"]
