"""The few networks that the book needs, one short builder for each family."""

import itertools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from . import _checks

Network = TypeVar("Network", bound=nn.Module)


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
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
    channels: int, size: int, width: int = 32, norm: type[nn.Module] | None = nn.BatchNorm2d, outputs: int = 1
) -> nn.Sequential:
    """(N, channels, size, size) -> scores (N, outputs), by strided convolutions that halve the size.

    ``norm=None`` leaves normalization out: batch normalization couples the samples, which a gradient penalty must not
    meet. With more ``outputs`` it is an encoder, or the body of another critic. Raises ``ValueError`` unless ``size``
    is a power of two from 8 to 64 (Radford et al., 2016, arXiv:1511.06434).
    """
    halvings = _doublings(size)
    for argument, value in (("channels", channels), ("width", width), ("outputs", outputs)):
        _checks.positive_integer(argument, value)
    maps = [channels] + [width * 2**k for k in range(halvings)]
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(maps)):
        normalized = k > 0 and norm is not None
        layers += [nn.Conv2d(fan_in, fan_out, 4, 2, 1, bias=not normalized)]
        layers += [norm(fan_out)] if norm is not None and normalized else []
        layers += [nn.LeakyReLU(0.2)]
    last = nn.Conv2d(maps[-1], outputs, 4)  # (N, maps[-1], 4, 4) -> (N, outputs, 1, 1)
    return _initialize(nn.Sequential(*layers, last, nn.Flatten()))


def paired(images: Tensor, condition: Tensor) -> Tensor:
    """(x, y) as one tensor: images (N, C, H, W) with ``condition`` as more channels (N, C + K, H, W).

    The condition is a code (N, K), one plane for each number, or images (N, K, H, W). A sample of a joint law is then a
    tensor like any other, for ``gankit.training`` as well. Raises ``ValueError`` for shapes that do not fit.
    """
    if images.ndim != 4:
        _checks.fail("images", "shape (N, C, H, W)", f"shape {tuple(images.shape)}")
    if condition.ndim == 2:
        condition = condition[:, :, None, None].expand(*condition.shape, *images.shape[2:])
    if condition.ndim != 4 or (len(condition), *condition.shape[2:]) != (len(images), *images.shape[2:]):
        wanted = f"shape ({len(images)}, K) or ({len(images)}, K, {images.shape[2]}, {images.shape[3]})"
        _checks.fail("condition", wanted, f"shape {tuple(condition.shape)}")
    return torch.cat([images, condition], dim=1)


class ConditionalGenerator(nn.Module):
    """z and y -> (G(z, y), y), as ``paired`` puts them together: ``body`` sees both, the last ``codes`` columns are y.

    Inputs are (N, k + codes), or (N, C + codes, H, W) for images as conditions (Mirza and Osindero, 2014,
    arXiv:1411.1784).
    """

    def __init__(self, body: nn.Module, codes: int) -> None:
        super().__init__()
        self.body, self.codes = body, _checks.positive_integer("codes", codes)

    def forward(self, inputs: Tensor) -> Tensor:
        """The pairs (N, C + codes, H, W)."""
        return paired(self.body(inputs), inputs[:, -self.codes :])


class ProjectionCritic(nn.Module):
    """w.h(x) + b + (V y).h(x): scores (N, 1) of pairs (N, C + codes, H, W) of images and codes.

    ``body`` takes the images alone to features (N, ``width``). With y one-hot, V y picks the label's own column, and
    the score is that of the log ratio of two softmax models (Miyato and Koyama, 2018, arXiv:1802.05637).
    """

    def __init__(self, body: nn.Module, width: int, codes: int) -> None:
        super().__init__()
        self.body, self.codes = body, _checks.positive_integer("codes", codes)
        self.score = nn.Linear(_checks.positive_integer("width", width), 1)
        self.embed = nn.Linear(codes, width, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """The scores (N, 1)."""
        features: Tensor = self.body(pairs[:, : -self.codes])
        label: Tensor = self.embed(pairs[:, -self.codes :, 0, 0])
        scores: Tensor = self.score(features) + (label * features).sum(1, keepdim=True)
        return scores


class JointCritic(nn.Module):
    """Scores (N, 1) of pairs of images (N, C, H, W) and codes (N, latent), for BiGAN.

    ``body`` takes images to features (N, ``width``); a perceptron judges features and code together (Donahue,
    Kraehenbuehl and Darrell, 2017, arXiv:1605.09782).
    """

    def __init__(self, body: nn.Module, width: int, latent: int, hidden: int = 256) -> None:
        super().__init__()
        _checks.positive_integer("width", width), _checks.positive_integer("latent", latent)
        self.body = body
        self.judge = mlp(width + latent, hidden, hidden, 1, activation=lambda: nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The scores (N, 1)."""
        scores: Tensor = self.judge(torch.cat([self.body(x), z], dim=1))
        return scores


class UNet(nn.Module):
    """(N, inputs, size, size) -> (N, outputs, size, size) in [-1, 1], down to 4 x 4 and up again.

    Each map on the way up also sees the map of its own size on the way down, so that edges need not pass through the
    bottom. Raises ``ValueError`` unless ``size`` is a power of two from 8 to 64 (Ronneberger, Fischer and Brox, 2015,
    arXiv:1505.04597; Isola et al., 2017, arXiv:1611.07004).
    """

    def __init__(self, inputs: int, outputs: int, size: int, width: int = 32) -> None:
        super().__init__()
        halvings = _doublings(size)
        for argument, value in (("inputs", inputs), ("outputs", outputs), ("width", width)):
            _checks.positive_integer(argument, value)
        maps = [width * 2**k for k in range(halvings)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise([inputs, *maps])):
            norm = [nn.BatchNorm2d(fan_out)] if k else []
            self.down.append(nn.Sequential(nn.Conv2d(fan_in, fan_out, 4, 2, 1), *norm, nn.LeakyReLU(0.2)))
        for k in reversed(range(halvings)):
            fan_in = maps[k] if k == halvings - 1 else 2 * maps[k]  # with the map on the way down
            fan_out = maps[k - 1] if k else outputs
            last = [nn.BatchNorm2d(fan_out), nn.ReLU()] if k else [nn.Tanh()]
            self.up.append(nn.Sequential(nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1), *last))
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """The images (N, outputs, size, size)."""
        seen = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for k, layer in enumerate(self.up):
            x = layer(x if k == 0 else torch.cat([x, seen[-1 - k]], dim=1))
        return x


def patch_critic(channels: int, width: int = 32) -> nn.Sequential:
    """(N, channels, H, W) -> scores (N, 1, H/4, W/4), one for each patch of 18 x 18 pixels, by convolutions alone.

    It judges texture, and works for every size that 4 divides (Isola et al., 2017, arXiv:1611.07004).
    """
    for argument, value in (("channels", channels), ("width", width)):
        _checks.positive_integer(argument, value)
    return _initialize(
        nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),  # (N, width, H/2, W/2)
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),  # (N, 2 width, H/4, W/4)
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )
    )


def _doublings(size: int) -> int:
    if size not in (8, 16, 32, 64):
        _checks.fail("size", "a power of two from 8 to 64", size)
    return (size // 4).bit_length() - 1


def _initialize(network: Network) -> Network:
    """The paper's initialization: weights N(0, 0.02^2), scales N(1, 0.02^2), biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
