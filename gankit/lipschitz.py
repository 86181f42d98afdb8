"""How fast a critic changes, and ways to keep it from changing too fast: penalties, projections, normalized layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from . import _checks

Critic = Callable[[Tensor], Tensor]

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def gradient_norms(critic: Critic, points: Tensor) -> Tensor:
    """Norm of grad_x V(x) at each of the ``points`` (N, ...): shape (N,), differentiable by the critic's parameters.

    Raises ``ValueError`` if the critic does not answer with one score a point, or holds batch normalization in training
    mode or without running statistics: then a score depends on the whole batch, and these would be no gradients of it.
    """
    norms: Tensor = _slopes(critic, points).reshape(len(points), -1).norm(dim=1)
    return norms


def lipschitz_lower_bound(critic: Critic, points: Tensor) -> float:
    """max_x |grad V(x)| over the ``points`` (N, ...): the critic's Lipschitz constant is at least this.

    Raises ``ValueError`` as ``gradient_norms`` does.
    """
    return gradient_norms(critic, points).max().item()


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, *, target: float = 1.0, one_sided: bool = False
) -> Tensor:
    """E (|grad V(x)| - target)^2 at x = (1 - e) real + e fake, e ~ U[0, 1] for each of the N pairs: a scalar.

    ``one_sided`` counts slopes above the target only. ``real`` and ``fake`` (N, ...) are constants here. Raises
    ``ValueError`` for shapes that differ, a negative target, and as ``gradient_norms`` does (Gulrajani et al., 2017,
    arXiv:1704.00028; one-sided: Petzka et al., 2018, arXiv:1709.08894).
    """
    _checks.same_shape("real", real, "fake", fake)
    weight = torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device)
    return _mean_excess(critic, torch.lerp(real, fake, weight), target, one_sided)


def dragan_penalty(critic: Critic, real: Tensor, *, width: float, target: float = 1.0) -> Tensor:
    """E (|grad V(x + d)| - target)^2 at the data ``real`` (N, ...) with d ~ N(0, width^2 I): a scalar.

    The width is in the data's unit. Raises ``ValueError`` for a width that is not positive, a negative target, and as
    ``gradient_norms`` does (Kodali et al., 2017, arXiv:1705.07215).
    """
    _checks.positive("width", width)
    return _mean_excess(critic, real + width * torch.randn_like(real), target, one_sided=False)


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """Mean squared norm of grad_x V(x) over the points ``real`` (N, ...), a scalar; its usual weight is gamma / 2.

    No square root is taken, so that its gradient is finite where the critic is flat. Raises ``ValueError`` as
    ``gradient_norms`` does (Mescheder et al., 2018, arXiv:1801.04406).
    """
    return _slopes(critic, real).square().sum() / len(real)


def _mean_excess(critic: Critic, points: Tensor, target: float, one_sided: bool) -> Tensor:
    if not target >= 0:
        _checks.fail("target", "a slope of at least 0", target)
    excess = gradient_norms(critic, points) - target
    return (excess.relu() if one_sided else excess).square().mean()


@torch.enable_grad()  # for callers who evaluate without gradients
def _slopes(critic: Critic, points: Tensor) -> Tensor:
    layers = critic.modules() if isinstance(critic, nn.Module) else ()
    if any(isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None) for layer in layers):
        _checks.fail("critic", "no batch normalization in training mode, which mixes the points", "a layer of it")
    points = _checks.tensor("points", points).detach().requires_grad_()
    scores = critic(points)
    if scores.numel() != len(points):
        _checks.fail("critic", f"one score for each of {len(points)} points", f"shape {tuple(scores.shape)}")
    return torch.autograd.grad(scores.sum(), points, create_graph=True)[0]


@torch.no_grad()
def clip_weights_(critic: nn.Module, bound: float) -> None:
    """w <- clip(w, -bound, bound) for weights and biases of linear and convolutional layers, in place, after each step.

    The critic is then K-Lipschitz for a K that depends on its shape, not 1-Lipschitz. Normalization layers are left
    alone. Raises ``ValueError`` for a bound that is not positive (Arjovsky et al., 2017, arXiv:1701.07875).
    """
    _checks.positive("bound", bound)
    for layer in critic.modules():
        if isinstance(layer, LAYERS):
            for parameter in layer.parameters():
                parameter.clamp_(-bound, bound)


@torch.no_grad()
def normalize_weights_(critic: nn.Module, *, rows: bool = False) -> None:
    """W <- W / |W|_F in linear and convolutional layers, in place, after each step; ``rows`` scales each row to norm 1.

    The spectral norm is at most the Frobenius norm, so that a linear layer is 1-Lipschitz and usually far less; with
    unit rows it may be up to the root of their number. Raises ``ValueError`` for a layer that is parametrized, whose
    weight is made anew from other numbers (Salimans and Kingma, 2016, arXiv:1602.07868).
    """
    for layer in critic.modules():
        if isinstance(layer, LAYERS):
            if is_parametrized(layer, "weight"):
                _checks.fail("critic", "layers that are not parametrized", "a parametrized weight")
            weight = layer.weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else layer.weight  # outputs first
            matrix = weight.flatten(1)
            norms = matrix.norm(dim=1) if rows else matrix.norm().expand(len(matrix))
            weight.div_(norms.clamp(min=1e-12).view(-1, *[1] * (weight.ndim - 1)))


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """W / sigma_max(W) in each linear and convolutional layer, by one step of power iteration a training pass.

    The layers of ``network`` are changed in place, and it is returned. A linear network of such layers with 1-Lipschitz
    activations is 1-Lipschitz; for a convolution sigma_max is that of its reshaped kernel, and the operator's norm may
    be larger. Raises ``ValueError`` for a network without such a layer, or normalized already (Miyato et al., 2018,
    arXiv:1802.05957).
    """
    layers = [layer for layer in network.modules() if isinstance(layer, LAYERS)]
    if not layers:
        _checks.fail("network", "linear or convolutional layers", "none")
    if any(is_parametrized(layer, "weight") for layer in layers):
        _checks.fail("network", "layers that are not parametrized yet", "a parametrized weight")
    for layer in layers:
        spectral_norm(layer, dim=1 if isinstance(layer, TRANSPOSED) else 0)
    return network
