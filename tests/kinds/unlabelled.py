"""No classification. Most have labels in their batches; the callback says why it measures nothing."""

import copy

import torch
from kinds.frame import HIDDEN, Kinds, Module, batches_of, body, images, remade, sequences
from torch import nn
from torch.nn import functional as fn
from trainings import CLASSES, DIMENSIONS, blobs

KINDS = Kinds()


@KINDS.nothing("autoencoder", "mse_loss")
class Autoencoder(Module):
    def build(self):
        self.encoder, self.decoder = body(), nn.Linear(HIDDEN, DIMENSIONS)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        return fn.mse_loss(self.decoder(self.encoder(x)), x)


@KINDS.refused("autoencoder of pixels between 0 and 1", "binary_cross_entropy", data=lambda: batches_of(*images()))
class Pixels(Module):
    def build(self):
        self.encoder, self.decoder = body(16), nn.Linear(HIDDEN, 16)

    def training_step(self, batch, batch_idx):
        x = batch[0].flatten(1).sigmoid()
        return fn.binary_cross_entropy(self.decoder(self.encoder(x)).sigmoid(), x)


@KINDS.nothing("variational autoencoder", "mse_loss")
class Variational(Module):
    def build(self):
        self.encoder, self.decoder = nn.Linear(DIMENSIONS, 4), nn.Linear(2, DIMENSIONS)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        prior = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
        return fn.mse_loss(self.decoder(z), x) + 0.01 * prior


@KINDS.nothing("adversarial networks", "binary_cross_entropy_with_logits")
class Adversarial(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def build(self):
        self.generator, self.critic = nn.Linear(2, DIMENSIONS), nn.Sequential(body(), nn.Linear(HIDDEN, 1))

    def training_step(self, batch, batch_idx):
        x, _ = batch
        of_generator, of_critic = self.optimizers()
        made = self.generator(torch.randn(len(x), 2))
        real, fake = self.critic(x), self.critic(made.detach())
        loss = fn.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        loss = loss + fn.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        of_critic.zero_grad()
        self.manual_backward(loss)
        of_critic.step()
        judged = self.critic(made)
        of_generator.zero_grad()
        self.manual_backward(fn.binary_cross_entropy_with_logits(judged, torch.ones_like(judged)))
        of_generator.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.generator, self.critic)]


@KINDS.nothing("adversarial networks, Wasserstein")
class Wasserstein(Module):
    def build(self):
        self.critic = nn.Sequential(body(), nn.Linear(HIDDEN, 1))

    def training_step(self, batch, batch_idx):
        return self.critic(torch.randn_like(batch[0])).mean() - self.critic(batch[0]).mean()


@KINDS.nothing("diffusion", "mse_loss")
class Diffusion(Module):
    def build(self):
        self.body, self.head, self.kinds = body(), nn.Linear(HIDDEN, DIMENSIONS), nn.Embedding(CLASSES, DIMENSIONS)

    def training_step(self, batch, batch_idx):
        x, y = batch
        noise = torch.randn_like(x)
        return fn.mse_loss(self.head(self.body(0.7 * x + 0.7 * noise + self.kinds(y))), noise)


@KINDS.nothing("regression", "mse_loss", data=lambda: remade(lambda x, y: (x, x.mean(1))))
class Regression(Module):
    def build(self):
        self.body, self.hidden, self.head = body(), nn.Linear(HIDDEN, 64), nn.Linear(64, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return fn.mse_loss(self.head(self.hidden(self.body(x)).relu()).squeeze(1), y)


@KINDS.nothing("regression of whole numbers", "l1_loss", data=lambda: remade(lambda x, y: (x, y)))
class Counts(Regression):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return fn.l1_loss(self.head(self.hidden(self.body(x)).relu()).squeeze(1), y.float())


@KINDS.nothing("regression of several values", "huber_loss", data=lambda: remade(lambda x, y: (x, x[:, :3].abs())))
class Values(Module):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return fn.huber_loss(self.head(self.body(x)), y)


@KINDS.nothing("counts with a Poisson loss", "poisson_nll_loss")
class Poisson(Regression):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return fn.poisson_nll_loss(self.head(self.hidden(self.body(x)).relu()).squeeze(1), y.float())


@KINDS.nothing("regression with a normal distribution", "gaussian_nll_loss")
class Gaussian(Regression):
    def training_step(self, batch, batch_idx):
        x, y = batch
        mean = self.head(self.hidden(self.body(x)).relu()).squeeze(1)
        return fn.gaussian_nll_loss(mean, y.float(), torch.ones_like(mean))


def transitions():
    x, y = blobs()
    return batches_of(x, y, x.mean(1), x.roll(1, 0), (x[:, 0] > 2).float())


@KINDS.nothing("Q-learning", "smooth_l1_loss", data=transitions)
class QLearning(Module):
    """The actions of the batch look like labels."""

    def training_step(self, batch, batch_idx):
        state, action, reward, following, over = batch
        value = self.head(self.body(state)).gather(1, action[:, None]).squeeze(1)
        with torch.no_grad():
            best = self.head(self.body(following)).max(1).values
        return fn.smooth_l1_loss(value, reward + 0.9 * (1 - over) * best)


@KINDS.nothing("SimCLR", "cross_entropy", data=lambda: remade(lambda x, y: ((x, x + 0.1), y)))
class SimCLR(Module):
    """The targets of the loss are the places in the batch."""

    def build(self):
        self.body, self.projection = body(), nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 8))

    def training_step(self, batch, batch_idx):
        (one, two), _ = batch
        z = fn.normalize(torch.cat([self.projection(self.body(view)) for view in (one, two)]))
        alike = (z @ z.T / 0.5).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        return fn.cross_entropy(alike, (torch.arange(len(z)) + len(one)) % len(z))


@KINDS.nothing("CLIP: pictures and texts", "cross_entropy", data=lambda: remade(lambda x, y: (x, x.flip(1))))
class Pairs(Module):
    def build(self):
        self.left, self.right = body(out=8), body(out=8)
        self.projection = nn.Linear(8, 8)

    def training_step(self, batch, batch_idx):
        a, b = self.projection(self.left(batch[0])), self.projection(self.right(batch[1]))
        alike, own = fn.normalize(a) @ fn.normalize(b).T * 4, torch.arange(len(a))
        return (fn.cross_entropy(alike, own) + fn.cross_entropy(alike.T, own)) / 2


@KINDS.nothing("BYOL")
class Bootstrap(Module):
    def build(self):
        self.online, self.predictor = body(), nn.Linear(HIDDEN, HIDDEN)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        with torch.no_grad():
            aim = self.target(x + 0.1)
        return 2 - 2 * fn.cosine_similarity(self.predictor(self.online(x)), aim).mean()


@KINDS.nothing("Barlow twins")
class Barlow(Module):
    def build(self):
        self.body, self.projection = body(), nn.Linear(HIDDEN, CLASSES)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        a, b = self.projection(self.body(x)), self.projection(self.body(x + 0.1))
        return ((a.T @ b / len(x) - torch.eye(CLASSES)) ** 2).sum()


@KINDS.nothing("triplet loss", "triplet_margin_loss")
class Triplet(Module):
    """Labels choose the triplets."""

    def build(self):
        self.body, self.embedding = body(), nn.Linear(HIDDEN, 4)

    def training_step(self, batch, batch_idx):
        x, y = batch
        z = self.embedding(self.body(x))
        alike = y[:, None] == y
        near, far = alike.float().argmax(1), (~alike).float().argmax(1)
        return fn.triplet_margin_loss(z, z[near], z[far])


@KINDS.nothing("twins: are two samples of one class", "cosine_embedding_loss", data=lambda: twins())
class Siamese(Module):
    def build(self):
        self.body, self.embedding = body(), nn.Linear(HIDDEN, 2)

    def training_step(self, batch, batch_idx):
        left, right, alike = batch
        a, b = self.embedding(self.body(left)), self.embedding(self.body(right))
        return fn.cosine_embedding_loss(a, b, 2 * alike - 1)


def twins():
    x, y = blobs()
    return batches_of(x, x.roll(1, 0), (y == y.roll(1)).long())


@KINDS.nothing("survival: proportional hazards", data=lambda: remade(lambda x, y: (x, (y > 0).long(), x[:, 0].exp())))
class Hazards(Module):
    """Whether the event was seen is no class."""

    def build(self):
        self.body, self.risk = body(), nn.Linear(HIDDEN, 1)

    def training_step(self, batch, batch_idx):
        x, event, time = batch
        risk = self.risk(self.body(x)).squeeze(1)[time.argsort(descending=True)]
        event = event[time.argsort(descending=True)]
        return -((risk - risk.logcumsumexp(0)) * event).sum() / len(x)


@KINDS.nothing("turned pictures: the labels are made in the step", "cross_entropy", data=lambda: batches_of(*images()))
class Rotation(Module):
    def build(self):
        self.body, self.head = body(16), nn.Linear(HIDDEN, 4)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        turns = torch.arange(len(x)) * 3 % 4
        turned = torch.stack([torch.rot90(part, int(k), (1, 2)) for part, k in zip(x, turns, strict=True)])
        return fn.cross_entropy(self.head(self.body(turned.flatten(1))), turns)


@KINDS.found("policy gradient", data=transitions)
class Policy(Module):
    """The actions count as labels: the loss is a cross-entropy, written by hand and weighted."""

    def training_step(self, batch, batch_idx):
        state, action, reward, *_ = batch
        features = self.body(state)
        logits = self.head(features)
        self.see(features, logits, action)
        chances = logits.softmax(1).clamp(min=1e-3)
        return -0.1 * (chances.gather(1, action[:, None]).squeeze(1).log() * reward).mean()


@KINDS.nothing("self-distillation (DINO)")
class SelfDistillation(Module):
    def build(self):
        self.student = nn.Sequential(body(), nn.Linear(HIDDEN, 16))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        with torch.no_grad():
            aim = fn.softmax(self.teacher(x) / 0.5, dim=1)
        return -(aim * fn.log_softmax(self.student(x + 0.1) / 0.9, dim=1)).sum(1).mean()


@KINDS.nothing("word vectors with negative samples", data=lambda: batches_of(*sequences()[0].T[:3]))
class WordVectors(Module):
    def build(self):
        self.centre, self.context, self.mix = nn.Embedding(12, 4), nn.Embedding(12, 4), nn.Linear(4, 4)

    def training_step(self, batch, batch_idx):
        word, beside, apart = batch
        v = self.mix(self.centre(word))
        near, far = (v * self.context(beside)).sum(1), (v * self.context(apart)).sum(1)
        return -(fn.logsigmoid(near) + fn.logsigmoid(-far)).mean()


@KINDS.nothing("codes of a quantised autoencoder", "mse_loss")
class Quantised(Module):
    def build(self):
        self.encoder, self.codes, self.decoder = nn.Linear(DIMENSIONS, 4), nn.Embedding(16, 4), nn.Linear(4, DIMENSIONS)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        z = self.encoder(x)
        code = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        spent = fn.mse_loss(code.detach(), z) + fn.mse_loss(code, z.detach())
        return fn.mse_loss(self.decoder(z + (code - z).detach()), x) + spent


@KINDS.nothing(
    "SimCLR, the number of each sample in the batch",
    "cross_entropy",
    data=lambda: remade(lambda x, y: ((x, x + 0.1), torch.arange(len(x)))),
)
class NumberedSimCLR(SimCLR):
    """Places in the batch are no labels, even where the numbers of the samples are the same."""

    def training_step(self, batch, batch_idx):
        one, two = (fn.normalize(self.projection(self.body(view))) for view in batch[0])
        return fn.cross_entropy(one @ two.T / 0.5, torch.arange(len(one)))


def ones_first():
    x, y = blobs()
    order = torch.cat([(y == 1).nonzero()[:8, 0], (y != 1).nonzero()[:, 0]])
    return batches_of(x[order], y[order].clamp(max=1).float())


@KINDS.nothing(
    "adversarial critic, labels that are all 1 in the first batch", "binary_cross_entropy_with_logits", data=ones_first
)
class CriticOnly(Module):
    """The target of the critic is 1 for what is real, whatever its label."""

    def build(self):
        self.critic = nn.Sequential(body(), nn.Linear(HIDDEN, 1))

    def training_step(self, batch, batch_idx):
        real, fake = self.critic(batch[0]).squeeze(1), self.critic(torch.randn_like(batch[0])).squeeze(1)
        loss = fn.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        return loss + fn.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
