"""Trainings on a GPU. Nothing here runs where there is none."""

import math

import pytest
import torch
from torch import nn
from trainings import CLASSES, DIMENSIONS, Classifier, MemoryLogger, Recording, blobs, check_training, loader, trainer

from le_callback import LECallback
from le_callback.moments.window import ClassWindow
from le_callback.monitor import SeparationMonitor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = {"accelerator": "cuda", "devices": 1}


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("16-mixed", torch.float16),
        ("bf16-mixed", torch.bfloat16),
        ("bf16-true", torch.bfloat16),
    ],
)
def test_what_is_captured_is_what_the_model_saw(precision, dtype):
    callback, model = check_training(Classifier, loader(), 4, precision=precision, **GPU)
    assert model.seen[0][1].dtype == dtype
    assert callback.monitor.window.moments["features"].sums.device.type == "cuda"


class Waitless(LECallback):
    """A wait of the host for the device raises in every hook, but for the first step and log steps."""

    def _strictly(self, hook, trainer, *args, last=False):
        window = (trainer.global_step - last) % 10
        strict = trainer.global_step > 12 and 1 < window < 8
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        self.strict = getattr(self, "strict", 0) + strict
        try:
            hook(trainer, *args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def on_train_batch_start(self, *args):
        self._strictly(super().on_train_batch_start, *args)

    def on_before_backward(self, *args):
        self._strictly(super().on_before_backward, *args)

    def on_train_batch_end(self, *args):
        self._strictly(super().on_train_batch_end, *args, last=True)


@pytest.mark.parametrize("num_classes", [CLASSES, 5000], ids=["all classes", "some of very many"])
def test_nothing_waits_between_log_steps(num_classes):
    callback = Waitless(every_n_steps=10, summary=False)
    trainer(callback, max_epochs=5, **GPU).fit(Classifier(num_classes), loader())
    assert callback.strict > 60
    assert callback.monitor.windows >= 5


def test_a_whole_model_that_is_compiled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.ReLU())
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.head(self.body(x))

    class Compiled(Classifier):
        def __init__(self):
            super().__init__(dropout=0)
            self.net = Net()
            self.compiled = torch.compile(self.net)

        def training_step(self, batch, batch_idx):
            x, y = batch
            with torch.no_grad():
                features = self.net.body(x)
            logits = self.compiled(x)
            self.seen.append((features, logits.detach().clone(), y.clone()))
            return nn.functional.cross_entropy(logits, y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.1)

    callback, model = Recording(num_classes=CLASSES), Compiled()
    trainer(callback, **GPU).fit(model, loader())
    assert len(callback.windows) == 6
    labels = torch.cat([y for _, _, y in model.seen[:4]]).cpu()
    logits = torch.cat([z for _, z, _ in model.seen[:4]]).cpu()
    for k in range(CLASSES):
        torch.testing.assert_close(callback.windows[0]["logits"][1][k].float(), logits[labels == k].mean(0))


def test_a_probe_and_every_tag(tmp_path):
    x, y = blobs(60, seed=3)
    callback = LECallback(every_n_steps=4, summary=False, probe=(x, y), probe_every_n_steps=4)
    logger = MemoryLogger()
    trainer(callback, logger=logger, max_epochs=4, **GPU).fit(Classifier(), loader())
    values = {tag for row in logger.rows.values() for tag, value in row.items() if math.isfinite(float(value))}
    assert any("probe" in tag for tag in values)
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True, map_location="cpu")


def test_a_checkpoint_of_a_gpu_continues_there():
    first, again = (LECallback(every_n_steps=5, summary=False) for _ in range(2))
    trainer(first, max_epochs=-1, max_steps=23, **GPU).fit(Classifier(), loader())
    again.load_state_dict(first.state_dict())
    trainer(again, max_epochs=-1, max_steps=23, **GPU).fit(Classifier(), loader())
    assert again.monitor.windows > first.monitor.windows  # as many, if it started anew
    assert again.monitor.window.moments["features"].sums.device.type == "cuda"


def test_sums_on_the_device_are_those_of_the_host():
    x, y = blobs(4000, seed=5)
    windows = [ClassWindow.for_batch({"x": x.to(device)}, CLASSES) for device in ("cpu", "cuda")]
    for window, device in zip(windows, ("cpu", "cuda"), strict=True):
        for _ in range(2):
            for rows in torch.arange(len(x)).split(37):
                window.update({"x": x[rows].to(device)}, y[rows].to(device))
            window.statistics("x")
            window.advance()
        window.update({"x": x.to(device)}, y.to(device))
    for one, two in zip(windows[0].statistics("x"), windows[1].statistics("x"), strict=True):
        torch.testing.assert_close(one, two.cpu(), rtol=1e-5, atol=1e-6)


def test_means_that_are_too_many_to_leave_the_device():
    K, p = 1000, 1100
    monitor, g = SeparationMonitor(K), torch.Generator().manual_seed(0)
    centres = torch.randn(K, p, generator=g)
    for window in range(1, 6):
        for y in torch.randperm(K, generator=g).repeat(3).split(250):
            x = ((1 + 0.1 * window) * centres[y] + torch.randn(len(y), p, generator=g)).to("cuda")
            monitor.update(features=x, logits=x[:, :K], target=y.to("cuda"))
        record = monitor.close(12 * window)
    assert math.isfinite(record.primary.A.value)
