from collections import UserDict, namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from le_callback.capture.labels import LABEL_KEYS, LabelReader, align, describe

X, Y = torch.zeros(2, 3), torch.tensor([1, 0])


class TestReader:
    @pytest.mark.parametrize(
        "batch",
        [(X, Y), [X, Y], (X, Y, torch.tensor([5, 5])), namedtuple("Batch", "image classes")(X, Y)],
        ids=["tuple", "list", "longer", "namedtuple"],
    )
    def test_second_of_a_sequence(self, batch):
        assert LabelReader()(batch) is Y

    @pytest.mark.parametrize("key", ["label", "labels", "target", "targets", "y"])
    @pytest.mark.parametrize("mapping", [dict, UserDict])
    def test_usual_keys_of_a_mapping(self, key, mapping):
        assert LabelReader()(mapping({"image": X, key: Y})) is Y

    def test_first_of_several_keys_wins_whatever_the_order_of_the_batch(self):
        assert LABEL_KEYS == ("label", "labels", "target", "targets", "y")
        batch = {key: torch.tensor([i]) for i, key in reversed(list(enumerate(LABEL_KEYS)))}
        for i, key in enumerate(LABEL_KEYS):
            assert LabelReader()(batch).item() == i
            del batch[key]

    @pytest.mark.parametrize(
        ("source", "batch"),
        [
            ("fine", {"y": X, "fine": Y}),
            (2, (X, X, Y)),
            (-1, [X, X, Y]),
            (0, (Y, X)),
            (lambda batch: batch["a"][0]["b"], {"a": [{"b": Y}]}),
        ],
        ids=["key", "index", "negative index", "first", "callable"],
    )
    def test_given_source(self, source, batch):
        assert LabelReader(source)(batch) is Y

    @pytest.mark.parametrize("labels", [[1, 0], (1, 0), Y.numpy()], ids=["list", "tuple", "array"])
    def test_what_becomes_a_tensor(self, labels):
        assert torch.equal(LabelReader()((X, labels)), Y)

    @pytest.mark.parametrize(
        ("source", "batch", "holds"),
        [
            ("fine", {"image": X, "coarse": Y}, "a mapping with keys image, coarse"),
            (2, (X, Y), r"a tuple of \(float32 tensor \(2, 3\), int64 tensor \(2,\)\)"),
            ("fine", [X, Y], r"a list of \(float32 tensor \(2, 3\), int64 tensor \(2,\)\)"),
            (1, {"image": X}, "a mapping with keys image"),
            (5, X, r"float32 tensor \(2, 3\)"),
            (0, object(), "an object of type object"),
        ],
    )
    def test_missing_source_says_what_the_batch_holds(self, source, batch, holds):
        with pytest.raises(ValueError, match=rf"`label={source!r}` to select the labels, but the batch is {holds}"):
            LabelReader(source)(batch)

    @pytest.mark.parametrize(
        ("batch", "holds"),
        [
            ({"image": X, "category": Y}, "a mapping with keys image, category"),
            ({}, "an empty mapping"),
            ((X,), r"a tuple of \(float32 tensor \(2, 3\)\)"),
            ([], r"a list of \(\)"),
            (X, r"float32 tensor \(2, 3\)"),
            ("xy", "an object of type str"),
        ],
    )
    def test_nothing_found_says_what_the_batch_holds_and_the_argument(self, batch, holds):
        with pytest.raises(ValueError, match=rf"no labels in the batch, which is {holds}\..*Pass `label=`"):
            LabelReader()(batch)

    @pytest.mark.parametrize(
        ("labels", "found"),
        [
            (None, "an object of type NoneType"),
            (["cat", "dog"], r"a list of \(an object of type str, an object of type str\)"),
            ({"fine": Y}, "a mapping with keys fine"),
            ((Y, Y), r"a tuple of \(int64 tensor \(2,\), int64 tensor \(2,\)\)"),
        ],
    )
    def test_labels_that_are_no_tensor(self, labels, found):
        with pytest.raises(
            ValueError, match=rf"labels to be a tensor, but found {found} in a batch of a tuple.*`label="
        ):
            LabelReader()((X, labels))

    @pytest.mark.parametrize("source", [True, 1.5, ["y"], b"y"])
    def test_source_of_a_wrong_type(self, source):
        with pytest.raises(TypeError, match=r"`label` to be a key, an index, a callable or None, but got"):
            LabelReader(source)


def test_describe_nests():
    assert (
        describe((X, [Y, {}])) == "a tuple of (float32 tensor (2, 3), a list of (int64 tensor (2,), an empty mapping))"
    )


class TestAlign:
    @settings(deadline=None, max_examples=40)
    @given(
        lead=st.lists(st.integers(0, 4), min_size=1, max_size=3),
        p=st.integers(1, 4),
        K=st.integers(2, 5),
        form=st.sampled_from(["plain", "trailing", "float", "soft"]),
        seed=st.integers(0, 2**20),
    )
    def test_rows_stay_together(self, lead, p, K, form, seed):
        g = torch.Generator().manual_seed(seed)
        features, logits = torch.randn(*lead, p, generator=g), torch.randn(*lead, K, generator=g)
        labels = torch.randint(K, lead, generator=g)
        given_labels = {
            "plain": labels,
            "trailing": labels.unsqueeze(-1),
            "float": labels.float(),
            "soft": torch.eye(K)[labels],
        }[form]
        flat_features, flat_logits, target = align(features, logits, given_labels, K)
        weights = form == "soft" or (form == "float" and K == 2)
        assert target.dtype == (torch.float32 if weights else torch.long)
        assert len(flat_features) == len(flat_logits) == len(target) == labels.numel()
        for row, position in enumerate(torch.cartesian_prod(*map(torch.arange, lead)).reshape(-1, len(lead))):
            at = tuple(position.tolist())
            assert torch.equal(flat_features[row], features[at])
            assert torch.equal(flat_logits[row], logits[at])
            assert (target[row].argmax() if weights else target[row]) == labels[at]

    def test_soft_labels_keep_their_values(self):
        soft = torch.tensor([[0.3, 0.7], [1.0, 0.0]], requires_grad=True)
        target = align(torch.zeros(2, 4), torch.zeros(2, 2), soft, 2)[2]
        assert torch.equal(target, soft)
        assert not target.requires_grad

    def test_sequence_with_soft_labels(self):
        soft = torch.rand(2, 5, 3)
        assert torch.equal(align(torch.zeros(2, 5, 8), torch.zeros(2, 5, 3), soft, 3)[2], soft.reshape(10, 3))

    def test_binary_head_of_width_one(self):
        features, logits, target = align(torch.zeros(3, 4), torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [0.75]]), 2)
        assert (features.shape, logits.shape) == ((3, 4), (3, 1))
        assert target.tolist() == [[1, 0], [0, 1], [0.25, 0.75]]

    def test_ignored_labels_pass_through(self):
        assert align(torch.zeros(3, 4), torch.zeros(3, 2), torch.tensor([0, -100, 255]), 2)[2].tolist() == [
            0,
            -100,
            255,
        ]

    @pytest.mark.parametrize(
        ("features", "labels"),
        [
            ((4, 8), (5,)),
            ((4, 8), (4, 2)),
            ((4, 8), ()),
            ((4, 7, 8), (4,)),
            ((4, 7, 8), (7, 4)),
            ((4, 7, 8), (28,)),
            ((4, 8), (4, 3, 1)),
        ],
    )
    def test_shapes_that_do_not_belong_together(self, features, labels):
        message = (
            rf"labels, int64 tensor \({', '.join(map(str, labels))},?\), do not belong to features"
            rf" \({', '.join(map(str, features))}\) with 3 classes: expected .*`label=`.*`head=`"
        )
        with pytest.raises(ValueError, match=message):
            align(torch.zeros(features), torch.zeros(*features[:-1], 3), torch.zeros(labels, dtype=torch.long), 3)
