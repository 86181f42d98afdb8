"""The few networks that the book needs, one short builder for each family."""

import itertools

from torch import nn

from . import _checks


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Fully connected layers (N, widths[0]) -> (N, widths[-1]), with ``activation`` between them and none at the end.

    Raises ``ValueError`` for fewer than two widths or a width that is no positive whole number.
    """
    if len(widths) < 2:
        _checks.fail("widths", "at least an input and an output width", widths)
    for width in widths:
        _checks.positive_integer("widths", width)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def dcgan_generator(latent: int, channels: int, size: int, width: int = 32) -> nn.Sequential:
    """(N, latent) -> (N, channels, size, size) in [-1, 1], by transposed convolutions that double the size.

    ``width`` is the number of feature maps at half the final size; each halving doubles it. Raises ``ValueError``
    unless ``size`` is a power of two from 8 to 64 (Radford, Metz and Chintala, 2016, arXiv:1511.06434).
    """
    doublings = _doublings(size)
    for argument, value in (("latent", latent), ("channels", channels), ("width", width)):
        _checks.positive_integer(argument, value)
    maps = [width * 2**k for k in reversed(range(doublings))]
    layers: list[nn.Module] = [
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, maps[0], 4, bias=False),  # (N, maps[0], 4, 4)
        nn.BatchNorm2d(maps[0]),
        nn.ReLU(),
    ]
    for fan_in, fan_out in itertools.pairwise(maps):
        layers += [nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
    return _initialize(nn.Sequential(*layers, nn.ConvTranspose2d(maps[-1], channels, 4, 2, 1), nn.Tanh()))


def dcgan_critic(
    channels: int, size: int, width: int = 32, norm: type[nn.Module] | None = nn.BatchNorm2d
) -> nn.Sequential:
    """(N, channels, size, size) -> scores (N, 1), by strided convolutions that halve the size.

    ``norm=None`` leaves normalization out: batch normalization couples the samples, which a gradient penalty must not
    meet. Raises ``ValueError`` unless ``size`` is a power of two from 8 to 64 (Radford et al., 2016, arXiv:1511.06434).
    """
    halvings = _doublings(size)
    for argument, value in (("channels", channels), ("width", width)):
        _checks.positive_integer(argument, value)
    maps = [channels] + [width * 2**k for k in range(halvings)]
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(maps)):
        normalized = k > 0 and norm is not None
        layers += [nn.Conv2d(fan_in, fan_out, 4, 2, 1, bias=not normalized)]
        layers += [norm(fan_out)] if norm is not None and normalized else []
        layers += [nn.LeakyReLU(0.2)]
    return _initialize(nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, 4), nn.Flatten()))  # (N, maps[-1], 4, 4) -> (N, 1)


def _doublings(size: int) -> int:
    if size not in (8, 16, 32, 64):
        _checks.fail("size", "a power of two from 8 to 64", size)
    return (size // 4).bit_length() - 1


def _initialize(network: nn.Sequential) -> nn.Sequential:
    """The paper's initialization: weights N(0, 0.02^2), scales N(1, 0.02^2), biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
