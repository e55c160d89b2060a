"""Saved states that came to harm, are foreign or older: told, or harmless, and never the end of a training."""

import copy
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trainings import Classifier, loader, trainer

from le_callback import LECallback

STRANGE = (None, -1, 0.5, "text", [], {}, (), True, float("nan"), torch.zeros(0), torch.ones(2, 3), b"bytes", object())


@pytest.fixture(scope="module")
def saved():
    callback = LECallback(summary=False, every_n_steps=4, probe=4)
    trainer(callback).fit(Classifier(), loader())
    return callback.state_dict()


def places(value, path=()):
    """Every place in a nested state."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def harmed(state, path, how, strange):
    """The state with something else at a place."""
    if not path:
        return strange
    key, inner = path[0], None
    items = dict(state) if isinstance(state, dict) else list(state)
    if len(path) > 1:
        items[key] = harmed(items[key], path[1:], how, strange)
    elif how == "without":
        del items[key]
    elif how == "cut" and hasattr(items[key], "__len__") and not isinstance(items[key], dict | str):
        items[key] = items[key][: len(items[key]) // 2] if getattr(items[key], "ndim", 1) else inner
    else:
        items[key] = strange
    return tuple(items) if isinstance(state, tuple) and not hasattr(state, "_fields") else items


def goes_on(state):
    """What a training says that continues a state; it has to come to its end."""
    callback = LECallback(summary=False, every_n_steps=4, probe=4)
    callback.load_state_dict(state)
    run = trainer(callback, max_epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(Classifier(), loader())
    assert run.global_step == 12
    assert callback.last_record is not None
    assert callback.last_record.step == 12
    return [str(w.message) for w in caught if "LECallback" in str(w.message)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_harmed_state_never_ends_a_training(saved, data):
    every = list(places(saved))
    path = data.draw(st.sampled_from(every))
    how, strange = data.draw(st.sampled_from(["without", "cut", "else"])), data.draw(st.sampled_from(STRANGE))
    told = goes_on(harmed(saved, path, how, strange))
    for line in told:
        assert "not continued, everything starts anew" in line


def test_the_state_itself_is_continued(saved):
    assert goes_on(copy.deepcopy(saved)) == []


@pytest.mark.parametrize(
    "state",
    [{"version": 1}, {"weights": torch.zeros(3)}, {"version": 4, "monitor": {}}, {"version": 3, "monitor": {}}, {1: 2}],
)
def test_foreign_and_older_states_are_told(state):
    (line,) = goes_on(state)
    assert "the saved state is not continued, everything starts anew" in line
