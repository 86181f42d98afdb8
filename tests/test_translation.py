"""pix2pix and cycle-consistent training: rounds by hand, who learns from what, and cases with a known answer."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from gankit.data import stream
from gankit.losses import HINGE, LEAST_SQUARES, NON_SATURATING, WASSERSTEIN
from gankit.training import descend
from gankit.translation import cycle_training, pix2pix_training

LOSSES = pytest.mark.parametrize(
    "loss", [NON_SATURATING, LEAST_SQUARES, HINGE, WASSERSTEIN], ids=lambda loss: loss.name
)


def judge(channels=1):
    return nn.Sequential(nn.Conv2d(channels, 3, 3), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 2))


def same(network):
    """A copy with the same weights."""
    return copy.deepcopy(network)


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def sgd(*networks, rate=0.1):
    return torch.optim.SGD([p for network in networks for p in network.parameters()], rate)


def pix2pix(generator, critic, data, loss=NON_SATURATING, weight=3.0, rates=(0.1, 0.1)):
    return pix2pix_training(
        generator, critic, loss=loss, data=data, inputs=1, weight=weight,
        generator_optimizer=sgd(generator, rate=rates[0]), critic_optimizer=sgd(critic, rate=rates[1]),
    )  # fmt: skip


@LOSSES
def test_a_round_of_pix2pix_by_hand(loss):
    generator, critic, pair = nn.Conv2d(1, 1, 3, padding=1), judge(2), torch.randn(5, 2, 6, 6)
    G, D = same(generator), same(critic)
    step = next(pix2pix(generator, critic, itertools.repeat(pair), loss))
    x, y = pair[:, :1], pair[:, 1:]
    together = lambda image: torch.cat([x, image], dim=1)  # noqa: E731
    critic_loss = loss.critic(D(pair), D(together(G(x).detach())))
    descend(critic_loss, sgd(D))
    adversarial, error = loss.generator(D(together(G(x)))), (G(x) - y).abs().mean()
    descend(adversarial + 3.0 * error, sgd(G))
    assert step.critic_loss == pytest.approx(critic_loss.item(), rel=1e-5)
    assert (step.generator_loss, step.error) == pytest.approx((adversarial.item(), error.item()), rel=1e-5)
    torch.testing.assert_close(weights(generator), weights(G))
    torch.testing.assert_close(weights(critic), weights(D))


def test_a_heavy_error_learns_the_answer():
    torch.manual_seed(0)
    images = torch.rand(200, 1, 6, 6)
    data = stream(torch.cat([images, 1 - 2 * images], dim=1), 32)
    generator, critic = nn.Conv2d(1, 1, 1), judge(2)
    game = pix2pix(generator, critic, data, weight=100.0, rates=(5e-4, 1e-3))
    errors = [step.error for step in itertools.islice(game, 1000)]
    assert errors[-1] < 0.1 < errors[0]
    assert generator.weight.item() == pytest.approx(-2, abs=0.2)


def cycle(networks, loss=NON_SATURATING, weight=2.0, data=None, rates=(0.1, 0.1)):
    to_y, to_x, critic_x, critic_y = networks
    data_x, data_y = data or (itertools.repeat(torch.randn(4, 1, 6, 6)), itertools.repeat(torch.randn(4, 1, 6, 6)))
    return cycle_training(
        to_y, to_x, critic_x, critic_y, loss=loss, data_x=data_x, data_y=data_y, weight=weight,
        generator_optimizer=sgd(to_y, to_x, rate=rates[0]), critic_optimizer=sgd(critic_x, critic_y, rate=rates[1]),
    )  # fmt: skip


def players():
    return nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1), judge(), judge()


@LOSSES
def test_a_round_of_cyclegan_by_hand(loss):
    networks, x, y = players(), torch.randn(4, 1, 6, 6), torch.randn(4, 1, 6, 6)
    G, F, DX, DY = map(same, networks)
    step = next(cycle(networks, loss, data=(itertools.repeat(x), itertools.repeat(y))))
    critic_loss = loss.critic(DX(x), DX(F(y).detach())) + loss.critic(DY(y), DY(G(x).detach()))
    descend(critic_loss, sgd(DX, DY))
    adversarial = loss.generator(DX(F(y))) + loss.generator(DY(G(x)))
    error = (F(G(x)) - x).abs().mean() + (G(F(y)) - y).abs().mean()
    descend(adversarial + 2.0 * error, sgd(G, F))
    assert step.critic_loss == pytest.approx(critic_loss.item(), rel=1e-5)
    assert (step.generator_loss, step.error) == pytest.approx((adversarial.item(), error.item()), rel=1e-5)
    for network, twin in zip(networks, (G, F, DX, DY), strict=True):
        torch.testing.assert_close(weights(network), weights(twin))


def test_without_weight_the_generators_learn_from_their_own_critics_alone():
    networks, x, y = players(), torch.randn(4, 1, 6, 6), torch.randn(4, 1, 6, 6)
    with torch.no_grad():
        for parameter in networks[3].parameters():
            parameter.zero_()  # the critic of Y has no opinion, so G has nothing to learn
    before = [weights(network) for network in networks]
    next(cycle(networks, weight=0.0, data=(itertools.repeat(x), itertools.repeat(y)), rates=(0.1, 0.0)))
    moved = [(weights(network) - old).abs().max().item() for network, old in zip(networks, before, strict=True)]
    assert moved[0] == 0 and moved[1] > 0


def test_a_heavy_cycle_makes_inverses():
    torch.manual_seed(0)
    data = stream(torch.randn(500, 1, 6, 6), 16), stream(2 * torch.randn(500, 1, 6, 6) + 1, 16)
    to_y, to_x = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    networks = to_y, to_x, judge(), judge()
    game = cycle(networks, LEAST_SQUARES, weight=10.0, data=data, rates=(3e-3, 1e-3))
    errors = [step.error for step in itertools.islice(game, 800)]
    assert sum(errors[-50:]) / 50 < 0.3
    assert (to_x.weight * to_y.weight).item() == pytest.approx(1, abs=0.15)


PAIRS = itertools.repeat(torch.randn(2, 2, 6, 6))


@pytest.mark.parametrize(
    ("play", "message"),
    [(lambda: pix2pix(nn.Conv2d(1, 1, 3), judge(2), PAIRS), "y"),
     (lambda: pix2pix(nn.Conv2d(1, 1, 1), judge(2), [torch.randn(2, 2, 6, 6)]), "data: expected batches without end"),
     (lambda: pix2pix(nn.Conv2d(1, 1, 1), judge(2), PAIRS, weight=-1.0), "weight"),
     (lambda: pix2pix(nn.Conv2d(1, 1, 1), judge(2), PAIRS, weight=math.nan), "weight"),
     (lambda: cycle((nn.Conv2d(1, 1, 3), *players()[1:])), "y"), (lambda: cycle(players(), weight=-0.1), "weight"),
     (lambda: cycle(players(), data=([torch.randn(4, 1, 6, 6)], itertools.repeat(torch.randn(4, 1, 6, 6)))), "data")],
)  # fmt: skip
def test_what_is_wrong_is_named(play, message):
    with pytest.raises(ValueError, match=message):
        list(itertools.islice(play(), 3))
