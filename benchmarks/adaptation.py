"""Domain adaptation between sets of handwritten digits: source only, and gradient reversal.

The small protocol of Tzeng et al. (2017, arXiv:1702.05464): 2,000 labeled images of MNIST or 1,800 of USPS as the
source, as many of the target without labels, and the target's test set; mean and standard error over seeds. A small
LeNet; strength and rates are those of Ganin et al. (2016, arXiv:1505.07818) and were not tuned on the target. "digits"
are the 1,797 of scikit-learn, which stand in where USPS is not at hand. All images are resized to 28 x 28.

    GANKIT_DATA=/where/the/sets/are python benchmarks/adaptation.py mnist usps
    GANKIT_DATA=/where/the/sets/are python benchmarks/adaptation.py mnist digits
"""

import argparse
import statistics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankit.adaptation import dann_loss, proxy_a_distance, ramp
from gankit.data import load_images, stream
from gankit.networks import mlp
from gankit.training import descend

SHARE = {"mnist": 2000, "usps": 1800, "digits": 1497}  # the last: all that are not for testing
BATCH = 64


def images(name: str, split: str) -> tuple[Tensor, Tensor]:
    """The set at 28 x 28, and its labels."""
    found = load_images(name, split=split)
    return F.interpolate(found.images, size=(28, 28), mode="bilinear", align_corners=False), found.labels


def lenet() -> nn.Sequential:
    """(N, 1, 28, 28) -> features (N, 128)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 128),
        nn.ReLU(),
    )


def trained(source: tuple[Tensor, Tensor], target: Tensor, strength: float, rounds: int) -> tuple[nn.Module, nn.Module]:
    """Features and classifier, trained on the source's labels and, with a strength, against a critic of domains."""
    phi, h, D = lenet(), nn.Linear(128, 10), mlp(128, 128, 1)
    players = nn.ModuleList([phi, h, D])
    optimizer = torch.optim.Adam(players.parameters(), 1e-3, betas=(0.5, 0.999))
    rows, others = stream(torch.arange(len(source[0])), BATCH), stream(target, BATCH)
    for k in range(rounds):
        i = next(rows)
        now = strength * ramp(k / rounds)
        task, domains = dann_loss(phi, h, D, (source[0][i], source[1][i]), next(others), now)
        descend(task + domains, optimizer)
    return phi, h


def main() -> None:
    """Print both accuracies on the target for each seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="mnist", choices=list(SHARE))
    parser.add_argument("target", nargs="?", default="usps", choices=list(SHARE))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    try:
        everything, judged = images(options.source, "train"), images(options.target, "test")
        unlabeled, _ = images(options.target, "train")
    except FileNotFoundError as error:
        parser.exit(message=f"left out, {error}\n")
    found: dict[str, list[float]] = {"source only": [], "gradient reversal": []}
    for seed in range(options.seeds):
        for (name, scores), strength in zip(found.items(), (0.0, 1.0), strict=True):
            torch.manual_seed(seed)
            rows = torch.randperm(len(everything[0]))[: SHARE[options.source]]
            source = everything[0][rows], everything[1][rows]
            target = unlabeled[torch.randperm(len(unlabeled))[: SHARE[options.target]]]
            phi, h = trained(source, target, strength, options.rounds)
            with torch.no_grad():
                scores.append(100 * (h(phi(judged[0])).argmax(1) == judged[1]).double().mean().item())
                apart = proxy_a_distance(phi(source[0]), phi(target))
            print(f"seed {seed}  {name:17}  {scores[-1]:5.1f} %   proxy A-distance {apart:.2f}", flush=True)
    for name, scores in found.items():
        error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")
        print(f"{options.source} to {options.target}  {name:17}  {statistics.mean(scores):5.1f} +- {error:.1f} %")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
