"""One callback class for both names that Lightning goes by, ``lightning.pytorch`` and ``pytorch_lightning``.

Their ``Callback`` classes are unrelated. Either Trainer runs callbacks of the other, but each LightningCLI takes only
its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Callback

if TYPE_CHECKING:
    AnyCallback = Callback
else:
    try:
        from pytorch_lightning import Callback as OtherCallback
    except ImportError:
        AnyCallback = Callback
    else:

        class AnyCallback(Callback, OtherCallback):
            """A callback of both namespaces."""


__all__ = ["AnyCallback"]
