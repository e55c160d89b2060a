"""Alerts in a training: told once, and followed by what was asked for."""

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from trainings import CLASSES, Classifier, MemoryLogger, loader, trainer

from le_callback import DiagnosticWarning, LECallback
from le_callback.alerts import Alert, NonFinite, default_rules, describe
from le_callback.trainer.alarm import SeparabilityError, SeparabilityWarning


class Broken(Classifier):
    """From a step on labels are drawn anew, or a batch holds NaN."""

    def __init__(self, labels_from=None, nan_at=None):
        super().__init__(dropout=0)
        self.labels_from, self.nan_at = labels_from, nan_at
        self.draw = torch.Generator().manual_seed(0)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        step = self.global_step
        if self.labels_from is not None and step >= self.labels_from:
            y = torch.randint(CLASSES, y.shape, generator=self.draw)
        if step == self.nan_at:
            x = torch.full_like(x, torch.nan)
        return x, y

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if loss.isfinite() else None


def fit(model, callback=None, epochs=4, **kwargs):
    arguments = {"summary": False, "figures": False, "every_n_steps": 12, "tags": "all"}
    callback = callback or LECallback(**(arguments | kwargs.pop("callback_arguments", {})))
    run = trainer(callback, max_epochs=epochs, **kwargs)
    run.fit(model, loader())
    return callback, run


def alerts_in(caught):
    return [str(w.message) for w in caught if issubclass(w.category, SeparabilityWarning)]


def test_lost_separability_is_told_once_by_every_channel(tmp_path):
    """Labels are noise from step 300 on; before, and in the same training without the fault, nothing is told."""
    logger = TensorBoardLogger(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback, run = fit(Broken(labels_from=300), epochs=60, logger=logger)
    told = alerts_in(caught)
    assert len([t for t in told if "SeparabilityLost" in t]) == 1
    alert = next(a for a in callback._session.measurement.alarm.raised if a.rule == "SeparabilityLost")
    assert 300 < alert.step <= 300 + 8 * 12
    assert f"Alert: {describe(alert, ['0', '1', '2'])}" in callback.summary_table()
    assert run.callback_metrics["alerts/SeparabilityLost"] == 1
    events = EventAccumulator(str(logger.log_dir))
    events.Reload()
    standing = {e.step: e.value for e in events.Scalars("alerts/SeparabilityLost")}
    assert all(value == 0 for step, value in standing.items() if step < alert.step - 12)
    assert max(standing.values()) == 1
    text = events.Tensors("alerts")[0]
    assert "SeparabilityLost" in text.tensor_proto.string_val[0].decode()
    assert "separation/regime" in events.Tags()["tensors"]


def test_a_healthy_training_raises_nothing():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback, run = fit(Classifier(), epochs=60)
    assert alerts_in(caught) == []
    assert callback._session.measurement.alarm.raised == []
    rules = {rule.name for rule in default_rules()}
    standing = {k.removeprefix("alerts/"): float(v) for k, v in run.callback_metrics.items() if k.startswith("alerts/")}
    assert standing == dict.fromkeys(rules | {"active"}, 0.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestActions:
    def test_stop(self):
        callback, run = fit(Broken(nan_at=13), callback_arguments={"on_alert": "stop"})
        assert run.global_step == 24
        assert [a.rule for a in callback._session.measurement.alarm.raised] == ["NonFinite"]

    def test_raise_leaves_no_hook(self):
        model = Broken(nan_at=13)
        with pytest.raises(SeparabilityError, match="NonFinite at step 24: 8 samples") as raised:
            fit(model, callback_arguments={"on_alert": "raise"})
        assert raised.value.alert.rule == "NonFinite"
        assert not any(module._forward_hooks for module in model.modules())

    def test_callable_and_its_failure(self):
        seen = []

        def act(alert):
            seen.append(alert.rule)
            raise RuntimeError("no such luck")

        with pytest.warns(UserWarning, match="action `on_alert` failed.*no such luck"):
            _, run = fit(Broken(nan_at=13), callback_arguments={"on_alert": act})
        assert seen == ["NonFinite"]
        assert run.global_step == 48

    def test_checkpoint_and_no_repetition_after_a_resume(self, tmp_path):
        fit(Broken(nan_at=13), callback_arguments={"alert_checkpoints": tmp_path})
        saved = tmp_path / "NonFinite-step=24.ckpt"
        state = torch.load(saved, weights_only=True)
        assert any("alerts" in s for s in state["callbacks"].values())
        resumed = LECallback(summary=False, figures=False, every_n_steps=12)
        run = trainer(resumed, max_epochs=4)
        run.fit(Broken(), loader(), ckpt_path=saved)
        assert resumed._session.measurement.alarm.raised == []
        assert "NonFinite" in resumed._session.measurement.alarm.book.standing

    def test_webhook(self):
        pytest.importorskip("apprise")
        received = []
        arrived = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()
                arrived.set()

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"json://127.0.0.1:{server.server_port}/"
        fit(Broken(nan_at=13), callback_arguments={"notify": [address], "name": "run"})
        assert arrived.wait(20)
        server.shutdown()
        assert received[0]["title"] == "run/NonFinite"
        assert "not finite" in received[0]["message"]

    def test_rules_of_the_user(self):
        def slow(record):
            if record.step >= 24:
                return Alert("Slow", record.step, (1,), "It takes long.", "Wait.", record.step, 24, float("nan"))
            return None

        def broken(record):
            raise KeyError("nothing")

        with pytest.warns(UserWarning, match="alert rule broken failed"):
            callback, run = fit(Classifier(), callback_arguments={"alerts": [slow, broken, NonFinite()]})
        assert [(a.rule, a.step) for a in callback._session.measurement.alarm.raised] == [("Slow", 24)]
        assert run.callback_metrics["alerts/slow"] == 1
        assert run.callback_metrics["alerts/NonFinite"] == 0

    def test_a_rule_that_gives_no_alert_stops_nothing(self):
        def odd(record):
            return "too slow"

        with pytest.warns(UserWarning, match="gave something else than an alert.*AttributeError"):
            callback, run = fit(Classifier(), callback_arguments={"alerts": [odd, NonFinite()]})
        assert run.global_step == 48
        assert callback.last_record.window == (36, 48)

    def test_off(self):
        _, run = fit(Broken(nan_at=13), callback_arguments={"alerts": False, "on_alert": "raise"})
        assert not any(tag.startswith("alerts/") for tag in run.callback_metrics)

    def test_several_loggers(self):
        logger = MemoryLogger()
        fit(Broken(nan_at=13), logger=logger)
        assert any(row.get("alerts/NonFinite") == 1 for row in logger.rows.values())


def test_warnings_that_are_errors_end_no_training(caplog):
    """An alert and a notice are told all the same: by the log."""
    callback = LECallback(summary=False, figures=False, every_n_steps=12, alerts=[NonFinite(), broken_rule])
    run = trainer(callback, max_epochs=4)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="le_callback"):
        for category in (SeparabilityWarning, DiagnosticWarning):
            warnings.simplefilter("error", category)
        run.fit(Broken(nan_at=13), loader())
    assert run.global_step == 48
    assert [r.message.split(":")[0] for r in caplog.records if r.name == "le_callback"] == ["LECallback"] * 2
    assert "NonFinite at step 24" in caplog.text
    assert "alert rule broken_rule failed" in caplog.text


def broken_rule(record):
    raise KeyError("nothing")


@pytest.mark.parametrize("kind", ["LECallback", "AddedCallback"])
def test_a_whole_run_with_all_warnings_as_errors(kind, tmp_path):
    """As ``python -W error``, but for what Lightning and its loggers warn of themselves."""
    script = f"""
import warnings
from lightning.pytorch.loggers import TensorBoardLogger
from test_alarm import Broken
from trainings import loader, trainer
from le_callback import DiagnosticWarning, LECallback
from le_callback.entry_point import AddedCallback
callback = {kind}()
run = trainer(callback, max_epochs=4, logger=TensorBoardLogger({str(tmp_path)!r}))
warnings.simplefilter("error")
for theirs in ("lightning", "torch"):
    warnings.filterwarnings("ignore", module=theirs)
run.fit(Broken(nan_at=13), loader())
assert run.global_step == 48, run.global_step
assert callback.last_record.window == (45, 48) or callback.monitor.windows > 8
"""
    environment = {**os.environ, "PYTHONPATH": ":".join(["tests", "tests/trainer", *filter(None, sys.path)])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Local elasticity and separability, 3 classes" in done.stdout
    assert "NonFinite at step 15" in done.stderr
    assert "could not" not in done.stderr


def test_unknown_action():
    with pytest.raises(ValueError, match="`on_alert` to be one of 'warn', 'stop', 'raise'"):
        LECallback(on_alert="shout")
    with pytest.raises(ValueError, match="notify"):
        LECallback(notify=["nonsense"])


def test_parameters_are_the_same_with_an_alert():
    def parameters(*callbacks):
        torch.manual_seed(0)
        model = Broken(labels_from=100)
        trainer(callbacks=list(callbacks), max_epochs=20).fit(model, loader())
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(parameters(), parameters(LECallback(summary=False, every_n_steps=12)))
