"""What very many classes cost: peak memory and time of a training, and its checkpoint; writes results/memory.md.

    python benchmarks/memory.py [--quick] [--turns N] [--only NUMBER ...]

Each training runs in processes of its own, in turns with and without the callback; medians are given. ``--only`` runs
some of the trainings, counted from 1, and replaces their lines in the results. Memory is the
largest resident set of the process, that of the imported libraries among it; time is that of the process in ``fit``,
in which what else runs on the machine does not count. Legend: K classes, p feature dimensions, B samples of a batch.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "memory.md"

FIRST, CHECKPOINTED = "first batch, convolutions", "first batch, checkpointed layers"
PIXELS, BLOCKS, POSITIONS = 64, 16, 64


class Case(NamedTuple):
    """A training by its name; see ``body`` for the layers before the linear head."""

    name: str
    classes: int
    width: int
    batch: int
    steps: int
    every: int  # steps of a window

    @property
    def tokens(self) -> bool:
        """Whether the batches are words."""
        return self.name == "language model"


CASES = (
    Case("classifier", 10, 64, 128, 400, 2),
    Case("classifier", 1000, 512, 256, 100, 10),
    Case("classifier", 3000, 64, 512, 100, 10),
    Case("classifier", 5000, 64, 512, 400, 2),
    Case("language model", 8000, 200, 700, 60, 10),
    Case("language model", 33_278, 200, 700, 60, 10),
    Case(FIRST, 10, 32, 64, 1, 1),
    Case(CHECKPOINTED, 10, 256, 512, 1, 1),
)


def body(case: Case) -> Any:
    """What comes before the head. In those of a first batch activations are most of the memory."""
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    K, p = case.classes, case.width
    if case.tokens:
        return nn.Embedding(K, p)
    if case.name == FIRST:
        blocks = [nn.Sequential(nn.Conv2d(p if i else 3, p, 3, padding=1), nn.ReLU()) for i in range(BLOCKS)]
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if case.name != CHECKPOINTED:
        return nn.Sequential(nn.Linear(p, p), nn.ReLU())

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Sequential(nn.Linear(p, p), nn.ReLU()) for _ in range(32)]
            self.blocks = nn.ModuleList(nn.Sequential(*layers[i : i + 8]) for i in range(0, 32, 8))

        def forward(self, x: torch.Tensor) -> Any:
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False)
            return x.mean(1)

    return Checkpointed()


def run(case: Case, followed: bool) -> dict[str, float]:
    """Train in this process; MiB, seconds and the MiB of the callback's checkpoint."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    sys.path.insert(0, str(ROOT))
    from le_callback import LECallback

    K, p, B = case.classes, case.width, case.batch

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = body(case)
            self.head = nn.Linear(p, K)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self.head(self.body(x)), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Batches(Dataset[tuple[Tensor, Tensor]]):
        """Batches that are made when they are asked for; words are as frequent as 1/rank, ranks in random order."""

        def __init__(self) -> None:
            rank = torch.randperm(K, generator=torch.Generator().manual_seed(1))
            self.share = 1.0 / (1.0 + rank) if case.tokens else torch.ones(K)
            images, positions = (3, PIXELS, PIXELS), (POSITIONS, p)
            self.shape = {FIRST: images, CHECKPOINTED: positions}.get(case.name, (p,))
            self.centres = torch.zeros(1) if case.tokens else torch.randn(K, *self.shape)

        def __len__(self) -> int:
            return case.steps

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            g = torch.Generator().manual_seed(i)
            y = torch.multinomial(self.share, B, replacement=True, generator=g)
            return (y.roll(1), y) if case.tokens else (self.centres[y] + torch.randn(B, *self.shape, generator=g), y)

    with tempfile.TemporaryDirectory() as folder:
        callback = LECallback(every_n_steps=case.every, summary=False, figures=False) if followed else None
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback] if callback is not None else [],
            default_root_dir=folder,
        )
        loader = DataLoader(Batches(), batch_size=None)
        start = time.process_time()
        trainer.fit(Model(), loader)
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = 0.0
        if callback is not None:
            path = Path(folder) / "state.pt"
            torch.save(callback.state_dict(), path)
            size = path.stat().st_size / 2**20
    return {"memory": peak, "time": seconds, "checkpoint": size}


def measured(case: Case, followed: bool) -> dict[str, float]:
    """``run`` in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps([*case]), *(["--followed"] if followed else [])]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    result: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return result


def row(case: Case, turns: int) -> str:
    """One line of the table; what it is made of is shown as it comes."""
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for turn in range(turns):
        for followed in (False, True):
            found[followed].append(measured(case, followed))
            memory, seconds = (found[followed][-1][key] for key in ("memory", "time"))
            which = "with" if followed else "without"
            print(f"  {start_of(case)} turn {turn + 1}, {which}: {memory:.0f} MiB, {seconds:.1f} s", flush=True)
    middle = {
        followed: {key: statistics.median(one[key] for one in all_of) for key in all_of[0]}
        for followed, all_of in found.items()
    }
    without, using = middle[False], middle[True]
    cells: list[Any] = [
        case.steps // case.every,
        f"{without['memory']:.0f}",
        f"{using['memory']:.0f}",
        f"{using['memory'] / without['memory']:.3f}",
        f"{without['time']:.1f}",
        f"{using['time']:.1f}",
        f"{using['time'] / without['time']:.2f}",
        f"{using['checkpoint']:.1f}",
        turns,
    ]
    return f"{start_of(case)} {' | '.join(map(str, cells))} |"


def start_of(case: Case) -> str:
    """The first cells of its line."""
    return f"| {case.name} | {case.classes:,}, {case.width}, {case.batch} |"


def kept(case: Case) -> str:
    """The line of a training in the results there are; empty without one."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return next((line for line in lines if line.startswith(start_of(case))), "")


def family() -> str:
    """The processor, by its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return " ".join(name.split()[:2]) or "unknown processor"


def main() -> None:
    """Measure all cases and write the table."""
    import lightning
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn each, nothing written")
    parser.add_argument("--turns", type=int, default=3, help="of each training")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of trainings, from 1")
    parser.add_argument("--case", help="for its own processes")
    parser.add_argument("--followed", action="store_true", help="for its own processes")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(Case(*json.loads(arguments.case)), arguments.followed)))
        return
    chosen, rows = set(arguments.only or range(1, len(CASES) + 1)), []
    for number, case in enumerate(CASES, 1):
        line = row(case, 1 if arguments.quick else arguments.turns) if number in chosen else kept(case)
        print(line, flush=True)
        rows += [line] if line else []
    about = f"{family()}, {torch.get_num_threads()} thread(s); torch {torch.__version__}, lightning"
    text = [
        "# Very many classes",
        "",
        f"{about} {lightning.__version__}, Python {platform.python_version()}; `python benchmarks/memory.py`",
        "",
        "Peak memory of the process in MiB, time of the process in `fit` in seconds, without and with the callback;",
        "the checkpoint of the callback at the end in MiB. A classifier has a hidden layer, a language model an",
        "embedding, both one linear head of K classes on p dimensions, and batches of B samples; SGD. Trainings of one",
        f"batch, in which the head is looked for, have {BLOCKS} convolutions, or 32 layers on {POSITIONS} positions a",
        "sample of which 4 outputs are kept.",
        "Aims: at K = 33,278 memory at most 1.3 times and time at most 1.5 times those without; in the first batch",
        "memory at most 1.02 times; a checkpoint of at most 30 MiB at K = 5,000.",
        "",
        "| training | K, p, B | windows | memory | with | ratio | time | with | ratio | checkpoint | turns |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    print("\n".join(text))
    if not arguments.quick:
        RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
