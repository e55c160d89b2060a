"""A probe sees small gaps and leaves no trace in the training."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from trainings import CLASSES, DIMENSIONS, Classifier, MemoryLogger, blobs, loader, trainer

from le_callback import LECallback
from le_callback.capture.labels import LabelReader
from le_callback.probe.data import gather_probe, probe_batches
from le_callback.probe.probe import Probe, forward_inputs, undisturbed_randomness, untouched
from le_callback.probe.step_response import batch_composition, estimate_step_response, own_growth


class Augmented(Dataset):
    """Draws from three random states for every sample."""

    def __init__(self, n=96):
        self.x, self.y = blobs(n)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        noise = 0.1 * torch.randn(DIMENSIONS) + 0.1 * random.random() + 0.1 * np.random.rand()
        return self.x[i] + noise.float(), self.y[i]


class Normalised(Classifier):
    """Batch norm and dropout."""

    def __init__(self):
        super().__init__(dropout=0.3)
        self.body = nn.Sequential(nn.Linear(DIMENSIONS, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))


PROBES = {
    "tensors": blobs(30, seed=5),
    "dataset": Augmented(30),
    "loader": DataLoader(TensorDataset(*blobs(30, seed=5)), batch_size=7, shuffle=True),
    "number": 4,
}


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("workers", [0, 1])
def test_training_is_bit_identical(kind, workers):
    def trained(**arguments):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        model = Normalised()
        order = torch.Generator().manual_seed(7)
        batches = DataLoader(Augmented(), batch_size=8, shuffle=True, generator=order, num_workers=workers)
        callback = LECallback(summary=False, **arguments)
        trainer(callback, max_epochs=2).fit(model, batches)
        return (
            model.state_dict(),
            (torch.get_rng_state(), order.get_state(), random.getstate(), np.random.get_state()),
            callback,
        )

    plain, states, _ = trained()
    probed, probed_states, callback = trained(probe=PROBES[kind], probe_every_n_steps=3)
    assert all(torch.equal(plain[name], probed[name]) for name in plain)
    assert "1.running_mean" in "".join(plain)
    for before, after in zip(states, probed_states, strict=True):
        assert repr(before) == repr(after)
    assert callback.last_record.coefficients["I_probe_logits"].gamma_reference_time == 0
    assert math.isfinite(callback.last_record.coefficients["I_probe_logits"].G.value)


def test_probe_means_equal_an_evaluation_pass():
    x, y = blobs(40, seed=5)
    model, callback = Normalised(), LECallback(summary=False, probe=(x, y))
    trainer(callback, max_epochs=2, log_every_n_steps=12).fit(model, loader())
    model.eval()
    with torch.no_grad():
        features = model.body(x).double()
        logits = model.head(model.body(x)).double()
    for source, values in (("features", features), ("logits", logits)):
        means = torch.stack([values[y == k].mean(0) for k in range(CLASSES)])
        amplitude = (means - means.mean(0)).square().sum().sqrt().item()
        measured = callback.last_record.coefficients[f"I_probe_{source}"]
        assert measured.amplitude_difference == pytest.approx(amplitude, rel=1e-5)
        assert measured.time == 24


def test_probe_follows_its_own_schedule_and_starts_before_the_first_step():
    callback = LECallback(summary=False, probe=blobs(20, seed=5), probe_every_n_steps=7, every_n_steps=10)
    trainer(callback, max_epochs=2).fit(Classifier(), loader())
    assert callback.trajectory.sources["probe_logits"].times.tolist() == [0, 7, 14, 21]


def test_probe_survives_a_resume():
    """The reading after a resume is the one of the uninterrupted run."""
    whole, logger = LECallback(summary=False, probe=blobs(30, seed=5)), MemoryLogger()
    run = trainer(whole, max_epochs=2, logger=logger)
    model = Classifier(dropout=0)
    run.fit(model, loader())
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    again = LECallback(summary=False, probe=blobs(30, seed=5))
    again.load_state_dict(whole.state_dict())
    other = Classifier(dropout=0)
    other.load_state_dict(saved)
    second = trainer(again, max_epochs=1, log_every_n_steps=6)
    second.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 24
    second.fit(other, loader())
    measured = again.last_record.coefficients["I_probe_logits"]
    assert measured.gamma_reference_time == 0
    assert measured.time == 36


def test_cost_is_reported(capsys):
    trainer(LECallback(probe=5), max_epochs=2).fit(Classifier(), loader())
    assert "ms for the probe" in capsys.readouterr().out


class TestGathering:
    def test_number_of_each_class(self):
        batches = gather_probe(5, LabelReader(), 3, loader(n=600))
        labels = torch.cat([y for _, y in batches])
        assert torch.bincount(labels).tolist() == [5, 5, 5]
        x, y = blobs(600)
        for probe_x, probe_y in batches:
            for row, label in zip(probe_x, probe_y, strict=True):
                matches = (x == row).all(1).nonzero()
                assert len(matches) == 1
                assert y[matches[0, 0]] == label

    def test_dict_batches_and_lists_are_cut_together(self):
        data = [{"x": torch.tensor([float(i)]), "y": i % 2, "name": f"sample {i}"} for i in range(50)]
        batches = gather_probe(3, LabelReader("y"), 2, DataLoader(data, batch_size=4))
        batch = batches[0]
        assert batch["y"].tolist().count(0) == batch["y"].tolist().count(1) == 3
        assert batch["name"] == [f"sample {int(value)}" for value in batch["x"].flatten()]

    def test_class_that_never_appears_is_given_up(self):
        batches = gather_probe(2, LabelReader(), 10, loader(n=2000))
        assert sum(len(y) for _, y in batches) == 6

    @pytest.mark.parametrize("data", ["abc", 3.5, (1, 2)])
    def test_other_types_are_refused(self, data):
        with pytest.raises(TypeError, match="`probe`.*DataLoader, a Dataset, a pair of tensors"):
            probe_batches(data)

    def test_training_data_without_an_index(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield from zip(*blobs(), strict=True)

        with pytest.raises(ValueError, match="cannot be read by index.*probe=\\(inputs, labels\\)"):
            trainer(LECallback(probe=3)).fit(Classifier(), DataLoader(Stream(), batch_size=8))
        trainer(LECallback(probe=Stream(), summary=False)).fit(Classifier(), loader())

    def test_number_with_soft_labels(self):
        x, y = blobs()
        data = DataLoader(TensorDataset(x, nn.functional.one_hot(y).float()), batch_size=8)
        with pytest.raises(ValueError, match="not one a sample"):
            gather_probe(2, LabelReader(), 3, data)

    def test_empty(self):
        with pytest.raises(ValueError, match="it is empty"):
            gather_probe(TensorDataset(torch.zeros(0, 2), torch.zeros(0)), LabelReader())

    @pytest.mark.parametrize(("argument", "value"), [("probe", 0), ("probe_every_n_steps", 0)])
    def test_arguments_out_of_range(self, argument, value):
        with pytest.raises(ValueError, match=f"`{argument}`"):
            LECallback(**{argument: value})


class TestForward:
    def test_head_that_the_forward_pass_does_not_reach(self):
        class TwoPart(Classifier):
            def forward(self, x):
                return self.body(x)

        with pytest.raises(ValueError, match="`probe_forward=`"), pytest.warns(UserWarning, match="not called"):
            trainer(LECallback(head="head", probe=4)).fit(TwoPart(), loader())
        callback = LECallback(probe=4, summary=False, probe_forward=lambda m, batch: m.head(m.body(batch[0])))
        trainer(callback).fit(TwoPart(), loader())
        assert math.isfinite(callback.last_record.coefficients["I_probe_logits"].amplitude_difference)

    def test_module_without_forward(self):
        class Bare(Classifier):
            forward = nn.Module.forward

        with pytest.raises(ValueError, match="could not be passed through Bare.*`probe_forward=`"):
            trainer(LECallback(probe=4)).fit(Bare(), loader())

    def test_inputs_of_a_batch(self):
        x, y = torch.zeros(4, 2), torch.zeros(4)
        assert forward_inputs(lambda v: v, (x, y), y) is x
        assert forward_inputs(lambda v: v, [y, x], y) is x
        assert forward_inputs(lambda v: v, {"digit": y, "pixels": x}, y) is x
        both = forward_inputs(lambda v: v, {"a": x, "b": x, "digit": y}, y)
        assert both.keys() == {"a", "b"}

    def test_states_are_restored_after_an_exception(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        model[1].eval()
        states = repr((torch.get_rng_state(), random.getstate(), np.random.get_state()))
        with pytest.raises(ZeroDivisionError), untouched(model):
            torch.rand(1), random.random(), np.random.rand()
            _ = 1 / 0
        assert [m.training for m in model.modules()] == [True, True, False]
        assert repr((torch.get_rng_state(), random.getstate(), np.random.get_state())) == states

    def test_draws_inside_are_the_same_every_time(self):
        draws = []
        for _ in range(2):
            with undisturbed_randomness():
                draws.append((torch.rand(1).item(), random.random(), np.random.rand()))
            torch.rand(5)
        assert draws[0] == draws[1]

    def test_a_reading_that_fails_is_told_once(self):
        calls = []

        def forward(module, batch):
            calls.append(1)
            if len(calls) > 3:
                raise RuntimeError("no more")
            module(batch[0])

        run = trainer(LECallback(probe=blobs(20), probe_forward=forward, summary=False))
        with pytest.warns(UserWarning, match="probe could not be read.*no more"):
            run.fit(Classifier(), loader())
        assert run.global_step == 24


class TestInfluence:
    def test_a_step_is_measured_as_two_models_show_it(self):
        """Means before and after each observed step, from copies of the model, and the labels of its batches."""
        x, y = blobs(60, seed=5)
        observed = []

        class Copying(Classifier):
            def means(self):
                state = self.training, torch.get_rng_state()
                self.eval()
                with torch.no_grad():
                    z = self(x).double()
                self.train(state[0])
                torch.set_rng_state(state[1])
                return torch.stack([z[y == k].mean(0) for k in range(CLASSES)])

            def on_train_batch_start(self, batch, batch_idx):
                if batch_idx % 4 == 0:
                    self.before = self.means()

            def on_train_batch_end(self, outputs, batch, batch_idx):
                if batch_idx % 4 == 0:
                    m = self.before - self.before.mean(0)
                    after = self.means()
                    change = after - after.mean(0) - m
                    observed.append((torch.bincount(batch[1], minlength=3) / 8, (change * m).sum(1) / (m * m).sum(1)))

        callback = LECallback(probe=(x, y), probe_every_n_steps=4, summary=False)
        trainer(callback, max_epochs=4).fit(Copying(dropout=0), loader())
        kept = callback.monitor.probe.step_response["logits"]._steps
        assert len(kept) == len(observed) == 12
        for (composition, growth), (expected_composition, expected_growth) in zip(kept, observed, strict=True):
            assert composition == pytest.approx(expected_composition.tolist())
            assert growth == pytest.approx(expected_growth.tolist(), rel=1e-3, abs=1e-5)
        assert math.isfinite(callback.last_record.step_response["logits"].gamma.value)
        assert "measured γ" in callback.summary_table()

    def test_accumulated_batches_count_together(self):
        callback = LECallback(probe=blobs(30), probe_every_n_steps=2, summary=False)
        trainer(callback, accumulate_grad_batches=3, log_every_n_steps=2).fit(Classifier(), loader())
        _, y = blobs()
        composition, _ = callback.monitor.probe.step_response["features"]._steps[0]  # the first step: batches 1 to 3
        assert composition == pytest.approx((torch.bincount(y[:24], minlength=3) / 24).tolist())

    def test_intervals_cover(self):
        """1,000 sets of 30 steps with errors shared by the classes of a step: 95 % intervals cover in 93 to 97 %.

        Four standard errors of the coverage are 2.8 %, so that a right interval fails this in less than 1 of 10 seeds.
        """
        rng = np.random.default_rng(0)
        K, M, a, b = 4, 30, 0.02, -0.005
        covered = np.zeros(3)
        for _ in range(1000):
            c = rng.multinomial(8, np.full(K, 1 / K), size=M) / 8
            growth = a * c + b * (1 - c) + 0.004 * rng.normal(size=(M, 1)) + 0.004 * rng.normal(size=(M, K))
            found = estimate_step_response(c, growth)
            for i, (e, truth) in enumerate(((found.intra, a), (found.inter, b), (found.gamma, a + (K - 1) * b))):
                covered[i] += e.low <= truth <= e.high
        assert (covered >= 930).all(), covered
        assert (covered <= 970).all(), covered

    def test_growth_of_an_i_model(self):
        """A step of the LE-ODE of the I-model from a simplex ETF with composition c."""
        K, alpha, beta = 4, 1e-4, 4e-5
        before = torch.eye(K, dtype=torch.float64) - 1 / K
        rng, compositions, growths = np.random.default_rng(1), [], []
        for _ in range(20):
            c = rng.dirichlet(np.ones(K))
            E = np.where(np.eye(K, dtype=bool), alpha, beta) * c
            after = before + torch.from_numpy(E) @ before
            compositions.append(c)
            growths.append(own_growth(before, after).numpy())
        found = estimate_step_response(np.array(compositions), np.array(growths))
        centre = (alpha + (K - 1) * beta) / K
        assert found.intra.value == pytest.approx(alpha - centre, rel=1e-6)
        assert found.inter.value == pytest.approx((centre - beta) / (K - 1), rel=1e-6)
        assert found.gamma.value == pytest.approx(alpha - beta, rel=1e-6)

    def test_too_few_steps_or_always_the_same_batch(self):
        growth = np.ones((20, 3))
        assert math.isnan(estimate_step_response(np.full((20, 3), 1 / 3), growth).gamma.value)
        assert math.isnan(estimate_step_response(np.eye(3)[[0] * 5], growth[:5]).intra.value)

    def test_classes_missing_in_the_probe_are_left_out(self):
        c = np.eye(3)[[0, 1, 2] * 5]
        growth = np.where(np.arange(3) == 2, np.nan, 0.3 * c - 0.1 * (1 - c))
        assert estimate_step_response(c, growth).intra.value == pytest.approx(0.3)

    def test_weights_of_a_batch(self):
        assert batch_composition(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), 2).tolist() == [1.25, 0.75]
        assert batch_composition(torch.tensor([0, 5, -1, 1, 1]), 2).tolist() == [1, 2]


def test_state_of_a_probe():
    probe = Probe(blobs(20), LabelReader())
    probe.observe_next_step({}, 3)
    probe.add_batch(torch.tensor([0, 0, 2]))
    other = Probe(blobs(20), LabelReader())
    other.load_state_dict(probe.state_dict(), "cpu")
    assert other.observing
    assert other.observed()[0].tolist() == [2, 0, 1]
    assert other.observed() is None
    other.load_state_dict({}, "cpu")


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(2), torch.tensor(1)


@pytest.mark.parametrize("data", [Endless(), DataLoader(Endless(), batch_size=10)])
def test_an_endless_probe_is_cut_and_that_is_told(monkeypatch, data):
    monkeypatch.setattr("le_callback.probe.data.MAX_SAMPLES", 500)
    with pytest.warns(UserWarning, match="the probe holds more than 500 samples, or never ends; the first 5"):
        batches = gather_probe(data, LabelReader())
    assert 500 <= sum(len(labels) for _, labels in batches) < 500 + 256


def test_a_probe_of_just_as_many_samples_as_may_be_is_not_cut(monkeypatch, recwarn):
    monkeypatch.setattr("le_callback.probe.data.MAX_SAMPLES", 6)
    batches = gather_probe(TensorDataset(torch.zeros(6, 2), torch.zeros(6)), LabelReader())
    assert [len(labels) for _, labels in batches] == [6]
    assert not recwarn


def test_a_guess_that_the_loss_contradicts_is_refused_with_the_argument_that_settles_it():
    """The probe is passed through the model before a loss is seen, and the last layer that fits is none of its."""

    class TwoHeads(Classifier):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Linear(8, CLASSES)

        def forward(self, x):
            features = self.body(x)
            return self.head(features), self.other(features)

    with pytest.raises(ValueError, match=r"taken for `other` when the probe.*that of `head`.*`head="):
        trainer(LECallback(summary=False, probe=4)).fit(TwoHeads(), loader())
    callback = LECallback(summary=False, probe=4, head="head")
    trainer(callback).fit(TwoHeads(), loader())
    assert math.isfinite(callback.last_record.coefficients["I_probe_logits"].G.value)
