"""How far a model's samples are from the data's law."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import _checks


@dataclass(frozen=True)
class ModeCoverage:
    """Modes found, the share of samples of high quality, and KL of their histogram over modes to the uniform one."""

    modes: int
    high_quality: float
    reverse_kl: float


def mode_coverage(samples: Tensor, centers: Tensor, std: float, threshold: float = 3.0) -> ModeCoverage:
    """Count the modes of a mixture of K equal Gaussians N(c_k, std^2 I) that ``samples`` reach.

    A sample (n, d) is of high quality if its nearest center of (K, d) is at most ``threshold`` std away. A mode is
    found if it is the nearest one of at least one such sample, and ``reverse_kl`` is log K minus the entropy of their
    counts, in nats (infinite if there is none). A perfect model has limits: in the plane its share is
    1 - exp(-threshold^2 / 2), .98889 for 3, and n samples have a reverse KL near (K - 1) / 2n. Raises ``ValueError``
    for shapes that do not fit, centers that repeat, numbers that are not finite, and a ``std`` or ``threshold`` that is
    not positive (Lin et al., 2018, arXiv:1712.04086).
    """
    if _checks.tensor("centers", centers).ndim != 2:
        _checks.fail("centers", "shape (K, d)", f"shape {tuple(centers.shape)}")
    distinct = len({tuple(center) for center in centers.tolist()})
    if distinct < len(centers):
        _checks.fail("centers", "distinct rows", f"{distinct} distinct ones of {len(centers)}")
    if _checks.tensor("samples", samples).shape[1:] != centers.shape[1:]:
        _checks.fail("samples", f"shape (n, {centers.shape[1]}) like centers", f"shape {tuple(samples.shape)}")
    radius = _checks.positive("std", std) * _checks.positive("threshold", threshold)
    distance, nearest = _distances(samples, centers.to(samples)).min(1)
    counts = torch.bincount(nearest[distance <= radius], minlength=len(centers)).double()
    total = counts.sum().item()
    shares = counts / max(total, 1)
    return ModeCoverage(
        modes=int((counts > 0).sum()),
        high_quality=total / len(samples),
        reverse_kl=max(0.0, math.log(len(centers)) + torch.xlogy(shares, shares).sum().item()) if total else math.inf,
    )


def modes_held(samples: Tensor, centers: Tensor, least: float = 0.02) -> int:
    """How many rows of ``centers`` (K, d) are the nearest one to more than a share ``least`` of ``samples`` (n, d).

    Unlike ``mode_coverage`` it needs no width of the modes and no sample of high quality, so it counts for models that
    are still crude. Raises ``ValueError`` for shapes that do not fit, numbers that are not finite, and a ``least`` that
    is no share.
    """
    if _checks.tensor("centers", centers).ndim != 2:
        _checks.fail("centers", "shape (K, d)", f"shape {tuple(centers.shape)}")
    if _checks.tensor("samples", samples).shape[1:] != centers.shape[1:]:
        _checks.fail("samples", f"shape (n, {centers.shape[1]}) like centers", f"shape {tuple(samples.shape)}")
    if not 0 <= least < 1:
        _checks.fail("least", "a share from 0 to below 1", least)
    nearest = _distances(samples, centers.to(samples)).argmin(1)
    return int((torch.bincount(nearest, minlength=len(centers)) > least * len(samples)).sum())


@dataclass(frozen=True)
class Gaussian:
    """A law by its ``mean`` (d,) and its ``covariance`` (d, d), both float64."""

    mean: Tensor
    covariance: Tensor

    @staticmethod
    def fit(features: Tensor | Iterable[Tensor]) -> "Gaussian":
        """Mean and unbiased covariance of ``features`` (n, d), or of batches of them, wherever they live.

        Batches are merged in float64 by their deviations from their own means, so that neither their sizes nor a large
        mean costs digits. Raises ``ValueError`` for fewer than two rows in all, shapes that differ and numbers that are
        not finite (Chan, Golub and LeVeque, 1983, doi:10.1080/00031305.1983.10483115).
        """
        count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
        for batch in [features] if isinstance(features, Tensor) else features:
            if _checks.tensor("features", batch).ndim != 2:
                _checks.fail("features", "shape (n, d)", f"shape {tuple(batch.shape)}")
            if count and batch.shape[1] != len(mean):
                _checks.fail("features", f"{len(mean)} columns like the first batch", f"shape {tuple(batch.shape)}")
            rows = batch.detach().double()
            n, center = len(rows), rows.mean(0)
            deviations, step = rows - center, center - mean if count else torch.zeros_like(center)
            scatter = (
                scatter.to(center) + deviations.T @ deviations + (count * n / (count + n)) * torch.outer(step, step)
            )
            mean = center if count == 0 else mean + step * (n / (count + n))
            count += n
        if count < 2:
            _checks.fail("features", "at least two rows", count)
        return Gaussian(mean, scatter / (count - 1))


def frechet_distance(p: Gaussian, q: Gaussian) -> Tensor:
    """|m - n|^2 + tr A + tr B - 2 |A^(1/2) B^(1/2)|_*, the *squared* W_2 of N(m, A) and N(n, B), a float64 scalar.

    The last term is the sum of singular values of a product of roots, not the trace of a root of a product: it is real
    and keeps its digits where covariances have no full rank. The unit is that of the features, squared. Raises
    ``ValueError`` for shapes that differ and matrices that are not symmetric positive semidefinite (Dowson and Landau,
    1982, doi:10.1016/0047-259X(82)90077-X; Heusel et al., 2017, arXiv:1706.08500).
    """
    if p.mean.shape != q.mean.shape:
        _checks.fail("q", f"a mean of shape {tuple(p.mean.shape)} like p's", f"shape {tuple(q.mean.shape)}")
    roots = [_root(argument, gaussian) for argument, gaussian in (("p", p), ("q", q))]
    common: Tensor = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    apart: Tensor = (p.mean.double() - q.mean.double()).square().sum()
    return apart + (roots[0].square().sum() + roots[1].square().sum() - 2 * common).clamp(min=0)


def _root(argument: str, gaussian: Gaussian) -> Tensor:
    """An R (d, d) with R R^T = covariance."""
    matrix, d = _checks.tensor(argument, gaussian.covariance).double(), len(gaussian.mean)
    if matrix.shape != (d, d):
        _checks.fail(argument, f"a covariance of shape ({d}, {d})", f"shape {tuple(matrix.shape)}")
    rounding = 8 * d * torch.finfo(gaussian.covariance.dtype).eps * matrix.abs().max().item()
    if (matrix - matrix.T).abs().max() > rounding:
        _checks.fail(argument, "a symmetric covariance", "entries that differ from their mirror images")
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex((matrix + matrix.T) / 2)
    pivots = factor.diagonal()
    if not failed and pivots.min() > 1e-3 * pivots.max():  # far from singular: the fast root has all its digits
        return factor
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -rounding:
        _checks.fail(argument, "a positive semidefinite covariance", f"an eigenvalue of {values[0].item():.3g}")
    values = torch.where(values < d * torch.finfo(torch.float64).eps * values[-1], 0.0, values)
    root: Tensor = vectors * values.clamp(min=0).sqrt()  # an eigenvalue of rounding would have a root of 1e-8
    return root


def fid(real: Iterable[Tensor], fake: Iterable[Tensor], features: Callable[[Tensor], Tensor]) -> float:
    """The Frechet distance of ``features`` (n, d) of two streams of image batches (n, C, H, W) that end.

    It is the published FID only for the Inception network of the reference implementation; with other features, say
    which. It is biased upwards at finite n: compare equal n only. Raises ``ValueError`` for a feature network in
    training mode, and as ``Gaussian.fit`` does (Heusel et al., 2017, arXiv:1706.08500).
    """
    if isinstance(features, nn.Module) and features.training:
        _checks.fail("features", "a network in evaluation mode: features.eval()", "training mode")
    with torch.no_grad():
        p, q = (Gaussian.fit(features(batch).flatten(1) for batch in images) for images in (real, fake))
    return frechet_distance(p, q).item()


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased squared MMD of features (n, d), (m, d) with the kernel (x.y / d + 1)^3: the KID, a float64 scalar.

    Its mean is 0 for equal laws at any n, and it may be negative. Raises ``ValueError`` for shapes that do not fit and
    fewer than two rows (Binkowski et al., 2018, arXiv:1801.01401).
    """
    x, y = _features(real, fake)
    within_x, within_y, across = ((a @ b.T / x.shape[1] + 1).pow(3) for a, b in ((x, x), (y, y), (x, y)))
    others = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (within_x, within_y)]
    return others[0] + others[1] - 2 * across.mean()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """The shares of ``fake`` (m, d) within the reach of ``real`` (n, d), and of real within the reach of fake.

    A sample's reach is its distance to its ``k``-th nearest fellow; a law's is the union of such balls. Raises
    ``ValueError`` for shapes that do not fit, and for k that is not below both numbers of rows (Kynkaanniemi et al.,
    2019, arXiv:1904.06991).
    """
    x, y = _features(real, fake)
    if _checks.positive_integer("k", k) >= min(len(x), len(y)):
        _checks.fail("k", f"a whole number below {min(len(x), len(y))}", k)
    reach_x, reach_y = (_distances(a, a).kthvalue(k + 1).values for a in (x, y))  # the nearest one is the point itself
    across = _distances(x, y)
    precision, recall = (across <= reach_x[:, None]).any(0), (across <= reach_y).any(1)
    return precision.double().mean().item(), recall.double().mean().item()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _features(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    for argument, features in (("real", real), ("fake", fake)):
        if _checks.tensor(argument, features).ndim != 2 or len(features) < 2:
            _checks.fail(argument, "shape (n, d) with n of at least 2", f"shape {tuple(features.shape)}")
    if real.shape[1] != fake.shape[1]:
        _checks.fail("fake", f"{real.shape[1]} columns like real", f"shape {tuple(fake.shape)}")
    return real.detach().double(), fake.detach().double()
