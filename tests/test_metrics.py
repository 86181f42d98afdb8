"""Mode coverage against counts by hand, the truth's own samples, and the limits of a perfect model."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from gankit.data import grid, ring
from gankit.metrics import mode_coverage, modes_held

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
