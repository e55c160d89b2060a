"""Hooks that are put on and taken off in every step, and batches that need no reshaping."""

import copy

import pytest
import torch
from torch import nn

from le_callback.capture.labels import LabelReader, align, one_each
from le_callback.capture.slot import Captured, CaptureHook, Slot, Switch


def switch_of(module):
    seen = []
    return Switch(module, lambda module, args, kwargs, output: seen.append((args, kwargs))), seen


def test_only_calls_while_it_is_on_are_seen():
    layer = nn.Linear(2, 3)
    switch, seen = switch_of(layer)
    for _ in range(3):
        switch.on()
        switch.on()
        layer(torch.zeros(1, 2))
        layer(input=torch.ones(1, 2))
        switch.off()
        switch.off()
        layer(torch.zeros(1, 2))
        assert not layer._forward_hooks
        assert not layer._forward_hooks_with_kwargs
    assert [len(args) for args, _ in seen] == [1, 0] * 3
    assert torch.equal(seen[-1][1]["input"], torch.ones(1, 2))


def test_hooks_of_others_stay_and_keep_their_order():
    layer, order = nn.Linear(2, 3), []
    layer.register_forward_hook(lambda *_: order.append("first"))
    switch = Switch(layer, lambda *_: order.append("ours"))
    switch.on()
    layer.register_forward_hook(lambda *_: order.append("last"))
    switch.off()
    layer(torch.zeros(1, 2))
    assert order == ["first", "last"]
    switch.on()
    layer(torch.zeros(1, 2))
    assert order[2:] == ["first", "last", "ours"]
    switch.off()
    assert len(layer._forward_hooks) == 2


def test_tables_that_another_replaced_or_cleared_are_followed():
    layer = nn.Linear(2, 3)
    switch, seen = switch_of(layer)
    switch.on()
    layer._forward_hooks.clear()
    switch.off()
    layer._forward_hooks = type(layer._forward_hooks)()
    layer._forward_hooks_with_kwargs = type(layer._forward_hooks_with_kwargs)()
    switch.on()
    layer(torch.zeros(1, 2))
    assert len(seen) == 1
    switch.off()
    assert not layer._forward_hooks


def test_a_module_that_keeps_its_hooks_elsewhere_is_hooked_as_it_wishes():
    class Elsewhere(nn.Linear):
        """Registers on a layer of its own."""

        def __init__(self):
            super().__init__(2, 3)
            self.inner = nn.Linear(2, 3)

        def register_forward_hook(self, hook, **kwargs):
            return self.inner.register_forward_hook(hook, **kwargs)

        def forward(self, x):
            return self.inner(x)

    layer = Elsewhere()
    switch, seen = switch_of(layer)
    for _ in range(2):
        switch.on()
        layer(torch.zeros(1, 2))
        switch.off()
        layer(torch.zeros(1, 2))
    assert len(seen) == 2
    assert not layer.inner._forward_hooks


def test_a_copy_of_a_hooked_module_fills_no_slot_of_ours():
    layer, slot = nn.Linear(2, 3), Slot()
    switch = Switch(layer, CaptureHook(slot, "layer"))
    switch.on()
    copied = copy.deepcopy(layer)
    copied(torch.zeros(1, 2))
    assert slot.get("layer") is None
    layer(torch.zeros(4, 2))
    assert slot.get("layer").features.shape == (4, 2)


ROWS = Captured(torch.randn(6, 4), torch.randn(6, 3))


@pytest.mark.parametrize(
    ("captured", "labels", "plain"),
    [
        (ROWS, torch.arange(6) % 3, True),
        (ROWS, (torch.arange(6) % 3).int(), False),
        (ROWS, torch.ones(6), False),
        (ROWS, torch.arange(6).unsqueeze(1) % 3, False),
        (ROWS, torch.arange(5) % 3, False),
        (ROWS, torch.eye(3)[torch.arange(6) % 3], False),
        (Captured(torch.randn(2, 3, 4), torch.randn(2, 3, 3)), torch.zeros(2, 3, dtype=torch.long), False),
        (Captured(torch.randn(6, 4), torch.randn(6)), torch.zeros(6, dtype=torch.long), False),
        (ROWS, torch.tensor(1), False),
    ],
)
def test_what_needs_no_reshaping_is_what_reshaping_leaves(captured, labels, plain):
    assert one_each(captured, labels) == plain
    if plain:
        for a, b in zip(align(*captured, labels, 3), (*captured, labels), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("label", ["y", 1])
def test_a_label_that_is_named_is_read_after_the_step_or_as_it_was_before(label):
    reader, y = LabelReader(label), torch.tensor([0, 1])
    batch = {"x": torch.zeros(2), "y": y} if label == "y" else [torch.zeros(2), y]
    reader.peek(batch)
    batch[label] = y + 1
    assert torch.equal(reader(batch), y + 1)
    reader.forget()
    reader.peek(batch)
    batch.pop(label)
    assert torch.equal(reader(batch), y + 1)
    reader.forget()
    with pytest.raises(ValueError, match=f"`label={label!r}` to select the labels"):
        reader(batch)
