"""Slopes of critics that are known, and what a penalty's own gradient must and must not reach."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gankit.lipschitz import (
    clip_weights_,
    dragan_penalty,
    gradient_norms,
    gradient_penalty,
    lipschitz_lower_bound,
    normalize_weights_,
    r1_penalty,
    spectrally_normalized,
)
from gankit.networks import dcgan_critic, dcgan_generator, mlp
from gankit.training import descend


class Quadratic(nn.Module):
    """V(x) = a |x|^2 / 2, whose slope is a x."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x.flatten(1).square().sum(1, keepdim=True) / 2


@pytest.mark.parametrize("shape", [(7, 2), (5, 1, 3, 4)])
def test_slopes_of_a_quadratic(shape):
    points = torch.randn(shape)
    torch.testing.assert_close(gradient_norms(Quadratic(), points), 3 * points.flatten(1).norm(dim=1))
    penalty = r1_penalty(Quadratic(), points)
    torch.testing.assert_close(penalty, 9 * points.flatten(1).square().sum(1).mean())


def test_the_penalty_is_differentiable_by_the_critics_parameters():
    critic, points = Quadratic(), torch.randn(6, 2)
    r1_penalty(critic, points).backward()
    expected = 2 * 3 * points.square().sum(1).mean()  # d/da of a^2 E |x|^2
    torch.testing.assert_close(critic.a.grad, expected)
    assert points.grad is None and not points.requires_grad


def test_a_flat_critic_has_a_finite_penalty_gradient():
    critic = mlp(2, 8, 1)
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    r1_penalty(critic, torch.randn(5, 2)).backward()
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters() if p.grad is not None)


def test_a_graph_behind_the_points_is_cut():
    generator = nn.Linear(2, 2)
    r1_penalty(Quadratic(), generator(torch.randn(4, 2))).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_the_mean_does_not_depend_on_how_points_are_batched():
    critic, points = mlp(2, 16, 1), torch.randn(12, 2)
    halves = [r1_penalty(critic, half) for half in points.split(6)]
    torch.testing.assert_close(r1_penalty(critic, points), sum(halves) / 2)


def test_norms_match_differences_of_scores():
    torch.manual_seed(1)
    critic, points, step = mlp(3, 16, 1).double(), torch.randn(4, 3, dtype=torch.float64), 1e-6
    columns = [(critic(points + step * e) - critic(points - step * e)) / (2 * step) for e in torch.eye(3).double()]
    torch.testing.assert_close(gradient_norms(critic, points), torch.cat(columns, 1).norm(dim=1), rtol=1e-6, atol=1e-8)


class Slope(nn.Module):
    """V(x) = u.x for a vector u of norm ``slope``: its gradient has that norm everywhere."""

    def __init__(self, slope: float, shape: tuple[int, ...]) -> None:
        super().__init__()
        u = torch.randn(shape)
        self.u = nn.Parameter(slope * u / u.norm())
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach())
        return (self.u * x).flatten(1).sum(1)


@given(slope=st.floats(0.1, 5), target=st.floats(0, 3), count=st.sampled_from([1, 16, 64]))
def test_a_constant_slope_is_penalized_alike_in_batches_of_any_size_and_shape(slope, target, count):
    for shape in ((2,), (3, 4, 4)):
        critic, real, fake = Slope(slope, shape), torch.randn(count, *shape), torch.randn(count, *shape)
        excess = slope - target
        both = gradient_penalty(critic, real, fake, target=target)
        one = gradient_penalty(critic, real, fake, target=target, one_sided=True)
        around = dragan_penalty(critic, real, width=0.5, target=target)
        assert both.item() == pytest.approx(excess**2, abs=1e-4)
        assert around.item() == pytest.approx(excess**2, abs=1e-4)
        assert one.item() == pytest.approx(max(excess, 0) ** 2, abs=1e-4)


def test_the_penalty_looks_at_segments_and_each_pair_has_a_place_of_its_own():
    critic, real, fake = Slope(1.0, (1, 2, 2)), torch.zeros(500, 1, 2, 2), torch.ones(500, 1, 2, 2)
    gradient_penalty(critic, real, fake)
    places = critic.seen[0].flatten(1)
    assert (places == places[:, :1]).all() and places.min() >= 0 and places.max() <= 1
    assert places[:, 0].mean().item() == pytest.approx(0.5, abs=0.06)  # uniform: 4.6 standard errors
    assert places[:, 0].var().item() == pytest.approx(1 / 12, abs=0.02)


def test_dragan_looks_around_the_data():
    critic, real = Slope(1.0, (2,)), torch.full((4000, 2), 3.0)
    dragan_penalty(critic, real, width=0.5)
    offset = critic.seen[0] - 3
    assert offset.mean(0).norm() < 0.05 and offset.std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)


def test_the_optimum_of_a_penalized_line_overshoots():
    """min_s -s d + L (s - 1)^2 for P at d and Q at 0 is s = 1 + d / 2L: a soft constraint is not a constraint."""
    distance, weight = 3.0, 10.0
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 0.5)  # from a negative start it stays at -(1 - d / 2L), another minimum
    optimizer = torch.optim.SGD(critic.parameters(), 0.02)
    real, fake = torch.full((8, 1), distance), torch.zeros(8, 1)
    for _ in range(300):
        penalty = weight * gradient_penalty(critic, real, fake)
        descend(critic(fake).mean() - critic(real).mean() + penalty, optimizer)
    assert critic.weight.item() == pytest.approx(1 + distance / (2 * weight), abs=1e-3)


@pytest.mark.parametrize(
    "penalty", [gradient_penalty, lambda critic, real, fake: dragan_penalty(critic, real, width=0.3)]
)
def test_penalties_reach_the_critic_and_nothing_else(penalty):
    critic, generator, real = mlp(2, 16, 1, activation=nn.Tanh), nn.Linear(2, 2), torch.randn(6, 2)
    penalty(critic, real, generator(torch.randn(6, 2))).backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in (critic[0].weight, critic[2].weight))
    assert generator.weight.grad is None


def test_a_flat_critic_has_a_finite_gradient_penalty():
    critic = mlp(2, 8, 1)
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    gradient_penalty(critic, torch.randn(5, 2), torch.randn(5, 2)).backward()
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters() if p.grad is not None)


def test_a_slope_bounds_the_lipschitz_constant_from_below():
    critic, points = mlp(3, 32, 1, activation=nn.Tanh), torch.randn(50, 3)
    assert lipschitz_lower_bound(Quadratic(), points) == pytest.approx(3 * points.norm(dim=1).max().item())
    assert lipschitz_lower_bound(critic, points[:10]) <= lipschitz_lower_bound(critic, points)
    product = math.prod(torch.linalg.matrix_norm(critic[k].weight, 2).item() for k in (0, 2))
    assert 0 < lipschitz_lower_bound(critic, points) <= product


def test_clipping_bounds_layers_and_leaves_normalization_alone():
    critic = dcgan_critic(1, 16, width=8)
    clip_weights_(critic, 0.01)
    for layer in critic:
        largest = [p.abs().max().item() for p in layer.parameters()]
        if isinstance(layer, nn.Conv2d):
            assert max(largest) <= 0.01
        elif isinstance(layer, nn.BatchNorm2d):
            assert largest[0] > 0.9


def test_normalized_weights():
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(5, 7))
    normalize_weights_(critic)
    assert [critic[k].weight.norm().item() for k in (0, 2)] == pytest.approx([1, 1])
    before = critic[2].weight.detach().clone()
    normalize_weights_(critic, rows=True)
    torch.testing.assert_close(critic[0].weight.flatten(1).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(critic[2].weight.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(critic[2].weight, before / before.norm(dim=1, keepdim=True))


def test_spectral_normalization_makes_linear_networks_1_lipschitz_and_keeps_still_in_evaluation():
    network = spectrally_normalized(mlp(4, 32, 32, 1))
    for _ in range(60):
        network(torch.randn(8, 4))
    network.eval()
    norms = [torch.linalg.matrix_norm(network[k].weight, 2).item() for k in (0, 2, 4)]
    assert norms == pytest.approx([1, 1, 1], abs=0.02)
    x = torch.randn(5, 4)
    assert torch.equal(network(x), network(x))
    assert lipschitz_lower_bound(network, torch.randn(200, 4)) <= 1.02


def test_a_transposed_convolution_is_normalized_along_its_outputs():
    network = spectrally_normalized(dcgan_generator(5, 1, 8, width=4))
    for _ in range(60):
        network(torch.randn(4, 5))
    weight = network.eval()[1].weight  # (in, out, 4, 4)
    assert torch.linalg.matrix_norm(weight.transpose(0, 1).flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_a_convolution_may_stretch_more_than_its_reshaped_kernel():
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    nn.init.constant_(layer.weight, 1 / 3)  # reshaped: a row of norm 1
    image = torch.ones(1, 1, 8, 8)
    assert layer.weight.norm().item() == pytest.approx(1)
    assert (layer(image).norm() / image.norm()).item() == pytest.approx(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_penalty(nn.Linear(2, 1), torch.randn(4, 2), torch.randn(5, 2)), r"^fake: expected"),
        (lambda: gradient_penalty(nn.Linear(2, 1), torch.randn(4, 2), torch.randn(4, 2), target=-1), r"^target: "),
        (lambda: dragan_penalty(nn.Linear(2, 1), torch.randn(4, 2), width=0.0), r"^width: "),
        (
            lambda: gradient_norms(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)), torch.randn(4, 2)),
            r"^critic: .*batch",
        ),
        (lambda: clip_weights_(nn.Linear(2, 1), 0.0), r"^bound: "),
        (lambda: spectrally_normalized(nn.ReLU()), r"^network: expected linear"),
        (lambda: spectrally_normalized(spectrally_normalized(nn.Linear(2, 1))), r"^network: .*parametrized"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_batch_normalization_at_rest_is_no_obstacle():
    critic = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).eval()
    assert gradient_norms(critic, torch.randn(4, 2)).shape == (4,)


@pytest.mark.parametrize("function", [gradient_norms, r1_penalty])
def test_a_critic_gives_one_score_a_point(function):
    with pytest.raises(ValueError, match=r"^critic: expected one score for each of 4 points, got shape \(4, 3\)"):
        function(nn.Linear(2, 3), torch.randn(4, 2))


def test_slopes_are_found_where_gradients_are_off():
    critic = mlp(2, 8, 1)
    points = torch.randn(5, 2)
    with torch.no_grad():
        bound = lipschitz_lower_bound(critic, points)
    assert bound == pytest.approx(gradient_norms(critic, points).max().item())


def test_points_on_the_line_need_no_second_axis():
    points = torch.randn(7)
    assert gradient_norms(lambda x: 3 * x, points) == pytest.approx(torch.full((7,), 3.0))
    assert r1_penalty(lambda x: 3 * x, points).item() == pytest.approx(9.0)


def test_batch_normalization_without_running_statistics_is_named():
    critic = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1)).eval()
    with pytest.raises(ValueError, match="critic: expected no batch normalization"):
        gradient_norms(critic, torch.randn(5, 2))


def test_weights_that_are_made_anew_cannot_be_normalized():
    with pytest.raises(ValueError, match="critic: expected layers that are not parametrized"):
        normalize_weights_(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))))


def test_unit_rows_of_a_transposed_convolution_are_its_outputs():
    layer = nn.ConvTranspose2d(3, 5, 4)
    normalize_weights_(layer, rows=True)
    assert layer.weight.detach().transpose(0, 1).flatten(1).norm(dim=1) == pytest.approx(torch.ones(5))
