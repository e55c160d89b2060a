"""Both names of Lightning, its command line, and the callback without any code."""

import importlib
import inspect
import logging
import os
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from trainings import CLASSES, DIMENSIONS, Classifier, Recording, assert_windows, loader, trainer

from le_callback import DiagnosticWarning, LECallback, entry_point
from le_callback.capture.labels import LabelSource
from le_callback.entry_point import AddedCallback, hooks_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "unmodified"
NAMESPACES = ["lightning.pytorch", "pytorch_lightning"]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 2,
    "log_every_n_steps": 4,
}


@pytest.fixture(params=NAMESPACES)
def pl(request):
    return pytest.importorskip(request.param)


def classifier(pl):
    """A module of this namespace that records what its head sees."""

    class Seeing(pl.LightningModule):
        def __init__(self, lr: float = 0.1):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.Dropout(0.2)), nn.Linear(8, CLASSES)
            self.seen = []

        def training_step(self, batch, batch_idx):
            features = self.body(batch[0])
            logits = self.head(features)
            self.seen.append((features.detach().clone(), logits.detach().clone(), batch[1]))
            loss = nn.functional.cross_entropy(logits, batch[1])
            return {"loss": loss, "features": features, "logits": logits}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def train_dataloader(self):
            return loader()

    return Seeing


class Typed(Recording):
    """With the signature of ``LECallback``, which command lines read."""

    def __init__(
        self,
        head: str | None = None,
        label: LabelSource = None,
        outputs: tuple[str, str] | None = None,
        every_n_steps: int = 4,
    ):
        super().__init__(head=head, label=label, outputs=outputs, every_n_steps=every_n_steps)


def test_training_in_both_namespaces(pl):
    def fitted(*callbacks):
        torch.manual_seed(1)
        model = classifier(pl)()
        pl.Trainer(callbacks=list(callbacks), **QUIET).fit(model)
        return model

    callback = Recording()
    plain, model = fitted(), fitted(callback)
    assert isinstance(callback, pl.Callback)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert_windows(callback, model.seen, 4)


def test_state_in_both_namespaces(pl, tmp_path):
    def run(callback, epochs, **kwargs):
        settings = QUIET | {"enable_checkpointing": True, "default_root_dir": tmp_path, "max_epochs": epochs}
        runner = pl.Trainer(callbacks=[callback], **settings)
        runner.fit(classifier(pl)(), **kwargs)
        return runner

    run(LECallback(summary=False), 2).save_checkpoint(tmp_path / "run.ckpt")
    resumed = LECallback(summary=False)
    run(resumed, 3, ckpt_path=tmp_path / "run.ckpt")
    assert resumed.monitor.windows == 36 // 4


def test_one_namespace_is_enough(monkeypatch):
    for name in [n for n in sys.modules if n == "pytorch_lightning" or n.startswith("pytorch_lightning.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    import le_callback.trainer.namespaces as module

    try:
        from lightning.pytorch import Callback

        assert importlib.reload(module).AnyCallback is Callback
    finally:
        monkeypatch.undo()
        importlib.reload(module)


class TestCommandLine:
    def run(self, pl, *args):
        cli = pytest.importorskip(f"{pl.__name__}.cli")
        pytest.importorskip("jsonargparse")
        settings = [f"--trainer.{key}={str(value).lower()}" for key, value in QUIET.items()]
        return cli.LightningCLI(classifier(pl), save_config_callback=None, args=["fit", *settings, *args])

    @pytest.mark.parametrize("argument", ["head=head", "label=1", "outputs=[features,logits]"])
    def test_training(self, pl, argument):
        cli = self.run(pl, f"--trainer.callbacks+={Typed.__module__}.Typed", f"--trainer.callbacks.{argument}")
        (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, LECallback)]
        assert callback.arguments.outputs == (("features", "logits") if "outputs" in argument else None)
        assert_windows(callback, cli.model.seen, 4)

    def test_every_argument(self, pl):
        values = {
            "head": ("head", "head"),
            "label": ("1", 1),
            "num_classes": ("3", 3),
            "class_names": ("[ant,bee,cow]", ["ant", "bee", "cow"]),
            "ignore_index": ("null", None),
            "every_n_steps": ("6", 6),
            "smoothing": ("9", 9),
            "identifiability": ("2.5", 2.5),
            "confidence": ("0.9", 0.9),
            "time_axis": ("epochs", "epochs"),
            "probe": ("5", 5),
            "probe_every_n_steps": ("3", 3),
            "probe_forward": ("trainings.run_body_and_head", None),
            "matrix_classes": ("[ant,2]", ["ant", 2]),
            "exact": ("train", "train"),
            "out_of_distribution": ("null", None),
            "exact_every_n_epochs": ("2", 2),
            "alerts": ("false", False),
            "on_alert": ("stop", "stop"),
            "alert_checkpoints": ("saved", "saved"),
            "notify": ("['json://localhost']", ["json://localhost"]),
            "name": ("cli", "cli"),
            "tags": ("all", "all"),
            "reset_compiler": ("true", True),
            "figures": ("false", False),
            "page": ("false", False),
            "report": ("false", False),
            "progress_bar": ("false", False),
            "summary": ("false", False),
        }
        assert values.keys() | {"outputs"} == inspect.signature(LECallback).parameters.keys()
        arguments = [f"--trainer.callbacks.{key}={text}" for key, (text, _) in values.items()]
        cli = self.run(pl, "--trainer.callbacks+=le_callback.LECallback", *arguments)
        (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, LECallback)]
        for key in (
            "head",
            "num_classes",
            "class_names",
            "every_n_steps",
            "probe_every_n_steps",
            "name",
            "figures",
            "page",
        ):
            assert getattr(callback.arguments, key) == values[key][1]
        settings = callback.arguments.monitor
        assert (settings.smoothing, settings.confidence, settings.ignore_index) == (9, 0.9, None)
        assert settings.time_unit == "epoch"
        assert callback.last_record.window == (18, 24)
        assert callback.last_record.coefficients["I_probe_logits"].amplitude_difference > 0


class TestFactory:
    @pytest.mark.parametrize("value", [None, "", "0", "false", "off"])
    def test_unset_adds_nothing(self, monkeypatch, value):
        monkeypatch.delenv(entry_point.VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(entry_point.VARIABLE, value)
        assert entry_point.callbacks() == []

    @pytest.mark.parametrize("value", ["1", "true", " ON "])
    def test_set_adds_one_of_both_namespaces(self, monkeypatch, value):
        monkeypatch.setenv(entry_point.VARIABLE, value)
        (callback,) = entry_point.callbacks()
        for name in NAMESPACES:
            assert isinstance(callback, importlib.import_module(name).Callback)

    def test_anything_else_is_refused(self, monkeypatch):
        monkeypatch.setenv(entry_point.VARIABLE, "maybe")
        with pytest.raises(ValueError, match="`LE_CALLBACK` to be 1 or 0, but got 'maybe'"):
            entry_point.callbacks()

    def test_declared_for_both_namespaces(self):
        for name in NAMESPACES:
            found = installed(name)
            assert [e.load() for e in found] == [entry_point.callbacks]


def installed(namespace):
    found = [e for e in entry_points(group=f"{namespace}.callbacks_factory") if e.name == "le_callback"]
    if not found:
        pytest.skip("the installed package is older than its entry points: pip install -e .")
    return found


class TestAddedCallback:
    def test_a_callback_of_the_script_comes_first(self):
        own, added = Recording(), AddedCallback()
        model = Classifier()
        trainer(callbacks=[own, added]).fit(model, loader())
        assert_windows(own, model.seen, 4)
        assert added.last_record is None

    def test_named_callbacks_come_first_too(self):
        own = [LECallback(name=head, summary=False, head=head) for head in ("head", "body.0")]
        added = AddedCallback()
        trainer(callbacks=[*own, added]).fit(Classifier(), loader())
        assert [c.last_record is None for c in (*own, added)] == [False, False, True]

    def test_one_list_of_callbacks_for_several_trainers(self):
        """Lightning appends the callbacks of factories to the list that it is given."""
        callbacks = []
        for i in range(2):
            callbacks.append(AddedCallback())
            trainer(callbacks=callbacks).fit(Classifier(), loader())
            assert [c.last_record is not None for c in callbacks] == [True] * (i + 1)
        assert callbacks[0].last_record is not callbacks[1].last_record

    def test_no_classification_is_a_line_of_information_and_the_training_goes_on(self, caplog):
        class Regression(Classifier):
            def training_step(self, batch, batch_idx):
                return self.head(self.body(batch["x"])).square().mean()

        data = torch.utils.data.DataLoader([{"x": x} for x in torch.randn(96, DIMENSIONS)], batch_size=8)
        run = trainer(AddedCallback())
        model = Regression()
        with caplog.at_level(logging.INFO), warnings.catch_warnings():
            warnings.simplefilter("error", DiagnosticWarning)
            run.fit(model, data)
        assert [r.levelname for r in caplog.records if "no classification loss" in r.getMessage()] == ["INFO"]
        assert run.global_step == 24
        assert not any(m._forward_hooks for m in model.modules())
        assert not any(tag.startswith(("le/", "etf/", "separation/", "alerts/")) for tag in run.callback_metrics)

    def test_a_model_without_a_head(self):
        class Parameters(Classifier):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(6, 3))
                self.head = self.body = nn.Identity()

            def training_step(self, batch, batch_idx):
                return nn.functional.cross_entropy(batch[0] @ self.weight, batch[1])

        run = trainer(AddedCallback())
        with pytest.warns(DiagnosticWarning, match="cannot work here.*no linear-like layer"):
            run.fit(Parameters(), loader())
        assert run.global_step == 24

    def test_state(self, tmp_path):
        run = trainer(AddedCallback(), enable_checkpointing=True, default_root_dir=tmp_path)
        run.fit(Classifier(), loader())
        run.save_checkpoint(tmp_path / "run.ckpt")
        resumed = AddedCallback()
        trainer(resumed, max_epochs=3).fit(Classifier(), loader(), ckpt_path=tmp_path / "run.ckpt")
        assert resumed.monitor.windows == 36 // 5
        without = trainer(max_epochs=3)
        without.fit(Classifier(), loader(), ckpt_path=tmp_path / "run.ckpt")  # and without it


@pytest.mark.parametrize(("script", "namespace"), [("plain", NAMESPACES[0]), ("manual", NAMESPACES[1])])
def test_unmodified_scripts(script, namespace, tmp_path):
    """With the variable the tags are there; without it nothing is."""
    pytest.importorskip(namespace)
    installed(namespace)
    source = (EXAMPLES / f"{script}.py").read_text()
    assert "import le_callback" not in source
    assert "from le_callback" not in source
    for value in ("1", None):
        directory = tmp_path / str(value)
        environment = {k: v for k, v in os.environ.items() if k != entry_point.VARIABLE}
        environment |= {entry_point.VARIABLE: value} if value else {}
        command = [sys.executable, str(EXAMPLES / f"{script}.py"), "--steps", "150", "--logdir", str(directory)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        events = EventAccumulator(str(directory / script / "version_0"))
        events.Reload()
        tags = set(events.Tags()["scalars"])
        if value is None:
            assert not {tag for tag in tags if tag.startswith(("le/", "etf/", "separation/"))}
            assert "Local elasticity" not in done.stdout
        else:
            assert {"le/I_logits/gamma", "etf/features/angle_deviation_deg"} <= tags
            assert events.Scalars("separation/features/nearest_mean_accuracy")[-1].value > 0.5
            assert "etf/cosines" in events.Tags()["images"]
            assert "Local elasticity" in done.stdout


@pytest.mark.parametrize("name", hooks_of(LECallback))
def test_every_hook_of_the_added_callback_steps_aside(monkeypatch, tmp_path, name):
    """Whatever breaks in a hook of ours, with warnings as errors too: the run goes on and the module is as it was."""
    if name == "setup":
        pytest.skip("the added callback has nothing to set up")

    def broken(self, *args, **kwargs):
        called.append(name)
        raise ArithmeticError("no such luck")

    called = []
    patched = {"on_save_checkpoint": "state_dict", "on_load_checkpoint": "load_state_dict"}.get(name, name)
    monkeypatch.setattr(LECallback, patched, broken)
    monkeypatch.setattr(AddedCallback, name, rebuilt_hook(name))
    model = Classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DiagnosticWarning)
        run = trainer(AddedCallback(), enable_checkpointing=True, default_root_dir=tmp_path)
        if name == "on_exception":
            model.training_step = lambda batch, batch_idx: 1 // 0
            with pytest.raises(ZeroDivisionError):
                run.fit(model, loader())
        else:
            run.fit(model, loader())
            run.save_checkpoint(tmp_path / "run.ckpt")
            assert run.global_step == 24
        if name == "on_load_checkpoint":
            monkeypatch.setattr(LECallback, patched, broken)
            again = trainer(AddedCallback(), max_epochs=3)
            again.fit(Classifier(), loader(), ckpt_path=tmp_path / "run.ckpt")
            assert again.global_step == 36
    assert called
    assert not any(m._forward_hooks for m in model.modules())


def rebuilt_hook(name):
    """The hook of ``AddedCallback`` as it is made, around what ``LECallback`` has now."""
    own = inspect.unwrap(inspect.getattr_static(AddedCallback, name))
    inherited = own.__qualname__.startswith("LECallback")
    return entry_point._guarded(getattr(LECallback, name) if inherited else own)
