"""What is known of loss functions: which are classifications, and where their input, target and class axis are.

K classes; ``…`` stands for batch, sequence and pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Kind = Literal["classes", "binary", "weights", "divergence", "scores", "index", "other"]
"""What a function says about its input.

``classes``: logits of K classes against labels or class weights. ``binary``: each number of the input has a target of
its own. ``weights``: a regression, which is a classification where the target is one-hot. ``divergence``: the same
where it is class weights. ``scores``: scores of classes are normalised, and the target is not told. ``index``: the
second argument may be labels. ``other``: a loss that is no classification.
"""


@dataclass(frozen=True)
class Site:
    """The place in the code of a training from which a function of ``torch`` is called.

    Attributes:
        code: of the function that calls.
        at: the instruction in it.
    """

    code: CodeType
    at: int

    def __str__(self) -> str:
        return self.code.co_name


def site_of_call() -> Site | None:
    """The innermost place outside ``torch`` and this package; None where there is none.

    >>> site_of_call().code.co_name != "site_of_call"
    True
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        frame = frame.f_back  # type: ignore[assignment]
    return None if frame is None else Site(frame.f_code, frame.f_lasti)


_INNER = ("torch", "le_callback")


@dataclass(frozen=True)
class LossCall:
    """One call of a function that is known.

    Attributes:
        name: of the function.
        kind: what it says.
        inputs: the tensor that is trained.
        target: what it is trained on; None where the call does not tell.
        axis: of the classes in ``inputs``.
        ignore_index: label that is left out; None where none is.
        node: of its result in the graph of gradients.
        site: from which it was called.
    """

    name: str
    kind: Kind
    inputs: Tensor
    target: Tensor | None = None
    axis: int = -1
    ignore_index: int | None = None
    node: Any = None
    site: Site | None = None


def _functional(kind: Kind, *names: str) -> dict[Callable[..., Any], tuple[str, Kind]]:
    return {f: (name, kind) for name in names if (f := getattr(F, name, None)) is not None}


def _everywhere(kind: Kind, *names: str) -> dict[Callable[..., Any], tuple[str, Kind]]:
    places = (torch, Tensor, F, torch.special)
    return {f: (name, kind) for name in names for place in places if callable(f := getattr(place, name, None))}


KNOWN: Mapping[Callable[..., Any], tuple[str, Kind]] = {
    **_functional("classes", "cross_entropy", "nll_loss", "multi_margin_loss"),
    **_functional("binary", "binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss"),
    **_functional("binary", "multilabel_soft_margin_loss", "multilabel_margin_loss"),
    **_functional("weights", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
    **_functional("divergence", "kl_div"),
    **_functional("other", "cosine_embedding_loss", "triplet_margin_loss", "ctc_loss"),
    **_functional("other", "triplet_margin_with_distance_loss", "margin_ranking_loss", "hinge_embedding_loss"),
    **_functional("other", "gaussian_nll_loss", "poisson_nll_loss"),
    **_everywhere("scores", "log_softmax", "softmax", "logsumexp"),
    **_everywhere("index", "gather", "take_along_dim", "one_hot", "scatter", "scatter_"),
    Tensor.__getitem__: ("getitem", "index"),
    torch.ctc_loss: ("ctc_loss", "other"),
}
"""Functions by name and what they say. Losses of ``torch.nn`` call those of ``torch.nn.functional``."""


def read_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LossCall | None:
    """What a call says; ``None`` for functions that are not known and for inputs that are not trained.

    >>> logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
    >>> call = read_call(F.cross_entropy, (logits, labels), {"ignore_index": 255})
    >>> call.name, call.kind, call.axis, call.ignore_index
    ('cross_entropy', 'classes', 1, 255)
    """
    known = KNOWN.get(function)
    if known is None:
        return None
    name, kind = known
    inputs = args[0] if args else kwargs.get("input", kwargs.get("self"))
    if kind == "index":
        return _index_call(name, inputs, args, kwargs)
    if not isinstance(inputs, Tensor) or not inputs.requires_grad:
        return None
    if kind == "scores":
        dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
        return LossCall(name, kind, inputs, axis=dim if isinstance(dim, int) else -1)
    target = args[1] if len(args) > 1 else kwargs.get("target")
    target = target if isinstance(target, Tensor) else None
    if kind != "classes":
        return LossCall(name, kind, inputs, target)
    ignored = None
    if name != "multi_margin_loss":
        ignored = kwargs.get("ignore_index", args[4] if len(args) > 4 else -100)
    return LossCall(name, kind, inputs, target, 1 if inputs.ndim > 1 else 0, ignored)


def _index_call(name: str, inputs: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LossCall | None:
    """Labels that are turned into one-hot rows, or pick a number of each row."""
    if name == "one_hot":
        return LossCall(name, "index", inputs, inputs) if isinstance(inputs, Tensor) else None
    if name == "getitem":
        chosen = args[1] if len(args) > 1 and isinstance(args[1], tuple) else ()
        picked = [i for i in chosen if isinstance(i, Tensor) and i.dtype in (torch.int64, torch.int32)]
        if not picked or not isinstance(inputs, Tensor) or not inputs.requires_grad:
            return None
        return LossCall(name, "index", inputs, picked[-1])
    at = 1 if name == "take_along_dim" else 2
    index = kwargs.get("index", kwargs.get("indices", args[at] if len(args) > at else None))
    if not isinstance(inputs, Tensor) or not isinstance(index, Tensor):
        return None
    return LossCall(name, "index", inputs, index) if inputs.requires_grad or name.startswith("scatter") else None


PRODUCTS: Mapping[Callable[..., Any], str] = {
    F.linear: "linear",
    torch.cdist: "cdist",
    torch.einsum: "einsum",
    torch.addmm: "addmm",
    **dict.fromkeys(
        (torch.matmul, torch.mm, torch.mv, Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.__matmul__), "matmul"
    ),
}
"""Functions that make logits of features and a vector for each class."""


def operands(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """The two tables that a function of ``PRODUCTS`` multiplies; None if these are no tensors.

    >>> [tuple(x.shape) for x in operands(torch.einsum, ("nd,kd->nk", torch.zeros(4, 2), torch.zeros(3, 2)))]
    [(4, 2), (3, 2)]
    """
    pair = args[1:3] if PRODUCTS[function] in ("einsum", "addmm") else args[:2]
    if len(pair) == 1 and isinstance(pair[0], tuple | list):
        pair = tuple(pair[0])
    if len(pair) != 2 or not all(isinstance(x, Tensor) for x in pair):
        return None
    return pair


def features_of(function: Callable[..., Any], args: tuple[Any, ...], which: int) -> Tensor | None:
    """The features (…, p) that enter a product as its operand ``which``; None if p is not where it should be.

    >>> features_of(torch.matmul, (torch.zeros(3, 2), torch.zeros(2, 4)), 1).shape
    torch.Size([4, 2])
    """
    pair = operands(function, args)
    if pair is None:
        return None
    name, features = PRODUCTS[function], pair[which]
    if name == "einsum":
        terms, _, result = str(args[0]).replace(" ", "").partition("->")
        term = terms.split(",")[which]
        return features if term and term[-1] not in result else None
    if name in ("matmul", "addmm") and which == 1:
        return features.transpose(-1, -2) if features.ndim == 2 and pair[0].ndim == 2 else None
    return features


def channel_of_product(function: Callable[..., Any], args: tuple[Any, ...], which: int, dims: int) -> int | None:
    """The axis of the classes in the result, of ``dims`` axes, of a product whose operand ``which`` are features.

    >>> channel_of_product(torch.einsum, ("kd,nd->kn",), 1, 2), channel_of_product(torch.mv, (), 0, 1)
    (0, None)
    """
    if PRODUCTS[function] == "einsum":
        terms, _, result = str(args[0]).replace(" ", "").partition("->")
        own = [i for i, letter in enumerate(result) if letter not in terms.split(",")[which]]
        return own[0] if len(own) == 1 else None
    if dims < 2:
        return None
    return 0 if which == 1 and dims == 2 else -1
