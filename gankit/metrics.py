"""How far a model's samples are from the data's law."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

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
    distance, nearest = torch.cdist(samples, centers.to(samples), compute_mode="donot_use_mm_for_euclid_dist").min(1)
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
    nearest = torch.cdist(samples, centers.to(samples)).argmin(1)
    return int((torch.bincount(nearest, minlength=len(centers)) > least * len(samples)).sum())
