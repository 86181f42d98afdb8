"""Fields against autograd, equilibria against their definition, and play against the exact powers of its matrix."""

import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gankit.games import (
    alternating,
    consensus,
    critical_point,
    extragradient,
    game_field,
    jacobian,
    optimistic,
    path,
    simultaneous,
    unilateral_gain,
    zero_sum,
)
from gankit.losses import MINIMAX

OWNERS = [(0, 1), (0, 0, 1), (0, 1, 0, 2), (2, 1, 0)]
BOTH = (0, 1)
rates = st.floats(0.01, 0.95)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def bilinear(w: Tensor) -> Tensor:
    return w[0] * w[1]


def polynomial(owner: tuple[int, ...]):
    """Losses of degree three with random coefficients, one for each player."""
    d, players = len(owner), max(owner) + 1
    linear, square, cube = torch.randn(players, d), torch.randn(players, d, d), torch.randn(players, d, d, d)

    def losses(w: Tensor) -> Tensor:
        return linear @ w + (square @ w) @ w + ((cube @ w) @ w) @ w

    return losses


def growth(points: Tensor) -> float:
    """The factor by which a step changes the distance to 0, as a geometric mean."""
    return ((points[-1].norm() / points[0].norm()) ** (1 / (len(points) - 1))).item()


# --- the field and its derivatives --------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", OWNERS)
def test_each_coordinate_of_the_field_is_a_slope_of_its_owners_loss(owner):
    losses, w = polynomial(owner), torch.randn(len(owner), requires_grad=True)
    field = game_field(losses, owner)(w.detach())
    for j, player in enumerate(owner):
        (slope,) = torch.autograd.grad(losses(w)[player], w)
        assert field[j].item() == pytest.approx(slope[j].item(), rel=1e-12)


@pytest.mark.parametrize("owner", OWNERS)
def test_the_jacobian_is_the_fields_difference_quotient(owner):
    field, w, step = game_field(polynomial(owner), owner), torch.randn(len(owner)), 1e-6
    columns = [(field(w + step * e) - field(w - step * e)) / (2 * step) for e in torch.eye(len(owner))]
    torch.testing.assert_close(jacobian(field, w), torch.stack(columns, 1), rtol=1e-6, atol=1e-6)


def test_the_jacobian_of_a_zero_sum_game_has_the_mixed_block_with_both_signs():
    losses, w = polynomial((0, 0, 0, 0)), torch.randn(4)

    def value(w: Tensor) -> Tensor:
        return losses(w)[0]

    hessian = torch.autograd.functional.hessian(value, w)
    matrix = jacobian(game_field(zero_sum(value), (0, 0, 1, 1)), w)
    torch.testing.assert_close(matrix[:2], hessian[:2])
    torch.testing.assert_close(matrix[2:], -hessian[2:])
    torch.testing.assert_close(matrix[:2, 2:], -matrix[2:, :2].T)


def test_the_losses_of_a_zero_sum_game_cancel():
    losses = zero_sum(bilinear)(torch.tensor([2.0, 3.0]))
    assert losses.tolist() == [6.0, -6.0]


@pytest.mark.parametrize(("owner", "length"), [((0, 1), 3), ((0, 1, 1), 2)])
def test_the_field_wants_an_owner_for_every_coordinate(owner, length):
    with pytest.raises(ValueError, match=rf"^owner: expected a player for each of the \({length},\) parameters"):
        game_field(zero_sum(bilinear), owner)(torch.ones(length))


@pytest.mark.parametrize("owner", [(0, 2), (-1, 0)])
def test_the_field_wants_players_that_have_a_loss(owner):
    with pytest.raises(ValueError, match=r"^owner: expected players from 0 to 1, got"):
        game_field(zero_sum(bilinear), owner)(torch.ones(2))


# --- equilibria ---------------------------------------------------------------------------------------------------

GAMES = {  # value; stationary, differential Nash, Nash on the square, stable
    "saddle": (lambda w: w[0] ** 2 + w[0] * w[1] - w[1] ** 2, (True, True, True, True)),
    "bilinear": (bilinear, (True, False, True, False)),
    "quartic": (lambda w: w[0] ** 4 - w[1] ** 4, (True, False, True, False)),
    "cubic": (lambda w: w[0] ** 3 - w[1] ** 2, (True, False, False, False)),
    "slope": (lambda w: w[0] + w[0] ** 2 - w[1] ** 2, (False, False, False, False)),
    "stable, not Nash": (lambda w: -(w[0] ** 2) / 4 + 2 * w[0] * w[1] - w[1] ** 2, (True, False, False, True)),
    "players swapped": (lambda w: w[1] ** 2 + w[0] * w[1] - w[0] ** 2, (True, False, False, False)),
}


@pytest.mark.parametrize("name", GAMES)
def test_points_are_told_apart(name):
    value, expected = GAMES[name]
    losses, origin = zero_sum(value), torch.zeros(2)
    point = critical_point(losses, BOTH, origin)
    moves = torch.cartesian_prod(*[torch.linspace(-1, 1, 41)] * 2)
    nash = unilateral_gain(losses, BOTH, origin, moves) <= 1e-12
    assert (point.is_stationary(), point.is_differential_nash(), nash, point.is_stable()) == expected


def test_curvatures_belong_to_their_player():
    def losses(w: Tensor) -> Tensor:
        return torch.stack([w[0] ** 2 + 3 * w[2] ** 2, w[1] ** 2 * 5 + w[0] * w[1]])

    point = critical_point(losses, (0, 1, 0), torch.zeros(3))
    assert [own.tolist() for own in point.curvatures] == [[2.0, 6.0], [10.0]]
    assert sorted(point.eigenvalues.real.tolist()) == pytest.approx([2.0, 6.0, 10.0])


def test_a_gain_is_the_best_move_of_one_player_alone():
    losses, w, moves = polynomial((0, 1, 1)), torch.randn(3), torch.randn(50, 3)
    gains = []
    for move in moves:
        for player, mine in ((0, [0]), (1, [1, 2])):
            moved = w.clone()
            moved[mine] = move[mine]
            gains.append((losses(w)[player] - losses(moved)[player]).item())
    assert unilateral_gain(losses, (0, 1, 1), w, moves) == pytest.approx(max(gains), rel=1e-12)


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_moves_have_the_length_of_the_point(shape):
    with pytest.raises(ValueError, match=r"^moves: expected shape \(m, 2\), got shape"):
        unilateral_gain(zero_sum(bilinear), BOTH, torch.zeros(2), torch.zeros(shape))


# --- play ---------------------------------------------------------------------------------------------------------


@given(rate=rates)
def test_on_the_bilinear_game_simultaneous_steps_grow_by_the_root_of_one_plus_rate_squared(rate):
    field = game_field(zero_sum(bilinear), BOTH)
    points = path(torch.tensor([0.6, -0.8]), simultaneous(field, torch.tensor([0.6, -0.8]), rate), 5)
    assert growth(points) == pytest.approx(math.sqrt(1 + rate**2), rel=1e-10)


@given(rate=rates)
def test_on_the_bilinear_game_extragradient_shrinks_by_its_modulus(rate):
    start = torch.tensor([0.6, -0.8])
    points = path(start, extragradient(game_field(zero_sum(bilinear), BOTH), start, rate), 5)
    assert growth(points) == pytest.approx(math.sqrt(1 - rate**2 + rate**4), rel=1e-10)


@given(rate=st.floats(0.05, 3))
def test_on_the_bilinear_game_alternating_steps_keep_an_ellipse(rate):
    """x^2 + y^2 - rate x y is conserved whatever the rate; it is an ellipse, so that w stays bounded, up to rate 2."""
    start = torch.tensor([0.6, -0.8])
    play = alternating(game_field(zero_sum(bilinear), BOTH), start, rate, owner=BOTH)
    x, y = path(start, play, 20).T
    kept = x**2 + y**2 - rate * x * y
    scale = (x**2 + y**2).max().item()
    assert (kept - kept[0]).abs().max().item() <= 1e-12 * scale


@pytest.mark.parametrize(("rate", "bounded"), [(1.99, True), (2.01, False)])
def test_alternating_steps_leave_the_bilinear_game_beyond_rate_two(rate, bounded):
    start = torch.tensor([0.6, -0.8])
    points = path(start, alternating(game_field(zero_sum(bilinear), BOTH), start, rate, owner=BOTH), 300)
    assert bool(points.norm(dim=1).max() < 100) == bounded


def test_optimistic_steps_follow_the_powers_of_their_matrix():
    """On xi(w) = A w the pair (w, last w) moves by a matrix; the first step has last = w."""
    rate, a, start = 0.3, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0.6, -0.8])
    points = path(start, optimistic(lambda w: a @ w, start, rate), 60)
    companion = torch.cat([torch.cat([torch.eye(2) - 2 * rate * a, rate * a], 1), torch.eye(2, 4)])
    expected = torch.linalg.matrix_power(companion, 60) @ torch.cat([start, start])
    torch.testing.assert_close(points[-1], expected[:2], rtol=1e-9, atol=1e-12)
    assert points[-1].norm() < points[0].norm()


@pytest.mark.parametrize("owner", OWNERS)
def test_consensus_adds_the_slope_of_half_the_squared_field(owner):
    field, w = game_field(polynomial(owner), owner), torch.randn(len(owner))

    def energy(w: Tensor) -> Tensor:
        return field(w).square().sum() / 2

    expected = field(w) + 0.7 * torch.autograd.functional.jacobian(energy, w)
    torch.testing.assert_close(consensus(field, 0.7)(w), expected)


def test_players_take_their_turns_in_the_order_asked_for():
    def field(w: Tensor) -> Tensor:
        return w.sum().expand(2)  # both would move by the sum of what stands now

    start = torch.tensor([1.0, 1.0])
    assert next(alternating(field, start, 0.5, owner=BOTH)).tolist() == [0.0, 0.5]
    assert next(alternating(field, start, 0.5, owner=BOTH, turns=(1, 0))).tolist() == [0.5, 0.0]
    assert next(alternating(field, start, 0.5, owner=BOTH, turns=(0, 1, 1))).tolist() == [0.0, 0.25]
    assert next(simultaneous(field, start, 0.5)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("turns", [(), (0, 2)])
def test_a_turn_belongs_to_a_player(turns):
    with pytest.raises(ValueError, match=r"^turns: expected players among \[0, 1\], got"):
        next(alternating(lambda w: w, torch.ones(2), 0.1, owner=BOTH, turns=turns))


def test_every_step_is_projected():
    seen = []

    def project(w: Tensor) -> Tensor:
        seen.append(w.clone())
        return w.clamp(-0.5, 0.5)

    def field(w: Tensor) -> Tensor:
        return -torch.ones(2)

    assert next(simultaneous(field, torch.zeros(2), 1.0, project=project)).tolist() == [0.5, 0.5]
    assert next(alternating(field, torch.zeros(2), 1.0, owner=BOTH, project=project)).tolist() == [0.5, 0.5]
    assert [w.tolist() for w in seen] == [[1.0, 1.0], [1.0, 0.0], [0.5, 1.0]]


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan])
@pytest.mark.parametrize("method", [simultaneous, extragradient, optimistic, alternating])
def test_rates_are_positive(method, rate):
    options = {"owner": BOTH} if method is alternating else {}
    with pytest.raises(ValueError, match=r"^rate: expected a finite number above 0"):
        next(method(lambda w: w, torch.ones(2), rate, **options))


def test_a_path_begins_at_its_start_and_ends_after_its_steps():
    start = torch.ones(3)
    points = path(start, simultaneous(lambda w: w, start, 0.5), 4)
    torch.testing.assert_close(points, 0.5 ** torch.arange(5.0)[:, None].expand(5, 3))
    with pytest.raises(ValueError, match=r"^steps: expected"):
        path(start, simultaneous(lambda w: w, start, 0.5), 0)


def test_play_leaves_its_start_alone_and_carries_no_graph():
    start = torch.ones(2)
    for play in (simultaneous, extragradient, optimistic):
        last = list(islice(play(game_field(zero_sum(bilinear), BOTH), start, 0.1), 3))[-1]
        assert not last.requires_grad
    assert start.tolist() == [1.0, 1.0]


def test_the_dirac_gan_with_a_gradient_penalty_ends_where_mescheder_et_al_end():
    """Their notebook prints 2.64e-6 after 500 simultaneous steps of 0.2 with gamma = 0.3 (arXiv:1801.04406)."""

    def losses(w: Tensor) -> Tensor:
        fake, real = (w[0] * w[1]).reshape(1, 1), torch.zeros(1, 1)
        return torch.stack([MINIMAX.generator(fake), MINIMAX.critic(real, fake) + 0.15 * w[1] ** 2])

    start = torch.tensor([1.0, -1.0])
    end = path(start, simultaneous(game_field(losses, BOTH), start, 0.2), 500)[-1].norm().item()
    assert end == pytest.approx(2.64e-6, rel=2e-3)
    found = critical_point(losses, BOTH, torch.zeros(2)).eigenvalues
    assert found.real.tolist() == pytest.approx([0.15, 0.15])
    assert sorted(found.imag.tolist()) == pytest.approx([-0.47697, 0.47697], rel=1e-5)
