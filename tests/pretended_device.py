"""A device that is only pretended: tensors on the host that refuse to meet others, as those on a GPU do.

``with Pretended(): x = pretend(torch.ones(2)); x.device`` is ``cuda:0``; ``x + torch.ones(2)``, ``x.numpy()`` and
``torch.ones(2)[x > 0]`` raise, ``x.cpu()`` and ``x.tolist()`` work, and what is made with ``device=x.device`` is
pretended, too.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
_HOST = torch.device("cpu")
_MOVES = {torch.Tensor.copy_, torch.Tensor.type_as}
_READS = {
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__repr__,
    torch.Tensor.__format__,
    torch.equal,
    torch.Tensor.equal,
}
_TO_NUMPY = {torch.Tensor.numpy, torch.Tensor.__array__}


class PretendedTensor(torch.Tensor):
    """A tensor of the pretended device."""


def pretend(x):
    """``x`` on the pretended device."""
    return x.detach().as_subclass(PretendedTensor)


def _is_device(value):
    return isinstance(value, torch.device) and value.type == "cuda"


class Pretended(TorchFunctionMode):
    """While it is entered, the pretended device is there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        here = [t for t in tensors if isinstance(t, PretendedTensor)]
        with torch._C.DisableTorchFunctionSubclass():
            if func == torch.Tensor.device.__get__:
                return DEVICE if here else func(*args, **kwargs)
            if here and func in _TO_NUMPY:
                raise TypeError("can't convert a tensor of the pretended device to numpy; use Tensor.cpu()")
            asked = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.device)]
            if here and func is torch.Tensor.cpu:
                return args[0].as_subclass(torch.Tensor)
            if func is torch.Tensor.to:
                others = [a for a in args[1:] if isinstance(a, torch.Tensor)]
                to_device = any(map(_is_device, asked)) or any(isinstance(a, PretendedTensor) for a in others)
                to_host = "cpu" in args or _HOST in asked or (others and not to_device)
                plain = tree_map(lambda v: _HOST if _is_device(v) else v, (args, kwargs))
                found = func(*plain[0], **plain[1]).as_subclass(torch.Tensor)
                stays = bool(here and isinstance(args[0], PretendedTensor)) and not to_host
                return found.as_subclass(PretendedTensor) if stays or to_device else found
            meets = [t for t in tensors if t.dim() > 0 or func is torch.Tensor.__getitem__]
            apart = {isinstance(t, PretendedTensor) for t in meets}
            if len(apart) > 1 and func not in _MOVES and not _indexes(func, args):
                raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given two")
            plain = tree_map(lambda v: _HOST if _is_device(v) else v, (args, kwargs))
            found = func(*plain[0], **plain[1])
            if func in _READS:
                return found
            where = any(map(_is_device, asked)) or (bool(here) and func not in _MOVES)
            if func in _MOVES:
                where = isinstance(args[0], PretendedTensor)
            wrap = PretendedTensor if where and not (asked and not any(map(_is_device, asked))) else torch.Tensor
            if isinstance(found, torch.Tensor) and found is (args[0] if args else None):
                return found
            return tree_map(lambda t: t.as_subclass(wrap) if isinstance(t, torch.Tensor) else t, found)


def _indexes(func, args):
    """Whether indices of the host meet a tensor of the device, which is allowed; the other way round it is not."""
    if func not in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
        return False
    return isinstance(args[0], PretendedTensor) and func is torch.Tensor.__getitem__
