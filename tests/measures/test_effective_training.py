import math

import numpy as np
import pytest
import torch
from windows import blobs, means_of, source_window

from le_callback.measures.effective_training import MEASURE, effective_training


def test_effective_training_against_the_matrices():
    X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psi, residue = [], []
    for k in range(4):
        p = X[k].softmax(0).numpy()
        psi.append(np.eye(4)[k] - p)
        residue.append(psi[-1] + (np.diag(p) - np.outer(p, p)) @ X[k].numpy())
    measured = effective_training(X)
    assert measured.psi == pytest.approx(np.sqrt(np.mean(np.square(np.linalg.norm(psi, axis=1)))))
    assert measured.residue == pytest.approx(np.sqrt(np.mean(np.square(np.linalg.norm(residue, axis=1)))))
    assert effective_training(50 * torch.eye(3)).psi < 1e-9


def test_unseen_classes_are_left_out():
    X = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    X[1] = torch.nan
    alone = [effective_training(torch.where(torch.arange(3).unsqueeze(1) == k, X, torch.nan)) for k in (0, 2)]
    both = effective_training(X)
    assert both.psi == pytest.approx(math.sqrt((alone[0].psi ** 2 + alone[1].psi ** 2) / 2))
    assert both.residue == pytest.approx(math.sqrt((alone[0].residue ** 2 + alone[1].residue ** 2) / 2))


def test_a_window_is_measured_by_its_means():
    z, y = blobs(4, K=3, p=3)
    assert MEASURE.layers == ("logits",)
    assert MEASURE.compute(source_window(z, y, 3, layer="logits")).psi == pytest.approx(
        effective_training(means_of(z, y, 3)).psi
    )
    assert math.isnan(effective_training(torch.full((2, 2), torch.nan)).psi)


def test_many_classes_of_which_some_were_not_seen():
    """700 classes, more than are taken at once, by the definition, class by class."""
    X = 3 * torch.randn(700, 700, generator=torch.Generator().manual_seed(0))
    X[[5, 300, 699]] = torch.nan
    psi, residue = [], []
    for k in sorted(set(range(700)) - {5, 300, 699}):
        x = X[k].double()
        p, e = x.softmax(0), torch.nn.functional.one_hot(torch.tensor(k), 700)
        psi.append((e - p).square().sum())
        residue.append((e - p + torch.diag(p) @ x - p * (p @ x)).square().sum())
    measured = effective_training(X)
    assert measured.psi == pytest.approx(torch.stack(psi).mean().sqrt().item(), rel=1e-5)
    assert measured.residue == pytest.approx(torch.stack(residue).mean().sqrt().item(), rel=1e-5)
