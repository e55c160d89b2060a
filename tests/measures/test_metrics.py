"""The metrics against the definitions, and as metrics are used."""

import math
import pickle

import numpy as np
import pytest
import torch
from collapse_oracles import collapse
from torch import nn
from torchmetrics import MetricCollection

from le_callback.measures import ETFAngles, NeuralCollapse, etf_angles

SMALL = 1e-5  # relative


def samples(K, p, width=1.0, dtype=torch.float32, seed=0, per_class=6, offset=3.0):
    """Classes 0, 2, 4, …: of the first a single sample, of the others up to ``per_class``."""
    g = torch.Generator().manual_seed(seed)
    counts = [1] + [2 + k % (per_class - 1) for k in range(1, K)]
    y = torch.repeat_interleave(torch.arange(K), torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=g)]
    centres = torch.randn(K, p, generator=g, dtype=torch.float64) + offset
    x = centres[y] + width * torch.randn(len(y), p, generator=g, dtype=torch.float64)
    return x.to(dtype), 2 * y


def filled(K, p, x, y, head=None, out=None, pieces=1, **kwargs):
    metric = NeuralCollapse(2 * K, p, **kwargs)
    if head is not None:
        metric.set_head(head)
    for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
        metric.update(a, b)
    if out is not None:
        metric.update_out(out)
    return metric


@pytest.mark.parametrize("width", [1.0, 1e-2, 3e-5], ids=["random", "near", "nearly collapsed"])
@pytest.mark.parametrize(("K", "p"), [(2, 4), (3, 2), (5, 7), (9, 4), (12, 30)])
def test_every_measure_is_its_definition(K, p, width):
    """K = p + 1 and K > p + 1, classes that are unseen or have one sample; within over between down to 1e-8."""
    x, y = samples(K, p, width, seed=K)
    head = nn.Linear(p, 2 * K)
    out = torch.randn(20, p, generator=torch.Generator().manual_seed(9))
    found = filled(K, p, x, y, head, out).compute()
    said = head(x).argmax(1).tolist()
    expected = collapse(x, y, head.weight.detach(), said, out)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # an exact 0 or 180 degrees, and what is 0 for two classes, are hit up to the root of the rounding
        assert found[name].item() == pytest.approx(value, rel=SMALL, abs=3e-6 if K == 2 else 1e-12), name
    if width == 3e-5:
        assert expected["nc1_trace"] < 1e-8


@pytest.mark.parametrize(("K", "p"), [(2, 4), (4, 6), (6, 3)])
def test_exactly_collapsed(K, p):
    x, y = samples(K, p, width=0.0)
    found, expected = filled(K, p, x, y).compute(), collapse(x, y)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=SMALL, abs=1e-6 if name[:3] != "nc1" else 1e-14), name


def test_a_simplex_etf_with_its_own_head_has_collapsed():
    K = 5
    means = (torch.eye(K) - 1 / K).double()
    x, y = means.repeat_interleave(3, 0), torch.arange(K).repeat_interleave(3)
    metric = NeuralCollapse(K, K)
    head = nn.Linear(K, K).double()
    head.weight.data, head.bias.data = 7 * means + 2, torch.zeros(K, dtype=torch.float64)
    metric.set_head(head)
    metric.update(x, y)
    metric.update_out(torch.ones(4, K))
    found = {name: value.item() for name, value in metric.compute().items()}
    zero = (
        "nc1",
        "nc1_trace",
        "nc1_cdnv",
        "nc2_angle_deviation",
        "nc2_etf_error",
        "nc2_uniformity",
        "nc3_duality",
        "nc5",
    )
    assert {name: found[name] for name in zero} == pytest.approx(dict.fromkeys(zero, 0.0), abs=1e-7)
    assert found["nc2_norm_variation"] == pytest.approx(0, abs=1e-12)
    one = ("nc2_cosine_excess", "nc3_cosine", "nc4")
    assert {name: found[name] for name in one} == pytest.approx(dict.fromkeys(one, 1.0))
    assert (found["effective_rank"], found["stable_rank"]) == pytest.approx((K - 1, K - 1))


def test_the_bias_of_the_head_counts():
    """Without it the head would say what the nearest mean says."""
    x, y = torch.tensor([[-1.0], [-1.1], [1.0], [1.1]]), torch.tensor([0, 0, 1, 1])
    head = nn.Linear(1, 2)
    head.weight.data, head.bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.0, 9.0])
    metric = NeuralCollapse(2, 1)
    metric.set_head(head)
    metric.update(x, y)
    assert metric.compute()["nc4"] == 0.5
    by_logits = NeuralCollapse(2, 1)
    by_logits.update(x, y, logits=head(x))
    assert by_logits.compute()["nc4"] == 0.5


@pytest.mark.parametrize("kept", [1024, 40])
def test_parts_merged_in_any_order_are_the_whole(kept):
    K, p = 5, 7
    x, y = samples(K, p, 1e-3, per_class=30)
    head = nn.Linear(p, 2 * K)
    whole = filled(K, p, x, y, head, samples=kept).compute()
    g = torch.Generator().manual_seed(1)
    for _ in range(3):
        order = torch.randperm(len(y), generator=g)
        parts = [filled(K, p, x[r], y[r], head, pieces=2, samples=kept) for r in order.chunk(4)]
        first, *others = [parts[i] for i in torch.randperm(4, generator=g)]
        for other in others:
            first.merge_state(other)
        assert_close(first.compute(), whole)


def assert_close(found, expected, rel=1e-9):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=rel, abs=1e-12, nan_ok=True), name


def test_batches_are_the_whole_and_forward_gives_that_of_the_batch():
    x, y = samples(4, 5, per_class=12)
    metric = NeuralCollapse(8, 5)
    batches = list(zip(x.chunk(3), y.chunk(3), strict=True))
    for a, b in batches:
        of_batch = metric(a, b)
        assert_close(of_batch, filled(4, 5, a, b).compute())
    assert_close(metric.compute(), filled(4, 5, x, y).compute())
    metric.reset()
    assert math.isnan(metric.compute()["nc1"])
    metric.update(x, y)
    assert_close(metric.compute(), filled(4, 5, x, y).compute())


def test_copies_pickles_and_other_precisions():
    x, y = samples(4, 5, 1e-2)
    metric = filled(4, 5, x, y, nn.Linear(5, 8))
    expected = metric.compute()
    assert_close(pickle.loads(pickle.dumps(metric)).compute(), expected)
    copied = metric.clone()
    copied.update(x + 1, y)
    assert_close(metric.compute(), expected)
    metric._computed = None
    assert_close(metric.to("cpu").float().compute(), expected)
    single = metric.set_dtype(torch.float32)
    single._computed = None
    assert single.compute()["nc1"].dtype == torch.float32
    assert_close(single.compute(), expected, rel=0.05)


def test_states_are_in_a_state_dict_only_where_asked():
    x, y = samples(4, 5)
    module = nn.Module()
    module.metric = filled(4, 5, x, y, nn.Linear(5, 8))
    assert not module.state_dict()
    module.metric.persistent(True)
    saved = module.state_dict()
    other = NeuralCollapse(8, 5)
    other.set_head(module.metric.head)
    other.persistent(True)
    other.load_state_dict({name.removeprefix("metric."): value for name, value in saved.items()})
    assert_close(other.compute(), module.metric.compute())


def test_in_a_collection():
    x, y = samples(4, 5, per_class=12)
    metrics = MetricCollection(
        {"etf": ETFAngles(8, 5), "collapse": NeuralCollapse(8, 5), "two": ETFAngles(8, 5, [0, 2])}
    )
    for a, b in zip(x.chunk(2), y.chunk(2), strict=True):
        metrics.update(features=a, target=b)
    found = metrics.compute()
    expected = collapse(x, y)
    assert found["collapse_nc1"].item() == pytest.approx(expected["nc1"], rel=SMALL)
    assert found["etf_angle_deviation"].item() == pytest.approx(expected["nc2_angle_deviation"], rel=SMALL)
    assert found["two_angle_mean"].item() == pytest.approx(180)


def test_classes_that_are_chosen_stand_alone():
    x, y = samples(6, 5, per_class=12)
    chosen = NeuralCollapse(12, 5, classes=(4, 2, 8))
    chosen.update(x, y)
    mine = torch.isin(y, torch.tensor([2, 4, 8]))
    assert_close(chosen.compute(), filled(6, 5, x[mine], y[mine]).compute())
    weights = nn.functional.one_hot(y, 12).double()
    soft = NeuralCollapse(12, 5, classes=(4, 2, 8))
    soft.update(x, weights)
    assert_close(soft.compute(), chosen.compute())
    with pytest.raises(ValueError, match=r"`classes` to be at least two of 0 to 11, but got \[3\]"):
        ETFAngles(12, 5, classes=[3])


def test_bad_samples_count_nowhere():
    x, y = samples(4, 5)
    bad = torch.full((2, 5), math.nan), torch.zeros(2, 5)
    metric = NeuralCollapse(8, 5, ignore_index=7)
    metric.update(torch.cat([x, *bad]), torch.cat([y, torch.tensor([0, 2, 99, 7])]))
    assert_close(metric.compute(), filled(4, 5, x, y).compute())


def test_nothing_is_known_of_one_class_and_a_head_has_to_fit():
    metric = NeuralCollapse(3, 2)
    metric.update(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
    assert all(math.isnan(value) for value in metric.compute().values())
    assert ETFAngles(3, 2).angles() is None
    with pytest.raises(ValueError, match="`head` to be a linear layer of 2 features and 3 classes"):
        metric.set_head(nn.Linear(3, 3))


def test_the_worst_pair_has_its_classes():
    x, y = samples(6, 5)
    metric = ETFAngles(12, 5)
    metric.update(x, y)
    means = torch.stack([x[y == 2 * k].double().mean(0) for k in range(6)])
    expected = etf_angles(means, range(0, 12, 2))
    assert metric.angles().pair == expected.pair
    assert metric.angles().near[0][2] == pytest.approx(expected.smallest)


def test_values_can_be_drawn():
    x, y = samples(4, 5)
    metric = NeuralCollapse(8, 5)
    values = [metric(x, y), metric(x, y)]
    _, axes = metric.plot(values)
    assert {line.get_label() for line in axes.get_lines()} >= {"nc1", "nc2_angle_deviation"}
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [v["nc1"].item() for v in values])


def in_process(rank, folder):
    """One of two processes, each with half of the samples."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x, y = samples(4, 5, 1e-2, per_class=12)
    torch.manual_seed(0)
    metric = filled(4, 5, x[rank::2], y[rank::2], nn.Linear(5, 8), x[rank : rank + 1] + 1, samples=20)
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    torch.multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    x, y = samples(4, 5, 1e-2, per_class=12)
    torch.manual_seed(0)
    expected = filled(4, 5, x, y, nn.Linear(5, 8), x[:2] + 1, samples=20).compute()
    for rank in range(2):
        assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)
    assert not any(math.isnan(value) for value in expected.values())
