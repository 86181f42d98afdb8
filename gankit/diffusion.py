"""Denoising diffusion: the schedule of the noise, exact and learned denoisers, the chain back, and its bound.

Times run from 0, the data, to T, noise. The forward process is p(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from . import _checks

Denoiser = Callable[[Tensor, Tensor], Tensor]  # x_t (N, ...) and times (N,) -> the noise in x_t (N, ...)


@dataclass(frozen=True)
class NoiseSchedule:
    """p(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) for t = 1, ..., T, with ``beta`` (T,).

    Raises ``ValueError`` for variances that are not strictly between 0 and 1 (Ho, Jain and Abbeel, 2020,
    arXiv:2006.11239).
    """

    beta: Tensor

    def __post_init__(self) -> None:
        if _checks.tensor("beta", self.beta).ndim != 1:
            _checks.fail("beta", "shape (T,)", f"shape {tuple(self.beta.shape)}")
        if not ((self.beta > 0) & (self.beta < 1)).all():
            bounds = f"numbers from {self.beta.min().item():.3g} to {self.beta.max().item():.3g}"
            _checks.fail("beta", "variances strictly between 0 and 1", bounds)
        # In single precision 1 - abar would lose its digits where abar is near 1.
        object.__setattr__(self, "beta", self.beta.detach().cpu().double())

    @staticmethod
    def linear(steps: int, first: float = 0.1, last: float = 20.0) -> "NoiseSchedule":
        """beta_t rises linearly from first / T to last / T, so that abar_T hardly depends on T = ``steps``.

        The defaults are the paper's for T = 1000; raises ``ValueError`` for T of at most 20 (arXiv:2006.11239).
        """
        steps = _checks.positive_integer("steps", steps)
        return NoiseSchedule(torch.linspace(first, last, steps, dtype=torch.float64) / steps)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.beta)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """abar_t = (1 - beta_1) ... (1 - beta_t) for t = 0, ..., T, shape (T + 1,) in float64, with abar_0 = 1."""
        return torch.cat([torch.ones(1, dtype=torch.float64), (1 - self.beta).cumprod(0)])

    def scales(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t) for times ``t`` (N,), shaped to multiply ``x`` (N, ...).

        Raises ``ValueError`` for times that are no (N,) whole numbers from 0 to T.
        """
        if t.shape != x.shape[:1] or t.is_floating_point():
            _checks.fail("t", f"whole numbers of shape ({len(x)},)", f"{t.dtype} of shape {tuple(t.shape)}")
        if t.numel() and not 0 <= int(t.min()) <= int(t.max()) <= self.steps:
            _checks.fail("t", f"times from 0 to {self.steps}", f"times from {int(t.min())} to {int(t.max())}")
        shape, bars = (-1, *[1] * (x.ndim - 1)), self.alpha_bar
        return bars.sqrt().to(x)[t].view(shape), (1 - bars).sqrt().to(x)[t].view(shape)

    def diffuse(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise: a draw of p(x_t | x_0 = x) for standard normal ``noise``.

        ``x`` and ``noise`` are (N, ...), ``t`` (N,). Raises ``ValueError`` for shapes and times that do not fit (Ho et
        al., 2020, arXiv:2006.11239, equation 4).
        """
        _checks.same_shape("x", x, "noise", noise)
        signal, spread = self.scales(x, t)
        return signal * x + spread * noise

    def posterior(self, t: int, s: int) -> tuple[float, float, float]:
        """(a, b, v) with p(x_s | x_t, x_0) = N(a x_0 + b x_t, v I), for times s < t; v = 0 for s = 0.

        s = t - 1 is a step of the chain, smaller s are leaps over several. Raises ``ValueError`` unless
        0 <= s < t <= T (Ho et al., 2020, arXiv:2006.11239, equations 6 and 7).
        """
        if not 0 <= s < t <= self.steps:
            _checks.fail("s and t", f"times 0 <= s < t <= {self.steps}", (s, t))
        bar_s, bar_t = self.alpha_bar[s].item(), self.alpha_bar[t].item()
        kept = bar_t / bar_s
        fresh, old = (1 - kept) / (1 - bar_t), (1 - bar_s) / (1 - bar_t)
        return math.sqrt(bar_s) * fresh, math.sqrt(kept) * old, (1 - kept) * old


def denoising_loss(denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor) -> Tensor:
    """E (noise - denoiser(x_t, t))^2, the mean over coordinates, a uniform time 1..T for each row of ``x`` (N, ...).

    Raises ``ValueError`` if the denoiser's answer has another shape (Ho et al., 2020, arXiv:2006.11239, equation 14).
    """
    t = torch.randint(1, schedule.steps + 1, (len(x),), device=x.device)
    noise = torch.randn_like(x)
    found = denoiser(schedule.diffuse(x, t, noise), t)
    _checks.same_shape("x", x, "denoiser(x, t)", found)
    return (found - noise).square().mean()


def reverse_step(
    schedule: NoiseSchedule, x: Tensor, found: Tensor, t: int, s: int, eta: float = 1.0
) -> tuple[Tensor, float]:
    """Mean (N, ...) and standard deviation of the model's x_s given x_t = ``x`` with the noise ``found`` in it.

    The image is guessed, x_0 = (x - sqrt(1 - abar_t) found) / sqrt(abar_t), and p(x_s | x_t, x_0) follows with that
    guess. The deviation is ``eta`` times the posterior's: 1 is DDPM, 0 is DDIM, and the mean keeps the variance of x_s
    right. Raises ``ValueError`` for other eta and for times that do not fit (Song, Meng and Ermon, 2021,
    arXiv:2010.02502, equations 12 and 16).
    """
    if not 0 <= eta <= 1:
        _checks.fail("eta", "a number from 0 to 1", eta)
    variance = eta**2 * schedule.posterior(t, s)[2]
    bar_s, bar_t = schedule.alpha_bar[s].item(), schedule.alpha_bar[t].item()
    guess = (x - math.sqrt(1 - bar_t) * found) / math.sqrt(bar_t)
    return math.sqrt(bar_s) * guess + math.sqrt(max(0.0, 1 - bar_s - variance)) * found, math.sqrt(variance)


@torch.no_grad()
def reverse_chain(
    denoiser: Denoiser, schedule: NoiseSchedule, noise: Tensor, *, times: Sequence[int] | None = None, eta: float = 1.0
) -> Iterator[tuple[int, Tensor]]:
    """From x_T = ``noise`` (N, ...) down to x_0, yielding (time, x_time) after each step; the last step adds no noise.

    ``times`` falls from T to 0; all times are the default, and fewer make longer steps. Raises ``ValueError`` for times
    that do not fall from T to 0, and if the denoiser's answer has another shape (Ho et al., 2020, arXiv:2006.11239,
    algorithm 2).
    """
    path = list(range(schedule.steps, -1, -1) if times is None else times)
    if path[:1] != [schedule.steps] or path[-1:] != [0]:
        _checks.fail("times", f"times that fall from {schedule.steps} to 0", path[:1] + path[-1:])
    x = _checks.tensor("noise", noise)
    for t, s in itertools.pairwise(path):
        found = denoiser(x, torch.full((len(x),), t, device=x.device))
        _checks.same_shape("noise", x, "denoiser(x, t)", found)
        mean, std = reverse_step(schedule, x, found, t, s, eta)
        x = mean + std * torch.randn_like(mean) if std > 0 else mean
        yield s, x


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, *, variances: Tensor | None = None
) -> Tensor:
    """A lower bound of log q(x_0 = x) in nats for each row of ``x`` (N, ...), estimated with one draw of noise a step.

    -KL(p(x_T | x_0) || N(0, I)) - sum_{t > 1} KL(p(x_{t-1} | x_t, x_0) || q(x_{t-1} | x_t)) + log q(x_0 | x_1), where q
    has the means of ``reverse_step`` and the ``variances`` (T,), by default beta: for them the gap closes as T grows.
    The answer (N,) in float64 takes T calls of the denoiser. Raises ``ValueError`` for variances of another shape or
    not above 0, and if the denoiser's answer has another shape (Ho et al., 2020, arXiv:2006.11239, equation 5).
    """
    spread = schedule.beta if variances is None else _checks.tensor("variances", variances).double()
    _checks.same_shape("beta", schedule.beta, "variances", spread)
    _checks.positive("variances", spread.min().item())
    rows, bar = _checks.tensor("x", x).double().reshape(len(x), -1), schedule.alpha_bar.tolist()
    bound: Tensor = -0.5 * (bar[-1] * rows.square().sum(1) - rows.shape[1] * (bar[-1] + math.log1p(-bar[-1])))
    for t, own in enumerate(spread.tolist(), start=1):
        noise, times = torch.randn_like(x), torch.full((len(x),), t, device=x.device)
        found = denoiser(schedule.diffuse(x, times, noise), times)
        _checks.same_shape("x", x, "denoiser(x, t)", found)
        # The guess of x_0 errs by the noise's error times sqrt(1 - abar) / sqrt(abar).
        missed = (found - noise).double().reshape(len(x), -1).square().sum(1) * (1 / bar[t] - 1)
        weight, _, true = schedule.posterior(t, t - 1)
        rest = true / own - 1 - math.log(true / own) if t > 1 else math.log(2 * math.pi * own)
        bound -= 0.5 * (rows.shape[1] * rest + weight**2 * missed / own)
    return bound


def exact_denoiser(weights: Tensor, means: Tensor, covariances: Tensor, schedule: NoiseSchedule) -> Denoiser:
    """E[noise | x_t] = -sqrt(1 - abar_t) grad log p_t(x_t) for data from sum_k weights_k N(means_k, covariances_k).

    Shapes (K,), (K, d), and (K, d, d) or (d, d) for all; the answer takes x (N, d) and t (N,). p_t is the mixture of
    N(sqrt(abar_t) means_k, abar_t covariances_k + (1 - abar_t) I). Raises ``ValueError`` for shapes that do not fit,
    weights that are no histogram, and negative eigenvalues (Efron, 2011, doi:10.1198/jasa.2011.tm11181).
    """
    count, d = _checks.tensor("means", means).shape if means.ndim == 2 else (-1, -1)
    covariances = covariances.expand(count, d, d) if covariances.shape == (d, d) else covariances
    if _checks.histogram("weights", weights).shape != (count,) or covariances.shape != (count, d, d):
        shapes = [tuple(part.shape) for part in (weights, means, covariances)]
        _checks.fail("weights, means, covariances", "shapes (K,), (K, d), (K, d, d)", shapes)
    values, vectors = torch.linalg.eigh(_checks.tensor("covariances", covariances))
    if values.min() < -1e-6 * values.abs().max():
        _checks.fail("covariances", "no eigenvalue below 0", f"{values.min().item():.3g}")

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, spread = schedule.scales(x, t)
        turned = vectors.to(x)
        variances = signal[..., None].square() * values.to(x).clamp(min=0) + spread[..., None].square()  # (N, K, d)
        offsets = torch.einsum("nki,kij->nkj", x[:, None] - signal[..., None] * means.to(x), turned)
        log_parts = weights.to(x).log() - 0.5 * (offsets.square() / variances + variances.log()).sum(-1)
        shares = log_parts.softmax(1)
        return spread * torch.einsum("nk,nkj,kij->ni", shares, offsets / variances, turned)

    return denoise


class NoisePredictor(nn.Module):
    """A perceptron with residual blocks that finds the noise in x_t ``(N, *shape)``, given times (N,) and labels (N,).

    Time, as sines and cosines of it, and label scale and shift each block's features. Label ``labels`` is the one that
    says nothing; it stands in where none is given. The answer is k(t) x plus what the blocks say, since for Gaussian
    data the first term is all that there is. Raises ``ValueError`` for sizes that are no positive whole numbers.
    """

    def __init__(self, shape: Sequence[int], steps: int, *, labels: int = 0, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        for argument, value in (("steps", steps), ("width", width), ("depth", depth), ("shape", math.prod(shape))):
            _checks.positive_integer(argument, value)
        size, self.steps, self.labels = math.prod(shape), steps, labels
        self.rates: Tensor
        self.register_buffer("rates", math.pi * torch.logspace(-1, 1.5, 16))
        self.time, self.label = nn.Linear(32, width), nn.Embedding(labels + 1, width)
        self.enter, self.leave = nn.Linear(size, width), nn.Linear(width, size)
        self.gain, self.modulate = nn.Linear(width, 1), nn.Linear(width, 2 * width)
        self.down = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(depth))
        self.up = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise in ``x``, in its shape."""
        distinct, rows = t.unique(return_inverse=True)  # type: ignore[no-untyped-call]  # in sampling there is one
        angles = (distinct[:, None] / self.steps).to(x) * self.rates
        clock = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))[rows]
        context = nn.functional.silu(clock + self.label(torch.full_like(t, self.labels) if labels is None else labels))
        scale, shift = self.modulate(context).chunk(2, dim=1)
        hidden = self.enter(x.flatten(1))
        for down, up in zip(self.down, self.up, strict=True):
            hidden = hidden + up(down(hidden) * (1 + scale) + shift)
        answer: Tensor = self.leave(nn.functional.silu(hidden)) + self.gain(context) * x.flatten(1)
        return answer.view_as(x)


def guided(network: NoisePredictor, labels: Tensor, weight: float) -> Denoiser:
    """(1 + w) network(x, t, labels) - w network(x, t), w = ``weight``: guidance towards ``labels`` (N,).

    w = 0 asks for the label and no more, w = -1 forgets it. Both answers are computed in one batch (Ho and Salimans,
    2022, arXiv:2207.12598, equation 6).
    """

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        told = torch.cat([labels, torch.full_like(labels, network.labels)])
        asked, free = network(torch.cat([x, x]), torch.cat([t, t]), told).chunk(2)
        answer: Tensor = (1 + weight) * asked - weight * free
        return answer

    return denoise
