"""Loops of every kind. The classifier in them is plain."""

import torch
from kinds.frame import Kinds, Module, body, pairs
from torch import nn
from torch.nn import functional as fn
from torch.utils.checkpoint import checkpoint

KINDS = Kinds()


class Looped(Module):
    def step_loss(self, batch):
        x, y = batch
        features = self.body(x)
        logits = self.head(features)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)

    def training_step(self, batch, batch_idx):
        return self.step_loss(batch)


class Manual(Looped):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


@KINDS.found("gradient accumulation", batches=8, settings={"accumulate_grad_batches": 2, "max_epochs": 2})
class Accumulation(Looped):
    pass


@KINDS.found("two optimizers, manual", batches=2)
class TwoOptimizers(Manual):
    def training_step(self, batch, batch_idx):
        self.manual_backward(self.step_loss(batch))
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.body, self.head)]


@KINDS.found("sharpness-aware: the second, disturbed pass is measured")
class Sharpness(Manual):
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        self.manual_backward(self.step_loss(batch))
        self.seen.pop()
        parameters = [p for p in self.parameters() if p.grad is not None]
        moves = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in parameters]
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        self.manual_backward(self.step_loss(batch))
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p.sub_(move)
        optimizer.step()
        optimizer.zero_grad()


@KINDS.found("closures of LBFGS: the last evaluation is measured")
class Closures(Looped):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        del self.seen[batch_idx:-1]

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


@KINDS.found("activation checkpointing")
class Checkpointed(Looped):
    def build(self):
        super().build()
        self.body[2].p = 0.0

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = checkpoint(self.body, x, use_reentrant=False)
        logits = checkpoint(self.head, features, use_reentrant=False)
        self.see(features, logits, y)
        return fn.cross_entropy(logits, y)


@KINDS.found("validation inside the step")
class ValidationInside(Looped):
    """A later pass without gradients does not replace that of the training."""

    def training_step(self, batch, batch_idx):
        loss = self.step_loss(batch)
        with torch.no_grad():
            held_out, y = batch[0].flip(0) + 0.5, batch[1].flip(0)
            self.log("inside", fn.cross_entropy(self.head(self.body(held_out)), y))
        return loss


@KINDS.found("accuracy on the same batch in evaluation mode, after the loss")
class AccuracyInside(Looped):
    def training_step(self, batch, batch_idx):
        loss = self.step_loss(batch)
        with torch.inference_mode():
            self.eval()
            guess = self.head(self.body(batch[0])).argmax(1)
            self.train()
        self.log("right", (guess == batch[1]).float().mean())
        return loss


@KINDS.found("gradient penalty on the inputs")
class Penalty(Looped):
    def training_step(self, batch, batch_idx):
        x = batch[0].clone().requires_grad_()
        loss = self.step_loss((x, batch[1]))
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        return loss + 0.1 * gradient.pow(2).sum(1).mean()


@KINDS.found("adversarial training: attack first, then the step")
class Attacked(Looped):
    """The attack computes the same loss on the clean samples."""

    def training_step(self, batch, batch_idx):
        x = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(fn.cross_entropy(self.head(self.body(x)), batch[1]), x)
        return self.step_loss((x.detach() + 0.1 * gradient.sign(), batch[1]))


@KINDS.found("loss in a dict beside other things")
class Returned(Looped):
    def training_step(self, batch, batch_idx):
        return {"loss": self.step_loss(batch), "size": len(batch[0])}


@KINDS.found("loss in forward, which is given the labels")
class LossInForward(Looped):
    def forward(self, x, labels=None):
        features = self.body(x)
        logits = self.head(features)
        if labels is None:
            return None, logits
        self.see(features, logits, labels)
        return fn.cross_entropy(logits, labels), logits

    def training_step(self, batch, batch_idx):
        return self(batch[0], labels=batch[1])[0]


class Network(nn.Module):
    """A network of a library: the Lightning module only wraps it."""

    def __init__(self):
        super().__init__()
        self.backbone, self.classifier = body(), nn.Linear(8, 3)

    def forward(self, x):
        return self.classifier(self.backbone(x))


@KINDS.found("a network inside the module, loss as a metric")
class Wrapped(Looped):
    def build(self):
        self.net, self.criterion = Network(), nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        kept = {}
        hook = self.net.classifier.register_forward_hook(lambda m, args, out: kept.update(x=args[0], out=out))
        logits = self.net(x)
        hook.remove()
        self.see(kept["x"], kept["out"], y)
        return self.criterion(logits, y)


@KINDS.found("a step that is left out now and then")
class LeftOut(Looped):
    """Lightning leaves out a batch whose step returns None; there is no optimizer step, but the samples count."""

    def training_step(self, batch, batch_idx):
        loss = self.step_loss(batch)
        return None if batch_idx == 1 else loss


@KINDS.found("a first batch that is None", data=lambda: Gappy())
class FirstEmpty(Looped):
    def training_step(self, batch, batch_idx):
        return None if batch is None else self.step_loss(batch)


class Gappy:
    """A loader that has nothing in its first batch."""

    def __iter__(self):
        yield None
        yield from pairs()


@KINDS.found("the head is frozen, the body is trained")
class FrozenHead(Looped):
    def build(self):
        super().build()
        self.head.requires_grad_(False)


@KINDS.found("a metric of another number of classes in the module")
class OtherMetric(Looped):
    def build(self):
        super().build()
        self.top = nn.Module()
        self.top.num_classes = 8
