"""Differentiable games: players who each descend a loss of their own, on one joint vector of parameters.

A play is a generator of positions without end; it looks at its arguments when the first position is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from . import _checks

Losses = Callable[[Tensor], Tensor]
Field = Callable[[Tensor], Tensor]


def zero_sum(value: Callable[[Tensor], Tensor]) -> Losses:
    """The losses (L, -L) of min max L: player 0 descends the ``value`` at the joint omega (d,), player 1 climbs."""
    return lambda omega: torch.stack([value(omega), -value(omega)])


def game_field(losses: Losses, owner: Sequence[int]) -> Field:
    """xi(omega): coordinate j is the derivative of the loss of player ``owner[j]`` by omega_j.

    ``losses`` maps the joint parameters (d,) to one loss for each player (n,); the field maps (d,) to (d,), and the
    players move along minus it. Raises ``ValueError`` if ``owner`` does not name a player for every coordinate
    (Balduzzi et al., 2018, arXiv:1802.05642).
    """
    players = torch.tensor(owner)

    def field(omega: Tensor) -> Tensor:
        if omega.shape != players.shape:  # all that can be asked of it under vmap
            _checks.fail("owner", f"a player for each of the {tuple(omega.shape)} parameters", list(owner))
        slopes: Tensor = torch.func.jacrev(losses)(omega)
        if not 0 <= int(players.min()) <= int(players.max()) < len(slopes):
            _checks.fail("owner", f"players from 0 to {len(slopes) - 1}", list(owner))
        return slopes[players, torch.arange(len(players))]

    return field


def jacobian(field: Field, omega: Tensor) -> Tensor:
    """The derivative (d, d) of a field at ``omega`` (d,); descent is locally stable if its eigenvalues have Re > 0."""
    matrix: Tensor = torch.func.jacrev(field)(omega)
    return matrix


@dataclass(frozen=True)
class CriticalPoint:
    """What derivatives say of a point: xi's norm, the eigenvalues of each player's own Hessian and of the Jacobian."""

    gradient: float
    curvatures: tuple[Tensor, ...]
    eigenvalues: Tensor

    def is_stationary(self, tolerance: float = 1e-9) -> bool:
        """No player has a slope: necessary for an interior Nash equilibrium."""
        return self.gradient <= tolerance

    def is_differential_nash(self, tolerance: float = 1e-9) -> bool:
        """Stationary, every player's own Hessian positive definite: sufficient for a strict local Nash equilibrium."""
        return self.is_stationary(tolerance) and all(bool((own > tolerance).all()) for own in self.curvatures)

    def is_stable(self, tolerance: float = 1e-9) -> bool:
        """Stationary, and small simultaneous steps approach it: all eigenvalues of the Jacobian have Re > 0."""
        return self.is_stationary(tolerance) and bool((self.eigenvalues.real > tolerance).all())


def critical_point(losses: Losses, owner: Sequence[int], omega: Tensor) -> CriticalPoint:
    """First and second derivatives of a game at ``omega`` (d,), by player (Ratliff et al., 2016, arXiv:1411.2168)."""
    field = game_field(losses, owner)
    slope, matrix = field(omega), jacobian(field, omega)
    players = torch.tensor(owner)
    own = [(players == player).nonzero().squeeze(1) for player in range(len(losses(omega)))]
    curvatures = tuple(torch.linalg.eigvalsh(matrix[mine][:, mine]) for mine in own)
    return CriticalPoint(slope.norm().item(), curvatures, torch.linalg.eigvals(matrix))


def unilateral_gain(losses: Losses, owner: Sequence[int], omega: Tensor, moves: Tensor) -> float:
    """The most that one player gains by a move of its own: max_i L_i(omega) - min_move L_i(move_i, omega_others).

    ``moves`` (m, d) are tried one by one, each player taking from them its own coordinates alone. ``omega`` is a Nash
    equilibrium if the gain over all moves is 0; a positive gain disproves it (Nash, 1950, doi:10.1073/pnas.36.1.48).
    Raises ``ValueError`` for moves of another length than ``omega``.
    """
    if _checks.tensor("moves", moves).ndim != 2 or moves.shape[1:] != omega.shape:
        _checks.fail("moves", f"shape (m, {len(omega)})", f"shape {tuple(moves.shape)}")
    now, players = losses(omega), torch.tensor(owner)
    gains = []
    for player in range(len(now)):
        tried = torch.where(players == player, moves, omega)
        gains.append(now[player] - torch.func.vmap(losses)(tried)[:, player].min())
    return float(torch.stack(gains).max())


def consensus(field: Field, strength: float) -> Field:
    """xi + strength J^T xi: each also descends half of xi's squared norm (Mescheder et al., 2017, arXiv:1705.10461)."""

    def adjusted(omega: Tensor) -> Tensor:
        slope = field(omega)
        pulled: Tensor = torch.func.vjp(field, omega)[1](slope)[0]
        return slope + strength * pulled

    return adjusted


def simultaneous(field: Field, omega: Tensor, rate: float, *, project: Field | None = None) -> Iterator[Tensor]:
    """omega <- omega - rate xi(omega), without end; ``project`` maps each new omega back into the allowed set."""
    _checks.positive("rate", rate)
    while True:
        omega = omega - rate * field(omega)
        omega = omega if project is None else project(omega)
        yield omega


def alternating(
    field: Field,
    omega: Tensor,
    rate: float,
    *,
    owner: Sequence[int],
    turns: Sequence[int] = (0, 1),
    project: Field | None = None,
) -> Iterator[Tensor]:
    """The players move in ``turns``, each seeing the others' last move; yields omega after each round of turns.

    ``turns=(0, 1, 1)`` is one step of player 0, then two of player 1. Raises ``ValueError`` for a turn of nobody.
    """
    _checks.positive("rate", rate)
    players = torch.tensor(owner)
    if not turns or set(turns) - set(owner):
        _checks.fail("turns", f"players among {sorted(set(owner))}", list(turns))
    while True:
        for player in turns:
            omega = torch.where(players == player, omega - rate * field(omega), omega)
            omega = omega if project is None else project(omega)
        yield omega


def extragradient(field: Field, omega: Tensor, rate: float) -> Iterator[Tensor]:
    """omega <- omega - rate xi(omega - rate xi(omega)): look one step ahead, move from here (Korpelevich, 1976)."""
    _checks.positive("rate", rate)
    while True:
        omega = omega - rate * field(omega - rate * field(omega))
        yield omega


def optimistic(field: Field, omega: Tensor, rate: float) -> Iterator[Tensor]:
    """omega <- omega - rate (2 xi(omega) - xi(last omega)): the change of the slope forecasts the next one.

    The first step is a plain one (Daskalakis et al., 2018, arXiv:1711.00141).
    """
    _checks.positive("rate", rate)
    last = field(omega)
    while True:
        slope = field(omega)
        omega, last = omega - rate * (2 * slope - last), slope
        yield omega


def path(start: Tensor, play: Iterator[Tensor], steps: int) -> Tensor:
    """The first ``steps`` positions of a play behind its ``start``: (steps + 1, d)."""
    return torch.stack([start, *islice(play, _checks.positive_integer("steps", steps))])
