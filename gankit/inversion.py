"""From images back to noise: BiGAN's encoder, and inversion by optimization."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import _checks
from .losses import AdversarialLoss
from .training import Step, descend, endless, frozen


def bigan_training(
    generator: nn.Module,
    encoder: nn.Module,
    critic: nn.Module,
    *,
    loss: AdversarialLoss,
    data: Iterable[Tensor],
    noise: Callable[[int], Tensor],
    pair_optimizer: Optimizer,
    critic_optimizer: Optimizer,
) -> Iterator[Step]:
    """min_{G, E} max_D over pairs (x, E(x)) and (G(z), z), forever: ``critic(x, z)`` scores pairs.

    The critic's real pairs are (x, E(x)). Generator and encoder share ``pair_optimizer``: the one wants its pairs taken
    for real, the other wants its own taken for fake, which is ``loss.generator`` of the negated scores where the
    critic's loss is symmetric: the same for (real, fake) and (-fake, -real). ``data`` yields batches (N, ...) without
    end, ``noise(N)`` codes (N, k). Raises ``ValueError`` for a loss that is not symmetric, if ``data`` ends, if codes
    or images differ in shape, or if a loss is not finite (Donahue, Kraehenbuehl and Darrell, 2017, arXiv:1605.09782).
    """
    one, other = torch.tensor([0.5, -0.3]), torch.tensor([-0.9, 1.7])
    if not torch.allclose(loss.critic(one, other), loss.critic(-other, -one)):
        _checks.fail("loss", "a critic's loss that is the same for (real, fake) and (-fake, -real)", loss.name)
    for index, real in enumerate(endless(data), start=1):
        z = noise(len(real))
        with torch.no_grad():
            fake, code = generator(z), encoder(real)
        _checks.same_shape("the real batch", real, "generator(noise)", fake)
        _checks.same_shape("noise", z, "encoder(data)", code)
        critic_value = descend(loss.critic(critic(real, code), critic(fake, z)), critic_optimizer)
        z = noise(len(real))
        with frozen(critic):
            fooled = loss.generator(critic(generator(z), z)) + loss.generator(-critic(real, encoder(real)))
            pair_value = descend(fooled, pair_optimizer)
        yield Step(index, critic_value, pair_value)


@torch.enable_grad()  # for callers who evaluate without gradients
def invert(generator: nn.Module, x: Tensor, start: Tensor, *, steps: int = 200, rate: float = 0.1) -> Tensor:
    """argmin_z |G(z) - x|^2 for each row of ``x`` (N, ...), by Adam from ``start`` (N, k): codes (N, k).

    The generator should be in evaluation mode and is left as it is. With k below the dimension of x the minimum is
    rarely 0, and there may be several. Raises ``ValueError`` if G(start) has not the shape of x, and for a start,
    an x or a distance that is not finite (Creswell and Bharath, 2018, arXiv:1802.05701).
    """
    _checks.positive_integer("steps", steps), _checks.positive("rate", rate)
    x = _checks.tensor("x", x).detach()
    z = _checks.tensor("start", start).detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], rate)
    with frozen(generator):
        for _ in range(steps):
            drawn = generator(z)
            _checks.same_shape("generator(start)", drawn, "x", x)
            descend((drawn - x).square().sum(), optimizer)
    return z.detach()
