"""What the callback costs on a GPU: launches and time of an update, waits, share of a ResNet-50 step.

    python benchmarks/gpu.py [--steps 160] [--quick]

Writes results/gpu.md. Times of an update are medians over turns that alternate with what it is compared to. A wait of
the host for the device raises in every hook between log steps (``torch.cuda.set_sync_debug_mode("error")``): that the
table was written shows that there is none.
K classes, p feature dimensions, B samples of a batch.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainings import Model, Timed  # noqa: E402

from le_callback.monitor import SeparationMonitor  # noqa: E402

SHAPES = ((10, 512, 128), (100, 512, 128), (1000, 2048, 256))
EVERY = 50
WARM_UP = 60  # steps, the first log step among them
Calls = dict[str, Callable[[], object]]


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside an identity or a 1×1 convolution (He et al. 2016)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.way = nn.Sequential(
            nn.Conv2d(inside, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        same = inside == outside and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.short(x))


def resnet50() -> nn.Module:
    """For images of 224 × 224 pixels; 2,048 features."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inside = 64
    for width, stride, depth in ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)):
        for i in range(depth):
            layers.append(Bottleneck(inside, width, stride if i == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def turns(K: int, p: int, B: int, dtype: torch.dtype) -> Calls:
    """The engine's update beside bare kernels and a metric, on batches that change from call to call."""
    g = torch.Generator("cuda").manual_seed(0)

    def batch() -> tuple[Tensor, Tensor, Tensor]:
        y = torch.randint(K, (B,), device="cuda", generator=g)
        x, z = (torch.randn(B, width, device="cuda", generator=g).to(dtype) for width in (p, K))
        return x, z, y

    feed = cycle([batch() for _ in range(8)])
    sums, logit_sums = torch.zeros(K, p, device="cuda"), torch.zeros(K, K, device="cuda")
    count, ones = torch.zeros(K, device="cuda"), torch.ones(B, device="cuda")
    accuracy = MulticlassAccuracy(num_classes=K, average="macro", validate_args=False).to("cuda")
    engine = SeparationMonitor(K)
    for _ in range(max(8, 4 * K // B)):  # the first window is another, see moments/source_sums.py
        x, z, y = next(feed)
        engine.update(features=x, logits=z, target=y)
    engine.close(1)

    def bare() -> None:
        x, z, y = next(feed)
        count.index_add_(0, y, ones)
        sums.index_add_(0, y, x.float())
        logit_sums.index_add_(0, y, z.float())

    def own() -> None:
        x, z, y = next(feed)
        engine.update(features=x, logits=z, target=y)

    def metric() -> None:
        _, z, y = next(feed)
        accuracy.update(z, y)

    return {"bare": bare, "engine": own, "accuracy": metric}


def host_and_device(calls: Calls, inner: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median microseconds of a call on the host, which only launches, and until the device is done."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(inner):
                call()
            launched = time.perf_counter()
            torch.cuda.synchronize()
            done = time.perf_counter()
            if turn:
                times[name].append(((launched - start) / inner * 1e6, (done - start) / inner * 1e6))
    return {name: tuple(statistics.median(t) for t in zip(*found, strict=True)) for name, found in times.items()}  # type: ignore[misc]


def launches(call: Callable[[], object], count: int = 64) -> tuple[float, float]:
    """Kernels and copies on the device of one call, and the microseconds that they take together."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(count):
            call()
        torch.cuda.synchronize()
    on_device = [e for e in found.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return len(on_device) / count, sum(e.device_time_total for e in on_device) / count


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Noise with labels; made once, so that the loader does not limit the training."""

    def __init__(self, count: int, classes: int, side: int) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(64, 3, side, side, generator=g)
        self.y = torch.randint(classes, (count,), generator=g)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i % 64], self.y[i]


class OnDevice:
    """Batches that lie on the device already."""

    def __init__(self, batches: list[Any], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Any:
        return (self.batches[i % len(self.batches)] for i in range(self.steps))


class Waitless(Timed):
    """A wait for the device raises in every hook that is not a log step."""

    def _strictly(self, hook: Callable[..., None], *args: Any) -> None:
        step = args[0].global_step
        strict = self.last_record is not None and step % EVERY not in (0, EVERY - 1)
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            hook(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def on_train_batch_start(self, *args: Any) -> None:
        self._strictly(super().on_train_batch_start, *args)

    def on_before_backward(self, *args: Any) -> None:
        self._strictly(super().on_before_backward, *args)

    def on_train_batch_end(self, *args: Any) -> None:
        self._strictly(super().on_train_batch_end, *args)


def train(batch: int, steps: int, side: int, callback: Any) -> float:
    """Milliseconds of a step of a ResNet-50 in bf16 after the first ones, log steps included."""
    torch.manual_seed(0)
    loader = DataLoader(Images(4 * batch, 1000, side), batch)
    batches = [(x.to("cuda"), y.to("cuda")) for x, y in loader]
    begun: list[float] = []

    class Step(Model):
        def on_train_batch_start(self, *_: Any) -> None:
            if self.global_step == WARM_UP:
                torch.cuda.synchronize()
                begun.append(time.perf_counter())

        def on_train_end(self) -> None:
            torch.cuda.synchronize()
            begun.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cuda",
            devices=1,
            precision="bf16-mixed",
            max_steps=steps,
            max_epochs=-1,
            logger=TensorBoardLogger(folder),
            callbacks=[callback] if callback else [],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=EVERY,
            benchmark=True,
        )
        trainer.fit(Step(resnet50().to(memory_format=torch.channels_last), 2048, 1000), OnDevice(batches, steps))
    return 1e3 * (begun[1] - begun[0]) / (steps - WARM_UP)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=160, help="of a training")
    parser.add_argument("--quick", action="store_true", help="small; nothing is written")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.md")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: torch.cuda.is_available() is False")
    lines = [
        "# Own cost on a GPU",
        "",
        f"{torch.cuda.get_device_name()}; torch {torch.__version__}, lightning {lightning.__version__},"
        f" {datetime.date.today()}; `python benchmarks/gpu.py`",
        "",
        "## Update, bf16 features and logits",
        "",
        "Host: µs in which it launches; in all: µs until the device is done, launches overlapping; launches: kernels"
        " and copies on the device; kernels: µs that these take. Bare: `index_add_` of count and sums in single"
        " precision.",
        "",
        "| K, p, B | bare: host | in all | launches | engine: host | in all | launches | kernels |"
        " accuracy: host | in all | launches |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    with torch.no_grad():
        for K, p, B in SHAPES:
            calls = turns(K, p, B, torch.bfloat16)
            times = host_and_device(calls, 64 if options.quick else 256, 3 if options.quick else 9)
            kernels = {name: launches(call) for name, call in calls.items()}
            lines.append(
                f"| {K}, {p}, {B} | {times['bare'][0]:.0f} | {times['bare'][1]:.0f} | {kernels['bare'][0]:.1f}"
                f" | {times['engine'][0]:.0f} | {times['engine'][1]:.0f} | {kernels['engine'][0]:.1f}"
                f" | {kernels['engine'][1]:.0f}"
                f" | {times['accuracy'][0]:.0f} | {times['accuracy'][1]:.0f} | {kernels['accuracy'][0]:.1f} |"
            )
    batch, side = (32, 64) if options.quick else (256, 224)
    found: dict[str, list[float]] = {"without": [], "with": []}
    last = Waitless(time.perf_counter, every_n_steps=EVERY, summary=False, figures=False)
    for _ in range(1 if options.quick else 3):
        found["without"].append(train(batch, options.steps, side, None))
        last = Waitless(time.perf_counter, every_n_steps=EVERY, summary=False, figures=False)
        found["with"].append(train(batch, options.steps, side, last))
    without, own = statistics.median(found["without"]), statistics.median(found["with"])
    hooks = statistics.median(o - e for o, e in zip(last.hooks[1:-1], last.logs[1:-1], strict=True))
    logs = [1e3 * e for e in last.logs if e > 0]
    lines += [
        "",
        f"## Share of a step: ResNet-50, bf16, K = 1,000, p = 2,048, batch {batch} of {side} × {side} pixels",
        "",
        f"Time of {options.steps - WARM_UP} steps after the first {WARM_UP}, until the device is done; a log step every"
        f" {EVERY} steps, TensorBoard, no figures. Trainings without and with the callback in turns.",
        "",
        f"- a step: {', '.join(f'{t:.1f}' for t in found['without'])} ms without,"
        f" {', '.join(f'{t:.1f}' for t in found['with'])} ms with; medians {without:.1f} and {own:.1f}"
        f" ({100 * (own / without - 1):+.2f} %)",
        f"- hooks on the host between log steps: {1e6 * hooks:.0f} µs",
        f"- log steps: {', '.join(f'{e:.0f}' for e in logs)} ms",
        "- waits for the device in hooks between log steps: none, they would have ended the training",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not options.quick:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
