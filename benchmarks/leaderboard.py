"""Ten ways to train a GAN, on equal budgets: are any of them really better?

After Lucic et al. (2018, arXiv:1711.10337), in small. All generators and critics are perceptrons of two hidden layers
of 256 units, on the 1,797 digits of 8 x 8 pixels; 400 steps of the generator, batches of 64, Adam at 1e-3, noise of
deviation 0.2 on what critics see, a running average of the generator. Nothing is tuned for any method. The score is the
Fréchet distance of 1,797 samples in the 32 features of a digit classifier, which is the same for all; it is not the
published FID. Critic steps for each step of the generator are given, and so is the time of one core.

    python benchmarks/leaderboard.py --seeds 10    # a quarter of an hour on one core
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankit.data import LabeledImages, load_images, stream
from gankit.inversion import bigan_training
from gankit.lipschitz import clip_weights_, dragan_penalty, gradient_penalty, r1_penalty, spectrally_normalized
from gankit.losses import HINGE, MINIMAX, NON_SATURATING, WASSERSTEIN, AdversarialLoss
from gankit.metrics import Gaussian, frechet_distance
from gankit.networks import ConditionalGenerator, JointCritic, ProjectionCritic, mlp, paired
from gankit.training import Step, adversarial_training, averaged, descend

LATENT, ROUNDS, BATCH, WIDTH = 20, 400, 64, 256
Penalty = Callable[[nn.Module, Tensor, Tensor], Tensor]
Options = tuple[AdversarialLoss, int, Penalty | None, Callable[[nn.Module], None] | None]
PLAIN: dict[str, Options] = {
    "minimax": (MINIMAX, 1, None, None),
    "non-saturating": (NON_SATURATING, 1, None, None),
    "non-saturating, 3 steps": (NON_SATURATING, 3, None, None),
    "non-saturating, R1": (NON_SATURATING, 1, lambda D, real, fake: 0.05 * r1_penalty(D, real), None),
    "DRAGAN": (NON_SATURATING, 1, lambda D, real, fake: dragan_penalty(D, real, width=0.5), None),
    "WGAN": (WASSERSTEIN, 3, None, lambda D: clip_weights_(D, 0.05)),
    "WGAN-GP": (WASSERSTEIN, 3, lambda D, real, fake: gradient_penalty(D, real, fake), None),
    "SN, hinge": (HINGE, 3, None, None),
}


def leaky() -> nn.Module:
    """The critics' activation."""
    return nn.LeakyReLU(0.2)


def generator(inputs: int) -> nn.Sequential:
    """(N, inputs) -> (N, 1, 8, 8)."""
    layers: list[nn.Module] = []
    for fan_in in (inputs, WIDTH):
        layers += [nn.Linear(fan_in, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))


def blurred(critic: nn.Module) -> nn.Module:
    """With noise on the image, the first channel of the first input."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        image = inputs[0][:, :1]
        noisy = torch.cat([image + 0.2 * torch.randn_like(image), inputs[0][:, 1:]], dim=1)
        return noisy, *inputs[1:]

    critic.register_forward_pre_hook(hook)
    return critic


def noise(n: int) -> Tensor:
    """N(0, I) of shape (n, LATENT)."""
    return torch.randn(n, LATENT)


def labeled_noise(n: int) -> Tensor:
    """Noise, and one-hot labels beside it."""
    return torch.cat([noise(n), F.one_hot(torch.randint(10, (n,)), 10).float()], dim=1)


def adam(network: nn.Module) -> torch.optim.Adam:
    """One optimizer for every player of every method."""
    return torch.optim.Adam(network.parameters(), 1e-3, betas=(0.5, 0.99))


def samples(name: str, digits: LabeledImages, count: int) -> Tensor:
    """Images (count, 1, 8, 8) of a method's averaged generator."""
    game: Iterator[Step]
    if name == "BiGAN":
        encoder = nn.Sequential(nn.Flatten(), mlp(64, WIDTH, WIDTH, LATENT, activation=leaky))
        players = nn.ModuleList([generator(LATENT), encoder])
        critic = blurred(JointCritic(nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), leaky()), WIDTH, LATENT, WIDTH))
        optimizers = [adam(players), adam(critic)]
        game = bigan_training(
            players[0], encoder, critic, loss=NON_SATURATING, data=stream(digits.images, BATCH), noise=noise,
            pair_optimizer=optimizers[0], critic_optimizer=optimizers[1],
        )  # fmt: skip
        *_, (_, mean) = averaged(game, players, optimizers, ROUNDS)
        assert isinstance(mean, nn.ModuleList)
        return mean[0](noise(count)).detach()
    data, draw, (loss, steps, penalty, project) = digits.images, noise, PLAIN.get(name, PLAIN["non-saturating"])
    player: nn.Module = generator(LATENT)
    critic = nn.Sequential(nn.Flatten(), mlp(64, WIDTH, WIDTH, 1, activation=leaky))
    if name == "conditional":
        data, draw = paired(data, F.one_hot(digits.labels, 10).float()), labeled_noise
        player = ConditionalGenerator(generator(LATENT + 10), 10)
        critic = ProjectionCritic(
            nn.Sequential(nn.Flatten(), mlp(64, WIDTH, WIDTH, activation=leaky), leaky()), WIDTH, 10
        )
    if name == "SN, hinge":
        spectrally_normalized(critic)
    optimizers = [adam(player), adam(blurred(critic))]
    game = adversarial_training(
        player, critic, loss=loss, data=stream(data, BATCH), noise=draw, critic_steps=steps, penalty=penalty,
        project=project, generator_optimizer=optimizers[0], critic_optimizer=optimizers[1],
    )  # fmt: skip
    *_, (_, mean) = averaged(game, player, optimizers, ROUNDS)
    return mean(draw(count))[:, :1].detach()


def classifier(train: LabeledImages) -> nn.Sequential:
    """Flattened pixels to 32 features: the layers below the logits of a digit classifier."""
    body = nn.Sequential(nn.Flatten(), mlp(64, 128, 32))
    network = nn.Sequential(body, nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _, rows in zip(range(1500), stream(torch.arange(len(train.labels)), 64), strict=False):
        noisy = train.images[rows] + 0.2 * torch.randn_like(train.images[rows])
        descend(F.cross_entropy(network(noisy), train.labels[rows]), optimizer)
    return body.eval()


def main() -> None:
    """Print the table, the best median first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    features = classifier(load_images("digits"))
    digits, held_out = load_images("digits", split="all"), load_images("digits", split="test")
    law = Gaussian.fit(features(digits.images).detach())
    floor = frechet_distance(law, Gaussian.fit(features(held_out.images).detach())).item()
    rows = []
    for name in [*PLAIN, "conditional", "BiGAN"]:
        scores, begin = [], time.perf_counter()
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            scores.append(frechet_distance(law, Gaussian.fit(features(samples(name, digits, 1797)).detach())).item())
            print(f"\r{name}: seed {seed}", end="", flush=True)
        rows.append((statistics.median(scores), min(scores), max(scores), name, time.perf_counter() - begin))
    print(f"\r{'':26} {'median':>8} {'best':>8} {'worst':>8}   core time of a seed")
    for median, best, worst, name, seconds in sorted(rows):
        print(f"{name:26} {median:8.2f} {best:8.2f} {worst:8.2f} {seconds / options.seeds:8.1f} s")
    print(f"300 held-out digits: {floor:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
