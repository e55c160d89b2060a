"""Names of classes: those given, those of the data, however it is wrapped."""

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from le_callback.capture.classes import resolve_class_names


def pets(names=("cat", "dog"), n=6):
    data = TensorDataset(torch.zeros(n, 2), torch.zeros(n))
    data.classes = list(names)
    return data


def names_of(data, K=2):
    return resolve_class_names(None, DataLoader(data), K)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: d,
        lambda d: Subset(d, [1, 2]),
        lambda d: Subset(Subset(d, [1, 2, 3]), [0]),
        lambda d: random_split(d, [2, 4], generator=torch.Generator().manual_seed(0))[1],
        lambda d: ConcatDataset([d, pets()]),
        lambda d: Subset(ConcatDataset([Subset(d, [0]), pets()]), [0, 1]),
    ],
)
def test_names_survive_wrappers(wrap):
    assert names_of(wrap(pets())) == ["cat", "dog"]


@pytest.mark.parametrize(
    "data",
    [
        ConcatDataset([pets(), pets(("dog", "cat"))]),
        ConcatDataset([pets(), TensorDataset(torch.zeros(3, 2))]),
        Subset(pets(("cat", "cow", "dog")), [0]),
        TensorDataset(torch.zeros(3, 2)),
    ],
)
def test_names_that_disagree_or_are_too_many_are_numbers(data):
    assert names_of(data) == ["0", "1"]


def test_a_dataset_that_wraps_itself_ends():
    data = TensorDataset(torch.zeros(3, 2))
    data.dataset = data
    assert names_of(data) == ["0", "1"]


def test_given_names_may_be_numbers():
    assert resolve_class_names([7, 9], None, 2) == ["7", "9"]
