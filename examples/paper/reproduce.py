"""The paper's experiments with one command: trains what is missing, then draws figures 1 to 5 and the tables.

    python examples/paper/reproduce.py                                        # GeoMNIST
    python examples/paper/reproduce.py --cifar cifar-10-python.tar.gz         # and CIFAR-10
    python examples/paper/reproduce.py --runs 10 --processes 2                # averages of ten trainings each

A training is kept under ``--cache`` when it is done and skipped the next time, so that an interrupted command goes on
where it was. Figure 3, over the label corruption, is the longest: see ``phase_transition.py``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import phase_transition
from analysis import analyse
from cifar import HOW_TO_GET, TEST, ArchiveError, read_archive
from experiments import EXPERIMENTS, WINDOW, Experiment, Run, load_if_same, train
from figures import coefficients, differences, imitation, separation
from jobs import Job, run_jobs
from tables import report

SHORTEST = 4 * WINDOW  # steps
FIGURES = {
    "figure1_separation": separation,
    "figure2_coefficients": coefficients,
    "figure4_imitation": imitation,
    "figure5_relative_difference": differences,
}


def cached(cache: Path, experiment: Experiment, seed: int) -> Path:
    """Where a run is kept."""
    return cache / experiment.name / f"seed{seed}.npz"


def collect(
    experiments: list[Experiment], runs: int, cache: Path, cifar: str | None, processes: int
) -> list[list[Run]]:
    """The runs of each experiment; trains those that are missing."""
    wanted = [(e, seed, cached(cache, e, seed)) for seed in range(runs) for e in experiments]
    jobs = [
        Job(f"{e.name} seed {seed}", train, (e, seed, path, cifar), e.steps)
        for e, seed, path in wanted
        if load_if_same(path, e, seed) is None
    ]
    for _ in run_jobs(jobs, processes):
        pass
    return [[Run.load(cached(cache, e, seed)) for seed in range(runs)] for e in experiments]


def shortened(experiment: Experiment, steps: int | None) -> Experiment:
    """The experiment with at most so many steps, with 25 readings at least."""
    if steps is None or steps >= experiment.steps:
        return experiment
    return replace(experiment, steps=steps, probe_every=max(1, min(experiment.probe_every, steps // 25)))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="trainings of each experiment, averaged (the paper: 100)")
    parser.add_argument("--cifar", help="the original cifar-10-python.tar.gz; without it CIFAR-10 is left out")
    parser.add_argument("--only", nargs="+", choices=[e.name for e in EXPERIMENTS], help="these experiments")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, help="at most this many steps a training, for a quick look")
    parser.add_argument("--no-phase", action="store_true", help="leave out figure 3, the longest")
    parser.add_argument("--phase-seeds", type=int, default=1, help="trainings of each corruption ratio of figure 3")
    parser.add_argument("--cache", type=Path, default=Path("runs/paper"), help="where trainings are kept")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where figures and tables are written")
    found = parser.parse_args(argv)
    for name in ("runs", "processes", "phase_seeds"):
        if getattr(found, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, but got {getattr(found, name)}")
    if found.steps is not None and found.steps < SHORTEST:
        parser.error(f"--steps must be at least {SHORTEST}, but got {found.steps}")
    return found


def main(argv: list[str] | None = None) -> None:
    """Train, analyse, draw, write."""
    given = arguments(argv)
    wanted = [e for e in EXPERIMENTS if given.only is None or e.name in given.only]
    if given.cifar is None:
        left_out = [e.name for e in wanted if e.data == "CIFAR-10"]
        wanted = [e for e in wanted if e.data != "CIFAR-10"]
        if left_out:
            print(f"Left out, as --cifar was not given: {', '.join(left_out)}. {HOW_TO_GET}")
    elif any(e.data == "CIFAR-10" for e in wanted):
        try:
            read_archive(given.cifar, TEST)
        except ArchiveError as error:
            sys.exit(str(error))
    if not wanted:
        sys.exit("No experiment is left.")
    wanted = [shortened(e, given.steps) for e in wanted]
    runs = collect(wanted, given.runs, given.cache, given.cifar, given.processes)
    results = [(e, analyse(own)) for e, own in zip(wanted, runs, strict=True)]
    given.results.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw(results).savefig(given.results / f"{name}.png")
    phase: list[dict[str, float]] = []
    if not given.no_phase:
        options = ["--seeds", str(given.phase_seeds), "--processes", str(given.processes)]
        phase = phase_transition.main([*options, "--results", str(given.results)])
    text = report(results, phase, _command(given), given.runs)
    (given.results / "README.md").write_text(text)
    print(f"Figures and tables: {given.results}")


def _command(given: argparse.Namespace) -> str:
    parts = ["python examples/paper/reproduce.py", f"--runs {given.runs}"]
    parts += ["--cifar cifar-10-python.tar.gz"] if given.cifar else []
    parts += [f"--only {' '.join(given.only)}"] if given.only else []
    parts += [f"--steps {given.steps}"] if given.steps else []
    parts += ["--no-phase"] if given.no_phase else [f"--phase-seeds {given.phase_seeds}"]
    return " ".join(parts)


if __name__ == "__main__":
    main()
