"""Windows for the tests of measures."""

from dataclasses import replace

import torch

from le_callback.measures import SourceWindow
from le_callback.moments import ClassMoments


def blobs(seed, K=4, p=5, n=40, spread=1.0, dtype=torch.float64):
    """Gaussian classes around random centres; every class has a sample."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(K), torch.randint(K, (n - K,), generator=g)])
    centres = torch.randn(K, p, generator=g, dtype=torch.float64)
    features = centres[labels] + spread * torch.randn(n, p, generator=g, dtype=torch.float64)
    return features.to(dtype), labels


def means_of(features, labels, K):
    """(K, p) plain means."""
    return torch.stack([features[labels == k].mean(0) for k in range(K)])


def source_window(features, labels, num_classes, previous=None, layer="features", target=None):
    """What a measure is given of samples, all of which are kept."""
    reference = torch.zeros(num_classes, features.shape[1], dtype=features.dtype)
    metric = ClassMoments(num_classes=num_classes, num_features=features.shape[1], reference=reference)
    metric.update(features, labels if target is None else target)
    return SourceWindow(layer, metric.compute(), features, labels, previous)


def with_measure(record, name, layer="features", **changes):
    """A window's record in which one measure says something else."""
    found = record.measures[name][layer]
    changed = found._replace(**changes) if isinstance(found, tuple) else replace(found, **changes)
    return replace(record, measures={**record.measures, name: {**record.measures[name], layer: changed}})


def without_measure(record, name):
    """A window's record without one measure."""
    return replace(record, measures={key: found for key, found in record.measures.items() if key != name})
