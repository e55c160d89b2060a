"""Which trainings ``alerts.py`` judges: the healthy kinds and the faults, each with what it is and whether it was seen.

Thresholds were chosen on seeds below 1,000 of the kinds that are not listed in ``UNSEEN``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

WINDOW = 50  # optimizer steps
FAULTS = (
    "corrupt_0.4", "corrupt_0.7", "corrupt_1.0", "pair_mixed", "rate_x100", "dead_relu", "class_dropped",
    "scale_to_zero", "nan_batch",
)  # fmt: skip
LASTING = (
    "const_images", "dead_encoder", "replaced", "two_pairs", "nan_class", "stuck_loader", "inputs_x255",
    "slow_divergence", "heavy_decay", "permuted_labels", "const_all",
)  # fmt: skip
FAINT = ("corrupt_0.2", "head_reset", "logits_grow", "class_drifts")
SLOW = ("slow_divergence", "heavy_decay", "logits_grow", "class_drifts")
ENDING = ("corrupt_0.7", "pair_mixed", "scale_to_zero", "class_dropped", "const_images", "long_corruption")
UNSEEN = ("focal_loss", "blobs_100_imbalanced", "gru", "cyclic_rate", "balanced_sampler")


@dataclass(frozen=True)
class Setup:
    """One training."""

    data: str = "digits"  # digits, geomnist, blobs
    optimizer: str = "sgd_momentum"
    schedule: str = "constant"
    batch: int = 16
    net: str = "plain"
    imbalanced: bool = False
    augment: bool = False
    smoothing: float = 0.0
    steps: int = 2500
    fault: str = ""
    at: int = 0
    seed: int = 0
    kind: str = ""
    loss: str = "cross_entropy"
    ratio: float = 1.0  # samples of the most frequent class over those of the rarest
    order: str = "shuffled"  # shuffled, sorted, sharded, balanced, curriculum, balanced_later, augmented_later
    noise: float = 0.0  # share of wrong labels, from the start
    classes: int = 10  # of blobs
    overlap: float = 0.5  # deviation of blobs over the distance of their centres
    decay: float = 0.0
    scale: float = 1.0  # of the inputs
    until: int = 10**9  # the fault ends
    again: int = 10**9  # the same fault once more
    trainer: bool = False


HEALTHY: dict[str, Setup] = {
    "sgd": Setup(optimizer="sgd", batch=32),
    "adam": Setup(optimizer="adam"),
    "batch_of_1": Setup(batch=1, steps=3500),
    "batch_of_256": Setup(batch=256, optimizer="adam", steps=1500),
    "dropout": Setup(net="dropout", batch=32),
    "batch_norm": Setup(net="batch_norm", batch=32),
    "layer_norm": Setup(net="layer_norm", optimizer="adamw"),
    "imbalanced_100": Setup(ratio=100, batch=32, steps=3000),
    "imbalanced_100_wide": Setup(ratio=100, batch=128, steps=1500),
    "blobs_imbalanced_100": Setup(data="blobs", overlap=0.4, ratio=100, batch=32),
    "augmented": Setup(augment=True, optimizer="adam", batch=32),
    "smoothing": Setup(smoothing=0.1, optimizer="adam"),
    "label_noise": Setup(noise=0.2, optimizer="adam", batch=32),
    "noise_only": Setup(data="blobs", noise=1.0, batch=32, steps=3000),
    "sorted": Setup(order="sorted", optimizer="sgd", batch=32, steps=3000),
    "sharded": Setup(order="sharded", optimizer="sgd", batch=32, steps=3000),
    "curriculum": Setup(order="curriculum", batch=32, steps=3000),
    "four_units": Setup(net="four_units", optimizer="adam", batch=32, steps=4000),
    "deep": Setup(net="deep", batch=32, optimizer="adam"),
    "weight_decay": Setup(decay=0.01, batch=32, steps=4000),
    "restarts": Setup(schedule="restarts", batch=32),
    "drops": Setup(schedule="drops", batch=32),
    "thaw": Setup(net="thaw", batch=32),
    "mixup": Setup(loss="mixup", batch=32, optimizer="adam"),
    "geomnist_paper": Setup(data="geomnist", batch=8, steps=2000),
    "geomnist_adamw": Setup(data="geomnist", optimizer="adamw", batch=16, steps=2000),
    "two_classes": Setup(data="blobs", classes=2, overlap=0.5, batch=32),
    "two_hard_classes": Setup(data="blobs", classes=2, overlap=2.0, batch=32),
    "overlapping": Setup(data="blobs", classes=10, overlap=1.0, batch=32),
    "blobs_50": Setup(data="blobs", classes=50, overlap=0.4, batch=64, optimizer="adam"),
    "blobs_200": Setup(data="blobs", classes=200, overlap=0.3, batch=64, optimizer="adam", steps=2000),
    "blobs_200_hard": Setup(data="blobs", classes=200, overlap=1.2, batch=64, optimizer="adam", steps=2000),
    "transformer": Setup(net="transformer", optimizer="adam", batch=32, schedule="warm_up", steps=2000),
    "linear": Setup(net="linear", batch=32, optimizer="sgd"),
    "tiny_start": Setup(net="tiny_start", optimizer="sgd_momentum", batch=32, steps=3000),
    "inputs_x255": Setup(scale=255.0, net="batch_norm_first", batch=32),
    "augmented_later": Setup(order="augmented_later", optimizer="adam", batch=32),
    "balanced_later": Setup(order="balanced_later", ratio=20, optimizer="adam", batch=32),
    "long_converged": Setup(optimizer="adam", batch=32, steps=12_000),
    "focal_loss": Setup(loss="focal", optimizer="adam", batch=32),
    "blobs_100_imbalanced": Setup(data="blobs", classes=100, overlap=0.4, ratio=20, batch=64, optimizer="adam"),
    "gru": Setup(net="gru", optimizer="adam", batch=32, steps=2000),
    "cyclic_rate": Setup(schedule="cyclic", batch=32),
    "balanced_sampler": Setup(order="balanced", ratio=20, batch=30, optimizer="adamw"),
}


def healthy_kind(kind: str, seed: int) -> Setup:
    """A healthy training of one kind; every third goes through the Trainer."""
    return replace(HEALTHY[kind], kind=kind, seed=seed, trainer=seed % 3 == 0)


def faulty(fault: str, seed: int) -> Setup:
    """The setup of a fault and seed."""
    rng = np.random.default_rng([seed, 1])
    return Setup(
        data=("digits", "geomnist")[seed % 2],
        optimizer=str(rng.choice(["sgd_momentum", "adam"])),
        batch=int(rng.choice([8, 16, 32, 64])),
        steps=2000, fault=fault, at=int(rng.integers(20, 25)) * WINDOW + int(rng.integers(WINDOW)), seed=seed,
    )  # fmt: skip


def lasting_fault(fault: str, seed: int) -> Setup:
    """A fault that lasts, on digits (two seeds of three) or GeoMNIST; every third goes through the Trainer."""
    data = "geomnist" if seed % 3 == 2 and fault not in ("two_pairs", "stuck_loader") else "digits"
    by_hand = fault == "nan_class"  # the steps that it makes not finite are left out
    setup = replace(faulty(fault, seed), data=data, trainer=seed % 3 == 0 and not by_hand, kind="lasting")
    return replace(setup, steps=2500 if fault in SLOW else 2000)


def ending_fault(fault: str, seed: int) -> Setup:
    """A fault that ends after 15 windows (a long one after 100) and comes back 50 windows later."""
    setup = faulty(fault, seed)
    until = setup.at + WINDOW * (100 if fault == "long_corruption" else 15)
    again = until + 50 * WINDOW
    return replace(
        setup, data="digits", batch=32, kind="ending", until=until, again=again, steps=again + 12 * WINDOW,
        trainer=seed % 3 == 0,
    )  # fmt: skip


def healthy(seed: int) -> Setup:
    """A healthy setup of mixed settings; every twentieth runs for 20,000 steps after it has converged.

    A third goes through the Trainer.
    """
    rng, trainer = np.random.default_rng([seed, 2]), seed // 6 % 3 == 0
    if seed % 20 == 19:
        schedule = str(rng.choice(["constant", "cosine"]))
        return Setup(optimizer="adam", schedule=schedule, steps=28_000, seed=seed, trainer=trainer)
    batch = (1, 2, 4, 16, 64, 256)[seed % 6]
    nets = ["plain", "dropout"] + ["batch_norm"] * (batch > 2)
    return Setup(
        data="geomnist" if rng.random() < 0.35 and batch < 256 else "digits",
        optimizer=str(rng.choice(["sgd", "sgd_momentum", "adam", "adamw"])),
        schedule=str(rng.choice(["constant", "warm_up", "drops", "cosine", "warm_up_cosine"])),
        batch=batch, net=str(rng.choice(nets)), imbalanced=bool(rng.random() < 0.4), augment=bool(rng.random() < 0.4),
        smoothing=0.1 * bool(rng.random() < 0.3), seed=seed, trainer=trainer,
    )  # fmt: skip
