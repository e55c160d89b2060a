"""Random problems that several tests share: models with their blocks, strengths, class means that grow by a law."""

from __future__ import annotations

import numpy as np
import simulators
import torch

from le_callback import DirectionModel, IModel, LModel

TIMES = np.linspace(10.0, 50.0, 9)


def alpha(t):
    return 3.0 * t**-0.7


def beta(t):
    return -0.2 + 0.01 * np.sin(t / 5)


def problem(name, K, seed=0):
    """Model, its blocks by the oracle, and a random start."""
    rng = np.random.default_rng(seed)
    if name == "I":
        p, model, blocks = 4, IModel(), simulators.identity_blocks(K, 4)
    elif name == "L":
        p, model, blocks = K, LModel(), simulators.direction_blocks(simulators.logit_directions(K))
    else:
        p = K + 3
        d = rng.standard_normal((K, p))
        if name == "simplex":
            d = simulators.logit_directions(K) @ np.linalg.qr(rng.standard_normal((p, K)))[0].T
        model, blocks = DirectionModel(torch.tensor(d)), simulators.direction_blocks(d)
    return model, blocks, rng.standard_normal((K, p))


def relative(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def seed(n=0):
    return torch.Generator().manual_seed(n)


def shape(K, p, n=0):
    return np.random.default_rng(n).standard_normal((K, p))


def grown(x0, log_growth):
    """I-model means whose modes both grow by log_growth (T,)."""
    return np.exp(log_growth)[:, None, None] * x0
