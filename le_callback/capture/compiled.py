"""What ``torch.compile`` means for forward hooks.

Compiled code contains the hooks that were there when it was compiled. A hook that is registered later is not called,
and one that is removed makes the code compile again.
"""

from __future__ import annotations

from torch import nn
from torch._dynamo import OptimizedModule


def is_compiled(module: nn.Module) -> bool:
    """Whether the module, or one inside it, is compiled: wrapped, in place, or by being given to ``Trainer.fit``.

    >>> import torch
    >>> inner = nn.Linear(2, 2)
    >>> is_compiled(nn.Sequential(inner)), is_compiled(nn.Sequential(torch.compile(inner)))
    (False, True)
    """
    if getattr(module, "_compiler_ctx", None) is not None:  # set by Lightning, which unwraps a compiled module
        return True
    return any(isinstance(m, OptimizedModule) or m._compiled_call_impl is not None for m in module.modules())


def wrapped_names(module: nn.Module) -> set[str]:
    """Names of the modules that ``torch.compile`` wrapped.

    >>> import torch
    >>> wrapped_names(nn.Sequential(torch.compile(nn.Linear(2, 2))))
    {'0._orig_mod'}
    """
    wrappers = (name for name, m in module.named_modules() if isinstance(m, OptimizedModule))
    return {f"{name}._orig_mod".removeprefix(".") for name in wrappers}
