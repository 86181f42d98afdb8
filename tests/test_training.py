"""The loop against a round by hand, what each player's step may touch, averages, checkpoints, and that it learns."""

import copy
import dataclasses
import math
from itertools import count, islice, repeat

import numpy as np
import pytest
import torch
from torch import nn

from gankit.data import stream
from gankit.losses import MINIMAX, NON_SATURATING, WASSERSTEIN
from gankit.networks import dcgan_generator, mlp
from gankit.training import (
    Step,
    adversarial_training,
    averaged,
    descend,
    ema,
    frozen,
    load_checkpoint,
    minimize,
    save_checkpoint,
)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def normal(n):
    return torch.randn(n, 2)


def players(width=8):
    return mlp(2, width, 2), mlp(2, width, 1)


def game(generator, critic, *, lr=0.05, optimizer=torch.optim.SGD, **options):
    """The loop with the choices that most tests share."""
    options = {"loss": NON_SATURATING, "data": (torch.randn(6, 2) + 3 for _ in count()), "noise": normal} | options
    return adversarial_training(
        generator,
        critic,
        generator_optimizer=options.pop("generator_optimizer", None) or optimizer(generator.parameters(), lr=lr),
        critic_optimizer=options.pop("critic_optimizer", None) or optimizer(critic.parameters(), lr=lr),
        **options,
    )


class Watched(torch.optim.SGD):
    """Plain gradient descent that calls ``before`` at each step."""

    def __init__(self, parameters, before):
        super().__init__(parameters, lr=0.05)
        self.before = before

    def step(self, closure=None):
        self.before()
        return super().step(closure)


# --- descend and frozen -------------------------------------------------------------------------------------------


def test_descend_is_one_step_downhill_and_returns_the_loss_before_it():
    x = torch.tensor([3.0, -1.0], requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    for expected in (10.0, 10.0 * 0.64):  # each step multiplies x by 0.8: old gradients do not add up
        assert descend(x.square().sum(), optimizer) == pytest.approx(expected)
    torch.testing.assert_close(x.detach(), torch.tensor([3.0, -1.0]) * 0.64)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (torch.ones(2), r"^loss: expected a scalar, got shape \(2,\)"),
        (torch.ones(1), r"^loss: expected a scalar, got shape \(1,\)"),
        (torch.tensor(math.nan), r"^loss: expected a finite number, got nan"),
        (torch.tensor(math.inf), r"^loss: expected a finite number, got inf"),
        (torch.tensor(-math.inf), r"^loss: expected a finite number, got -inf"),
    ],
)
def test_descend_refuses_and_touches_nothing(factor, message):
    x = torch.tensor(1.0, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.1)
    x.grad = torch.tensor(7.0)
    with pytest.raises(ValueError, match=message):
        descend(x * factor, optimizer)
    assert x.item() == 1.0 and x.grad.item() == 7.0 and not optimizer.state


def test_frozen_lets_gradients_through_but_not_in():
    critic = mlp(2, 4, 1)
    x = torch.randn(3, 2, requires_grad=True)
    with frozen(critic) as same_critic:
        assert same_critic is critic
        critic(x).sum().backward()
    assert x.grad is not None and (x.grad != 0).any()
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert all(parameter.requires_grad for parameter in critic.parameters())


def test_frozen_restores_each_flag_also_after_an_exception():
    critic = mlp(2, 4, 1)
    critic[0].weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in critic.parameters()]
    with pytest.raises(KeyError), frozen(critic):
        assert not any(parameter.requires_grad for parameter in critic.parameters())
        raise KeyError
    assert [parameter.requires_grad for parameter in critic.parameters()] == flags == [False, True, True, True]


# --- the loop -----------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_two_rounds_by_hand(critic_steps):
    """G(z) = a z + b, D(x) = w x + c, the non-saturating game: closed-form gradients in NumPy."""
    rate_g, rate_c, rounds, n = 0.3, 0.2, 2, 5
    random = np.random.default_rng(0)
    reals = random.normal(2, 1, (rounds * critic_steps, n))
    noises = random.normal(0, 1, (rounds * (critic_steps + 1), n))
    a, b, w, c = 0.5, -0.3, 0.7, 0.1
    expected, real, z = [], iter(reals), iter(noises)
    for index in range(1, rounds + 1):
        for _ in range(critic_steps):
            x, g = next(real), a * next(z) + b
            up, down = sigmoid(-(w * x + c)), sigmoid(w * g + c)
            critic_loss = np.log1p(np.exp(-(w * x + c))).mean() + np.log1p(np.exp(w * g + c)).mean()
            w, c = w - rate_c * ((down * g).mean() - (up * x).mean()), c - rate_c * (down.mean() - up.mean())
        noise = next(z)
        score = w * (a * noise + b) + c
        generator_loss = np.log1p(np.exp(-score)).mean()
        pull = sigmoid(-score) * w
        a, b = a + rate_g * (pull * noise).mean(), b + rate_g * pull.mean()
        expected.append((index, critic_loss, generator_loss))

    generator, critic = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
    with torch.no_grad():
        for parameter, value in zip(
            [*generator.parameters(), *critic.parameters()], (0.5, -0.3, 0.7, 0.1), strict=True
        ):
            parameter.fill_(value)
    draws = iter(torch.from_numpy(noises)[:, :, None])
    steps = adversarial_training(
        generator,
        critic,
        loss=NON_SATURATING,
        data=iter(torch.from_numpy(reals)[:, :, None]),
        noise=lambda size: next(draws)[:size],
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=rate_g),
        critic_optimizer=torch.optim.SGD(critic.parameters(), lr=rate_c),
        critic_steps=critic_steps,
    )
    for step, (index, critic_loss, generator_loss) in zip(islice(steps, rounds), expected, strict=True):
        assert isinstance(step, Step)
        assert step.index == index
        assert step.critic_loss == pytest.approx(critic_loss, rel=1e-12)
        assert step.generator_loss == pytest.approx(generator_loss, rel=1e-12)
    found = [parameter.item() for parameter in (*generator.parameters(), *critic.parameters())]
    assert found == pytest.approx([a, b, w, c], rel=1e-12)


def test_each_step_moves_one_player_and_leaves_gradients_in_it_alone():
    generator, critic = players()
    log = []

    def at_critic_step():
        log.append("critic")
        assert all(parameter.grad is None for parameter in generator.parameters()) or log.count("generator") > 0
        assert same(state(generator), seen["generator"])
        seen["critic_grads"] = [parameter.grad.clone() for parameter in critic.parameters()]

    def at_generator_step():
        log.append("generator")
        seen["critic"] = state(critic)

    seen = {"generator": state(generator)}
    steps = game(
        generator,
        critic,
        critic_optimizer=Watched(critic.parameters(), at_critic_step),
        generator_optimizer=Watched(generator.parameters(), at_generator_step),
        critic_steps=2,
    )
    for _ in range(3):
        next(steps)
        assert same(state(critic), seen["critic"])  # the generator's step left the critic as it was
        for parameter, before in zip(critic.parameters(), seen["critic_grads"], strict=True):
            assert torch.equal(parameter.grad, before)
        assert not same(state(generator), seen["generator"])
        seen["generator"] = state(generator)
    assert log == ["critic", "critic", "generator"] * 3


def test_the_critic_step_leaves_no_gradient_in_the_generator():
    generator, critic = players()
    seen = []
    optimizer = Watched(critic.parameters(), lambda: seen.append([p.grad for p in generator.parameters()]))
    next(game(generator, critic, critic_optimizer=optimizer, critic_steps=4))
    assert len(seen) == 4
    assert all(gradient is None for gradients in seen for gradient in gradients)


@pytest.mark.parametrize("critic_steps", [1, 2, 5])
def test_updates_noises_and_batches_are_counted(critic_steps):
    generator, critic = players()
    drawn, taken, rounds = [], [], 3

    def noise(n):
        drawn.append(torch.randn(n, 2))
        return drawn[-1]

    def data():
        for n in count(3):  # batches of different sizes
            taken.append(n)
            yield torch.randn(n, 2)

    steps = game(generator, critic, data=data(), noise=noise, optimizer=torch.optim.Adam, critic_steps=critic_steps)
    assert [step.index for step in islice(steps, rounds)] == [1, 2, 3]
    assert len(taken) == critic_steps * rounds
    assert len(drawn) == (critic_steps + 1) * rounds
    sizes = [len(z) for z in drawn]
    for k in range(rounds):
        batch = taken[k * critic_steps : (k + 1) * critic_steps]
        assert sizes[k * (critic_steps + 1) : (k + 1) * (critic_steps + 1)] == [*batch, batch[-1]]


def test_every_step_of_the_critic_sees_fresh_fakes():
    generator, critic = players()
    fakes = []
    critic.register_forward_hook(lambda module, inputs, output: fakes.append(inputs[0].detach().clone()))
    next(game(generator, critic, critic_steps=3))
    for_critic = fakes[1::2][:3] + fakes[-1:]
    for k, one in enumerate(for_critic):
        for other in for_critic[:k]:
            assert not torch.equal(one, other)


def test_penalty_and_loss_are_optimized_in_one_step():
    """Adam's first step has length lr whatever the gradient: two steps for two terms would move twice, or cancel."""
    generator, critic = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        critic.weight.fill_(1.0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    calls = []

    def penalty(network, real, fake):
        assert network is critic and real.shape == fake.shape and not fake.requires_grad
        calls.append((real.mean().item(), fake.mean().item()))
        return 100 * network.weight.square().sum()

    steps = game(
        generator,
        critic,
        loss=WASSERSTEIN,
        data=repeat(torch.full((4, 1), 2.0)),
        noise=lambda n: torch.zeros(n, 1),
        critic_optimizer=optimizer,
        penalty=penalty,
    )
    fake = generator(torch.zeros(1, 1)).item()
    step = next(steps)
    assert calls == [(2.0, pytest.approx(fake))]
    assert step.critic_loss == pytest.approx(fake - 2.0 + 100.0)
    assert critic.weight.item() == pytest.approx(0.99)
    (moments,) = optimizer.state.values()
    assert moments["step"].item() == 1
    assert moments["exp_avg"].item() == pytest.approx(0.1 * (fake - 2.0 + 200.0), rel=1e-5)


def test_project_runs_after_each_step_of_the_critic():
    generator, critic = players()
    bound, log = 0.01, []
    optimizer = Watched(critic.parameters(), lambda: log.append("step"))

    def clip(network):
        assert network is critic
        log.append("project")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.clamp_(-bound, bound)

    scores = []
    handle = critic.register_forward_hook(lambda *_: scores.append(max(p.abs().max() for p in critic.parameters())))
    steps = game(generator, critic, loss=WASSERSTEIN, critic_optimizer=optimizer, project=clip, critic_steps=3)
    next(steps)
    handle.remove()
    assert log == ["step", "project"] * 3
    assert max(parameter.abs().max().item() for parameter in critic.parameters()) <= bound
    assert scores[0] > bound and max(scores[2:]) <= bound  # clipped before the next step and before the generator's


@pytest.mark.parametrize("who", ["critic", "generator"])
def test_flags_are_restored_where_a_player_fails(who):
    generator, critic = players()
    critic[0].bias.requires_grad_(False)

    def fails(*scores):
        raise RuntimeError("no loss today")

    loss = dataclasses.replace(MINIMAX, **{who: fails})
    with pytest.raises(RuntimeError, match="no loss today"):
        next(game(generator, critic, loss=loss))
    assert [parameter.requires_grad for parameter in critic.parameters()] == [True, False, True, True]
    assert all(parameter.requires_grad for parameter in generator.parameters())


def run(seed, rounds=5):
    torch.manual_seed(seed)
    generator, critic = players()
    steps = list(islice(game(generator, critic, data=stream(torch.randn(50, 2), 8), critic_steps=2), rounds))
    return steps, state(generator), state(critic)


def test_same_seed_same_run_bit_for_bit_and_another_seed_another_run():
    one, again, other = run(3), run(3), run(4)
    assert one[0] == again[0] and same(one[1], again[1]) and same(one[2], again[2])
    assert one[0] != other[0] and not same(one[1], other[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": []}, r"^data: expected batches without end, .*, got an end after 0 batches"),
        ({"data": [torch.zeros(3, 2)] * 2}, r"^data: expected batches without end, .*, got an end after 2 batches"),
        ({"data": [torch.full((3, 2), math.nan)]}, r"^data: expected finite numbers, got 6 NaN"),
        ({"data": [torch.zeros(0, 2)]}, r"^data: expected a tensor with at least one element, got shape \(0, 2\)"),
        ({"data": [torch.zeros(3, 2, dtype=torch.uint8)]}, r"^data: expected a floating-point tensor, got torch.uint8"),
        ({"data": [[0.0, 1.0]]}, r"^data: expected a torch.Tensor, got list"),
        (
            {"data": [torch.zeros(3, 5)]},
            r"^generator\(noise\): expected the shape \(3, 5\) of the real batch, got .*\(3, 2\)",
        ),
        (
            {"noise": lambda n: torch.zeros(n + 1, 2)},
            r"^generator\(noise\): expected the shape \(6, 2\) .*, got .*\(7, 2\)",
        ),
        ({"critic_steps": 0}, r"^critic_steps: expected a whole number of at least 1, got 0"),
        ({"critic_steps": 1.0}, r"^critic_steps: expected a whole number of at least 1, got 1.0"),
        ({"penalty": lambda *_: torch.tensor(math.inf)}, r"^loss: expected a finite number, got inf"),
        ({"penalty": lambda critic, real, fake: critic(real)}, r"^loss: expected a scalar, got shape \(6, 1\)"),
    ],
)
def test_bad_input_is_named_and_trains_nothing_more(options, message):
    generator, critic = players()
    trained = len(options["data"]) if options.get("data") and message.startswith(r"^data: expected batches") else 0
    before = state(generator), state(critic)
    steps = game(generator, critic, **options)
    with pytest.raises(ValueError, match=message):
        assert len(list(islice(steps, 5))) == 5
    if not trained:
        assert same(state(generator), before[0]) and same(state(critic), before[1])


# --- averages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_ema_has_its_closed_form(decay):
    """After k steps: decay^k theta_0 + (1 - decay) sum_j decay^(k - j) theta_j."""
    network = nn.Linear(3, 2).double()
    average = copy.deepcopy(network)
    history = [network.weight.detach().clone()]
    for _ in range(7):
        with torch.no_grad():
            network.weight.normal_()
        history.append(network.weight.detach().clone())
        ema(average, network, decay)
    k = len(history) - 1
    expected = decay**k * history[0] + (1 - decay) * sum(decay ** (k - j) * history[j] for j in range(1, k + 1))
    torch.testing.assert_close(average.weight.detach(), expected)
    torch.testing.assert_close(average.bias.detach(), network.bias.detach())
    assert torch.equal(network.weight, history[-1])  # the network itself stays as it is
    assert average.weight.requires_grad and average.weight.grad_fn is None


def test_ema_copies_the_buffers():
    generator = dcgan_generator(4, 1, 8, width=2)
    average = copy.deepcopy(generator)
    for _ in range(3):
        generator(torch.randn(16, 4) + 2)
    ema(average, generator, 0.9)
    assert generator[2].num_batches_tracked == 3
    for (name, kept), (_, buffer) in zip(average.named_buffers(), generator.named_buffers(), strict=True):
        assert torch.equal(kept, buffer), name
        assert kept.data_ptr() != buffer.data_ptr()
    generator.train()(torch.randn(16, 4) - 5)
    assert not torch.equal(average[2].running_mean, generator[2].running_mean)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_ema_decay_is_below_one(decay):
    with pytest.raises(ValueError, match=rf"^decay: expected a number from 0 to below 1, got {decay}"):
        ema(nn.Linear(1, 1), nn.Linear(1, 1), decay)


# --- checkpoints --------------------------------------------------------------------------------------------------


def resumable(seed):
    torch.manual_seed(seed)
    generator, critic = dcgan_generator(2, 1, 8, width=2), mlp(64, 8, 1)
    parts = {
        "generator": generator,
        "critic": critic,
        "generator_optimizer": torch.optim.Adam(generator.parameters(), lr=0.01),
        "critic_optimizer": torch.optim.Adam(critic.parameters(), lr=0.01),
    }
    images = torch.linspace(-1, 1, 20 * 64).view(20, 1, 8, 8)
    steps = adversarial_training(
        generator,
        nn.Sequential(nn.Flatten(), critic),
        loss=NON_SATURATING,
        data=stream(images, 4),
        noise=normal,
        generator_optimizer=parts["generator_optimizer"],
        critic_optimizer=parts["critic_optimizer"],
        critic_steps=2,
    )
    return parts, steps


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    path = tmp_path / "run.pt"
    whole, steps = resumable(0)
    expected = list(islice(steps, 6))

    first, steps = resumable(0)
    assert load_checkpoint(path, **first) == 0  # no file yet
    list(islice(steps, 2))
    save_checkpoint(path, 2, **first)

    second, steps = resumable(99)
    assert load_checkpoint(path, **second) == 2
    rest = list(islice(steps, 4))
    assert [(s.critic_loss, s.generator_loss) for s in rest] == [
        (s.critic_loss, s.generator_loss) for s in expected[2:]
    ]
    for name in ("generator", "critic"):
        assert same(second[name].state_dict(), whole[name].state_dict())
    for name in ("generator_optimizer", "critic_optimizer"):
        one, other = (parts[name].state_dict()["state"] for parts in (second, whole))
        assert one.keys() == other.keys() and len(one) > 0
        assert all(same(one[key], other[key]) for key in one)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


class Unwritable:
    def __reduce__(self):
        raise OSError("the disk is full")


class Failing:
    def state_dict(self):
        return {"weights": torch.zeros(1000), "rest": Unwritable()}

    def load_state_dict(self, state_dict):
        raise AssertionError


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path):
    path, network = tmp_path / "run.pt", nn.Linear(2, 2)
    save_checkpoint(path, 5, network=network)
    before = path.read_bytes()
    with pytest.raises(OSError, match="the disk is full"):
        save_checkpoint(path, 6, network=Failing())
    assert path.read_bytes() == before
    assert load_checkpoint(path, network=network) == 5


@pytest.mark.parametrize("name", ["random", "cuda_random"])
def test_a_part_cannot_take_the_place_of_the_random_state(tmp_path, name):
    with pytest.raises(ValueError, match=rf"^parts: expected names other than .*, got \['{name}'\]"):
        save_checkpoint(tmp_path / "state.pt", 1, **{name: nn.Linear(1, 1)})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_holds_exactly_the_parts_asked_for(tmp_path):
    path, network = tmp_path / "run.pt", nn.Linear(2, 2)
    save_checkpoint(path, 5, generator=network)
    before = state(network)
    with pytest.raises(ValueError, match=r"^parts: expected the parts \['generator'\] that .*, got \['critic'\]"):
        load_checkpoint(path, critic=network)
    with pytest.raises(
        ValueError, match=r"^parts: expected the parts \['generator'\] .*, got \['critic', 'generator'\]"
    ):
        load_checkpoint(path, critic=network, generator=network)
    save_checkpoint(path, 5, generator=network, critic=nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"^parts: expected the parts \['critic', 'generator'\] .*, got \['generator'\]"
    ):
        load_checkpoint(path, generator=network)
    assert same(state(network), before)


# --- learning -----------------------------------------------------------------------------------------------------


def test_the_generator_finds_the_mean_of_a_gaussian():
    """Data N(3, 1), generator z + b from b = 0: the mean over the end of the run is the data's, five seeds."""
    found = []
    for seed in range(5):
        torch.manual_seed(seed)
        generator, critic = nn.Linear(1, 1), mlp(1, 16, 1)
        with torch.no_grad():
            generator.weight.fill_(1.0), generator.bias.zero_()
        generator.weight.requires_grad_(False)
        steps = adversarial_training(
            generator,
            critic,
            loss=NON_SATURATING,
            data=stream(torch.randn(4000, 1) + 3, 128),
            noise=lambda n: torch.randn(n, 1),
            generator_optimizer=torch.optim.Adam([generator.bias], lr=0.02, betas=(0.5, 0.99)),
            critic_optimizer=torch.optim.Adam(critic.parameters(), lr=0.02, betas=(0.5, 0.99)),
        )
        biases = [generator.bias.item() for _ in islice(steps, 400)]
        found.append(sum(biases[250:]) / 150)
    assert all(abs(mean - 3) < 0.15 for mean in found), found


def test_the_average_follows_and_the_rates_fade():
    network, rounds = torch.nn.Linear(1, 1, bias=False), 20
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    values, rates, steps = [], [], (Step(k + 1, 0.0, 0.0) for k in range(100))

    def game():
        for step in steps:
            network.weight.data.fill_(float(step.index))
            values.append(float(step.index))
            optimizer.step()
            yield step

    begin = network.weight.item()
    for step, mean in averaged(game(), network, [optimizer], rounds, decay=0.9):
        rates.append(optimizer.param_groups[0]["lr"])
        assert step.index == len(rates) and mean is not network and not mean.training and network.training
    expected = begin
    for k, value in enumerate(values, start=1):
        decay = min(0.9, k / (k + 5))
        expected = decay * expected + (1 - decay) * value
    assert mean.weight.item() == pytest.approx(expected, rel=1e-6)
    assert len(values) == len(rates) == rounds
    assert rates[:10] == [0.5] * 10 and rates[-1] == 0
    assert rates[10:] == pytest.approx([0.5 * 2 * (1 - t / rounds) for t in range(11, 21)])


def test_the_average_needs_rounds():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"^rounds: expected"):
        next(averaged([], network, [], 0))


def test_a_single_objective_is_descended_at_rates_that_fall_to_zero():
    weight = torch.zeros(1, requires_grad=True)
    optimizer, expected, rates = torch.optim.SGD([weight], 0.25), 0.0, []
    targets = torch.linspace(1, 2, 20)
    game = minimize(lambda x: (weight - x).square().sum(), optimizer, iter(targets[:, None]), 20)
    for index, loss in game:
        x, rate = targets[index - 1].item(), 0.25 * min(1.0, 2 * (1 - (index - 1) / 20))
        assert loss == pytest.approx((expected - x) ** 2, rel=1e-5)
        expected -= rate * 2 * (expected - x)
        assert weight.item() == pytest.approx(expected, rel=1e-5)
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(rates) == 20 and rates[-1] == 0


@pytest.mark.parametrize(
    ("data", "rounds", "named"),
    [([torch.ones(1)] * 3, 4, "data"), ([], 0, "rounds"), ([torch.full((1,), math.nan)], 1, "loss")],
)
def test_a_single_objective_names_what_is_wrong(data, rounds, named):
    weight = torch.zeros(1, requires_grad=True)
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        list(minimize(lambda x: (weight - x).square().sum(), torch.optim.SGD([weight], 0.1), data, rounds))
