"""Models by their short names."""

from __future__ import annotations

from collections.abc import Mapping

from le_callback.errors import require_type
from le_callback.similarity.base import LEModel
from le_callback.similarity.directions import LModel
from le_callback.similarity.identity import IModel

NAMED: Mapping[str, LEModel] = {model.name: model for model in (IModel(), LModel())}


def as_model(model: LEModel | str) -> LEModel:
    """The model itself, or the one of that short name: ``"I"`` or ``"L"``.

    Raises:
        TypeError: for anything else.

    >>> as_model("L")
    LModel(name='L')
    >>> as_model("linear")
    Traceback (most recent call last):
    TypeError: Expected argument `model` to be a similarity model or one of 'I', 'L', but got 'linear'.
    """
    if isinstance(model, LEModel):
        return model
    known = isinstance(model, str) and model in NAMED
    names = ", ".join(map(repr, NAMED))
    require_type(known, "model", model, f"a similarity model or one of {names}")
    return NAMED[model]
