"""Similarity models: how classes pull on each other.

One file a model; ``base`` says what estimators and simulators ask of it. ``IModel`` and ``LModel`` also go by
their names, ``"I"`` and ``"L"``, wherever a model is taken.
"""

from le_callback.similarity.base import LEModel, ModeWeights
from le_callback.similarity.directions import DirectionModel, LModel
from le_callback.similarity.general import GeneralModel
from le_callback.similarity.identity import IModel
from le_callback.similarity.named import as_model
from le_callback.similarity.sampling_matrix import sampling_matrix

__all__ = [
    "DirectionModel",
    "GeneralModel",
    "IModel",
    "LEModel",
    "LModel",
    "ModeWeights",
    "as_model",
    "sampling_matrix",
]
