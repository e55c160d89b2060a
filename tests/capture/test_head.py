import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from le_callback.capture.head import HeadCapture, class_count_hint, is_linear_like

LABELS = torch.tensor([0, 1, 2, 0, 1])


def mlp(width=3):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, width))


class Backwards(nn.Module):
    """Defined in the reverse of the order in which it is called."""

    def __init__(self, width=3, extra=7):
        super().__init__()
        self.head = nn.Linear(6, width)
        self.projection = nn.Linear(6, extra)
        self.body = nn.Linear(4, 6)

    def forward(self, x):
        hidden = self.body(x)
        logits = self.head(hidden)
        return logits, self.projection(hidden)


class Duck(nn.Module):
    """A dense layer of a user's own."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.randn(out_features, in_features))

    def forward(self, x):
        return x @ self.weight.T


class Wrapper(nn.Module):
    """An adapter about a dense layer, as parameter-efficient training puts it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.in_features, self.out_features = base.in_features, base.out_features

    def forward(self, x):
        return self.base(x) + 1


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(input=x)


def watch(model, x=None, **arguments):
    capture = HeadCapture(model, **arguments)
    capture.attach()
    model(torch.randn(5, 4) if x is None else x)
    return capture


def hooks_of(model):
    return [hook for m in model.modules() for hook in m._forward_hooks.values()]


class Packed:
    """What a graph keeps of a tensor; can be referenced weakly."""

    def __init__(self, tensor):
        self.tensor = tensor.detach()  # a saved output would otherwise hold its own graph


class TestLinearLike:
    @pytest.mark.parametrize(
        ("module", "expected"),
        [
            (nn.Linear(2, 3), True),
            (nn.LazyLinear(3), True),
            (Duck(2, 3), True),
            (nn.Conv1d(2, 3, 1), True),
            (nn.Conv2d(2, 3, 1), True),
            (nn.Conv3d(2, 3, 1), True),
            (nn.LazyConv2d(3, 1), True),
            (nn.Conv2d(2, 3, 3), False),
            (nn.Conv2d(2, 3, (1, 3)), False),
            (nn.Bilinear(2, 2, 3), False),
            (nn.Embedding(2, 3), False),
            (nn.ReLU(), False),
        ],
        ids=repr,
    )
    def test_by_interface(self, module, expected):
        assert is_linear_like(module) is expected


class TestAutomaticHead:
    def test_last_of_a_stack(self):
        model, x = mlp(), torch.randn(5, 4)
        capture = watch(model, x)
        assert capture.take() is None
        assert capture.settle(LABELS) == "2"
        assert (capture.name, capture.num_classes) == ("2", 3)
        assert torch.equal(capture.take().features, model[:2](x))
        assert torch.equal(capture.take().logits, model(x))

    def test_order_of_the_calls_and_not_of_the_definition(self):
        # all three fit: the projection is called last, the body is defined last
        assert watch(Backwards(width=3, extra=5)).settle(LABELS) == "projection"

    def test_width_that_does_not_fit_the_labels_is_passed_over(self):
        # the projection has fewer outputs than there are labels
        assert watch(Backwards(width=3, extra=2)).settle(LABELS) == "head"

    def test_number_of_classes_decides(self):
        assert watch(Backwards(width=3, extra=7), num_classes=3).settle(LABELS) == "head"
        assert watch(Backwards(width=3, extra=7), num_classes=7).settle(LABELS) == "projection"

    def test_soft_labels_decide(self):
        assert watch(Backwards(width=3, extra=7)).settle(torch.eye(3)[LABELS]) == "head"

    @pytest.mark.parametrize("where", ["attribute", "hparams", "metric"])
    def test_hints_decide(self, where):
        model = Backwards(width=3, extra=7)
        if where == "attribute":
            model.num_classes = 3
        elif where == "hparams":
            model.hparams = {"num_classes": 3, "lr": 0.1}
        else:
            model.accuracy = MulticlassAccuracy(num_classes=3)
        assert class_count_hint(model) == 3
        assert watch(model).settle(LABELS) == "head"

    def test_hints_that_disagree_or_fit_no_layer_say_nothing(self):
        model = Backwards(width=3, extra=7)
        model.num_classes = 9
        assert class_count_hint(model) == 9
        assert watch(model).settle(LABELS) == "projection"
        model.accuracy = MulticlassAccuracy(num_classes=3)
        assert class_count_hint(model) is None
        assert watch(model).settle(LABELS) == "projection"

    @pytest.mark.parametrize("value", [True, 1, 0, "3", 3.0, None])
    def test_what_is_no_hint(self, value):
        model = mlp()
        model.num_classes = value
        assert class_count_hint(model) is None

    def test_layers_that_are_not_called_do_not_count(self):
        model = mlp()
        model[0].unused = nn.Linear(8, 3)
        assert watch(model).settle(LABELS) == "2"

    def test_wrapper_is_taken_before_what_it_wraps(self):
        model = nn.Sequential(nn.Linear(4, 8), Wrapper(nn.Linear(8, 3)))
        capture = watch(model)
        assert capture.settle(LABELS) == "1"
        assert capture.take().features.shape == (5, 8)

    def test_only_the_head_stays_hooked(self):
        model = mlp()
        capture = watch(model)
        assert len(hooks_of(model)) == 2
        capture.settle(LABELS)
        assert [hook.name for hook in hooks_of(model)] == ["2"]
        capture.detach()
        capture.attach()
        assert [hook.name for hook in hooks_of(model)] == ["2"]

    def test_not_called_yet(self):
        capture = HeadCapture(mlp())
        capture.attach()
        assert capture.settle(LABELS) is None
        assert capture.take() is None
        with pytest.raises(RuntimeError, match="not known before `settle`"):
            _ = capture.num_classes

    def test_trailing_dimension_of_the_labels(self):
        assert watch(mlp()).settle(LABELS.unsqueeze(1)) == "2"

    def test_ignored_labels_may_be_larger_than_the_head_is_wide(self):
        labels = torch.tensor([0, 1, 255, 2, 255])
        assert watch(mlp(), ignore_index=255).settle(labels) == "2"
        assert watch(mlp(), ignore_index=-100).settle(labels.where(labels < 255, -100)) == "2"
        with pytest.raises(ValueError, match="fits the labels"):
            watch(mlp()).settle(labels)


class TestGivenHead:
    def test_dotted_name(self):
        model = nn.ModuleDict({"net": mlp()})
        capture = HeadCapture(model, head="net.0")
        capture.attach()
        model["net"](torch.randn(5, 4))
        assert capture.settle(LABELS) == "net.0"
        assert capture.num_classes == 8

    def test_module_object(self):
        model = Backwards()
        capture = watch(model, head=model.head)
        assert capture.settle(LABELS) == "head"
        assert capture.take().logits.shape == (5, 3)

    def test_module_from_elsewhere(self):
        head = nn.Linear(4, 3)
        capture = HeadCapture(mlp(), head=head)
        capture.attach()
        head(torch.zeros(5, 4))
        assert capture.settle(LABELS) == "Linear"

    def test_model_itself(self):
        model = nn.Linear(4, 3)
        capture = watch(model, head=model)
        assert capture.settle(LABELS) == ""
        assert capture.take().features.shape == (5, 4)

    def test_any_module_may_be_named(self):
        capture = watch(mlp(), head="1")
        assert capture.settle(LABELS) == "1"
        assert capture.num_classes == 8


class TestKindsOfHeads:
    @pytest.mark.parametrize(("dimensions", "kind"), [(1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)])
    def test_convolution_puts_the_channels_last(self, dimensions, kind):
        sizes = (6, 5, 4)[:dimensions]
        model, x = nn.Sequential(kind(2, 8, 3, padding=1), kind(8, 3, 1)), torch.randn(2, 2, *sizes)
        labels = torch.randint(3, (2, *sizes))
        capture = watch(model, x)
        assert capture.settle(labels) == "1"
        features, logits = capture.take()
        assert torch.equal(features, model[0](x).movedim(1, -1))
        assert (features.shape, logits.shape) == ((2, *sizes, 8), (2, *sizes, 3))
        with torch.no_grad():
            by_hand = features @ model[1].weight.reshape(3, 8).T + model[1].bias
        torch.testing.assert_close(logits, by_hand, rtol=1e-5, atol=1e-6)

    def test_sequence_head(self):
        capture = watch(mlp(), torch.randn(2, 7, 4))
        assert capture.settle(torch.randint(3, (2, 7))) == "2"
        assert capture.take().features.shape == (2, 7, 8)

    def test_keyword_only_call(self):
        x = torch.randn(5, 4)
        capture = watch(ByKeyword(), x)
        assert capture.settle(LABELS) == "head"
        assert torch.equal(capture.take().features, x)

    def test_lazy_head(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.LazyLinear(3))
        capture = watch(model)
        assert capture.settle(LABELS) == "1"
        assert capture.take().features.shape == (5, 8)

    def test_duck_typed_head(self):
        assert watch(nn.Sequential(nn.Linear(4, 8), Duck(8, 3))).settle(LABELS) == "1"

    @pytest.mark.parametrize(
        "labels", [torch.tensor([0, 1, 1, 0, 1]), torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])]
    )
    @pytest.mark.parametrize("head", [None, "2"])
    def test_binary_head_of_width_one(self, labels, head):
        capture = watch(mlp(1), num_classes=2, head=head)
        assert capture.settle(labels) == "2"
        assert (capture.num_classes, capture.take().logits.shape) == (2, (5, 1))


class TestHook:
    def test_last_call_wins(self):
        model = mlp()
        capture = watch(model, head="2")
        x = torch.randn(3, 4)
        model(x)
        assert torch.equal(capture.take().logits, model(x))
        assert len(capture.take().logits) == 3

    def test_layer_called_twice_counts_with_its_last_call(self):
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)

        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = first, second

            def forward(self, x):
                return self.first(self.second(self.first(x)))

        model, x = Twice(), torch.randn(5, 3)
        capture = watch(model, x)
        assert capture.settle(LABELS) == "first"
        assert torch.equal(capture.take().features, second(first(x)))

    def test_no_graph_is_kept(self):
        model = mlp()
        capture = HeadCapture(model, head="2")
        capture.attach()
        saved = []

        def pack(tensor):
            packed = Packed(tensor)
            saved.append(weakref.ref(packed))
            return packed

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
            logits = model(torch.randn(5, 4, requires_grad=True))
        assert any(packed() is not None for packed in saved)
        assert not any(t.requires_grad or t.grad_fn is not None for t in capture.take())
        del logits
        gc.collect()
        assert all(packed() is None for packed in saved)

    def test_gradients_are_those_without_a_hook(self):
        model, x = mlp(), torch.randn(5, 4)
        plain = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        capture = watch(model, x)
        hooked = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        assert len(capture._slot.captured) == 2
        assert all(torch.equal(a, b) for a, b in zip(plain, hooked, strict=True))

    def test_clear_forgets(self):
        capture = watch(mlp(), head="2")
        assert capture.take() is not None
        capture.clear()
        assert capture.take() is None

    def test_output_that_is_no_tensor_is_not_captured(self):
        capture = watch(nn.ModuleDict({"all": Backwards()})["all"], head="")
        assert capture.settle(LABELS) is None

    def test_detach_leaves_no_hook(self):
        model = mlp()
        other = model[0].register_forward_hook(lambda *_: None)
        capture = watch(model)
        capture.attach()  # a second time adds nothing
        assert len(hooks_of(model)) == 3
        capture.detach()
        assert len(hooks_of(model)) == 1
        capture.detach()
        model(torch.randn(5, 4))
        assert capture.settle(LABELS) is None
        other.remove()

    @pytest.mark.parametrize("attached", [False, True])
    def test_module_can_be_pickled_copied_and_saved(self, attached):
        model, x = mlp(), torch.randn(5, 4)
        capture = watch(model, x)
        if not attached:
            capture.detach()
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert len(hooks_of(twin)) == (2 if attached else 0)
            assert torch.equal(twin(x), model(x))
            twin(torch.randn(2, 4))  # has a slot of its own
            assert {len(captured.logits) for captured in capture._slot.captured.values()} == (
                {5} if attached else set()
            )


class TestRefusals:
    def test_unknown_name_lists_the_layers_there_are(self):
        message = r"`head='fc'` to name a module of Sequential, but there is none. Its linear-like layers are 0, 2\."
        with pytest.raises(ValueError, match=message):
            HeadCapture(mlp(), head="fc")

    def test_long_lists_are_cut(self):
        model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(15)])
        with pytest.raises(ValueError, match=r"are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more\."):
            HeadCapture(model, head="fc")

    @pytest.mark.parametrize("head", [3, True, ["head"], 1.5])
    def test_head_of_a_wrong_type(self, head):
        with pytest.raises(TypeError, match=r"`head` to be a dotted name, a module or None, but got"):
            HeadCapture(mlp(), head=head)

    def test_no_linear_like_layer(self):
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
        with pytest.raises(ValueError, match=r"no classifier head in Sequential: .*modules are 0, 1\..*`head=`"):
            HeadCapture(model)
        with pytest.raises(ValueError, match=r"Its modules are none\."):
            HeadCapture(nn.ReLU())

    @pytest.mark.parametrize(
        ("labels", "arguments", "reason"),
        [
            (torch.tensor([0, 9]), {}, r"int64 tensor \(2,\), and an output for each label"),
            (torch.tensor([0, 1, 2]), {}, r"int64 tensor \(3,\), and an output for each label"),
            (torch.tensor([0, 1]), {"num_classes": 5}, r"int64 tensor \(2,\), and 5 outputs"),
            (torch.rand(2, 4), {}, r"float32 tensor \(2, 4\), and an output for each label"),
        ],
        ids=["label too large", "other batch", "num_classes", "soft"],
    )
    def test_nothing_fits_lists_the_layers_and_the_arguments(self, labels, arguments, reason):
        capture = watch(mlp(), torch.randn(2, 4), **arguments)
        message = rf"{reason}\. Layers called: 0 \(4 to 8\), 2 \(8 to 3\)\..*`head=`.*`num_classes=`.*`label=`"
        with pytest.raises(ValueError, match=message):
            capture.settle(labels)

    def test_given_head_of_another_width(self):
        capture = watch(mlp(), head="2", num_classes=10)
        with pytest.raises(ValueError, match=r"head `2` to have `num_classes=10` outputs, but it has 3\..*`head=`"):
            capture.settle(LABELS)

    def test_given_head_of_width_one_asks_for_the_number_of_classes(self):
        capture = watch(mlp(1), head="2")
        with pytest.raises(ValueError, match=r"head `2` has 1 output\. .* pass `num_classes=2`"):
            capture.settle(torch.tensor([0, 1, 0, 1, 0]))

    def test_width_one_is_two_classes_and_no_more(self):
        capture = watch(mlp(1), head="2", num_classes=3)
        with pytest.raises(ValueError, match=r"`num_classes=3` outputs, but it has 1"):
            capture.settle(LABELS)
