"""Domain adaptation: one set of features for two domains, learned against a critic of domains."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _checks
from .training import descend


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """x going forward, -strength times the gradient going back: descent on the one side is ascent on the other.

    Raises ``ValueError`` for a strength that is negative or not finite: it would reverse the reversal (Ganin et al.,
    2016, arXiv:1505.07818).
    """
    if not 0 <= strength < math.inf:
        _checks.fail("strength", "a finite number of at least 0", strength)
    same = x.view_as(x)
    if same.requires_grad:
        same.register_hook(lambda slope: -strength * slope)  # type: ignore[no-untyped-call]
    return same


def ramp(progress: float, steepness: float = 10.0) -> float:
    """2 / (1 + exp(-steepness progress)) - 1, from 0 at ``progress`` 0 to nearly 1 at 1: the reversal's strength.

    Raises ``ValueError`` for a progress outside [0, 1] and a steepness that is not positive (Ganin et al., 2016,
    arXiv:1505.07818).
    """
    if not 0 <= progress <= 1:
        _checks.fail("progress", "a number from 0 to 1", progress)
    return math.tanh(_checks.positive("steepness", steepness) * progress / 2)


def dann_loss(
    features: nn.Module,
    classifier: nn.Module,
    domain_critic: nn.Module,
    source: tuple[Tensor, Tensor],
    target: Tensor,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """E_S cross-entropy of h(phi(x)), and -E_S log D(phi(x)) - E_T log(1 - D(phi(x))) behind a reversed gradient.

    ``source`` is (x (N, ...), labels (N,)), ``target`` (M, ...) has no labels. ``classifier`` gives logits (N, K),
    ``domain_critic`` scores (N, 1) with D = sigmoid. To descend the *sum* of both losses trains all three players: the
    critic to tell domains apart, the features to prevent it, ``strength`` times. Both domains go through ``features``
    in one batch. Raises ``ValueError`` for shapes that differ beyond the batch and a bad strength (Ganin et al., 2016,
    arXiv:1505.07818).
    """
    x, labels = source
    if x.shape[1:] != target.shape[1:]:
        _checks.fail("target", f"shape (M, {', '.join(map(str, x.shape[1:]))}) like the source", tuple(target.shape))
    if labels.shape != x.shape[:1]:
        _checks.fail("source", f"labels of shape ({len(x)},)", f"shape {tuple(labels.shape)}")
    common = features(torch.cat([x, target]))
    scores = domain_critic(reverse_gradient(common, strength))
    real, fake = _checks.scores(scores[: len(x)], scores[len(x) :])
    domains = F.softplus(-real).mean() + F.softplus(fake).mean()
    return F.cross_entropy(classifier(common[: len(x)]), labels), domains


@torch.enable_grad()  # the features are often computed without gradients, and the perceptron needs its own
def proxy_a_distance(
    source: Tensor, target: Tensor, *, hidden: int = 64, steps: int = 300, rate: float = 1e-2
) -> float:
    """2 (1 - 2 e) with e the held-out error of a perceptron that tells features (n, d) from (m, d): 0 alike, 2 apart.

    Half of the rows train it, with equal weight for both domains; the other half judge. The draw is torch's own random
    state. Raises ``ValueError`` for shapes that do not fit and fewer than four rows (Ben-David et al., 2010,
    doi:10.1007/s10994-009-5152-4).
    """
    for argument, rows in (("source", source), ("target", target)):
        if _checks.tensor(argument, rows).ndim != 2 or len(rows) < 4:
            _checks.fail(argument, "shape (n, d) with n of at least 4", f"shape {tuple(rows.shape)}")
    if source.shape[1] != target.shape[1]:
        _checks.fail("target", f"{source.shape[1]} columns like source", f"shape {tuple(target.shape)}")
    mean, std = source.detach().mean(0), source.detach().std(0) + 1e-6
    halves = [
        ((rows.detach() - mean) / std)[torch.randperm(len(rows), device=rows.device)].chunk(2)
        for rows in (source, target)
    ]
    judge = nn.Sequential(nn.Linear(source.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, 1)).to(source)
    optimizer = torch.optim.Adam(judge.parameters(), rate, weight_decay=1e-3)
    for _ in range(_checks.positive_integer("steps", steps)):
        loss = F.softplus(-judge(halves[0][0])).mean() + F.softplus(judge(halves[1][0])).mean()
        descend(loss, optimizer)
    with torch.no_grad():
        wrong = (judge(halves[0][1]) <= 0).double().mean() + (judge(halves[1][1]) > 0).double().mean()
    return 2.0 * (1.0 - float(wrong))
