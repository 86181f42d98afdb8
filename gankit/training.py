"""Alternating gradient training, written so that it reads as the algorithm in the paper."""

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from . import _checks
from .losses import AdversarialLoss

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Step:
    """What one round of the game reports: its number, from 1, and the last loss of each player."""

    index: int
    critic_loss: float
    generator_loss: float


def descend(loss: Tensor, optimizer: Optimizer) -> float:
    """One gradient step of ``optimizer`` on the scalar ``loss``, whose value is returned.

    Raises ``ValueError`` for a loss that is no scalar or is not finite; the parameters then stay as they were.
    """
    if loss.ndim != 0:
        _checks.fail("loss", "a scalar", f"shape {tuple(loss.shape)}")
    value = loss.item()
    if not math.isfinite(value):
        _checks.fail("loss", "a finite number", value)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """A block in which gradients flow through ``network`` but not into its parameters."""
    flags = [parameter.requires_grad for parameter in network.parameters()]
    network.requires_grad_(False)
    try:
        yield network
    finally:
        for parameter, flag in zip(network.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


def adversarial_training(
    generator: nn.Module,
    critic: nn.Module,
    *,
    loss: AdversarialLoss,
    data: Iterable[Tensor],
    noise: Callable[[int], Tensor],
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    critic_steps: int = 1,
    penalty: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    project: Callable[[nn.Module], None] | None = None,
) -> Iterator[Step]:
    """Play min_G max_D forever, yielding after each step of the generator: the caller decides when to stop.

    ``data`` yields real batches (N, ...) without end, ``noise(N)`` draws z for N fakes. ``penalty(critic, real, fake)``
    is added to the critic's loss; ``project(critic)`` runs after each of its steps. Raises ``ValueError`` if ``data``
    ends, if shapes of real and fake differ, or if a loss is not finite (Goodfellow et al., 2014, arXiv:1406.2661).
    """
    _checks.positive_integer("critic_steps", critic_steps)
    index, batches = 0, endless(data)
    while True:
        for _ in range(critic_steps):
            real = next(batches)
            with torch.no_grad():
                fake = generator(noise(len(real)))
            _checks.same_shape("the real batch", real, "generator(noise)", fake)
            critic_loss = loss.critic(critic(real), critic(fake))
            if penalty is not None:
                critic_loss = critic_loss + penalty(critic, real, fake)
            critic_value = descend(critic_loss, critic_optimizer)
            if project is not None:
                project(critic)
        with frozen(critic):
            generator_value = descend(loss.generator(critic(generator(noise(len(real))))), generator_optimizer)
        index += 1
        yield Step(index, critic_value, generator_value)


def endless(data: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches of ``data``; raises ``ValueError`` if they end, and for numbers that are not finite."""
    count = 0
    for batch in data:
        count += 1
        yield _checks.tensor("data", batch)
    _checks.fail("data", "batches without end, as gankit.data.stream yields them", f"an end after {count} batches")


@torch.no_grad()
def ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, in place, for parameters; buffers are copied.

    ``average`` starts as ``copy.deepcopy(network)``. Raises ``ValueError`` unless 0 <= decay < 1
    (Yazici et al., 2019, arXiv:1806.04498).
    """
    if not 0 <= decay < 1:
        _checks.fail("decay", "a number from 0 to below 1", decay)
    for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)


def averaged(
    game: Iterable[Step], generator: nn.Module, optimizers: Sequence[Optimizer], rounds: int, decay: float = 0.99
) -> Iterator[tuple[Step, nn.Module]]:
    """The first ``rounds`` of a game, each with the running average of ``generator``, in evaluation mode.

    The optimizers' rates fall linearly to zero over the second half. Both calm the last rounds, where single iterates
    circle around what they approach. The average is one module, updated in place; it begins with short memory
    (Yazici et al., 2019, arXiv:1806.04498).
    """
    _checks.positive_integer("rounds", rounds)
    mean = copy.deepcopy(generator).eval()
    fading = [_fading(optimizer, rounds) for optimizer in optimizers]
    for k, step in enumerate(islice(game, rounds), start=1):
        ema(mean, generator, min(decay, k / (k + 5)))
        for schedule in fading:
            schedule.step()
        yield step, mean


def minimize(
    loss: Callable[[Batch], Tensor], optimizer: Optimizer, data: Iterable[Batch], rounds: int
) -> Iterator[tuple[int, float]]:
    """Descend ``loss(batch)`` on ``rounds`` batches, yielding the round's number, from 1, and its loss.

    For models with a single objective. The rate falls linearly to zero over the second half. Raises ``ValueError`` if
    ``data`` ends before, and for a loss that is no finite scalar.
    """
    _checks.positive_integer("rounds", rounds)
    schedule, index = _fading(optimizer, rounds), 0
    for index, batch in enumerate(islice(data, rounds), start=1):
        value = descend(loss(batch), optimizer)
        schedule.step()
        yield index, value
    if index < rounds:
        _checks.fail("data", f"{rounds} batches", f"an end after {index}")


def _fading(optimizer: Optimizer, rounds: int) -> LambdaLR:
    """The full rate for half of the rounds, then less and less, to zero."""
    return LambdaLR(optimizer, lambda t: min(1.0, 2 * (1 - t / rounds)))


class Stateful(Protocol):
    """A network, an optimizer, or whatever else can hand out its state and take it back."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


RANDOM_STATES = {"random", "cuda_random"}


def save_checkpoint(path: str | Path, step: int, **parts: Stateful) -> None:
    """Write the states of ``parts``, the step and torch's random state; a write cut short leaves the old file whole.

    Raises ``ValueError`` for a part that is named like the random state beside it.
    """
    if taken := RANDOM_STATES & set(parts):
        _checks.fail("parts", f"names other than {sorted(RANDOM_STATES)}", sorted(taken))
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda_random"] = torch.cuda.get_rng_state_all()
    unfinished = Path(path).with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: str | Path, **parts: Stateful) -> int:
    """Restore what ``save_checkpoint`` wrote and return its step, or 0 where there is no file yet.

    A resumed run goes on exactly as the uninterrupted one would have, on the same machine, if it draws from torch's
    global random state alone. Raises ``ValueError`` if the file holds other parts than those asked for.
    """
    if not Path(path).exists():
        return 0
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    kept = set(state) - {"step"} - RANDOM_STATES
    if kept != set(parts):
        _checks.fail("parts", f"the parts {sorted(kept)} that {path} holds", sorted(parts))
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and "cuda_random" in state:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    return int(state["step"])
