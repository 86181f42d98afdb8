"""Normalizing flows: invertible networks whose density is known."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from . import _checks
from .networks import mlp


class AffineCoupling(nn.Module):
    """z_A = x_A and z_B = x_B exp(s(x_A)) + t(x_A); ``mask`` (d,) of booleans is true on A.

    A perceptron of two hidden layers of ``width`` gives s and t. Its last layer starts at zero, so the map starts as
    the identity, and each entry of s stays between -1 and 1, so no step of training can make the map numerically
    singular. Raises ``ValueError`` for a mask that does not split the coordinates (Dinh, Sohl-Dickstein and Bengio,
    2017, arXiv:1605.08803).
    """

    mask: Tensor

    def __init__(self, mask: Tensor, width: int = 64) -> None:
        super().__init__()
        if (
            not isinstance(mask, Tensor)
            or mask.ndim != 1
            or mask.dtype != torch.bool
            or bool(mask.all())
            or not mask.any()
        ):
            _checks.fail("mask", "booleans of shape (d,), with a True and a False", mask)
        self.register_buffer("mask", mask)
        self.network = mlp(
            len(mask), _checks.positive_integer("width", width), width, 2 * len(mask), activation=nn.SiLU
        )
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, d) -> z (N, d), and log abs det dz/dx (N,), the sum of s over B."""
        log_scale, shift = self._scale_and_shift("x", x)
        return x * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """z (N, d) -> x (N, d): as x_A = z_A, the same s and t are at hand."""
        log_scale, shift = self._scale_and_shift("z", z)
        return (z - shift) * (-log_scale).exp()

    def _scale_and_shift(self, argument: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """s and t, with zeros on A."""
        if x.ndim != 2 or x.shape[1] != len(self.mask):
            _checks.fail(argument, f"shape (N, {len(self.mask)})", f"shape {tuple(x.shape)}")
        raw, shift = self.network(x * self.mask).chunk(2, dim=1)
        return torch.tanh(raw) * ~self.mask, shift * ~self.mask


class Flow(nn.Module):
    """log q(x) = log N(f(x); 0, I) + log abs det df/dx, with f = f_L o ... o f_1 of ``layers`` affine couplings.

    The masks alternate: even coordinates stay in the first layer, odd ones in the second, and so on. A flow starts as
    the identity, its law as N(0, I). Raises ``ValueError`` for a dimension below 2 (Dinh, Sohl-Dickstein and Bengio,
    2017, arXiv:1605.08803; Papamakarios et al., 2021, arXiv:1912.02762).
    """

    def __init__(self, dimension: int, layers: int = 4, width: int = 64) -> None:
        super().__init__()
        if _checks.positive_integer("dimension", dimension) < 2:
            _checks.fail("dimension", "at least 2 coordinates, to leave some and change the others", dimension)
        even = torch.arange(dimension) % 2 == 0
        count = _checks.positive_integer("layers", layers)
        self.layers = nn.ModuleList(AffineCoupling(~even if k % 2 else even, width) for k in range(count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, d) -> z = f(x) (N, d), and log abs det df/dx (N,), to which every layer adds its own."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def log_prob(self, x: Tensor) -> Tensor:
        """log q(x) (N,), in nats, for points (N, d)."""
        z, log_det = self.forward(x)
        log_normal = -z.square().sum(1) / 2 - z.shape[1] / 2 * math.log(2 * math.pi)
        return log_normal + log_det

    def sample(self, noise: Tensor) -> Tensor:
        """G(z) = f^(-1)(z) (N, d) for ``noise`` (N, d), which should be N(0, I); gradients flow through it."""
        for layer in reversed(self.layers):
            noise = cast(AffineCoupling, layer).inverse(noise)
        return noise
