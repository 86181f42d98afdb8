"""Mode coverage against counts by hand, the truth's own samples, and the limits of a perfect model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import entropy
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gankit.data import grid, load_images, ring
from gankit.metrics import (
    Gaussian,
    fid,
    frechet_distance,
    kernel_distance,
    mode_coverage,
    modes_held,
    precision_recall,
)
from gankit.transport import gaussian_w2

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
MIXTURES = {"ring": (ring(), 0.01, 8), "grid": (grid(), 0.05, 25)}


def centers_of(mixture) -> torch.Tensor:
    return mixture.component_distribution.base_dist.loc


def test_samples_are_counted_at_their_nearest_center():
    samples = torch.tensor([[0.0, 0.29], [0.0, 0.31], [1.0, 0.1], [1.0, 0.0], [0.5, 0.5]])
    found = mode_coverage(samples, SQUARE, 0.1)
    assert found.modes == 2 and found.high_quality == pytest.approx(3 / 5)
    assert found.reverse_kl == pytest.approx(entropy([1 / 3, 2 / 3, 0, 0], [0.25] * 4))


@pytest.mark.parametrize(("threshold", "share"), [(0.5, 0.0), (1.0, 0.25), (2.0, 0.5), (3.9, 0.5), (4.0, 1.0)])
def test_the_threshold_counts_standard_deviations_and_its_edge_belongs_to_it(threshold, share):
    samples = torch.tensor([[0.25, 0.0], [0.5, 0.0], [0.0, 1.0], [1.0, 0.0]])  # at 1, 2, 4 and 4 times 1/4
    assert mode_coverage(samples, torch.zeros(1, 2), 0.25, threshold).high_quality == share


@pytest.mark.parametrize("name", MIXTURES)
def test_the_truth_reaches_the_limits_that_its_docstring_states(name):
    mixture, std, modes = MIXTURES[name]
    n, found = 2500, []
    for _ in range(40):
        found.append(mode_coverage(mixture.sample((n,)), centers_of(mixture), std))
    assert all(one.modes == modes for one in found)
    share = sum(one.high_quality for one in found) / 40
    assert share == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.0111 * 0.989 / (40 * n)))
    floor = (modes - 1) / (2 * n)
    spread = math.sqrt((modes - 1) / 2) / n / math.sqrt(40)  # 2n KL is chi-squared with K - 1 degrees of freedom
    assert sum(one.reverse_kl for one in found) / 40 == pytest.approx(floor, abs=4 * spread + 0.02 * floor)


@given(counts=st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any))
def test_reverse_kl_is_scipys_entropy_of_the_counts(counts):
    samples = torch.cat([center.expand(count, 2) for center, count in zip(SQUARE, counts, strict=True)])
    found = mode_coverage(samples, SQUARE, 0.1)
    assert found.modes == sum(count > 0 for count in counts) and found.high_quality == 1
    assert found.reverse_kl == pytest.approx(entropy(counts, [1] * 4), abs=1e-12)


def test_samples_far_from_every_mode_count_for_the_quality_alone():
    samples = torch.cat([SQUARE.repeat(5, 1), 10 + torch.rand(60, 2)])
    found = mode_coverage(samples, SQUARE, 0.01)
    assert (found.modes, found.high_quality) == (4, 0.25) and found.reverse_kl == pytest.approx(0, abs=1e-12)


def test_no_sample_of_high_quality_is_infinitely_far():
    found = mode_coverage(torch.full((5, 2), 9.0), SQUARE, 0.1)
    assert (found.modes, found.high_quality, found.reverse_kl) == (0, 0.0, math.inf)


def test_narrow_modes_far_from_the_origin_keep_their_precision():
    """The product form of cdist loses digits of 1e3 +- 1e-3 in float32."""
    centers = torch.tensor([[1000.0, 1000.0], [1000.5, 1000.0]])
    samples = centers.repeat(50, 1) + 1e-3 * torch.tensor([1.0, 0.0])
    assert mode_coverage(samples, centers, 1e-3).high_quality == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": torch.zeros(5, 3)}, r"^samples: expected shape \(n, 2\) like centers, got shape \(5, 3\)"),
        ({"samples": torch.full((5, 2), math.nan)}, r"^samples: expected finite numbers"),
        ({"samples": torch.zeros(0, 2)}, r"^samples: expected a tensor with at least one element"),
        ({"centers": torch.zeros(2)}, r"^centers: expected shape \(K, d\), got shape \(2,\)"),
        ({"centers": torch.zeros(3, 2)}, r"^centers: expected distinct rows, got 1 distinct ones of 3"),
        ({"std": 0.0}, r"^std: expected a finite number above 0"),
        ({"threshold": -1.0}, r"^threshold: expected a finite number above 0"),
    ],
)
def test_errors_name_the_argument(change, message):
    good = {"samples": torch.zeros(5, 2), "centers": SQUARE, "std": 0.1}
    with pytest.raises(ValueError, match=message):
        mode_coverage(**(good | change))


@pytest.mark.parametrize("modes", range(2, 60))
def test_even_counts_have_no_divergence_and_never_a_negative_one(modes):
    centers = torch.stack([torch.arange(modes), torch.zeros(modes)], 1)
    assert 0 <= mode_coverage(centers, centers, 0.1).reverse_kl < 1e-12


def test_a_mode_is_held_by_more_than_its_least_share():
    samples = torch.cat([SQUARE[0].expand(97, 2), SQUARE[1].expand(2, 2) + 0.3, SQUARE[2].expand(1, 2)])
    assert modes_held(samples, SQUARE) == 1  # two of a hundred are not more than a share of .02
    assert modes_held(samples, SQUARE, 0.015) == 2 and modes_held(samples, SQUARE, 0) == 3
    assert modes_held(samples.double(), SQUARE, 0) == 3


@pytest.mark.parametrize("name", MIXTURES)
def test_the_truth_holds_every_mode(name):
    mixture, _, modes = MIXTURES[name]
    assert modes_held(mixture.sample((2500,)), centers_of(mixture)) == modes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((torch.rand(5, 3), SQUARE), "samples"), ((torch.rand(5, 2), SQUARE[0]), "centers"),
     ((torch.rand(5, 2), SQUARE, 1.0), "least"), ((torch.full((5, 2), torch.nan), SQUARE), "samples")],
)  # fmt: skip
def test_modes_held_names_what_is_wrong(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        modes_held(*arguments)


def law(d, rank, seed):
    """A Gaussian whose covariance has the given rank."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(d, rank, generator=generator, dtype=torch.float64)
    return Gaussian(torch.randn(d, generator=generator, dtype=torch.float64), factor @ factor.T)


@pytest.mark.parametrize("sizes", [[50], [1, 49], [10, 1, 1, 38], [25, 25]])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_a_fit_does_not_depend_on_the_batches(sizes, mean):
    rows = mean + torch.randn(50, 4, dtype=torch.float64)
    found = Gaussian.fit(iter(rows.split(sizes)))
    torch.testing.assert_close(found.mean, rows.mean(0))
    torch.testing.assert_close(
        found.covariance, torch.from_numpy(np.cov(rows.numpy(), rowvar=False)), rtol=1e-6, atol=0
    )


def test_a_fit_of_float32_keeps_the_covariance_at_a_large_mean():
    rows = 1000 + torch.randn(100_000, 1)
    assert Gaussian.fit(rows.split(1000)).covariance.item() == pytest.approx(1, abs=0.02)
    assert Gaussian.fit(rows).covariance.dtype == torch.float64


@given(st.integers(1, 6), st.integers(0, 99))
def test_the_distance_is_scipys_root_and_the_other_formula(d, seed):
    p, q = law(d, d + 2, seed), law(d, d + 2, seed + 100)
    root = sqrtm(p.covariance.numpy() @ q.covariance.numpy()).real
    by_root = (p.mean - q.mean).square().sum() + (p.covariance + q.covariance).trace() - 2 * np.trace(root)
    found = frechet_distance(p, q).item()
    assert found == pytest.approx(by_root.item(), rel=1e-6)
    assert found == pytest.approx(gaussian_w2(p.mean, p.covariance, q.mean, q.covariance) ** 2, rel=1e-9)
    assert found == pytest.approx(frechet_distance(q, p).item(), rel=1e-12)


def test_published_cases():
    zeros, ones = torch.zeros(2048, dtype=torch.float64), torch.ones(2048, dtype=torch.float64)
    eye = torch.eye(2048, dtype=torch.float64)
    assert frechet_distance(Gaussian(zeros, eye), Gaussian(ones, eye)).item() == pytest.approx(2048, rel=1e-12)
    p = Gaussian(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    q = Gaussian(torch.tensor([1.0, 2.0]).double(), torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double())
    assert frechet_distance(p, q).item() == pytest.approx(12 - 2 * math.sqrt(5 + 2 * math.sqrt(5)), rel=1e-14)


@pytest.mark.parametrize(("d", "rank"), [(5, 1), (40, 7), (64, 63), (3, 0)])
def test_laws_without_full_rank_are_no_trouble(d, rank):
    p, q = law(d, rank, 0), law(d, rank, 1)
    same = frechet_distance(p, Gaussian(p.mean.clone(), p.covariance.clone()))
    assert 0 <= same <= 1e-10
    apart = frechet_distance(p, q)
    assert apart >= 0 and apart.dtype == torch.float64
    assert apart.item() == pytest.approx(gaussian_w2(p.mean, p.covariance, q.mean, q.covariance) ** 2, rel=1e-8)


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e7, 1e13])
def test_the_fast_and_the_careful_root_agree(condition):
    turn, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))
    values = torch.logspace(0, -math.log10(condition), 12, dtype=torch.float64)
    p, q = Gaussian(torch.zeros(12).double(), turn * values @ turn.T), law(12, 12, 3)
    p = Gaussian(p.mean, (p.covariance + p.covariance.T) / 2)
    other = gaussian_w2(p.mean, p.covariance, q.mean, q.covariance) ** 2
    assert frechet_distance(p, q).item() == pytest.approx(other, rel=1e-7)
    four = Gaussian(p.mean, 4 * p.covariance)
    assert frechet_distance(p, four).item() == pytest.approx(p.covariance.trace().item(), rel=1e-12)


def test_fewer_samples_than_features_and_a_collapsed_model():
    real, one = Gaussian.fit(torch.randn(20, 64)), Gaussian.fit(torch.ones(20, 64))
    assert frechet_distance(real, real) <= 1e-10
    expected = (real.mean - 1).square().sum() + real.covariance.trace()
    torch.testing.assert_close(frechet_distance(real, one), expected)


def test_the_bias_falls_as_one_over_n():
    averages = []
    for n in (200, 800):
        draws = [
            frechet_distance(Gaussian.fit(torch.randn(n, 16)), Gaussian.fit(torch.randn(n, 16))) for _ in range(20)
        ]
        averages.append(sum(draws).item() / 20)
    assert averages[0] / averages[1] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(
    ("p", "q", "named"),
    [(law(2, 2, 0), law(3, 3, 0), "q"),
     (law(2, 2, 0), Gaussian(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "q"),
     (Gaussian(torch.zeros(2), -torch.eye(2)), law(2, 2, 0), "p"),
     (Gaussian(torch.zeros(2), torch.eye(3)), law(2, 2, 0), "p")],
)  # fmt: skip
def test_the_distance_names_what_is_wrong(p, q, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        frechet_distance(p, q)


@pytest.mark.parametrize("rows", [torch.randn(1, 3), torch.randn(3), torch.full((3, 2), torch.nan)])
def test_fits_name_what_is_wrong(rows):
    with pytest.raises(ValueError, match=r"^features: expected"):
        Gaussian.fit(rows)


def test_fid_is_the_distance_of_features_over_batches():
    real, fake = torch.randn(64, 1, 4, 4), 2 * torch.randn(48, 1, 4, 4)
    features = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5)).eval()
    found = fid(real.split(10), fake.split(7), features)
    expected = frechet_distance(Gaussian.fit(features(real)), Gaussian.fit(features(fake)))
    assert found == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"^features: expected a network in evaluation mode"):
        fid([real], [fake], features.train())


class Features(nn.Module):
    """Sixteen numbers of an 8 x 8 image by a fixed network; ``num_features`` is for torchmetrics."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("weights", torch.randn(64, 16, generator=generator, dtype=torch.float64) / 8)

    def forward(self, images):
        return (images.double().flatten(1) @ self.weights).relu()


@pytest.fixture(scope="module")
def two_sets():
    """Real digits, and the same with noise, in batches of which the last is smaller."""
    digits = load_images("digits").images.double()
    noisy = digits + 0.3 * torch.randn(digits.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return digits.split(400), noisy.split(300)


def judged(metric, two_sets):
    for real, batches in zip((True, False), two_sets, strict=True):
        for batch in batches:
            metric.update(batch, real=real)
    return metric.compute()


def test_fid_is_that_of_torchmetrics_on_the_same_features(two_sets):
    theirs = judged(FrechetInceptionDistance(feature=Features()).set_dtype(torch.float64), two_sets)
    assert fid(*two_sets, Features().eval()) == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_the_kernel_distance_is_that_of_torchmetrics_on_one_subset_of_all(two_sets):
    digits, noisy = (torch.cat(batches) for batches in two_sets)
    metric = KernelInceptionDistance(feature=Features(), subsets=1, subset_size=len(digits)).set_dtype(torch.float64)
    theirs, _ = judged(metric, two_sets)
    features = Features()
    assert kernel_distance(features(digits), features(noisy)).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_the_kernel_distance_by_two_loops():
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1
    within = [sum((a @ b / 3 + 1) ** 3 for i, a in enumerate(z) for j, b in enumerate(z) if i != j) for z in (x, y)]
    across = sum((a @ b / 3 + 1) ** 3 for a in x for b in y)
    by_hand = within[0] / 30 + within[1] / 20 - 2 * across / 30
    torch.testing.assert_close(kernel_distance(x, y), by_hand)


def test_the_kernel_distance_is_unbiased():
    draws = torch.stack([kernel_distance(torch.randn(20, 4), torch.randn(20, 4)) for _ in range(400)])
    assert draws.mean().abs() <= 4 * draws.std() / 20
    assert draws.min() < 0


def test_precision_and_recall_of_known_cases():
    real = torch.rand(400, 2)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    half = real[real[:, 0] < 0.5]
    precision, recall = precision_recall(real, half)
    assert precision == 1 and recall == pytest.approx(0.5, abs=0.1)
    wide = 2 * torch.rand(1600, 2)
    precision, recall = precision_recall(real, wide)
    assert precision == pytest.approx(0.25, abs=0.07) and recall >= 0.95


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((torch.rand(9, 2), torch.rand(9, 3)), "fake"), ((torch.rand(9), torch.rand(9, 3)), "real"),
     ((torch.rand(9, 2), torch.rand(3, 2), 3), "k"), ((torch.rand(9, 2), torch.rand(9, 2), 0), "k")],
)  # fmt: skip
def test_precision_names_what_is_wrong(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        precision_recall(*arguments)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_modes_are_held_wherever_the_origin_is(offset):
    centers = torch.stack([offset + 0.02 * torch.arange(8.0), torch.full((8,), offset)], dim=1)
    assert modes_held(centers.repeat(100, 1), centers, least=0.1) == 8
