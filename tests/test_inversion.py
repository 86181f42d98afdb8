"""BiGAN's three players by their signs and on a case with a known optimum; inversion against least squares."""

import itertools
import math

import pytest
import torch
from torch import nn

from gankit.data import stream
from gankit.divergences import GAN, KL, PEARSON
from gankit.inversion import bigan_training, invert
from gankit.losses import HINGE, LEAST_SQUARES, MINIMAX, NON_SATURATING, WASSERSTEIN, from_divergence
from gankit.networks import JointCritic, mlp
from gankit.training import descend


def players(latent=2):
    return mlp(latent, 8, 3), mlp(3, 8, latent), JointCritic(nn.Identity(), 3, latent, 16)


def trained(pair_rate=0.1, critic_rate=0.1, loss=NON_SATURATING, data=None, noise=None, networks=None):
    generator, encoder, critic = networks or players()
    pair = torch.optim.SGD([*generator.parameters(), *encoder.parameters()], pair_rate)
    game = bigan_training(
        generator,
        encoder,
        critic,
        loss=loss,
        data=stream(torch.randn(50, 3), 16) if data is None else data,
        noise=(lambda n: torch.randn(n, 2)) if noise is None else noise,
        pair_optimizer=pair,
        critic_optimizer=torch.optim.SGD(critic.parameters(), critic_rate),
    )
    return game, (generator, encoder, critic)


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("loss", [MINIMAX, NON_SATURATING, HINGE, WASSERSTEIN], ids=lambda loss: loss.name)
def test_one_round_by_hand(loss):
    networks = players()
    copies = players()
    for copy, network in zip(copies, networks, strict=True):
        copy.load_state_dict(network.state_dict())
    x, noises = torch.randn(16, 3), [torch.randn(16, 2), torch.randn(16, 2)]
    draws = iter([noise.clone() for noise in noises])
    game, _ = trained(loss=loss, data=itertools.repeat(x), noise=lambda n: next(draws), networks=networks)
    step = next(game)
    G, E, D = copies
    critic_loss = loss.critic(D(x, E(x).detach()), D(G(noises[0]).detach(), noises[0]))
    assert step.critic_loss == pytest.approx(critic_loss.item(), rel=1e-5)
    descend(critic_loss, torch.optim.SGD(D.parameters(), 0.1))
    pair_loss = loss.generator(D(G(noises[1]), noises[1])) + loss.generator(-D(x, E(x)))
    assert step.generator_loss == pytest.approx(pair_loss.item(), rel=1e-5)
    descend(pair_loss, torch.optim.SGD([*G.parameters(), *E.parameters()], 0.1))
    for copy, network in zip(copies, networks, strict=True):
        torch.testing.assert_close(weights(network), weights(copy))


@pytest.mark.parametrize("loss", [MINIMAX, NON_SATURATING, HINGE, WASSERSTEIN], ids=lambda loss: loss.name)
def test_generator_raises_its_score_and_encoder_lowers_its_own(loss):
    G, E, D = players()
    x, z = torch.randn(64, 3), torch.randn(64, 2)
    before = D(G(z), z).mean().item(), D(x, E(x)).mean().item()
    game, _ = trained(pair_rate=1e-3, critic_rate=0.0, loss=loss, data=itertools.repeat(x), noise=lambda n: z,
                      networks=(G, E, D))  # fmt: skip
    next(game)
    assert D(G(z), z).mean().item() > before[0] and D(x, E(x)).mean().item() < before[1]


def test_all_three_learn_and_the_critic_keeps_no_gradient_of_the_pair():
    game, networks = trained()
    before = [weights(network) for network in networks]
    next(game)
    assert all((weights(network) - old).abs().max() > 0 for network, old in zip(networks, before, strict=True))
    assert all(parameter.requires_grad for network in networks for parameter in network.parameters())


def test_a_linear_pair_becomes_each_others_inverse():
    torch.manual_seed(0)
    data = torch.randn(4000, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    G, E, D = nn.Linear(2, 2), nn.Linear(2, 2), JointCritic(nn.Identity(), 2, 2, 64)
    pair = torch.optim.Adam([*G.parameters(), *E.parameters()], 2e-3, betas=(0.5, 0.99))
    game = bigan_training(
        G, E, D, loss=NON_SATURATING, data=stream(data, 128), noise=lambda n: torch.randn(n, 2), pair_optimizer=pair,
        critic_optimizer=torch.optim.Adam(D.parameters(), 2e-3, betas=(0.5, 0.99)),
    )  # fmt: skip
    identity = torch.eye(2)
    first = (E.weight @ G.weight - identity).norm().item()
    assert [step.index for step in itertools.islice(game, 1500)][-1] == 1500
    assert (E.weight @ G.weight - identity).norm() < min(0.35, 0.5 * first)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"data": [torch.randn(4, 3)]}, "data: expected batches without end"),
     ({"data": itertools.repeat(torch.randn(4, 5))}, "the real batch"),
     ({"noise": lambda n: torch.randn(n, 7)}, "noise"),
     ({"data": itertools.repeat(torch.full((4, 3), math.nan))}, "data")],
)  # fmt: skip
def test_what_is_wrong_is_named(changed, message):
    networks = (
        (mlp(7, 3), mlp(3, 2), players()[2]) if "noise" in changed else (mlp(2, 3), nn.Linear(3, 2), players()[2])
    )
    if "the real" in message:
        networks = (mlp(2, 3), nn.Linear(5, 2), players()[2])
    game, _ = trained(networks=networks, **changed)
    with pytest.raises(ValueError, match=message):
        list(itertools.islice(game, 3))


@pytest.mark.parametrize("gradients", [True, False], ids=["with gradients", "while evaluating"])
def test_inversion_of_a_linear_generator_is_least_squares(gradients):
    torch.manual_seed(1)
    generator, x = nn.Linear(3, 8), torch.randn(5, 8)
    with torch.set_grad_enabled(gradients):
        found = invert(generator, x, torch.zeros(5, 3), steps=2000, rate=0.05)
    exact = torch.linalg.lstsq(generator.weight.detach(), (x - generator.bias.detach()).T).solution.T
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=1e-3)
    assert generator.weight.grad is None and generator.weight.requires_grad


def test_inversion_improves_each_row_and_leaves_the_start_alone():
    torch.manual_seed(2)
    generator, start = mlp(4, 32, 10), torch.randn(6, 4)
    x, before = generator(torch.randn(6, 4)).detach(), start.clone()
    found = invert(generator, x, start)
    errors = [(generator(z) - x).square().sum(1) for z in (start, found)]
    assert (errors[1] < errors[0]).all() and torch.equal(start, before) and not found.requires_grad


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [((torch.randn(2, 5), torch.randn(2, 3)), {}, "x"),
     ((torch.randn(2, 4), torch.full((2, 3), math.nan)), {}, "start"),
     ((torch.randn(2, 4), torch.randn(2, 3)), {"steps": 0}, "steps"),
     ((torch.randn(2, 4), torch.randn(2, 3)), {"rate": 0.0}, "rate")],
)  # fmt: skip
def test_inversion_names_what_is_wrong(arguments, options, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        invert(nn.Linear(3, 4), *arguments, **options)


@pytest.mark.parametrize(
    "loss", [LEAST_SQUARES, from_divergence(KL), from_divergence(PEARSON)], ids=lambda loss: loss.name
)
def test_a_loss_that_is_not_symmetric_is_named(loss):
    with pytest.raises(ValueError, match="loss: expected a critic's loss that is the same"):
        next(trained(loss=loss)[0])


@pytest.mark.parametrize("loss", [MINIMAX, HINGE, WASSERSTEIN, from_divergence(GAN)], ids=lambda loss: loss.name)
def test_symmetric_losses_are_played(loss):
    assert next(trained(loss=loss)[0]).index == 1


def test_inverting_a_sample_of_the_generator_itself():
    generator, z = nn.Linear(2, 3), torch.randn(5, 2)
    image = generator(z)
    assert invert(generator, image, torch.zeros(5, 2), steps=500) == pytest.approx(z, abs=1e-2)
    leaf = image.detach().requires_grad_()
    invert(generator, leaf, torch.zeros(5, 2), steps=1)
    assert leaf.grad is None
