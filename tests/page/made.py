"""Data files of simulated trainings, made in a moment."""

from dataclasses import replace
from pathlib import Path

import torch

from le_callback import SeparationMonitor
from le_callback.alerts import Alert
from le_callback.page.writer import About, PageWriter

CHARTS = [
    {"made_at": 2000, "unit": "step", "ratio": True, "level": 1.0, "confidence": 0.9, "why": "",
     "measured": [[50, 1000, 2000], [0.1, 0.4, 0.5]],
     "bands": [[2000, 4000, 8000], [0.5, 0.4, 0.3], [0.5, 0.6, 0.8], [0.5, 0.9, 2.0]]},
    {"made_at": 500, "unit": "step", "ratio": True, "level": 1.0, "confidence": 0.9, "why": "only 3 readings",
     "measured": [[50, 1000, 2000], [0.1, 0.4, 0.5]], "bands": []},
]  # fmt: skip


def records(classes, windows, *, samples=240, width=12, every=50, mixed=None, apart=0.15, seed=0):
    """Records of Gaussian classes that move apart; the network does not tell the two ``mixed`` ones apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    if mixed:
        centres[mixed[1]] = centres[mixed[0]]
    head = torch.randn(width, classes, generator=generator) / width**0.5
    monitor = SeparationMonitor(num_classes=classes)
    for window in range(windows):
        y = torch.randint(classes, (max(samples, 3 * classes),), generator=generator)
        x = apart * (1 + window) * centres[y] + torch.randn(len(y), width, generator=generator)
        seen = y.clone()  # what the network takes them for
        if mixed:
            both = (y == mixed[0]) | (y == mixed[1])
            coin = torch.rand(int(both.sum()), generator=generator) < 0.5
            seen[both] = torch.where(coin, *(torch.tensor(k) for k in mixed))
        logits = x @ head + apart * window * torch.nn.functional.one_hot(seen, classes)
        monitor.update(features=x, logits=logits, target=y)
        yield monitor.close(step=every * (window + 1))


class MadeRun:
    """A run whose windows are written one by one."""

    def __init__(self, folder, names, name=None):
        self.folder, self.names, self.alert = Path(folder), list(names), None
        self.writer = PageWriter(name)

    def write(self, record, alert=None, rate=0.1):
        self.alert = alert or self.alert
        record = replace(record, alerts={"PairMerging": self.alert is not None})
        about = About("0.1.0", self.names, {"smoothing": "11"}, 0)
        self.writer.window(lambda: [self.folder], lambda: about, record, (0.2, 0.02), rate)
        if alert is not None:
            self.writer.alerts([alert], self.names)


def merging(step, classes):
    cause, advice = "Classes {classes} lie on top of each other.", "Look at the labels of {classes}."
    return Alert("PairMerging", step, classes, cause, advice, 0.1, 1.0, 0.001)


def make_run(folder, names, windows=40, alert_at=None, **options):
    """A finished run; its records."""
    run, kept = MadeRun(folder, names), list(records(len(names), windows, **options))
    for i, record in enumerate(kept):
        run.write(record, merging(record.step, options["mixed"]) if i == alert_at else None)
    run.writer.forecast(
        kept[-1].step, "the worst pair is expected to reach a gap of one deviation at step 9,000", CHARTS
    )
    run.writer.finish()
    return kept
