"""CIFAR-10 from the original archive ``cifar-10-python.tar.gz``, read without running or extracting anything.

The archive holds pickles, and a pickle may call any function that its reader allows. Here it may rebuild arrays of
unsigned bytes and byte strings, nothing else; sizes, shapes and labels are checked before they are used.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

FOLDER = "cifar-10-batches-py"
TRAINING = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
MAX_MEMBER = 64 * 2**20  # bytes; the original files have 31 million
MAX_IMAGES = 10_000  # a file
PIXELS = 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

HOW_TO_GET = (
    "Get cifar-10-python.tar.gz (163 MB) under 'CIFAR-10 python version' at "
    "https://www.cs.toronto.edu/~kriz/cifar.html and pass its path with --cifar."
)


class ArchiveError(ValueError):
    """The archive is absent, damaged, or not the one that is expected; the message says which, in one sentence."""


class _Dtype:
    """Stands for ``numpy.dtype``: unsigned bytes only, and no state to set."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise ArchiveError("The archive holds an array that is not of unsigned bytes.")

    def __setstate__(self, state: Any) -> None:
        """Nothing in the state of unsigned bytes matters."""


class _Bytes:
    """Stands for ``numpy.ndarray``: a shape and raw bytes."""

    shape: tuple[int, ...] = ()
    fortran = False
    raw: bytes = b""

    def __setstate__(self, state: Any) -> None:
        """Version, shape, dtype, Fortran order, raw bytes, as numpy writes them."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ArchiveError("The archive holds an array in an unknown form.")
        _, shape, dtype, fortran, raw = state
        plain = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not (plain and isinstance(dtype, _Dtype) and isinstance(raw, bytes)):
            raise ArchiveError("The archive holds an array in an unknown form.")
        self.shape, self.fortran, self.raw = shape, bool(fortran), raw


class _Function:
    """A function that a pickle can call, but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        """Refused."""
        raise ArchiveError("The archive tries to change a function, which CIFAR-10 does not; nothing of it was run.")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """What ``_codecs.encode`` is used for in such pickles: bytes that were written as text."""
    if not (isinstance(text, str) and encoding == "latin1"):
        raise ArchiveError("The archive asks for an encoding that CIFAR-10 has not.")
    return text.encode("latin1")


_reconstruct = _Function(lambda *_: _Bytes())

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _Function(_encode),
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Bytes,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Gives a pickle our own stand-ins for the five names that CIFAR-10 needs, and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in."""
        if (module, name) not in _ALLOWED:
            raise ArchiveError(f"The archive asks for {module}.{name}, which CIFAR-10 has not; nothing of it was run.")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refused."""
        raise ArchiveError("The archive refers to objects outside of it, which CIFAR-10 does not.")


@dataclass(frozen=True)
class Images:
    """Images ``(N, 3, 32, 32)`` of unsigned bytes and their labels ``(N,)``."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_archive(path: str | Path, names: tuple[str, ...] = TRAINING) -> Images:
    """All images of the files ``names`` of the archive.

    Raises:
        ArchiveError: with one sentence that says what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ArchiveError(f"There is no file {path}. {HOW_TO_GET}")
    parts = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = {member.name: member for member in archive.getmembers()}
            for name in names:
                parts.append(_images(_content(archive, members, f"{FOLDER}/{name}"), name))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ArchiveError(f"{path} is damaged, truncated or no gzipped tar archive ({error}). {HOW_TO_GET}") from error
    return Images(np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts]))


def _content(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    member = members.get(name)
    if member is None:
        raise ArchiveError(f"The archive has no {name}, so it is not CIFAR-10's python version. {HOW_TO_GET}")
    if not member.isreg() or member.size > MAX_MEMBER:
        raise ArchiveError(f"{name} of the archive is no plain file of at most {MAX_MEMBER // 2**20} MiB.")
    file = archive.extractfile(member)
    assert file is not None
    content = file.read()
    if len(content) != member.size:
        raise ArchiveError(f"{name} of the archive ends early: the file is truncated. {HOW_TO_GET}")
    return content


def _images(content: bytes, name: str) -> Images:
    try:
        batch = RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load()
    except ArchiveError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ArchiveError(f"{name} of the archive cannot be read ({type(error).__name__}: {error}).") from error
    if not isinstance(batch, dict):
        raise ArchiveError(f"{name} of the archive holds no dictionary.")
    data, labels = (batch.get(key, batch.get(key.decode())) for key in (b"data", b"labels"))
    if not isinstance(data, _Bytes) or not isinstance(labels, list):
        raise ArchiveError(f"{name} of the archive holds no array `data` with a list `labels`.")
    n = len(labels)
    if not 1 <= n <= MAX_IMAGES or data.shape != (n, PIXELS) or len(data.raw) != n * PIXELS:
        raise ArchiveError(
            f"{name} of the archive holds data of shape {data.shape} with {n} labels; expected ({n}, {PIXELS}) with "
            f"1 to {MAX_IMAGES} images."
        )
    if not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise ArchiveError(f"{name} of the archive holds labels that are not whole numbers from 0 to 9.")
    rows = np.frombuffer(data.raw, dtype=np.uint8).reshape(data.shape, order="F" if data.fortran else "C")
    return Images(rows.reshape(n, 3, 32, 32), np.array(labels, dtype=np.int64))


class CIFAR10(Dataset[tuple[Tensor, int]]):
    """The first ``num_classes`` classes, as many images of each, with pixels scaled to mean 0 and about unit size.

    Args:
        path: the original archive.
        num_classes: airplane, automobile, bird, …
        train: training or test images.
        per_class: at most this many images of each; None: all.

    Raises:
        ArchiveError: see ``read_archive``, or a class is missing.
    """

    def __init__(self, path: str | Path, num_classes: int, train: bool = True, per_class: int | None = None) -> None:
        found = read_archive(path, TRAINING if train else TEST)
        counts = np.bincount(found.labels, minlength=len(CLASSES))[:num_classes]
        if counts.min() == 0:
            raise ArchiveError(f"The archive has no images of the class {CLASSES[int(counts.argmin())]}.")
        size = min(int(counts.min()), per_class or MAX_IMAGES * len(TRAINING))
        chosen = np.concatenate([np.flatnonzero(found.labels == k)[:size] for k in range(num_classes)])
        self.classes = CLASSES[:num_classes]
        self.images = (torch.from_numpy(found.pixels[chosen]).float() / 255 - 0.5) / 0.25
        self.labels = torch.from_numpy(found.labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])
