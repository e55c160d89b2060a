"""What breaks in the trainings that ``alerts.py`` judges."""

from __future__ import annotations

import numpy as np
import torch
from alert_nets import Net
from torch import Tensor, nn


class Fault:
    """One fault: says which classes it concerns and changes labels, images, network or optimizer while it is on.

    Args:
        name: of the fault.
        num_classes: K.
        rng: draws classes and labels.
    """

    def __init__(self, name: str, num_classes: int, rng: np.random.Generator) -> None:
        self.name, self.rng, self.num_classes, self.on, self.age = name, rng, num_classes, False, 0
        drawn = rng.permutation(num_classes)[:4].tolist()
        concerned = {
            "pair_mixed": 2, "class_dropped": 1, "two_pairs": 4, "replaced": 2, "const_images": 1, "nan_class": 1,
            "class_drifts": 2,
        }.get(name, 0)  # fmt: skip
        self.classes: tuple[int, ...] = tuple(drawn[:concerned])
        self._held: tuple[Tensor, Tensor] | None = None
        self._noise = np.random.default_rng(int(rng.integers(2**31)))
        self._permutation = torch.from_numpy(rng.permutation(num_classes))
        if (self._permutation == torch.arange(num_classes)).any():
            self._permutation = self._permutation.roll(1) if num_classes > 3 else torch.tensor([1, 2, 0])

    def relabelled(self, y: Tensor) -> Tensor:
        """Labels of the whole training set while the fault is on."""
        y, K = y.clone(), self.num_classes
        if self.name.startswith("corrupt") or self.name == "long_corruption":
            share = 0.7 if self.name == "long_corruption" else float(self.name.split("_")[1])
            wrong = torch.from_numpy(self.rng.random(len(y)) < share)
            y[wrong] = (y[wrong] + torch.from_numpy(self.rng.integers(1, K, int(wrong.sum())))) % K
        elif self.name in ("pair_mixed", "two_pairs"):
            for first, second in zip(self.classes[::2], self.classes[1::2], strict=True):
                mixed = (y == first) | (y == second)
                y[mixed] = torch.from_numpy(self.rng.choice([first, second], int(mixed.sum())))
        elif self.name == "permuted_labels":
            y = self._permutation[y]
        return y

    def keeps(self, y: Tensor) -> Tensor:
        """Which samples the loader still gives."""
        return y != self.classes[0] if self.name == "class_dropped" else torch.ones_like(y, dtype=torch.bool)

    def batch(self, x: Tensor, y: Tensor, whole_x: Tensor, whole_y: Tensor) -> tuple[Tensor, Tensor]:
        """What a batch becomes."""
        self.age += 1
        if self.name == "nan_batch" and self.age == 1:
            return x * torch.nan, y
        if self.name == "inputs_x255":
            return 255 * x, y
        if self.name == "const_all":
            return torch.full_like(x, 0.5), y
        if self.name == "stuck_loader":
            self._held = self._held or (x, y)
            return self._held
        if self.name in ("const_images", "nan_class", "replaced", "class_drifts"):
            x, own = x.clone(), y == self.classes[0]
            if self.name == "const_images":
                x[own] = 0.5
            elif self.name == "nan_class":
                x[own] = torch.nan
            else:
                other = whole_x[whole_y == self.classes[1]]
                images = other[torch.from_numpy(self._noise.integers(len(other), size=int(own.sum())))]
                share = min(1.0, self.age / 500) if self.name == "class_drifts" else 1.0
                x[own] = (1 - share) * x[own] + share * images
        return x, y

    def start(self, net: Net) -> None:
        """The fault begins."""
        self.on, self.age, self._held = True, 0, None
        with torch.no_grad():
            if self.name == "dead_relu":
                last = [m for m in net.body.modules() if isinstance(m, nn.Linear)][-1]
                last.bias.fill_(-100.0)
            elif self.name == "dead_encoder":
                for m in net.body.modules():
                    if isinstance(m, nn.Linear | nn.Conv2d):
                        m.weight.zero_()
                        m.weight.requires_grad_(False)
            elif self.name == "scale_to_zero":
                net.scale = float(self.rng.choice([0.0, 1e-3]))
            elif self.name == "head_reset":
                net.classifier.reset_parameters()

    def stop(self, net: Net) -> None:
        """It ends."""
        self.on, net.scale = False, 1.0

    def rate(self) -> float:
        """Factor of the learning rate."""
        if not self.on:
            return 1.0
        return {"rate_x100": 100.0, "slow_divergence": 1.01**self.age}.get(self.name, 1.0)

    def step(self, net: Net, rate: float) -> None:
        """After an optimizer step."""
        if self.name == "heavy_decay":
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(1 - 0.02)
        elif self.name == "logits_grow":
            net.boost *= 1.01
