"""Where the samples of a probe come from: tensors, a dataset, a loader, or some of each class of the training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from le_callback.capture.labels import LabelReader, describe
from le_callback.notices import DiagnosticWarning, warn

ProbeData = int | Sequence[Any] | Dataset[Any] | DataLoader[Any]

BATCH_SIZE = 256
SCANNED_PER_WANTED = 50  # samples looked at for each one that is wanted of a class, before a class is given up
MAX_BATCHES = 10_000  # of data whose number is not known
MAX_SAMPLES = 50_000  # of a probe: of a loader that holds more, or never ends, the first are taken


def probe_batches(data: ProbeData, training_loader: Any = None) -> Iterator[Any]:
    """Batches of a probe that was given as tensors, a dataset or a loader; of the training data if it is a number.

    Raises:
        TypeError: if ``data`` is none of these.
        ValueError: if a number is given and the training data cannot be read by index.

    >>> [len(batch[1]) for batch in probe_batches((torch.zeros(3, 2), torch.tensor([0, 1, 0])))]
    [3]
    """
    if isinstance(data, DataLoader):
        return iter(data)
    if isinstance(data, int):
        return _shuffled_training_batches(training_loader)
    if isinstance(data, Dataset):
        if isinstance(data, IterableDataset):
            return iter(DataLoader(data, batch_size=BATCH_SIZE))
        return iter(DataLoader(data, batch_size=BATCH_SIZE, shuffle=False))
    if isinstance(data, Sequence) and len(data) == 2 and all(isinstance(t, Tensor) for t in data):
        return iter(DataLoader(TensorDataset(*data), batch_size=BATCH_SIZE))
    raise TypeError(
        "Expected argument `probe` to be a DataLoader, a Dataset, a pair of tensors (inputs, labels) or a number of"
        f" samples a class, but got {describe(data)}."
    )


def _shuffled_training_batches(loader: Any) -> Iterator[Any]:
    """Training samples in an order of our own, collated as the loader does; samplers and their states are not used."""
    if not by_index(loader):
        raise ValueError(
            "A number of samples a class was given as `probe`, but the training data cannot be read by index"
            f" ({describe(loader)}). Pass the probe's samples as `probe=(inputs, labels)`, a Dataset or a DataLoader."
        )
    order = torch.randperm(len(loader.dataset), generator=torch.Generator().manual_seed(0)).tolist()
    yield from training_batches(loader, order)


def by_index(loader: Any) -> bool:
    """Whether the samples of a loader can be read one by one.

    >>> by_index(DataLoader(TensorDataset(torch.zeros(3)))), by_index([torch.zeros(3)])
    (True, False)
    """
    dataset = getattr(loader, "dataset", None)
    return dataset is not None and not isinstance(dataset, IterableDataset) and hasattr(dataset, "__len__")


def training_batches(loader: Any, order: Sequence[int] | None = None) -> Iterator[Any]:
    """Samples of a loader's dataset, all in their order if none is given, collated as the loader does.

    Samplers and their states are not used.

    >>> [len(batch[0]) for batch in training_batches(DataLoader(TensorDataset(torch.zeros(300))))]
    [256, 44]
    """
    collate = getattr(loader, "collate_fn", None) or default_collate
    places = range(len(loader.dataset)) if order is None else order
    for start in range(0, len(places), BATCH_SIZE):
        yield collate([loader.dataset[i] for i in places[start : start + BATCH_SIZE]])


def gather_probe(
    data: ProbeData, read_labels: LabelReader, num_classes: int | None = None, training_loader: Any = None
) -> list[Any]:
    """The batches of the probe; for a number n, training batches cut down to about n samples of each class.

    Args:
        data: see ``probe_batches``; the first 50,000 samples are taken of one that holds more, and that is told.
        read_labels: finds the labels in a batch.
        num_classes: K, needed for a number.
        training_loader: where a number of samples a class comes from.

    Raises:
        ValueError: if there is no sample.
    """
    if not isinstance(data, int):
        batches = _first_samples(probe_batches(data), read_labels)
        if not batches:
            raise ValueError("Expected argument `probe` to hold samples, but it is empty.")
        return batches
    assert num_classes is not None
    missing = torch.full((num_classes,), data)
    kept, looked_at = [], 0
    for batch in probe_batches(data, training_loader):
        labels = read_labels(batch)
        if labels.ndim != 1:
            raise ValueError(
                f"A number of samples a class was given as `probe`, but the labels are {describe(labels)}, not one a"
                " sample. Pass the probe's samples as `probe=(inputs, labels)`, a Dataset or a DataLoader."
            )
        chosen = []
        for i, label in enumerate(labels.tolist()):
            if 0 <= label < num_classes and missing[int(label)] > 0:
                missing[int(label)] -= 1
                chosen.append(i)
        if chosen:
            kept.append(_take(batch, torch.tensor(chosen), len(labels)))
        looked_at += len(labels)
        if not missing.any() or looked_at >= SCANNED_PER_WANTED * data * num_classes:
            break
    return kept


def ending(batches: Iterator[Any], data: Any, argument: str) -> Iterator[Any]:
    """The batches of data that may have no end: cut after ``MAX_BATCHES`` where their number is not known, and told.

    Args:
        batches: of the data.
        data: a loader, or anything else that ends.
        argument: that the data were given as.

    >>> list(ending(iter([1, 2]), [1, 2], "exact"))
    [1, 2]
    """
    unknown = length(data) is None
    for n, batch in enumerate(batches):
        if unknown and n == MAX_BATCHES:
            what = f"the data given as `{argument}` hold more than {MAX_BATCHES:,} batches, or never end"
            warn(f"{what}; these are used", DiagnosticWarning)
            return
        yield batch


def length(data: Any) -> int | None:
    """How many batches or samples data hold; None where they do not say.

    >>> length([1, 2]), length(iter([1, 2]))
    (2, None)
    """
    try:
        return len(data)
    except TypeError:
        return None


def _first_samples(batches: Iterator[Any], read_labels: LabelReader) -> list[Any]:
    """The batches of the first ``MAX_SAMPLES`` samples; tells where there are more."""
    kept, samples = [], 0
    for batch in batches:
        if samples >= MAX_SAMPLES:
            warn(
                f"the probe holds more than {MAX_SAMPLES:,} samples, or never ends; the first {samples:,} are used",
                DiagnosticWarning,
            )
            break
        kept.append(batch)
        try:
            labels = read_labels(batch)
        except Exception:  # told when this batch is read
            labels = torch.zeros(1)
        samples += max(1, len(labels) if labels.ndim else 1)
    return kept


def _take(batch: Any, rows: Tensor, size: int) -> Any:
    if isinstance(batch, Tensor):
        return batch[rows] if batch.ndim and len(batch) == size else batch
    if isinstance(batch, Mapping):
        return {key: _take(value, rows, size) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        if len(batch) == size and not any(isinstance(item, Tensor | Mapping | tuple | list) for item in batch):
            return [batch[i] for i in rows.tolist()]
        return [_take(value, rows, size) for value in batch]
    return batch
