"""f-divergences and their variational lower bounds.

D_f(P || Q) = E_Q[f(dP/dQ)] + f'(inf) P(dQ = 0), with P the law of the data and Q the model's: ``KL`` is KL(P || Q) and
``REVERSE_KL`` is KL(Q || P). The table of f, f* and witnesses follows Nowozin, Cseke and Tomioka (2016,
arXiv:1606.00709), with the half-half Jensen-Shannon divergence, conjugates over u >= 0, and a witness for Jeffreys that
has a closed form.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.integrate import cubature
from torch import Tensor

from . import _checks

Fn = Callable[[Tensor], Tensor]
LOG2 = math.log(2)


@dataclass(frozen=True)
class FDivergence:
    """A closed convex f on [0, inf) with what variational minimization needs; all functions act elementwise.

    ``derivative`` is f', ``conjugate`` is f*(t) = sup_{u >= 0} (t u - f(u)), infinite above f'(inf). ``witness`` maps a
    score in R into dom f*, increasingly; ``conjugate_of_witness`` is their composition, simplified so that it stays in
    the domain and overflows only where f* itself does (e^v beyond v = 88 in float32: use float64 there).
    """

    name: str
    f: Fn
    derivative: Fn
    conjugate: Fn
    witness: Fn
    conjugate_of_witness: Fn

    @property
    def slope_at_infinity(self) -> float:
        """f'(inf) = lim f(u)/u, the price of a unit of P's mass where Q has none."""
        return self.derivative(torch.tensor(math.inf, dtype=torch.float64)).item()

    def between(self, p: Tensor, q: Tensor) -> Tensor:
        """D_f(P || Q) of two histograms (..., K), the part of P where q = 0 counted: shape (...), in nats.

        Raises ``ValueError`` for shapes that differ, and for masses that are negative, not finite, or do not sum to 1
        (Liese and Vajda, 2006, doi:10.1109/TIT.2006.881731).
        """
        _checks.histogram("p", p), _checks.histogram("q", q)
        _checks.same_shape("p", p, "q", q)
        # In single precision p/q overflows, and looks like q = 0, where logits differ by 89.
        return _integrand(self, p.double(), q.double()).sum(-1).to(p.dtype)


def _integrand(divergence: FDivergence, p: Tensor, q: Tensor) -> Tensor:
    """q f(p/q), continued by its limit f'(inf) p where q = 0."""
    bounded = torch.isfinite(p / q)
    singular = ~bounded & (p > 0)
    # Each branch sees only its own arguments: else autograd multiplies the other's infinite slope by 0, which is NaN.
    over = torch.where(bounded & (p > 0), q, torch.where(bounded, q.detach(), 1.0))
    inside = q * divergence.f(torch.where(bounded, p, 1.0) / over)
    outside = torch.where(singular, p, 1.0) * divergence.slope_at_infinity
    return torch.where(bounded, inside, torch.where(singular, outside, 0.0))


def _jeffreys_conjugate(t: Tensor) -> Tensor:
    """sup_u t u - (u - 1) log u, at the u = e^v with v + 1 - e^{-v} = t.

    Newton's method from the left of the root of a concave increasing function, hence monotone. The gradient in t is u.
    """
    with torch.no_grad():
        v = torch.where(t > 1, t - 1, -torch.log((2 - t).clamp(min=1)))
        for _ in range(12):
            v = v - (v + 1 - (-v).exp() - t) / (1 + (-v).exp())
    return t * v.exp() - v.expm1() * v


KL = FDivergence(
    name="KL",
    f=lambda u: -torch.special.entr(u),
    derivative=lambda u: 1 + u.log(),
    conjugate=lambda t: (t - 1).exp(),
    witness=lambda v: v,
    conjugate_of_witness=lambda v: (v - 1).exp(),
)
REVERSE_KL = FDivergence(
    name="reverse KL",
    f=lambda u: -u.log(),
    derivative=lambda u: -1 / u,
    conjugate=lambda t: -1 - (-t).clamp(min=0).log(),
    witness=lambda v: -(-v).exp(),
    conjugate_of_witness=lambda v: v - 1,
)
JENSEN_SHANNON = FDivergence(
    name="Jensen-Shannon",
    f=lambda u: (-torch.special.entr(u) - (u + 1) * ((u + 1) / 2).log()) / 2,
    derivative=lambda u: (LOG2 - torch.log1p(1 / u)) / 2,
    conjugate=lambda t: -(2 - (2 * t).exp()).clamp(min=0).log() / 2,
    witness=lambda v: (LOG2 - F.softplus(-v)) / 2,
    conjugate_of_witness=lambda v: (F.softplus(v) - LOG2) / 2,
)
GAN = FDivergence(
    name="GAN",
    f=lambda u: -torch.special.entr(u) - (u + 1) * torch.log1p(u),
    derivative=lambda u: -torch.log1p(1 / u),
    conjugate=lambda t: -(-torch.expm1(t)).clamp(min=0).log(),
    witness=lambda v: -F.softplus(-v),
    conjugate_of_witness=lambda v: F.softplus(v),
)
PEARSON = FDivergence(
    name="Pearson",
    f=lambda u: (u - 1).square(),
    derivative=lambda u: 2 * (u - 1),
    conjugate=lambda t: t.clamp(min=-2) * (t.clamp(min=-2) / 4 + 1),
    witness=lambda v: v,
    conjugate_of_witness=lambda v: v.clamp(min=-2) * (v.clamp(min=-2) / 4 + 1),
)
NEYMAN = FDivergence(
    name="Neyman",
    f=lambda u: (u - 1).square() / u,
    derivative=lambda u: 1 - u**-2,
    conjugate=lambda t: torch.where(t <= 1, 2 - 2 * (1 - t).clamp(min=0).sqrt(), math.inf),
    witness=lambda v: -torch.expm1(-v),
    conjugate_of_witness=lambda v: -2 * torch.expm1(-v / 2),
)
SQUARED_HELLINGER = FDivergence(
    name="squared Hellinger",
    f=lambda u: (u.sqrt() - 1).square(),
    derivative=lambda u: 1 - u**-0.5,
    conjugate=lambda t: torch.where(t < 1, t / (1 - t), math.inf),
    witness=lambda v: -torch.expm1(-v),
    conjugate_of_witness=lambda v: torch.expm1(v),
)
JEFFREYS = FDivergence(
    name="Jeffreys",
    f=lambda u: (u - 1) * u.log(),
    derivative=lambda u: u.log() + 1 - 1 / u,
    conjugate=_jeffreys_conjugate,
    witness=lambda v: v - torch.expm1(-v),
    conjugate_of_witness=lambda v: v + torch.expm1(v),
)
TOTAL_VARIATION = FDivergence(
    name="total variation",
    f=lambda u: (u - 1).abs() / 2,
    derivative=lambda u: (u - 1).sign() / 2,
    conjugate=lambda t: torch.where(t <= 0.5, t.clamp(min=-0.5), math.inf),
    witness=lambda v: v.tanh() / 2,
    conjugate_of_witness=lambda v: v.tanh() / 2,
)
_ALL = (KL, REVERSE_KL, JENSEN_SHANNON, GAN, PEARSON, NEYMAN, SQUARED_HELLINGER, JEFFREYS, TOTAL_VARIATION)
DIVERGENCES: dict[str, FDivergence] = {divergence.name: divergence for divergence in _ALL}


def variational_bound(divergence: FDivergence, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E_P[T] - E_Q[f*(T)] with T = witness(score): a lower bound on D_f(P || Q), a scalar in nats.

    The scores are a critic's outputs on samples, (N, ...) and (M, ...). Raises ``ValueError`` for shapes that differ
    beyond the batch and for scores that are not finite (Nguyen, Wainwright and Jordan, 2010, arXiv:0809.0853).
    """
    real, fake = _checks.scores(real_scores, fake_scores)
    return divergence.witness(real).mean() - divergence.conjugate_of_witness(fake).mean()


def divergence_between_densities(divergence: FDivergence, p: Fn, q: Fn, lower: float, upper: float) -> float:
    """D_f(P || Q) = int q f(p/q) dx over [lower, upper] by adaptive Gauss-Kronrod quadrature, in nats.

    ``p`` and ``q`` map points (N,) in float64 to densities (N,), which must integrate to 1 between the limits, within
    1e-6. Choose limits between which neither underflows: where q is 0 and p is not, D_f may rightly be infinite.
    Raises ``ValueError`` for such densities and limits, ``ArithmeticError`` if the quadrature does not converge.
    """
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        _checks.fail("lower and upper", "finite limits with lower < upper", (lower, upper))
    infinite = False

    def integrand(points: np.ndarray) -> np.ndarray:
        nonlocal infinite
        x = torch.from_numpy(points[:, 0])
        density_p, density_q = _density("p", p, x), _density("q", q, x)
        values = _integrand(divergence, density_p, density_q)
        if torch.isnan(values).any():
            _checks.fail("divergence", "an f with a value at every ratio p/q", "NaN")
        infinite = infinite or bool(torch.isinf(values).any())
        return torch.stack([torch.where(torch.isposinf(values), 0.0, values), density_p, density_q], dim=1).numpy()

    result = cubature(integrand, [lower], [upper], rule="gk21", rtol=1e-10, atol=1e-12)
    if result.status != "converged":
        raise ArithmeticError(
            f"quadrature over [{lower}, {upper}] did not converge: error estimate {result.error.max():.1e}"
        )
    value, *masses = result.estimate.tolist()
    for argument, mass in zip(("p", "q"), masses, strict=True):
        if abs(mass - 1) > 1e-6:
            _checks.fail(argument, f"a density that integrates to 1 over [{lower}, {upper}]", f"{mass:.9g}")
    return math.inf if infinite else value


def _density(argument: str, density: Fn, x: Tensor) -> Tensor:
    values = density(x)
    _checks.same_shape("the points", x, f"{argument}(x)", _checks.tensor(f"{argument}(x)", values))
    if (values < 0).any():
        _checks.fail(f"{argument}(x)", "non-negative densities", f"a smallest value of {values.min().item():.3g}")
    return values.detach().to(x.dtype)
