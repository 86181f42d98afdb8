"""The ring of 8 and the grid of 25 Gaussians: PacGAN's table beside ours.

Lin et al. (2018, arXiv:1712.04086) train on a ring (radius 1, standard deviation 0.01) and a grid (spacing 2, standard
deviation 0.05), 100,000 points each, for 400,000 rounds, and judge 2,500 samples: modes found, share within three
standard deviations of a mode, and reverse KL of the modes' histogram. Data and measures are the same here.

    python benchmarks/mixtures.py                       # both sets, one seed, about four minutes on one core
    python benchmarks/mixtures.py --seeds 10            # the table of benchmarks/README.md
    python benchmarks/mixtures.py --ablation --seeds 3  # the grid, without one ingredient at a time

The game is the book's: the non-saturating loss, alternating steps, Adam. The ingredients, each of which can be left out
(--without NAME):

    bits     the noise has eight fair coins beside two Gaussians: its support falls into pieces, as that of the data
             does. A connected noise must leave a bridge of samples between any two modes
    steep    the generator's first layer starts three times as large, so that its pieces can part
    spread   the critic's first layer starts with tanh units whose centers lie on data points
    scales   the slopes of these units run from 2 to 60 (without it: 4), so that they resolve single modes
    fake     R1's penalty also at the fake points, not at the real ones alone
    fade     the penalty's weight falls from 0.1 to 0.01
    rates    the critic's rate is twice the generator's
    decay    both rates fall linearly to zero
    average  samples come from a running average of the generator

A perfect model finds 98.9 % within three standard deviations, and 2,500 of its samples have a reverse KL of 0.0014 on
the ring and 0.0048 on the grid. The last column, the width, is the root mean square distance of these samples to
their mode over the same number for the data: below 1, modes are too narrow, which the published measures do not see.
"""

import argparse
import copy
import math
import statistics
import time
from dataclasses import astuple, dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from gankit.data import grid, ring, stream
from gankit.lipschitz import r1_penalty
from gankit.losses import NON_SATURATING
from gankit.metrics import mode_coverage
from gankit.networks import mlp
from gankit.training import adversarial_training, ema

LAWS = {"ring": (ring(), 0.01), "grid": (grid(), 0.05)}
ROUNDS = {"ring": 3500, "grid": 12_000}
INGREDIENTS = ("bits", "steep", "spread", "scales", "fake", "fade", "rates", "decay", "average")
WIDTH = 128  # units of each hidden layer
PUBLISHED = {  # modes, share of high quality in %, reverse KL: PacGAN's Table 1, mean of ten runs
    "ring": {"GAN": (6.3, 98.2, 0.45), "ALI": (6.6, 97.6, 0.36), "PacGAN2": (7.9, 95.6, 0.07),
             "PacGAN3": (7.8, 97.7, 0.10), "PacGAN4": (7.8, 95.9, 0.07)},
    "grid": {"GAN": (17.3, 94.8, 0.70), "ALI": (24.1, 95.7, 0.14), "PacGAN2": (23.8, 91.3, 0.13),
             "PacGAN3": (24.6, 94.2, 0.06), "PacGAN4": (24.8, 93.6, 0.04)},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one run reached, and the seconds of one core that it took."""

    modes: float
    high_quality: float
    reverse_kl: float
    width: float
    seconds: float


def width(samples: Tensor, centers: Tensor, std: float) -> float:
    """Root mean square distance to the nearest center, over the samples within three standard deviations."""
    distance = torch.cdist(samples, centers, compute_mode="donot_use_mm_for_euclid_dist").min(1)[0]
    return distance[distance <= 3 * std].square().mean().sqrt().item()


def players(points: Tensor, bits: int, without: str) -> tuple[nn.Sequential, nn.Sequential]:
    """A generator and a critic whose first layers start at the scales of the data (N, 2)."""
    generator = mlp(2 + bits, WIDTH, WIDTH, WIDTH, 2, activation=nn.Tanh)
    critic = mlp(2, WIDTH, WIDTH, WIDTH, 1, activation=nn.Tanh)
    with torch.no_grad():
        if without != "steep":
            generator[0].weight *= 3
        if without != "spread":
            slopes = torch.full((WIDTH,), 4.0) if without == "scales" else 2 * 30 ** torch.rand(WIDTH)
            critic[0].weight.copy_(torch.randn(WIDTH, 2) * slopes[:, None])
            critic[0].bias.copy_(-(critic[0].weight * points[:WIDTH]).sum(1))
    return generator, critic


def run(name: str, seed: int, without: str = "") -> Row:
    """Train one GAN on one of the two laws, and judge 2,500 of its samples."""
    torch.manual_seed(seed)
    law, std = LAWS[name]
    centers: Tensor = law.component_distribution.base_dist.loc
    points = law.sample((100_000,))
    scale, bits, begin = points.std(), 0 if without == "bits" else 8, time.process_time()
    generator, critic = players(points / scale, bits, without)
    average, rounds, now = copy.deepcopy(generator), ROUNDS[name], 0

    def noise(n: int) -> Tensor:
        return torch.cat([torch.randn(n, 2), torch.randint(0, 2, (n, bits)) * 2.0 - 1], 1)

    def penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        weight = 0.1 if without == "fade" else 0.1 ** (1 + now / rounds)
        return weight * r1_penalty(critic, real if without == "fake" else torch.cat([real, fake]))

    rates = {"generator_optimizer": 1e-3, "critic_optimizer": 1e-3 if without == "rates" else 2e-3}
    optimizers = {
        key: torch.optim.Adam(network.parameters(), rates[key], betas=(0.5, 0.99), fused=True)
        for key, network in zip(rates, (generator, critic), strict=True)
    }
    end = 1.0 if without == "decay" else 0.0
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, end, rounds) for o in optimizers.values()]
    data = stream(points / scale, 256)
    game = adversarial_training(
        generator, critic, loss=NON_SATURATING, data=data, noise=noise, penalty=penalty, **optimizers
    )
    for step in islice(game, rounds):
        now = step.index
        ema(average, generator, 0.0 if without == "average" else 0.99)
        for schedule in schedules:
            schedule.step()
        if now % 500 == 0:
            print(f"\r{name} seed {seed}: round {now} of {rounds}", end="", flush=True)
    print("\r" + " " * 60 + "\r", end="")
    with torch.no_grad():
        samples = average(noise(2500)) * scale
    found = mode_coverage(samples, centers, std)
    relative = width(samples, centers, std) / width(points, centers, std) if found.modes else math.nan
    return Row(found.modes, 100 * found.high_quality, found.reverse_kl, relative, time.process_time() - begin)


def show(label: str, rows: list[Row]) -> None:
    """The median of each measure, and the worst run behind the first three."""
    columns = [list(column) for column in zip(*map(astuple, rows), strict=True)]
    modes, quality, divergence, relative, seconds = map(statistics.median, columns)
    print(
        f"{label:18} {modes:5.1f} ({min(columns[0]):2.0f})  {quality:5.1f} ({min(columns[1]):4.1f})"
        f"  {divergence:7.4f} ({max(columns[2]):.4f})  {relative:5.2f}  {seconds:5.0f} s"
    )


def main() -> None:
    """Print the table, or the ablation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=LAWS, nargs="*", default=list(LAWS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--without", choices=INGREDIENTS, default="")
    parser.add_argument("--ablation", action="store_true", help="the grid, without one ingredient at a time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"medians over {options.seeds} seed(s), the worst in parentheses; 2,500 samples each")
    print(f"{'':18} modes       high quality %  reverse KL        width   core time")
    if options.ablation:
        for without in ("", *INGREDIENTS):
            show(
                f"without {without}" if without else "all",
                [run("grid", seed, without) for seed in range(options.seeds)],
            )
        return
    for name in options.data:
        for label, (modes, quality, divergence) in PUBLISHED[name].items():
            print(f"{name} {label:13} {modes:5.1f}       {quality:5.1f}         {divergence:7.2f}")
        show(f"{name} ours", [run(name, seed, options.without) for seed in range(options.seeds)])


if __name__ == "__main__":
    main()
