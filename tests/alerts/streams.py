"""Windows of simulated classes for the tests of the rules."""

import torch

from le_callback import SeparationMonitor

K = 5


class Stream:
    """Windows of Gaussian classes in the corners of a simplex; the head reads the first K dimensions."""

    def __init__(self, seed=0, samples=100, spread=0.3):
        self.g = torch.Generator().manual_seed(seed)
        self.monitor, self.samples, self.spread, self.step = SeparationMonitor(num_classes=K), samples, spread, 0

    def window(self, corrupt=0.0, mix=None, scale=1.0, absent=None, nan=False, gap=1.0, still=None):
        y = torch.randint(K, (self.samples,), generator=self.g)
        if absent is not None:
            y = y[y != absent]
        x = torch.cat([gap * torch.eye(K)[y], torch.zeros(len(y), 3)], dim=1)
        x = x + self.spread * torch.randn(x.shape, generator=self.g)
        if still is not None:
            x[y == still] = torch.eye(K, K + 3)[still]
        x = scale * x
        if nan:
            x[0] = torch.nan
        labels = y.clone()
        wrong = torch.rand(len(y), generator=self.g) < corrupt
        labels[wrong] = (y + torch.randint(1, K, y.shape, generator=self.g))[wrong] % K
        if mix is not None:
            either = (y == mix[0]) | (y == mix[1])
            labels[either] = torch.tensor(mix)[torch.randint(2, (int(either.sum()),), generator=self.g)]
        self.step += 50
        self.monitor.update(features=x, logits=8 * x[:, :K], target=labels)
        return self.monitor.close(self.step)


def run(book, stream, windows, **kwargs):
    """The alerts of some windows; no rule may fail on the way."""
    alerts = [alert for _ in range(windows) for alert in book.add(stream.window(**kwargs))]
    assert book.failures == {}
    return alerts
