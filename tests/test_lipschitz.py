"""Slopes of critics that are known, and what a penalty's own gradient must and must not reach."""

import pytest
import torch
from torch import nn

from gankit.lipschitz import gradient_norms, r1_penalty
from gankit.networks import mlp


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


@pytest.mark.parametrize("function", [gradient_norms, r1_penalty])
def test_a_critic_gives_one_score_a_point(function):
    with pytest.raises(ValueError, match=r"^critic: expected one score for each of 4 points, got shape \(4, 3\)"):
        function(nn.Linear(2, 3), torch.randn(4, 2))
