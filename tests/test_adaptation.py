"""Gradient reversal by its algebra, the signs of the three players, and distances of domains that are known."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gankit.adaptation import dann_loss, proxy_a_distance, ramp, reverse_gradient
from gankit.networks import mlp


@given(st.floats(0, 10))
def test_reversal_keeps_the_value_and_turns_the_slope(strength):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(reverse_gradient(x, strength), x)
    (slope,) = torch.autograd.grad((reverse_gradient(x, strength) @ weight).square().sum(), x)
    (plain,) = torch.autograd.grad((x @ weight).square().sum(), x)
    torch.testing.assert_close(slope, -strength * plain)


def test_two_reversals_are_none_and_constants_pass():
    x = torch.randn(5, requires_grad=True)
    (slope,) = torch.autograd.grad(reverse_gradient(reverse_gradient(x, 2.0), 0.5).sin().sum(), x)
    torch.testing.assert_close(slope, x.detach().cos())
    assert torch.equal(reverse_gradient(x.detach()), x.detach())


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_a_bad_strength_is_named(strength):
    with pytest.raises(ValueError, match=r"^strength: expected"):
        reverse_gradient(torch.zeros(1), strength)


def test_the_ramp_goes_from_nothing_to_all_and_has_no_memory():
    assert ramp(0) == 0 and ramp(1) > 0.999 and ramp(0.5) == ramp(0.5)
    values = [ramp(k / 20) for k in range(21)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert ramp(0.3, 7.0) == pytest.approx(2 / (1 + math.exp(-2.1)) - 1)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^progress: expected"):
            ramp(bad)


def players():
    return mlp(2, 8, 3), nn.Linear(3, 4), mlp(3, 8, 1)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 7), (6, 1)])
def test_both_losses_by_hand(sizes):
    phi, h, D = players()
    x, labels, target = torch.randn(sizes[0], 2), torch.randint(4, (sizes[0],)), torch.randn(sizes[1], 2)
    task, domains = dann_loss(phi, h, D, (x, labels), target, 0.7)
    torch.testing.assert_close(task, F.cross_entropy(h(phi(x)), labels))
    probability = [torch.sigmoid(D(phi(batch))) for batch in (x, target)]
    torch.testing.assert_close(domains, -probability[0].log().mean() - (1 - probability[1]).log().mean())


def test_the_critic_learns_to_tell_and_the_features_to_prevent_it():
    phi, h, D = players()
    x, labels, target = torch.randn(9, 2), torch.randint(4, (9,)), torch.randn(6, 2) + 1
    task, domains = dann_loss(phi, h, D, (x, labels), target, 0.7)
    grads = lambda loss, network: torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)  # noqa: E731
    plain = F.softplus(-D(phi(x))).mean() + F.softplus(D(phi(target))).mean()
    for found, by_hand in zip(grads(domains, D), grads(plain, D), strict=True):
        torch.testing.assert_close(found, by_hand)
    for found, by_hand in zip(grads(domains, phi), grads(plain, phi), strict=True):
        torch.testing.assert_close(found, -0.7 * by_hand)
    for found, by_hand in zip(grads(task, phi), grads(F.cross_entropy(h(phi(x)), labels), phi), strict=True):
        torch.testing.assert_close(found, by_hand)


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [((torch.randn(4, 2), torch.zeros(4).long()), torch.randn(4, 3), "target"),
     ((torch.randn(4, 2), torch.zeros(3).long()), torch.randn(4, 2), "source")],
)  # fmt: skip
def test_batches_that_do_not_fit_are_named(source, target, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        dann_loss(*players(), source, target, 1.0)


def test_domains_that_are_alike_or_apart():
    torch.manual_seed(0)
    source = torch.randn(600, 3)
    assert abs(proxy_a_distance(source, torch.randn(600, 3))) < 0.3
    assert proxy_a_distance(source, torch.randn(400, 3) + 6) > 1.95
    with torch.no_grad():  # as callers evaluate
        assert proxy_a_distance(source, torch.randn(400, 3) + 6) > 1.95
    assert proxy_a_distance(1e-4 * source, 1e-4 * (torch.randn(400, 3) + 6)) > 1.95  # in any unit


def test_the_distance_is_twice_the_total_variation_for_the_best_critic():
    torch.manual_seed(0)
    shift = 1.5
    exact = 2 * math.erf(shift / 2 / math.sqrt(2))  # 2 (1 - 2 e) with the Bayes error e of N(0, 1) and N(shift, 1)
    found = proxy_a_distance(torch.randn(4000, 1), torch.randn(4000, 1) + shift)
    assert found == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((torch.randn(3, 2), torch.randn(9, 2)), "source"), ((torch.randn(9, 2), torch.randn(9)), "target"),
     ((torch.randn(9, 2), torch.randn(9, 3)), "target")],
)  # fmt: skip
def test_features_that_do_not_fit_are_named(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        proxy_a_distance(*arguments)
