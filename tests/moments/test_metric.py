"""The metric in modules, and in collections with others."""

import torch
from torchmetrics import MetricCollection

from le_callback.moments import ClassMoments

K, P = 4, 3


class TestCollections:
    """``ClassMoments`` in modules and in collections."""

    def test_a_module_state_holds_nothing_of_it(self):
        module = torch.nn.Linear(2, 2)
        names = list(module.state_dict())
        module.moments = ClassMoments(K, P, reference=torch.ones(K, P))
        assert list(module.state_dict()) == names
        module.load_state_dict({name: torch.zeros_like(x) for name, x in module.state_dict().items()})

    def test_a_state_that_was_asked_for_continues_elsewhere(self):
        x, y = torch.randn(20, P, generator=torch.Generator().manual_seed(0)), torch.arange(20) % K
        first, second = ClassMoments(K, P, reference=x[:K]), ClassMoments(K, P)
        first.persistent(True)
        second.persistent(True)
        first.update(x, y)
        second.load_state_dict(first.state_dict())
        second.update(x + 1, y)
        both = ClassMoments(K, P)
        both.update(torch.cat([x, x + 1]), torch.cat([y, y]))
        torch.testing.assert_close(second.compute().mean, both.compute().mean)
        torch.testing.assert_close(second.compute().variance, both.compute().variance)
        first.persistent(False)
        assert not first.state_dict()

    def test_metrics_that_agree_on_the_first_batch_stay_apart(self):
        """No sample of the first batch has the label that one of them leaves out."""
        x = torch.tensor([[1.0], [3.0], [5.0], [9.0]])
        metrics = MetricCollection({"all": ClassMoments(2, 1), "without": ClassMoments(2, 1, ignore_index=1)})
        metrics.update(x[:2], torch.tensor([0, 0]))
        metrics.update(x[2:], torch.tensor([1, 0]))
        found = metrics.compute()
        assert found["all"].weight.tolist() == [3, 1]
        assert found["without"].weight.tolist() == [3, 0]

    def test_metrics_of_other_features_stay_apart(self):
        """The features of one are twice those of the other, which shows from the second batch on."""

        class Doubled(ClassMoments):
            def update(self, features, target):
                super().update(2 * features, target)

        metrics = MetricCollection({"once": ClassMoments(2, 1), "twice": Doubled(2, 1)})
        for value in (0.0, 1.0):
            metrics.update(torch.full((4, 1), value), torch.tensor([0, 0, 1, 1]))
        found = metrics.compute()
        assert (found["once"].mean[0].item(), found["twice"].mean[0].item()) == (0.5, 1.0)

    def test_reset_and_forward_keep_them_apart(self):
        first, second = ClassMoments(2, 1), ClassMoments(2, 1)
        mark = first.instance.clone()
        assert not torch.equal(mark, second.instance)
        first(torch.zeros(2, 1), torch.tensor([0, 1]))
        first.merge_state(second)
        assert torch.equal(first.instance, mark)
        first.reset()
        assert torch.equal(first.instance, mark)
