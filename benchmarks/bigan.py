"""BiGAN on permutation-invariant MNIST: does its encoder know more than the pixels, or than an untrained network?

The protocol of Donahue et al. (2017, arXiv:1605.09782): perceptrons of two hidden layers of 1,024, codes uniform on
(-1, 1)^50, Adam at 2e-4 with first momentum 0.5, batches of 128, rates that fall over the second half; they train for
400 epochs. Scores on the 10,000 test images: 1-NN accuracy of the encoder's last hidden layer and of its codes, with
the 60,000 training images as neighbors, and the reconstruction error ||x - G(E(x))|| beside that for another image.

    GANKIT_DATA=/where/mnist/is python benchmarks/bigan.py --epochs 10    # half an hour on one core
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn

from gankit.data import LabeledImages, load_images, stream
from gankit.inversion import bigan_training
from gankit.losses import NON_SATURATING

LATENT, WIDTH, BATCH = 50, 1024, 128
REPORTED = (1, 2, 5, 10, 25, 50, 100, 200, 400)


def perceptron(inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """(N, inputs) -> (N, outputs); the second layer is normalized, without a scale or a shift of its own."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, WIDTH),
        activation(),
        nn.Linear(WIDTH, WIDTH, bias=False),
        nn.BatchNorm1d(WIDTH, affine=False),
        activation(),
        nn.Linear(WIDTH, outputs),
    )


def leaky() -> nn.Module:
    """The activation of encoder and critic."""
    return nn.LeakyReLU(0.2)


class Critic(nn.Module):
    """Scores (N, 1) of pairs of images (N, 1, 28, 28) and codes (N, LATENT)."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = perceptron(784 + LATENT, 1, leaky)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The scores."""
        scores: Tensor = self.judge(torch.cat([x.flatten(1), z], dim=1))
        return scores


def nearest(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> float:
    """The share of test rows whose nearest training row has their label."""
    found = [torch.cdist(rows, train).argmin(1) for rows in test.split(500)]
    return (labels[torch.cat(found)] == truth).double().mean().item()


@torch.no_grad()
def report(
    epoch: int, generator: nn.Module, encoder: nn.Sequential, train: LabeledImages, test: LabeledImages, seconds: float
) -> None:
    """One row of the table."""
    generator.eval(), encoder.eval()
    views = [encoder[:-1], encoder]  # the last hidden layer, and the codes
    shares = [
        nearest(torch.cat([view(x) for x in train.images.split(5000)]), train.labels, view(test.images), test.labels)
        for view in views
    ]
    drawn = torch.cat([generator(encoder(x)) for x in test.images.split(5000)]).flatten(1) / 2  # pixels in [0, 1]
    own, other = ((drawn - x.flatten(1) / 2).norm(dim=1).mean().item() for x in (test.images, test.images.roll(1, 0)))
    columns = "".join(f"{100 * share:9.2f}" for share in shares)
    print(f"{epoch:6}{columns}{own:8.2f}{other:8.2f}{own / other:8.2f}{seconds / 60:9.1f}", flush=True)
    generator.train(), encoder.train()


def main() -> None:
    """Train, and print a row for some of the epochs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        sets = [load_images("mnist", split=split) for split in ("train", "test")]
    except FileNotFoundError as error:
        parser.exit(message=f"left out, {error}\n")
    train, test = (LabeledImages(part.images.to(device), part.labels.to(device)) for part in sets)
    image = nn.Sequential(nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))
    generator = nn.Sequential(*perceptron(LATENT, 784, nn.ReLU), *image).to(device)
    encoder, critic = perceptron(784, LATENT, leaky).to(device), Critic().to(device)
    pixels = nearest(train.images.flatten(1), train.labels, test.images.flatten(1), test.labels)
    print(f"1-NN on pixels: {100 * pixels:.2f} %\n epoch  hidden %  code %   error   other   ratio  minutes")
    report(0, generator, encoder, train, test, 0.0)
    players = ([*generator.parameters(), *encoder.parameters()], list(critic.parameters()))
    pair, judge = (torch.optim.Adam(weights, 2e-4, betas=(0.5, 0.999), weight_decay=2.5e-5) for weights in players)
    fall = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, 2 * (1 - k / options.epochs)))
        for optimizer in (pair, judge)
    ]
    game = bigan_training(
        generator,
        encoder,
        critic,
        loss=NON_SATURATING,
        data=stream(train.images, BATCH),
        noise=lambda n: 2 * torch.rand(n, LATENT, device=device) - 1,
        pair_optimizer=pair,
        critic_optimizer=judge,
    )
    begin = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        for _ in islice(game, len(train.images) // BATCH):
            pass
        for schedule in fall:
            schedule.step()
        if epoch in REPORTED or epoch == options.epochs:
            report(epoch, generator, encoder, train, test, time.perf_counter() - begin)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
