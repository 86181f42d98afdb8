"""Every check lets good input through unchanged and says of bad input: argument, what was expected, what came."""

import math

import numpy as np
import pytest
import torch

from gankit import _checks


def says(argument, expected, got):
    """The three parts of the message, in their order."""
    return rf"^{argument}: expected .*{expected}.*, got .*{got}"


def test_a_good_tensor_comes_back_as_the_same_object():
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    assert _checks.tensor("x", value) is value
    weights = torch.full((2, 4), 0.25)
    assert _checks.histogram("p", weights) is weights


@pytest.mark.parametrize(
    ("value", "expected", "got"),
    [
        ([1.0, 2.0], "torch.Tensor", "list"),
        (None, "torch.Tensor", "NoneType"),
        (1.0, "torch.Tensor", "float"),
        (torch.tensor([1, 2]), "floating-point", "torch.int64"),
        (torch.tensor([True]), "floating-point", "torch.bool"),
        (torch.tensor([1j]), "floating-point", "torch.complex64"),
        (torch.empty(0, 3), "at least one element", r"shape \(0, 3\)"),
        (torch.tensor([0.0, math.nan, math.inf]), "finite numbers", "2 NaN or infinite of 3"),
        (torch.tensor(-math.inf), "finite numbers", "1 NaN or infinite of 1"),
    ],
)
def test_tensor_names_what_is_wrong(value, expected, got):
    with pytest.raises(ValueError, match=says("x", expected, got)):
        _checks.tensor("x", value)


@pytest.mark.parametrize(
    ("value", "expected", "got"),
    [
        (torch.tensor(1.0), r"\(\.\.\., K\)", "a scalar"),
        (torch.tensor([1.25, -0.25]), "non-negative", "-0.25"),
        (torch.tensor([[0.5, 0.5], [0.5, 0.75]]), "sum to 1", "a sum of 1.25"),
        (torch.tensor([[0.5, 0.25], [0.5, 0.5]]), "sum to 1", "a sum of 0.75"),
        (torch.tensor([math.nan, 1.0]), "finite numbers", "1 NaN"),
        (torch.tensor([0, 1]), "floating-point", "int64"),
    ],
)
def test_histogram_names_what_is_wrong(value, expected, got):
    with pytest.raises(ValueError, match=says("p", expected, got)):
        _checks.histogram("p", value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [1, 3, 10, 1000, 100_000])
def test_histogram_forgives_rounding_and_nothing_more(dtype, bins):
    generator = torch.Generator().manual_seed(bins)
    weights = torch.rand(5, bins, generator=generator, dtype=torch.float64).to(dtype)
    weights = weights / weights.sum(-1, keepdim=True)
    assert _checks.histogram("p", weights) is weights
    beyond = 100 * math.sqrt(bins) * torch.finfo(dtype).eps
    with pytest.raises(ValueError, match=r"^p: expected probabilities that sum to 1"):
        _checks.histogram("p", weights * (1 + beyond))
    with pytest.raises(ValueError, match=r"^p: expected probabilities that sum to 1"):
        _checks.histogram("p", weights * (1 - beyond))


def test_scores_may_differ_in_the_batch_alone():
    real, fake = torch.zeros(3, 1), torch.zeros(5, 1)
    assert _checks.scores(real, fake) == (real, fake)
    with pytest.raises(ValueError, match=says("fake_scores", r"shape \(N, 1\) like real_scores", r"shape \(3,\)")):
        _checks.scores(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=says("fake_scores", r"shape \(N\) like real_scores", r"shape \(3, 1\)")):
        _checks.scores(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=says("real_scores", "finite", "1 NaN")):
        _checks.scores(torch.tensor([math.nan]), torch.zeros(1))
    with pytest.raises(ValueError, match=says("fake_scores", "finite", "1 NaN")):
        _checks.scores(torch.zeros(1), torch.tensor([math.inf]))


def test_same_shape_refuses_what_would_broadcast():
    _checks.same_shape("a", torch.zeros(2, 3), "b", torch.ones(2, 3))
    with pytest.raises(ValueError, match=says("b", r"the shape \(4,\) of a", r"shape \(4, 1\)")):
        _checks.same_shape("a", torch.zeros(4), "b", torch.zeros(4, 1))


def test_positive_numbers():
    assert _checks.positive("x", 5e-324) == 5e-324
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=says("x", "a finite number above 0", str(value))):
            _checks.positive("x", value)


def test_positive_integers():
    assert _checks.positive_integer("n", 1) == 1
    for value in (0, -3, 2.0, True, "2", None):
        with pytest.raises(ValueError, match=says("n", "a whole number of at least 1", repr(value))):
            _checks.positive_integer("n", value)


def test_whole_numbers_of_other_libraries_count():
    assert type(_checks.positive_integer("n", np.int64(2))) is int
