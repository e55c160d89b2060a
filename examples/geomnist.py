"""GeoMNIST: grey images of rectangles, ellipses and triangles, and the network that the paper trains on them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = ("rectangle", "ellipse", "triangle")
SIZE = 32
_SUPERSAMPLING = 4

Floats = NDArray[np.float64]


class GeoMNIST(Dataset[tuple[Tensor, int]]):
    """Filled shapes of random size, aspect and rotation in the middle, blurred; the same images for the same seed.

    Args:
        per_class: images a class.
        seed: of the shapes and of the corrupted labels.
        corrupt: share of the labels of each class that are replaced, in equal parts by the other classes.
    """

    classes = CLASSES

    def __init__(self, per_class: int = 500, seed: int = 0, corrupt: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        labels_true = np.repeat(np.arange(len(CLASSES)), per_class)
        images = np.stack([draw(CLASSES[label], rng) for label in labels_true])
        labels = labels_true.copy()
        for label in range(len(CLASSES)):
            wrong = rng.permutation(np.flatnonzero(labels_true == label))[: round(corrupt * per_class)]
            # split evenly, so that at 2/3 labels and shapes are uncorrelated in the sample, too
            labels[wrong] = (label + 1 + np.arange(len(wrong)) % (len(CLASSES) - 1)) % len(CLASSES)
        self.images = torch.from_numpy(images).float().unsqueeze(1)  # (N, 1, 32, 32)
        self.labels = torch.from_numpy(labels)  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


def draw(shape: str, rng: np.random.Generator) -> Floats:
    """One image (32, 32) with values in 0..1: the shape's area in each pixel, then a Gaussian blur."""
    half, aspect = rng.uniform(5, 10), rng.uniform(0.6, 1.0)
    angle, centre = rng.uniform(0, 2 * np.pi), SIZE / 2
    fine = (np.arange(SIZE * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    y, x = np.meshgrid(fine - centre, fine - centre, indexing="ij")
    u = (np.cos(angle) * x + np.sin(angle) * y) / half
    v = (np.cos(angle) * y - np.sin(angle) * x) / (half * aspect)
    inside = _inside(shape, u, v)
    pixels = inside.reshape(SIZE, _SUPERSAMPLING, SIZE, _SUPERSAMPLING).mean((1, 3))
    return np.asarray(gaussian_filter(pixels, sigma=rng.uniform(0.3, 0.9)))


def _inside(shape: str, u: Floats, v: Floats) -> NDArray[np.bool_]:
    if shape == "rectangle":
        return np.asarray((np.abs(u) < 0.8) & (np.abs(v) < 0.8))
    if shape == "ellipse":
        return np.asarray(u**2 + v**2 < 1)
    return np.asarray((v > -0.5) & (np.abs(u) < (1 - v) / np.sqrt(3)))  # equilateral before the aspect


class PaperNet(nn.Module):
    """Two convolutions and three dense layers with ReLU, as in the paper's experiments."""

    def __init__(self, num_classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.dense = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        self.classifier = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.dense(self.convolutions(images).flatten(1))
        logits: Tensor = self.classifier(features)
        return logits
