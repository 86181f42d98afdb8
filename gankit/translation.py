"""Image to image: pix2pix from pairs, CycleGAN without them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import _checks
from .losses import AdversarialLoss
from .training import descend, endless, frozen


@dataclass(frozen=True)
class TranslationStep:
    """A round's number, from 1, the critics' loss, the generators' adversarial part, and their mean absolute error."""

    index: int
    critic_loss: float
    generator_loss: float
    error: float


def pix2pix_training(
    generator: nn.Module,
    critic: nn.Module,
    *,
    loss: AdversarialLoss,
    data: Iterable[Tensor],
    inputs: int,
    weight: float,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
) -> Iterator[TranslationStep]:
    """min_G max_D V(D(x, y), D(x, G(x))) + weight E|y - G(x)|, forever, from pairs.

    ``data`` yields pairs (N, inputs + outputs, H, W) without end, x first, as ``critic`` sees them; ``generator`` maps
    x to y. The error is the mean over pixels. ``weight`` 0 leaves a conditional GAN. Raises ``ValueError`` if ``data``
    ends, for shapes that do not fit, a negative weight, and losses that are not finite (Isola et al., 2017,
    arXiv:1611.07004).
    """
    _checks.positive_integer("inputs", inputs)
    if not weight >= 0:
        _checks.fail("weight", "a number of at least 0", weight)
    for index, real in enumerate(endless(data), start=1):
        x, y = real[:, :inputs], real[:, inputs:]
        fake = generator(x)
        _checks.same_shape("y", y, "generator(x)", fake)
        critic_value = descend(
            loss.critic(critic(real), critic(torch.cat([x, fake.detach()], dim=1))), critic_optimizer
        )
        with frozen(critic):
            adversarial, error = loss.generator(critic(torch.cat([x, fake], dim=1))), (y - fake).abs().mean()
            descend(adversarial + weight * error, generator_optimizer)
        yield TranslationStep(index, critic_value, adversarial.item(), error.item())


def cycle_training(
    to_y: nn.Module,
    to_x: nn.Module,
    critic_x: nn.Module,
    critic_y: nn.Module,
    *,
    loss: AdversarialLoss,
    data_x: Iterable[Tensor],
    data_y: Iterable[Tensor],
    weight: float,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
) -> Iterator[TranslationStep]:
    """Two GANs, G: X -> Y and F: Y -> X, and weight (E|F(G(x)) - x| + E|G(F(y)) - y|), forever, from unpaired data.

    The optimizers hold both generators, and both critics. The error is the sum of both cycles' means over pixels.
    ``weight`` 0 leaves two unrelated GANs. Raises ``ValueError`` if data ends, for shapes that do not fit, a negative
    weight, and losses that are not finite (Zhu et al., 2017, arXiv:1703.10593).
    """
    if not weight >= 0:
        _checks.fail("weight", "a number of at least 0", weight)
    for index, (x, y) in enumerate(zip(endless(data_x), endless(data_y), strict=True), start=1):
        fake_x, fake_y = to_x(y), to_y(x)
        _checks.same_shape("x", x, "to_x(y)", fake_x)
        _checks.same_shape("y", y, "to_y(x)", fake_y)
        judged = loss.critic(critic_x(x), critic_x(fake_x.detach()))
        judged = judged + loss.critic(critic_y(y), critic_y(fake_y.detach()))
        critic_value = descend(judged, critic_optimizer)
        with frozen(critic_x), frozen(critic_y):
            adversarial = loss.generator(critic_x(fake_x)) + loss.generator(critic_y(fake_y))
            error = (to_x(fake_y) - x).abs().mean() + (to_y(fake_x) - y).abs().mean()
            descend(adversarial + weight * error, generator_optimizer)
        yield TranslationStep(index, critic_value, adversarial.item(), error.item())
