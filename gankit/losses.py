"""Adversarial losses: what each player minimizes, as functions of the critic's unbounded scores (real first)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from . import _checks
from .divergences import FDivergence, variational_bound


@dataclass(frozen=True)
class AdversarialLoss:
    """The two losses of a game; both are scalars, both are minimized.

    ``critic`` takes the scores of a real batch (N, ...) and of a fake batch (M, ...), ``generator`` those of a fake
    batch. Scores are logits: a sigmoid at the end of the critic is a bug. Both raise ``ValueError`` for scores that
    are not finite or whose shapes differ beyond the batch.
    """

    name: str
    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _checked(
    name: str, critic: Callable[[Tensor, Tensor], Tensor], generator: Callable[[Tensor], Tensor]
) -> AdversarialLoss:
    """The loss with its inputs checked, so that each formula below stands alone."""
    return AdversarialLoss(
        name,
        lambda real, fake: critic(*_checks.scores(real, fake)),
        lambda fake: generator(_checks.tensor("fake_scores", fake)),
    )


def _logistic(real: Tensor, fake: Tensor) -> Tensor:
    """-E_P[log D] - E_Q[log(1 - D)] with D = sigmoid(score)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


# Goodfellow et al. (2014, arXiv:1406.2661): the game of Algorithm 1, and the generator's loss used in practice.
MINIMAX = _checked("minimax", _logistic, lambda fake: -F.softplus(fake).mean())
NON_SATURATING = _checked("non-saturating", _logistic, lambda fake: F.softplus(-fake).mean())
# Mao et al. (2017, arXiv:1611.04076), with targets 1 for real and 0 for fake.
LEAST_SQUARES = _checked(
    "least squares",
    lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
    lambda fake: (fake - 1).square().mean() / 2,
)
# Lim and Ye (2017, arXiv:1705.02894).
HINGE = _checked(
    "hinge",
    lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
    lambda fake: -fake.mean(),
)
# Arjovsky, Chintala and Bottou (2017, arXiv:1701.07875); the critic has to be kept Lipschitz.
WASSERSTEIN = _checked("Wasserstein", lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean())


def from_divergence(divergence: FDivergence) -> AdversarialLoss:
    """min_Q max_T E_P[T] - E_Q[f*(T)]: variational divergence minimization as a game of two losses.

    The generator's loss leaves out E_P[T], which does not depend on it (Nowozin et al., 2016, arXiv:1606.00709).
    """
    return _checked(
        divergence.name,
        lambda real, fake: -variational_bound(divergence, real, fake),
        lambda fake: -divergence.conjugate_of_witness(fake).mean(),
    )
