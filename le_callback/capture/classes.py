"""Names of the classes, and the classes that a user chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from le_callback.errors import require


def chosen_classes(chosen: Sequence[int | str] | None, names: Sequence[str]) -> tuple[int, ...] | None:
    """The indices of the classes that the user chose by name or index; ``None`` where nothing was chosen.

    Raises:
        ValueError: if these are not at least two different classes.

    >>> chosen_classes(["dog", 0], ["cat", "cow", "dog"])
    (2, 0)
    """
    if chosen is None:
        return None
    index = {name: k for k, name in enumerate(names)}
    found = [index.get(c, -1) if isinstance(c, str) else c for c in chosen]
    right = len(found) >= 2 and len(set(found)) == len(found) and all(0 <= k < len(names) for k in found)
    require(right, "matrix_classes", list(chosen), f"two or more different classes of {list(names)}")
    return tuple(found)


def resolve_class_names(given: Sequence[Any] | None, loader: Any, num_classes: int) -> list[str]:
    """K names: those given, else ``classes`` of the loader's dataset if it has K of them, else 0, 1, ….

    Raises:
        ValueError: if the number of given names is not K.

    >>> resolve_class_names(None, None, 3)
    ['0', '1', '2']
    """
    if given is not None:
        require(len(given) == num_classes, "class_names", given, f"{num_classes} names, one for each class")
        return [str(name) for name in given]
    known = dataset_classes(getattr(loader, "dataset", None))
    return known if known is not None and len(known) == num_classes else [str(k) for k in range(num_classes)]


def dataset_classes(dataset: Any, depth: int = 16) -> list[str] | None:
    """The ``classes`` of a dataset, of the one that it is a part of, or of all that it is made of, if they agree.

    Args:
        dataset: of any kind; ``Subset`` and what ``random_split`` gives have a ``dataset``, ``ConcatDataset`` has
            ``datasets``.
        depth: wrappers that are looked through at most.

    >>> class Pets(list):
    ...     classes = ("cat", "dog")
    >>> from torch.utils.data import ConcatDataset, Subset
    >>> dataset_classes(ConcatDataset([Subset(Pets([1, 2]), [0]), Pets([3])]))
    ['cat', 'dog']
    """
    own = getattr(dataset, "classes", None)
    if isinstance(own, list | tuple):
        return [str(name) for name in own]
    if depth <= 0:
        return None
    inner = getattr(dataset, "dataset", None)
    if inner is not None:
        return dataset_classes(inner, depth - 1)
    parts = getattr(dataset, "datasets", None)
    if not isinstance(parts, list | tuple) or not parts:
        return None
    found = [dataset_classes(part, depth - 1) for part in parts]
    return found[0] if all(names == found[0] for names in found) else None
