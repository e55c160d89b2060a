"""What is captured, seen step by step without a Trainer."""

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack
from trainings import Classifier, blobs

from le_callback import DiagnosticWarning, LECallback
from le_callback.capture.evidence import NoClassificationError
from le_callback.notices import Notices
from le_callback.trainer.capturing import Capturing


def capturing(model, *, alone):
    return Capturing(LECallback().arguments, model, Notices(), alone=alone)


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def step(capture, model, loss):
    """One training step; whether it could be settled."""
    x, y = blobs(8)
    capture.begin_batch((x, y))
    watched = hooks(model)
    loss(model(x), y)
    settled = capture.decide({"loss": torch.zeros(())}, (x, y))
    capture.end_batch()
    assert hooks(model) == len(_get_current_function_mode_stack()) == 0
    return settled, watched


def regression(z, y):
    return torch.nn.functional.mse_loss(z.sum(1), y.float())


def test_alone_a_training_that_is_no_classification_is_refused():
    model = Classifier()
    with pytest.raises(NoClassificationError, match="mse_loss"):
        step(capturing(model, alone=True), model, regression)


def test_one_of_several_processes_waits_and_does_not_leave_the_others():
    model = Classifier()
    capture = capturing(model, alone=False)
    with pytest.warns(DiagnosticWarning, match="on this process so far.*mse_loss") as caught:
        assert [step(capture, model, regression)[0] for _ in range(5)] == [False] * 5
    assert len(caught) == 1
    assert step(capture, model, torch.nn.functional.cross_entropy)[0]
    assert capture.labels.source((0, 7)) == 7


def test_it_does_not_wait_for_ever():
    model = Classifier()
    capture = capturing(model, alone=False)
    with pytest.warns(DiagnosticWarning, match="so far"):
        watched = [step(capture, model, regression)[1] for _ in range(22)]
    assert watched[19] > 0
    assert watched[20:] == [0, 0]
