"""How fast a critic changes, and penalties on it."""

import torch
from torch import Tensor, nn

from . import _checks


def gradient_norms(critic: nn.Module, points: Tensor) -> Tensor:
    """Norm of grad_x V(x) at each of the ``points`` (N, ...): shape (N,), differentiable by the critic's parameters.

    Each score must depend on its own point alone: with batch normalization in the critic these are no gradients of it.
    Raises ``ValueError`` if the critic does not answer with one score a point.
    """
    norms: Tensor = _slopes(critic, points).flatten(1).norm(dim=1)
    return norms


def r1_penalty(critic: nn.Module, real: Tensor) -> Tensor:
    """Mean squared norm of grad_x V(x) over the points ``real`` (N, ...), a scalar; its usual weight is gamma / 2.

    No square root is taken, so that its gradient is finite where the critic is flat. Raises ``ValueError`` if the
    critic does not answer with one score a point (Mescheder et al., 2018, arXiv:1801.04406).
    """
    return _slopes(critic, real).flatten(1).square().sum(1).mean()


def _slopes(critic: nn.Module, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    scores = critic(points)
    if scores.numel() != len(points):
        _checks.fail("critic", f"one score for each of {len(points)} points", f"shape {tuple(scores.shape)}")
    return torch.autograd.grad(scores.sum(), points, create_graph=True)[0]
