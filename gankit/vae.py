"""Variational autoencoders: the evidence lower bound, its gap, and the parts that it is made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from . import _checks


class LatentModel(Protocol):
    """q(z | x) = N(mean, diag exp(log_variance)), both (N, k), from ``encode``; log p(x | z) (N,)."""

    def encode(self, x: Tensor, /) -> tuple[Tensor, Tensor]: ...
    def log_likelihood(self, x: Tensor, z: Tensor, /) -> Tensor: ...


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag e^s) || N(0, I)) = sum (mean^2 + e^s - 1 - s) / 2 with s = ``log_variance``: (..., k) to (...).

    It is a sum over coordinates, as a log-likelihood is: an average would weigh the two differently. Raises
    ``ValueError`` for shapes that differ and numbers that are not finite (Kingma and Welling, 2014, arXiv:1312.6114).
    """
    _checks.tensor("mean", mean), _checks.tensor("log_variance", log_variance)
    _checks.same_shape("mean", mean, "log_variance", log_variance)
    return (mean.square() + torch.expm1(log_variance) - log_variance).sum(-1) / 2


def gaussian_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, diag exp(log_variance)) in nats, summed over the last axis; the axes before it broadcast.

    Raises ``ValueError`` if the last axes differ (Kingma and Welling, 2014, arXiv:1312.6114).
    """
    for argument, value in (("mean", mean), ("log_variance", log_variance)):
        if value.shape[-1:] != x.shape[-1:]:
            _checks.fail(argument, f"a last axis of length {x.shape[-1]} like x", f"shape {tuple(value.shape)}")
    squares = (x - mean).square() * torch.exp(-log_variance)
    return -(squares + log_variance + math.log(2 * math.pi)).sum(-1) / 2


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I): (N, k) to (N,). The prior of the first VAE (Kingma and Welling, 2014, arXiv:1312.6114)."""
    return gaussian_log_density(z, torch.zeros_like(z), torch.zeros_like(z))


def reparametrized(mean: Tensor, log_variance: Tensor) -> Tensor:
    """z = mean + exp(log_variance / 2) e with e from N(0, I): a draw that passes gradients to both.

    Raises ``ValueError`` for shapes that differ (Kingma and Welling, 2014, arXiv:1312.6114).
    """
    _checks.same_shape("mean", mean, "log_variance", log_variance)
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)


class GaussianVAE(nn.Module):
    """A ``LatentModel`` of two networks, both of whose laws are Gaussians with a variance for each coordinate.

    ``encoder`` takes x (N, ...) to (N, 2k) and ``decoder`` z (N, k) to (N, 2d), where d is how many numbers an x has:
    the first half are means, the second log-variances (Kingma and Welling, 2014, arXiv:1312.6114).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (N, k) of q(z | x)."""
        return _halves("encoder", self.encoder(x))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (N, d) of p(x | z)."""
        return _halves("decoder", self.decoder(z))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) (N,), summed over all numbers of x (N, ...)."""
        return gaussian_log_density(x.flatten(1), *self.decode(z))


def _halves(argument: str, output: Tensor) -> tuple[Tensor, Tensor]:
    if output.ndim != 2 or output.shape[1] % 2:
        _checks.fail(argument, "means and log-variances, an output (N, 2k)", f"shape {tuple(output.shape)}")
    mean, log_variance = output.chunk(2, 1)
    return mean, log_variance


def elbo(
    model: LatentModel, x: Tensor, *, beta: float = 1.0, log_prior: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """E_q log p(x | z) - beta KL(q(z | x) || p(z)) for each row of ``x`` (N, ...), from one draw of z: (N,), in nats.

    Without ``log_prior`` the prior is N(0, I) and its KL exact; with one, log q(z | x) - log p(z) at the draw replaces
    it. Both are unbiased, and pass gradients to encoder, decoder and prior. Raises ``ValueError`` for a negative
    ``beta`` and log-densities that are not (N,) (Kingma and Welling, 2014, arXiv:1312.6114; Higgins et al., 2017).
    """
    if not 0 <= beta < math.inf:
        _checks.fail("beta", "a finite number of at least 0", beta)
    mean, log_variance = model.encode(_checks.tensor("x", x))
    z = reparametrized(mean, log_variance)
    if log_prior is None:
        kl = gaussian_kl(mean, log_variance)
    else:
        kl = gaussian_log_density(z, mean, log_variance) - _one_each("log_prior(z)", log_prior(z), x)
    return _one_each("log_likelihood", model.log_likelihood(x, z), x) - beta * kl


def importance_bound(
    model: LatentModel, x: Tensor, samples: int, *, log_prior: Callable[[Tensor], Tensor] = standard_normal
) -> Tensor:
    """log of the mean over ``samples`` draws z from q(z | x) of p(x | z) p(z) / q(z | x): (N,), in nats.

    The mean is unbiased for p(x); its logarithm is too small on average, by less the more draws there are, and by the
    gap of the ELBO for one. Raises ``ValueError`` for no samples and log-densities that are not (N,) (Burda, Grosse and
    Salakhutdinov, 2016, arXiv:1509.00519).
    """
    _checks.positive_integer("samples", samples)
    mean, log_variance = model.encode(_checks.tensor("x", x))
    log_weights = []
    for _ in range(samples):  # one at a time: all of them at once may not fit into memory
        z = reparametrized(mean, log_variance)
        joint = _one_each("log_likelihood", model.log_likelihood(x, z), x) + _one_each("log_prior(z)", log_prior(z), x)
        log_weights.append(joint - gaussian_log_density(z, mean, log_variance))
    return torch.stack(log_weights).logsumexp(0) - math.log(samples)


def _one_each(argument: str, value: Tensor, x: Tensor) -> Tensor:
    if value.shape != x.shape[:1]:
        _checks.fail(argument, f"a number for each row, shape ({len(x)},)", f"shape {tuple(value.shape)}")
    return value


def log_aggregated(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of 1/n sum_i N(z; mean_i, diag exp(log_variance_i)) at ``z`` (M, k), for n components (n, k): (M,).

    With the components q(z | x_i) it is the aggregated posterior; with learned ones, a prior. It costs M n k, in blocks
    of bounded memory. Raises ``ValueError`` for shapes that do not fit (Tomczak and Welling, 2018, arXiv:1705.07120).
    """
    _checks.same_shape("mean", mean, "log_variance", log_variance)
    if mean.ndim != 2 or z.ndim != 2 or z.shape[1] != mean.shape[1]:
        _checks.fail("mean", "shape (n, k) for z of shape (M, k)", f"{tuple(mean.shape)} for {tuple(z.shape)}")
    blocks = torch.split(z, max(1, 2**22 // mean.numel()))
    mixed = [gaussian_log_density(block[:, None], mean, log_variance).logsumexp(1) for block in blocks]
    return torch.cat(mixed) - math.log(len(mean))


@dataclass(frozen=True)
class Surgery:
    """The three parts of a mean ELBO, in nats: its value is reconstruction - information - marginal_kl."""

    reconstruction: float
    information: float
    marginal_kl: float

    @property
    def elbo(self) -> float:
        """Their sum with its signs."""
        return self.reconstruction - self.information - self.marginal_kl


@torch.no_grad()
def surgery(model: LatentModel, x: Tensor, *, log_prior: Callable[[Tensor], Tensor] = standard_normal) -> Surgery:
    """E log p(x | z), I[n; z] and KL(q_agg || p) of the rows of ``x`` (n, ...), from one draw of z for each.

    q_agg is the mixture of the n posteriors of these very rows, and I, the information of z about the row's number, is
    E log q(z | x_n) / q_agg(z): at most log n, for each draw. Raises ``ValueError`` as ``elbo`` does (Hoffman and
    Johnson, 2016, "ELBO surgery").
    """
    mean, log_variance = model.encode(_checks.tensor("x", x))
    z = reparametrized(mean, log_variance)
    aggregated = log_aggregated(z, mean, log_variance)
    reconstruction = _one_each("log_likelihood", model.log_likelihood(x, z), x).mean()
    information = (gaussian_log_density(z, mean, log_variance) - aggregated).mean()
    marginal = (aggregated - _one_each("log_prior(z)", log_prior(z), x)).mean()
    return Surgery(reconstruction.item(), information.item(), marginal.item())
