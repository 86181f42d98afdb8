"""Diffusion against Bayes by quadrature, against autograd, and against Gaussians whose chains are linear maps."""

import math
from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from gankit.diffusion import (
    NoisePredictor,
    NoiseSchedule,
    denoising_loss,
    exact_denoiser,
    guided,
    reverse_chain,
    reverse_step,
    variational_bound,
)

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([[1.0, -2.0], [-1.0, 0.5]], dtype=torch.float64)
COVARIANCES = torch.tensor([[[1.0, 0.6], [0.6, 0.5]], [[0.2, 0.0], [0.0, 0.9]]], dtype=torch.float64)


def gaussian_denoiser(mean, covariance, schedule):
    return exact_denoiser(torch.ones(1, dtype=torch.float64), mean[None], covariance, schedule)


def times(x, t):
    return torch.full((len(x),), t)


def test_the_linear_schedule_is_the_papers_for_a_thousand_steps():
    schedule = NoiseSchedule.linear(1000)
    assert schedule.steps == 1000
    torch.testing.assert_close(schedule.beta, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    for steps in (50, 100, 1000):
        assert 1e-6 < NoiseSchedule.linear(steps).alpha_bar[-1] < 1e-4


@given(st.lists(st.floats(1e-6, 0.9), min_size=1, max_size=30))
def test_alpha_bar_is_what_iteration_of_the_kernel_gives(beta):
    schedule = NoiseSchedule(torch.tensor(beta, dtype=torch.float64))
    factor, variance = 1.0, 0.0
    assert schedule.alpha_bar[0] == 1 and len(schedule.alpha_bar) == len(beta) + 1
    for t, b in enumerate(beta, start=1):
        factor, variance = math.sqrt(1 - b) * factor, (1 - b) * variance + b
        assert schedule.alpha_bar[t].sqrt().item() == pytest.approx(factor)
        assert 1 - schedule.alpha_bar[t].item() == pytest.approx(variance)


def test_diffusing_uses_each_rows_own_time_in_any_shape():
    schedule = NoiseSchedule.linear(50)
    x, noise, t = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([0, 50, 7])
    noisy = schedule.diffuse(x, t, noise)
    assert noisy.dtype == x.dtype and torch.equal(noisy[0], x[0])
    for row in range(3):
        bar = torch.prod(1 - schedule.beta[: t[row]]).item()
        torch.testing.assert_close(noisy[row], math.sqrt(bar) * x[row] + math.sqrt(1 - bar) * noise[row])


def test_a_single_precision_image_is_not_scaled_in_single_precision():
    schedule = NoiseSchedule(torch.full((3,), 1e-9, dtype=torch.float64))
    assert NoiseSchedule(schedule.beta.float()).beta.dtype == torch.float64
    spread = schedule.scales(torch.zeros(1, 2), torch.tensor([1]))[1]
    assert spread.item() == pytest.approx(math.sqrt(1e-9), rel=1e-5)  # 1 - abar is 0 in float32


@pytest.mark.parametrize(("t", "s"), [(1, 0), (5, 4), (9, 3), (20, 19), (20, 1)])
def test_the_posterior_is_bayes_by_quadrature(t, s):
    schedule = NoiseSchedule(torch.linspace(0.01, 0.3, 20, dtype=torch.float64))
    x0, xt, bar = 0.8, -0.4, schedule.alpha_bar
    a, b, variance = schedule.posterior(t, s)
    if s == 0:
        assert (a, b, variance) == (1.0, 0.0, 0.0)
        return
    grid = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    prior = Normal(bar[s].sqrt() * x0, (1 - bar[s]).sqrt())
    # The kernel from s to t, iterated, is not taken from abar: its factor and variance are built up step by step.
    factor, spread = 1.0, 0.0
    for beta in schedule.beta[s:t].tolist():
        factor, spread = math.sqrt(1 - beta) * factor, (1 - beta) * spread + beta
    density = (prior.log_prob(grid) + Normal(factor * grid, math.sqrt(spread)).log_prob(torch.tensor(xt))).exp()
    density = density / torch.trapezoid(density, grid)
    mean = torch.trapezoid(density * grid, grid)
    assert mean.item() == pytest.approx(a * x0 + b * xt, abs=1e-8)
    assert torch.trapezoid(density * (grid - mean) ** 2, grid).item() == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_denoiser_is_the_score(dtype):
    schedule = NoiseSchedule.linear(50)
    x = (2 * torch.randn(40, 2, dtype=torch.float64)).to(dtype)
    t = torch.randint(1, 51, (40,))
    found = exact_denoiser(WEIGHTS, MEANS, COVARIANCES, schedule)(x, t)
    for row in range(40):
        bar, point = schedule.alpha_bar[t[row]], x[row].double().requires_grad_()
        law = MixtureSameFamily(
            Categorical(WEIGHTS),
            MultivariateNormal(bar.sqrt() * MEANS, bar * COVARIANCES + (1 - bar) * torch.eye(2).double()),
        )
        (score,) = torch.autograd.grad(law.log_prob(point), point)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(found[row].double(), -(1 - bar).sqrt() * score, atol=tolerance, rtol=tolerance)
    assert found.dtype == dtype


def test_the_exact_denoiser_has_the_least_loss():
    schedule = NoiseSchedule.linear(50)
    law = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, COVARIANCES))
    x, best = law.sample((20_000,)), exact_denoiser(WEIGHTS, MEANS, COVARIANCES, schedule)
    losses = []
    for factor in (0.95, 1.0, 1.05):
        torch.manual_seed(1)
        losses.append(denoising_loss(lambda x, t, f=factor: f * best(x, t), schedule, x).item())
    assert losses[1] < min(losses[0], losses[2])
    assert 0 < losses[1] < 1


def test_the_loss_of_an_empty_answer_is_the_noises_variance_and_times_run_from_1_to_T():
    schedule, seen = NoiseSchedule.linear(25), []

    def nothing(x, t):
        seen.append(t)
        return torch.zeros_like(x)

    loss = denoising_loss(nothing, schedule, torch.randn(5000, 3))
    assert loss.item() == pytest.approx(1.0, abs=0.05)
    assert seen[0].unique().tolist() == list(range(1, 26))


def test_the_loss_reaches_every_parameter():
    network = NoisePredictor((2,), 25, width=16, depth=2, labels=3)
    labels = torch.arange(4)
    denoising_loss(lambda x, t: network(x, t, labels), NoiseSchedule.linear(25), torch.randn(4, 2)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@given(st.integers(1, 40), st.integers(0, 39), st.floats(0, 1))
def test_a_step_with_the_true_noise_has_the_law_of_x_s(t, s, eta):
    """The mean keeps so much of the noise that with the fresh one x_s has its variance."""
    schedule = NoiseSchedule.linear(40)
    if s >= t:
        return
    x0, noise = torch.tensor([[[0.7]], [[1.3]]], dtype=torch.float64)
    mean, std = reverse_step(schedule, schedule.diffuse(x0, torch.tensor([t]), noise), noise, t, s, eta)
    bar = schedule.alpha_bar[s].item()
    share = (mean.item() - math.sqrt(bar) * 0.7) / 1.3
    assert share**2 + std**2 == pytest.approx(1 - bar, abs=1e-9)
    assert std == pytest.approx(eta * math.sqrt(schedule.posterior(t, s)[2]))


@pytest.mark.parametrize(("t", "s"), [(1, 0), (2, 1), (17, 16), (30, 4)])
def test_a_ddpm_step_is_the_posterior_and_the_papers_formula(t, s):
    schedule = NoiseSchedule.linear(30)
    x, found = torch.randn(2, 5, 3).double()
    mean, std = reverse_step(schedule, x, found, t, s)
    bar = schedule.alpha_bar[t].item()
    a, b, variance = schedule.posterior(t, s)
    guess = (x - math.sqrt(1 - bar) * found) / math.sqrt(bar)
    torch.testing.assert_close(mean, a * guess + b * x)
    assert std == pytest.approx(math.sqrt(variance), abs=1e-12)
    if s == t - 1:  # algorithm 2 of the paper
        beta = schedule.beta[t - 1].item()
        torch.testing.assert_close(mean, (x - beta / math.sqrt(1 - bar) * found) / math.sqrt(1 - beta))


def propagated(schedule, mean, covariance, eta, path=None):
    """Mean and covariance at time 0 of the chain with the exact denoiser of a Gaussian, without sampling."""
    denoiser, d = gaussian_denoiser(mean, covariance, schedule), len(mean)
    path = path or list(range(schedule.steps, -1, -1))
    center, spread = torch.zeros(d).double(), torch.eye(d).double()
    corners = torch.cat([torch.zeros(1, d), torch.eye(d)]).double()
    for t, s in pairwise(path):
        images, std = reverse_step(schedule, corners, denoiser(corners, times(corners, t)), t, s, eta)
        shift, matrix = images[0], (images[1:] - images[0]).T
        center, spread = matrix @ center + shift, matrix @ spread @ matrix.T + std**2 * torch.eye(d)
    return center, spread


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_chain_of_a_gaussian_returns_it_with_an_error_of_order_one(eta):
    mean, covariance = MEANS[0], COVARIANCES[0]
    errors = []
    for steps in (100, 200, 400):
        center, spread = propagated(NoiseSchedule.linear(steps, last=30.0), mean, covariance, eta)
        errors.append(((center - mean).norm() + (spread - covariance).norm()).item())
    assert errors[2] < 0.05
    assert all(1.7 < coarse / fine < 2.3 for coarse, fine in pairwise(errors))


def test_the_chain_samples_what_the_linear_maps_foretell():
    schedule = NoiseSchedule.linear(40)
    path = [40, 30, 20, 12, 6, 3, 1, 0]
    denoiser = gaussian_denoiser(MEANS[0], COVARIANCES[0], schedule)
    chain = list(reverse_chain(denoiser, schedule, torch.randn(40_000, 2).double(), times=path, eta=0.7))
    assert [time for time, _ in chain] == path[1:]
    center, spread = propagated(schedule, MEANS[0], COVARIANCES[0], 0.7, path)
    torch.testing.assert_close(chain[-1][1].mean(0), center, atol=0.03, rtol=0)
    torch.testing.assert_close(chain[-1][1].T.cov(), spread, atol=0.03, rtol=0)


def test_the_chain_of_a_mixture_holds_its_weights():
    schedule = NoiseSchedule.linear(100)
    denoiser = exact_denoiser(WEIGHTS, 3 * MEANS, COVARIANCES, schedule)
    *_, (_, x) = reverse_chain(denoiser, schedule, torch.randn(10_000, 2).double())
    assert (x[:, 0] > 0).double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_the_deterministic_chain_draws_nothing_and_ddpm_ends_without_noise():
    schedule = NoiseSchedule.linear(30)
    denoiser = gaussian_denoiser(MEANS[0], COVARIANCES[0], schedule)
    start = torch.randn(6, 2).double()
    ends = [list(reverse_chain(denoiser, schedule, start, eta=0.0))[-1][1] for _ in range(2)]
    assert torch.equal(*ends)
    one, other = (list(reverse_chain(denoiser, schedule, start)) for _ in range(2))
    assert not torch.equal(one[-1][1], other[-1][1])
    last = one[-2][1]
    bar = schedule.alpha_bar[1].item()
    guess = (last - math.sqrt(1 - bar) * denoiser(last, times(last, 1))) / math.sqrt(bar)
    torch.testing.assert_close(one[-1][1], guess)


def test_the_bound_lies_below_the_exact_likelihood_and_comes_close():
    mean, covariance = torch.tensor([0.5, -0.5, 1.0]).double(), torch.diag(torch.tensor([0.3, 1.0, 2.0]).double())
    covariance[0, 1] = covariance[1, 0] = 0.3
    law = MultivariateNormal(mean, covariance)
    x = law.sample((4000,))
    exact, gaps = law.log_prob(x).mean().item(), []
    for steps in (50, 200, 800):
        schedule = NoiseSchedule.linear(steps)
        torch.manual_seed(3)
        bound = variational_bound(gaussian_denoiser(mean, covariance, schedule), schedule, x)
        assert bound.shape == (4000,) and bound.dtype == torch.float64
        gaps.append(exact - bound.mean().item())
    assert gaps[0] > 0.02 and all(-0.02 < gap < 0.02 for gap in gaps[1:])  # of a bound of -3.6, with its noise


@pytest.mark.parametrize("own", [False, True])
def test_the_bound_is_the_sum_of_the_papers_terms(own):
    """Each KL from torch.distributions, for a denoiser that is wrong and the same draws of noise."""
    schedule = NoiseSchedule(torch.linspace(0.01, 0.1, 25))  # much of the data is left at T

    def wrong(x, t=None):
        return 0.5 * x + 0.1

    x = torch.randn(7, 2, 2).double()
    torch.manual_seed(5)
    variances = torch.rand(25).double() + 0.1 if own else None
    torch.manual_seed(5)
    bound = variational_bound(wrong, schedule, x, variances=variances)
    torch.manual_seed(5)
    kl, bar = torch.distributions.kl_divergence, schedule.alpha_bar
    unit = Normal(torch.zeros(()).double(), torch.ones(()).double())
    expected = -kl(Normal(bar[-1].sqrt() * x, (1 - bar[-1]).sqrt()), unit).flatten(1).sum(1)
    for t in range(1, 26):
        noise = torch.randn_like(x)
        noisy = bar[t].sqrt() * x + (1 - bar[t]).sqrt() * noise
        mean, std = reverse_step(schedule, noisy, wrong(noisy), t, t - 1)
        model = Normal(mean, (schedule.beta if variances is None else variances)[t - 1].sqrt())
        if t == 1:
            expected += model.log_prob(x).flatten(1).sum(1)
        else:
            a, b, _ = schedule.posterior(t, t - 1)
            expected -= kl(Normal(a * x + b * noisy, std), model).flatten(1).sum(1)
    torch.testing.assert_close(bound, expected)


@settings(max_examples=10)
@given(st.floats(-1, 4))
def test_guidance_is_linear_in_its_weight(weight):
    torch.manual_seed(0)
    network = NoisePredictor((1, 3, 3), 20, labels=4, width=16)
    x, t, labels = torch.randn(5, 1, 3, 3), torch.randint(1, 21, (5,)), torch.tensor([0, 1, 2, 3, 0])
    asked, free = network(x, t, labels), network(x, t)
    assert asked.shape == x.shape and not torch.allclose(asked, free)
    torch.testing.assert_close(guided(network, labels, weight)(x, t), asked + weight * (asked - free))


def test_the_network_tells_times_apart_and_rows_do_not_meet():
    network = NoisePredictor((3,), 100, width=16)
    x, t = torch.randn(6, 3), torch.tensor([1, 50, 100, 1, 50, 2])
    together = network(x, t)
    alone = torch.cat([network(x[k : k + 1], t[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(together, alone)
    same = network(x[:1].expand(100, 3), torch.arange(1, 101))
    assert (same[1:] - same[:-1]).abs().max(1).values.min() > 1e-5
    assert torch.equal(network(x, t, torch.full((6,), network.labels)), together)


def test_a_short_training_beats_the_best_linear_answer():
    torch.manual_seed(0)
    schedule, network = NoiseSchedule.linear(50), NoisePredictor((1,), 50, width=32, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    data = torch.tensor([-1.0, 1.0])[torch.randint(2, (4000, 1))]
    linear = gaussian_denoiser(torch.zeros(1).double(), torch.ones(1, 1).double(), schedule)
    for _ in range(300):
        optimizer.zero_grad()
        denoising_loss(network, schedule, data[torch.randint(4000, (128,))]).backward()
        optimizer.step()
    with torch.no_grad():
        assert denoising_loss(network, schedule, data) < 0.7 * denoising_loss(linear, schedule, data)


@pytest.mark.parametrize(
    ("call", "named"),
    [(lambda s: NoiseSchedule(torch.tensor([0.1, 1.0])), "beta"),
     (lambda s: NoiseSchedule(torch.tensor([0.0, 0.1])), "beta"),
     (lambda s: NoiseSchedule(torch.full((2, 2), 0.1)), "beta"),
     (lambda s: NoiseSchedule.linear(20), "beta"),
     (lambda s: NoiseSchedule.linear(0), "steps"),
     (lambda s: s.posterior(3, 3), "s and t"),
     (lambda s: s.posterior(26, 3), "s and t"),
     (lambda s: s.diffuse(torch.zeros(2, 3), torch.tensor([1, 2]), torch.zeros(2, 1)), "noise"),
     (lambda s: s.diffuse(torch.zeros(2, 3), torch.tensor([[1], [2]]), torch.zeros(2, 3)), "t"),
     (lambda s: s.diffuse(torch.zeros(2, 3), torch.tensor([1.0, 2.0]), torch.zeros(2, 3)), "t"),
     (lambda s: s.diffuse(torch.zeros(2, 3), torch.tensor([1, 26]), torch.zeros(2, 3)), "t"),
     (lambda s: s.diffuse(torch.zeros(2, 3), torch.tensor([-1, 2]), torch.zeros(2, 3)), "t"),
     (lambda s: denoising_loss(lambda x, t: x[:, :1], s, torch.zeros(2, 3)), "denoiser"),
     (lambda s: variational_bound(lambda x, t: x[:, :1], s, torch.zeros(2, 3)), "denoiser"),
     (lambda s: variational_bound(lambda x, t: x, s, torch.zeros(2, 3), variances=torch.ones(24)), "variances"),
     (lambda s: next(reverse_chain(lambda x, t: x[:, :1], s, torch.zeros(2, 3))), "denoiser"),
     (lambda s: next(reverse_chain(lambda x, t: x, s, torch.zeros(2, 3), eta=1.5)), "eta"),
     (lambda s: next(reverse_chain(lambda x, t: x, s, torch.zeros(2, 3), times=[25, 3])), "times"),
     (lambda s: next(reverse_chain(lambda x, t: x, s, torch.zeros(2, 3), times=[24, 0])), "times"),
     (lambda s: list(islice(reverse_chain(lambda x, t: x, s, torch.zeros(2, 3), times=[25, 3, 9, 0]), 2)), "s and t"),
     (lambda s: exact_denoiser(WEIGHTS, MEANS, COVARIANCES[:1], s), "weights, means, covariances"),
     (lambda s: exact_denoiser(WEIGHTS, MEANS[:, 0], COVARIANCES, s), "weights, means, covariances"),
     (lambda s: exact_denoiser(WEIGHTS / 2, MEANS, COVARIANCES, s), "weights"),
     (lambda s: exact_denoiser(WEIGHTS, MEANS, -COVARIANCES, s), "covariances"),
     (lambda s: NoisePredictor((2,), 0), "steps"),
     (lambda s: NoisePredictor((2, 0), 10), "shape")],
)  # fmt: skip
def test_what_is_wrong_is_named(call, named):
    with pytest.raises(ValueError, match=named + r".*: expected"):
        call(NoiseSchedule.linear(25))


def test_the_bound_takes_points_on_the_line_and_names_bad_variances():
    schedule, x = NoiseSchedule.linear(30), torch.randn(4)

    def still(x, t):
        return torch.zeros_like(x)

    torch.manual_seed(0)
    flat = variational_bound(still, schedule, x)
    torch.manual_seed(0)
    assert flat == pytest.approx(variational_bound(still, schedule, x[:, None]))
    with pytest.raises(ValueError, match="variances: expected a finite number above 0"):
        variational_bound(still, schedule, x, variances=0 * schedule.beta)
    with pytest.raises(ValueError, match="x: expected a tensor with at least one element"):
        variational_bound(still, schedule, x[:0])
