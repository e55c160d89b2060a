"""README and documentation: links lead somewhere, code runs as it is printed, commands exist, counts are right."""

import re
import shlex
import warnings
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

import le_callback
from le_callback.__main__ import _parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_WORDS = 900


def named(path):
    return str(path.relative_to(ROOT))


def prose(path):
    """The text without blocks of code and code in a line."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text()))


def slug(heading):
    """The anchor that GitHub and MyST make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path):
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)}


def broken(path, target):
    """What is wrong with a link of a page; empty where nothing is."""
    if (parts := urlsplit(target)).scheme:
        return "" if parts.scheme in ("https", "mailto") and parts.netloc.count(".") else "no address"
    place = (path.parent / parts.path).resolve() if parts.path else path
    if not place.exists():
        return "no such file"
    if not place.is_relative_to(ROOT):
        return "outside of the repository"
    return "no such heading" if parts.fragment and parts.fragment not in anchors(place) else ""


def test_what_is_wrong_with_a_link_is_found(tmp_path):
    assert slug("The first line: five answers") == "the-first-line-five-answers"
    page = ROOT / "README.md"
    found = [broken(page, t) for t in ("docs/guide.md", "docs/gone.md", "docs/guide.md#gone", "#alerts", "https:x")]
    assert found == ["", "no such file", "no such heading", "", "no address"]
    assert broken(page, str(tmp_path)) == "outside of the repository"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links(path):
    links = LINK.findall(prose(path))
    assert not {target: told for target in links if (told := broken(path, target))}


def test_every_page_is_in_the_site():
    listed = set()
    for path in PAGES:
        for kind, text in FENCE.findall(path.read_text()):
            if kind == "{toctree}":
                listed |= {path.parent / f"{line}.md" for line in text.split("\n") if re.fullmatch(r"[\w/]+", line)}
    assert listed == {path for path in PAGES if path.is_relative_to(ROOT / "docs")} - {ROOT / "docs" / "index.md"}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


class Model(lightning.pytorch.LightningModule):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(512, 10)

    def forward(self, x):
        return self.fc(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def names():
    """What the blocks take for granted."""
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(60)
    features = torch.nn.functional.one_hot(labels, 512) * 2 + torch.randn(600, 512)
    times = torch.linspace(0, 1, 30)
    start = torch.randn(3, 3)
    model = Model()
    return {
        "LECallback": le_callback.LECallback,
        "EarlyStopping": EarlyStopping,
        "ModelCheckpoint": ModelCheckpoint,
        "Trainer": lightning.pytorch.Trainer,
        "model": model,
        "train_loader": DataLoader(TensorDataset(features, labels), batch_size=60, shuffle=True),
        "features": features,
        "labels": labels,
        "h": features,
        "z": model.fc(features).detach(),
        "y": labels,
        "step": 50,
        "my_rule": lambda record: None,
        "means": torch.stack([start * (1 + t) for t in times]),
        "times": times.numpy(),
        "frequencies": [0.5, 0.3, 0.2],
    }


BLOCKS = [
    pytest.param(code, id=f"{named(path)}-{number}")
    for path in PAGES
    for number, code in enumerate(text for kind, text in FENCE.findall(path.read_text()) if kind == "python")
]


@pytest.mark.parametrize("code", BLOCKS)
def test_code_runs_as_it_is_printed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {"max_epochs": 6, "log_every_n_steps": 5, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = partial(lightning.pytorch.Trainer, **few, enable_model_summary=False)
    monkeypatch.setattr(lightning.pytorch, "Trainer", trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "<documentation>", "exec"), names())


def commands():
    """Lines of the blocks without a language, and code within a line."""
    for path in PAGES:
        text = path.read_text()
        lines = [line for kind, block in FENCE.findall(text) if not kind for line in block.split("\n")]
        for line in [*lines, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]:
            yield path, line.split("#")[0].strip()


def test_commands_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for path, line in commands():
        if found := re.match(r"make ([\w-]+)", line):
            assert found.group(1) in targets, (named(path), line)
            seen.add("make")
        if (found := re.match(r"(?:\w+=\S+ )*python (\S+\.py)", line)) and "/" in found.group(1):
            assert (ROOT / found.group(1)).exists(), (named(path), line)
            seen.add("script")
        if line.startswith("python -m le_callback ") and "…" not in line and "RUN" not in line:
            _parser().parse_args(shlex.split(line)[3:])
            seen.add("module")
    assert seen == {"make", "script", "module"}


def test_kinds_are_counted():
    rows = re.findall(r"^\| .+? \| (found|refused|nothing)\b", (ROOT / "docs" / "kinds.md").read_text(), re.MULTILINE)
    counts = [len(rows), *(rows.count(word) for word in ("found", "refused", "nothing"))]
    told = re.compile(
        r"(\d+) kinds of training.*?(\d+) need no argument, (\d+)\s*are refused.*?(\d+) are no classification",
        re.DOTALL,
    )
    for path in (ROOT / "README.md", ROOT / "docs" / "trainer.md"):
        found = told.search(path.read_text())
        assert found is not None, named(path)
        assert [int(number) for number in found.groups()] == counts, named(path)


def test_figures_about_alerts_are_measured():
    table = (ROOT / "benchmarks" / "results" / "alerts.md").read_text()
    told, right, delay = re.search(
        r"\| all \| (\d+)/\1 \(100%\) \| (\d+)/\1 .*?\| \d+/\d+ .*?\| (\d+) \|", table
    ).groups()
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"all {told} faults of nine kinds were told, {right} of them by the expected rule" in readme
    assert f"after {delay} log steps at the median" in readme
    healthy = re.search(r"stops \d+ of the (\d+) healthy trainings", table).group(1)
    alarms = len(re.findall(r"^- false alarm", table, re.MULTILINE))
    assert f"Of {healthy} healthy trainings {['none', 'one', 'two'][alarms]} raised a false alarm" in readme
