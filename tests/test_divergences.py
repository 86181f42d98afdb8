"""Nine f-divergences against independent oracles, the identities that define them, and the laws that all obey."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.spatial.distance import jensenshannon
from torch.distributions import Categorical, Normal, kl_divergence

from gankit.divergences import (
    DIVERGENCES,
    GAN,
    JEFFREYS,
    JENSEN_SHANNON,
    KL,
    NEYMAN,
    PEARSON,
    REVERSE_KL,
    SQUARED_HELLINGER,
    TOTAL_VARIATION,
    divergence_between_densities,
    variational_bound,
)

LOG2 = math.log(2)
ALL = list(DIVERGENCES.values())
every = pytest.mark.parametrize("divergence", ALL, ids=lambda divergence: divergence.name)
SMOOTH = [divergence for divergence in ALL if divergence is not TOTAL_VARIATION]
every_smooth = pytest.mark.parametrize("divergence", SMOOTH, ids=lambda divergence: divergence.name)
# f'(inf), from the limits of f(u)/u by hand; sup dom f*.
SLOPE = {
    "KL": math.inf,
    "reverse KL": 0.0,
    "Jensen-Shannon": LOG2 / 2,
    "GAN": 0.0,
    "Pearson": math.inf,
    "Neyman": 1.0,
    "squared Hellinger": 1.0,
    "Jeffreys": math.inf,
    "total variation": 0.5,
}

examples = settings(max_examples=40, deadline=None)  # most tests run for nine divergences
ratios = st.floats(1e-4, 1e4)
counts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=6)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def laws(pairs):
    """Two histograms from pairs of counts, zeros included."""
    a, b = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    assume(a.sum() > 0 and b.sum() > 0)
    return a / a.sum(), b / b.sum()


def slope_below(divergence):
    """A number that is safely inside dom f* seen from above."""
    top = SLOPE[divergence.name]
    return 6.0 if top == math.inf else top - 1e-3


# --- f, f' and f* -------------------------------------------------------------------------------------------------


def test_there_are_nine_under_their_names():
    assert len(DIVERGENCES) == 9
    assert set(DIVERGENCES) == set(SLOPE)
    assert all(divergence.name == name for name, divergence in DIVERGENCES.items())


@every
def test_f_vanishes_at_one(divergence):
    expected = -math.log(4) if divergence is GAN else 0.0
    torch.testing.assert_close(divergence.f(f64(1.0)).item(), expected, rtol=1e-15, atol=0)


@every
def test_slope_at_infinity_is_the_limit_of_f_over_u(divergence):
    slope = SLOPE[divergence.name]
    assert divergence.slope_at_infinity == slope
    u = f64(1e6, 1e12)
    near, far = (divergence.f(u) / u).tolist()
    if slope == math.inf:
        assert far - near > 13  # f(u)/u grows at least as log u does: log 1e6 = 13.8
    else:
        assert abs(far - slope) < 1e-5


@every
@examples
@given(u=ratios)
def test_derivative_is_the_gradient_of_f(divergence, u):
    assume(divergence is not TOTAL_VARIATION or u != 1)
    point = f64(u).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence.f(point).sum(), point)
    torch.testing.assert_close(divergence.derivative(f64(u)), gradient, rtol=1e-9, atol=1e-9)


@every
@examples
@given(u=ratios, w=ratios, share=st.floats(0.01, 0.99))
def test_f_is_convex(divergence, u, w, share):
    left, right, between = divergence.f(f64(u, w, share * u + (1 - share) * w)).tolist()
    assert between <= share * left + (1 - share) * right + 1e-9 * (1 + abs(left) + abs(right))


@every
@examples
@given(u=st.one_of(st.just(0.0), ratios), t=st.floats(-20, 6))
def test_fenchel_young_inequality(divergence, u, t):
    """f(u) + f*(t) >= u t for all u >= 0 and all t, inside the domain and outside."""
    f, conjugate = divergence.f(f64(u)).item(), divergence.conjugate(f64(t)).item()
    assert not math.isnan(f) and not math.isnan(conjugate)
    assert f + conjugate >= u * t - 1e-10 * (1 + abs(f) + abs(u * t))


@every
@examples
@given(u=ratios)
def test_fenchel_young_equality_at_the_derivative(divergence, u):
    """f*(f'(u)) = u f'(u) - f(u)."""
    point = f64(u)
    slope = divergence.derivative(point)
    expected = point * slope - divergence.f(point)
    torch.testing.assert_close(divergence.conjugate(slope), expected, rtol=1e-7, atol=1e-7 * (1 + abs(u)))


@every_smooth
@examples
@given(u=st.floats(1e-3, 1e3))
def test_the_conjugates_gradient_inverts_the_derivative(divergence, u):
    slope = divergence.derivative(f64(u)).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence.conjugate(slope).sum(), slope)
    torch.testing.assert_close(gradient, f64(u), rtol=1e-6, atol=1e-9)


@every
def test_conjugate_is_the_supremum_over_nonnegative_u(divergence):
    """Never below a tangent's value at any u of a wide grid, and reached by the best of them after polishing."""
    grid = torch.cat([f64(0.0), torch.logspace(-8, 8, 4001, dtype=torch.float64)])
    for t in torch.linspace(-6.0, slope_below(divergence), 25, dtype=torch.float64):
        heights = t * grid - divergence.f(grid)
        conjugate = divergence.conjugate(t).item()
        best = int(heights.argmax())
        assert heights[best] <= conjugate + 1e-9 * (1 + abs(conjugate))

        def depth(log_u, t=t):
            u = f64(math.exp(log_u))
            return (divergence.f(u) - t * u).item()

        bounds = (math.log(grid[max(best - 1, 1)]), math.log(grid[min(max(best, 1) + 1, 4001)]))
        polished = optimize.minimize_scalar(depth, bounds=bounds, method="bounded", options={"xatol": 1e-12})
        supremum = max(-polished.fun, heights[best].item())
        assert conjugate == pytest.approx(supremum, rel=1e-6, abs=1e-6), t.item()


@every
def test_conjugate_is_infinite_exactly_above_the_slope_at_infinity(divergence):
    slope = SLOPE[divergence.name]
    if slope == math.inf:
        assert divergence.conjugate(f64(-50.0, 0.0, 50.0)).isfinite().all()
    else:
        above = divergence.conjugate(slope + f64(1e-6, 0.1, 10.0, 1e6))
        assert (above == math.inf).all()
        assert divergence.conjugate(slope - f64(1e-6, 0.1, 10.0, 1e6)).isfinite().all()


def test_conjugates_on_the_edge_of_their_domain():
    """At t = f'(inf) the supremum is a limit: finite where f(u) stays a bounded distance above its asymptote."""
    assert NEYMAN.conjugate(f64(1.0)).item() == 2.0  # t u - f(u) = 2 - 1/u
    assert TOTAL_VARIATION.conjugate(f64(0.5)).item() == 0.5
    for divergence in (REVERSE_KL, GAN, SQUARED_HELLINGER):
        assert divergence.conjugate(f64(SLOPE[divergence.name])).item() == math.inf


def test_pearson_and_total_variation_are_flat_where_u_zero_is_best():
    torch.testing.assert_close(PEARSON.conjugate(f64(-2.0, -3.0, -100.0)), f64(-1.0, -1.0, -1.0))
    torch.testing.assert_close(TOTAL_VARIATION.conjugate(f64(-0.5, -0.6, -100.0)), f64(-0.5, -0.5, -0.5))


# --- witnesses ----------------------------------------------------------------------------------------------------


@every
def test_witness_increases_into_the_domain_of_the_conjugate(divergence):
    scores = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    witness = divergence.witness(scores)
    assert (witness.diff() > 0).all()
    extreme = divergence.witness(f64(-700.0, -100.0, 100.0, 700.0))
    assert (extreme <= SLOPE[divergence.name]).all()
    assert not extreme.isnan().any()


@every
def test_witness_reaches_the_whole_domain_that_f_needs(divergence):
    """Each f'(u) has a score: else some optimal critic could not be represented."""
    scores = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    witness = divergence.witness(scores)
    needed = divergence.derivative(f64(0.1, 0.5, 2.0, 10.0))
    assert witness[0] <= needed.min() and needed.max() <= witness[-1]


@every
@examples
@given(v=st.floats(-10, 10))
def test_conjugate_of_witness_is_the_composition(divergence, v):
    score = f64(v)
    composed = divergence.conjugate(divergence.witness(score))
    torch.testing.assert_close(divergence.conjugate_of_witness(score), composed, rtol=1e-9, atol=1e-9)


# Values at scores of -100 and 100 by hand: there the plain composition leaves the domain or overflows.
FAR = {
    "KL": (math.exp(-101), math.exp(99)),
    "reverse KL": (-101.0, 99.0),
    "Jensen-Shannon": (-LOG2 / 2, (100 - LOG2) / 2),
    "GAN": (math.exp(-100), 100.0),
    "Pearson": (-1.0, 2600.0),
    "Neyman": (2 - 2 * math.exp(50), 2.0),
    "squared Hellinger": (-1.0, math.exp(100)),
    "Jeffreys": (-101.0, math.exp(100)),
    "total variation": (-0.5, 0.5),
}


@every
def test_conjugate_of_witness_at_large_scores(divergence):
    values = divergence.conjugate_of_witness(f64(-100.0, 100.0))
    torch.testing.assert_close(values, f64(*FAR[divergence.name]), rtol=1e-12, atol=0)


@every
@pytest.mark.parametrize(("dtype", "large"), [(torch.float64, 100.0), (torch.float32, 80.0)])
def test_gradients_are_finite_at_large_scores(divergence, dtype, large):
    score = torch.tensor([-large, 0.0, large], dtype=dtype, requires_grad=True)
    for function in (divergence.witness, divergence.conjugate_of_witness):
        (gradient,) = torch.autograd.grad(function(score).sum(), score)
        assert gradient.isfinite().all()
        assert (gradient >= 0).all()
        assert gradient[1] > 0


# --- between histograms -------------------------------------------------------------------------------------------


def oracles(p, q):
    """The divergences of two positive histograms by SciPy and torch.distributions."""
    a, b = p.numpy(), q.numpy()
    kl = kl_divergence(Categorical(p), Categorical(q)).item()
    reverse = kl_divergence(Categorical(q), Categorical(p)).item()
    js = jensenshannon(a, b) ** 2
    events = itertools.product([False, True], repeat=len(a))
    return {
        "KL": kl,
        "reverse KL": reverse,
        "Jensen-Shannon": js,
        "GAN": 2 * js - math.log(4),
        "Pearson": stats.power_divergence(a, b, lambda_="pearson").statistic,
        "Neyman": stats.power_divergence(a, b, lambda_="neyman").statistic,
        "squared Hellinger": stats.power_divergence(a, b, lambda_="freeman-tukey").statistic / 4,
        "Jeffreys": kl + reverse,
        "total variation": max(abs(a[list(event)].sum() - b[list(event)].sum()) for event in events),
    }


@examples
@given(pairs=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=2, max_size=6))
def test_between_agrees_with_independent_oracles(pairs):
    p, q = laws(pairs)
    for name, expected in oracles(p, q).items():
        assert DIVERGENCES[name].between(p, q).item() == pytest.approx(expected, rel=1e-9, abs=1e-13), name


def test_kl_is_not_its_reverse():
    p, q = f64(0.9, 0.1), f64(0.5, 0.5)
    assert KL.between(p, q).item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    assert REVERSE_KL.between(p, q).item() == pytest.approx(0.5 * math.log(5 / 9) + 0.5 * math.log(5))


# By hand: [disjoint, P and Q share half their mass, P inside Q, Q inside P].
JS_INSIDE = (math.log(4 / 3) + math.log(2 / 3) / 2 + LOG2 / 2) / 2  # (1, 0) and (1/2, 1/2), mean (3/4, 1/4)
SINGULAR = {
    "KL": (math.inf, math.inf, LOG2, math.inf),
    "reverse KL": (math.inf, math.inf, math.inf, LOG2),
    "Jensen-Shannon": (LOG2, LOG2 / 2, JS_INSIDE, JS_INSIDE),
    "GAN": (0.0, -LOG2, 2 * JS_INSIDE - 2 * LOG2, 2 * JS_INSIDE - 2 * LOG2),
    "Pearson": (math.inf, math.inf, 1.0, math.inf),
    "Neyman": (math.inf, math.inf, math.inf, 1.0),
    "squared Hellinger": (2.0, 1.0, 2 - math.sqrt(2), 2 - math.sqrt(2)),
    "Jeffreys": (math.inf, math.inf, math.inf, math.inf),
    "total variation": (1.0, 0.5, 0.5, 0.5),
}


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_singular_part_is_counted(divergence, dtype):
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=dtype)
    q = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=dtype)
    expected = torch.tensor(SINGULAR[divergence.name], dtype=dtype)
    torch.testing.assert_close(divergence.between(p, q), expected)


@every
def test_bins_that_both_laws_leave_empty_change_nothing(divergence):
    p, q = f64(0.2, 0.8), f64(0.6, 0.4)
    padded = divergence.between(f64(0.2, 0.0, 0.8, 0.0), f64(0.6, 0.0, 0.4, 0.0))
    torch.testing.assert_close(padded, divergence.between(p, q), rtol=1e-15, atol=0)


REVERSALS = [
    (KL, REVERSE_KL),
    (PEARSON, NEYMAN),
    *((symmetric, symmetric) for symmetric in (JENSEN_SHANNON, GAN, SQUARED_HELLINGER, JEFFREYS, TOTAL_VARIATION)),
]


@pytest.mark.parametrize(("one", "other"), REVERSALS, ids=lambda divergence: divergence.name)
@examples
@given(u=ratios, pairs=counts)
def test_reversal(one, other, u, pairs):
    """D_f(P || Q) = D_g(Q || P) for g(u) = u f(1/u)."""
    point = f64(u)
    torch.testing.assert_close(other.f(point), point * one.f(1 / point), rtol=1e-9, atol=1e-9)
    p, q = laws(pairs)
    torch.testing.assert_close(one.between(p, q), other.between(q, p), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("divergence", [KL, REVERSE_KL, PEARSON, NEYMAN], ids=lambda divergence: divergence.name)
def test_the_other_four_are_not_symmetric(divergence):
    p, q = f64(0.7, 0.2, 0.1), f64(0.2, 0.2, 0.6)
    assert (divergence.between(p, q) - divergence.between(q, p)).abs() > 0.1


@every
@examples
@given(slope=st.floats(-5, 5), pairs=counts)
def test_a_multiple_of_u_minus_one_changes_nothing(divergence, slope, pairs):
    p, q = laws(pairs)
    tilted = dataclasses.replace(
        divergence,
        f=lambda u: divergence.f(u) + slope * (u - 1),
        derivative=lambda u: divergence.derivative(u) + slope,
    )
    torch.testing.assert_close(tilted.between(p, q), divergence.between(p, q), rtol=1e-9, atol=1e-12)


@every
@examples
@given(pairs=counts)
def test_nonnegative_and_zero_only_between_equals(divergence, pairs):
    p, q = laws(pairs)
    floor = -math.log(4) if divergence is GAN else 0.0
    torch.testing.assert_close(divergence.between(p, p).item(), floor, rtol=1e-12, atol=1e-15)
    value, distance = divergence.between(p, q).item(), (p - q).abs().sum().item() / 2
    assert value >= floor - 1e-13
    if distance > 1e-12:  # each of the nine is at least TV^2 / 4 above its floor (Pinsker and its relatives)
        assert value - floor >= distance**2 / 4


@examples
@given(pairs=counts)
def test_bounds_and_relations_between_divergences(pairs):
    p, q = laws(pairs)
    js, tv = JENSEN_SHANNON.between(p, q).item(), TOTAL_VARIATION.between(p, q).item()
    hellinger, kl = SQUARED_HELLINGER.between(p, q).item(), KL.between(p, q).item()
    assert js <= LOG2 * tv + 1e-12 <= LOG2 + 2e-12  # Lin (1991)
    assert GAN.between(p, q).item() == pytest.approx(2 * js - math.log(4), abs=1e-12)
    assert hellinger / 2 <= tv + 1e-12 and tv <= math.sqrt(hellinger) + 1e-12  # Le Cam
    assert 2 * tv**2 <= kl + 1e-12  # Pinsker
    assert kl <= math.log1p(PEARSON.between(p, q).item()) + 1e-12
    assert JEFFREYS.between(p, q).item() == pytest.approx(kl + REVERSE_KL.between(p, q).item(), abs=1e-12)


@every
@examples
@given(pairs=counts, places=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_data_processing(divergence, pairs, places):
    """Merging bins forgets, and never increases the divergence."""
    p, q = laws(pairs)
    index = torch.tensor(places[: len(pairs)])
    merged_p, merged_q = (torch.zeros(3, dtype=torch.float64).index_add(0, index, law) for law in (p, q))
    fine, coarse = divergence.between(p, q).item(), divergence.between(merged_p, merged_q).item()
    assert coarse <= fine + 1e-12 * (1 + abs(fine))


@every
@examples
@given(pairs=counts)
def test_splitting_bins_in_proportion_changes_nothing(divergence, pairs):
    """A sufficient statistic loses nothing: the equality case of data processing."""
    p, q = laws(pairs)
    shares = f64(0.2, 0.8)
    split_p, split_q = ((law[:, None] * shares).flatten() for law in (p, q))
    torch.testing.assert_close(divergence.between(split_p, split_q), divergence.between(p, q), rtol=1e-9, atol=1e-12)


@every
@examples
@given(data=st.data(), share=st.floats(0.05, 0.95))
def test_joint_convexity(divergence, data, share):
    four = data.draw(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=2, max_size=5))
    p0, q0 = laws([row[:2] for row in four])
    p1, q1 = laws([row[2:] for row in four])
    mixed = divergence.between(share * p0 + (1 - share) * p1, share * q0 + (1 - share) * q1).item()
    ends = share * divergence.between(p0, q0).item() + (1 - share) * divergence.between(p1, q1).item()
    assert mixed <= ends + 1e-12 * (1 + abs(ends))


@every
def test_batches_are_row_by_row(divergence):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(2, 3, 5, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    values = divergence.between(p, q)
    assert values.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(values[i, j], divergence.between(p[i, j], q[i, j]))


@every
def test_gradients_of_between_agree_with_finite_differences(divergence):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: divergence.between(a.softmax(0), b.softmax(0)), (a, b))


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_between_are_the_derivative_and_minus_the_conjugate(divergence, dtype):
    """dD/dp_i = f'(u_i) and dD/dq_i = f(u_i) - u_i f'(u_i) = -f*(f'(u_i))."""
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=dtype), torch.tensor([0.2, 0.2, 0.6], dtype=dtype)
    slopes = divergence.derivative(p / q)
    p.requires_grad_(), q.requires_grad_()
    on_p, on_q = torch.autograd.grad(divergence.between(p, q), (p, q))
    torch.testing.assert_close(on_p, slopes)
    torch.testing.assert_close(on_q, -divergence.conjugate(slopes), rtol=1e-5, atol=1e-6)


@every
def test_empty_bins_do_not_spoil_the_gradients_of_the_others(divergence):
    """Histograms of data have empty bins: the rest must still learn, and a model's q_i is pulled by f(0) there."""
    p, q = f64(0.5, 0.5, 0.0), f64(0.25, 0.75, 0.0)
    p.requires_grad_(), q.requires_grad_()
    on_p, on_q = torch.autograd.grad(divergence.between(p, q), (p, q))
    slopes = divergence.derivative(f64(2.0, 2 / 3))
    torch.testing.assert_close(on_p, torch.cat([slopes, f64(0.0)]))
    torch.testing.assert_close(on_q, torch.cat([-divergence.conjugate(slopes), f64(0.0)]))

    q = f64(0.2, 0.5, 0.3).requires_grad_()
    (on_q,) = torch.autograd.grad(divergence.between(f64(0.4, 0.6, 0.0), q), q)
    expected = torch.cat([-divergence.conjugate(divergence.derivative(f64(2.0, 1.2))), divergence.f(f64(0.0))])
    torch.testing.assert_close(on_q, expected)


@every
def test_an_empty_bin_of_p_is_pulled_by_the_derivative_at_zero(divergence):
    p = f64(0.0, 1.0).requires_grad_()
    (on_p,) = torch.autograd.grad(divergence.between(p, f64(0.5, 0.5)), p)
    torch.testing.assert_close(on_p, divergence.derivative(f64(0.0, 2.0)))  # -inf for most, never NaN


@every
def test_mass_of_p_outside_q_is_pulled_by_the_slope_at_infinity(divergence):
    p = f64(0.4, 0.6).requires_grad_()
    (on_p,) = torch.autograd.grad(divergence.between(p, f64(1.0, 0.0)), p)
    torch.testing.assert_close(on_p, torch.cat([divergence.derivative(f64(0.4)), f64(SLOPE[divergence.name])]))


@every
def test_tiny_probabilities_stay_finite_or_reach_the_limit(divergence):
    """A ratio that overflows counts as the singular part that it nearly is."""
    p, q = f64(0.5, 0.5), f64(1.0, 5e-324)
    singular = divergence.between(p, f64(1.0, 0.0)).item()
    assert divergence.between(p, q).item() == pytest.approx(singular, rel=1e-12)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (f64(0.5, 0.5), f64(0.5, 0.25, 0.25), r"^q: expected the shape \(2,\) of p, got shape \(3,\)"),
        (f64(0.5, 0.5)[None], f64(0.5, 0.5), r"^q: expected the shape \(1, 2\) of p, got shape \(2,\)"),
        (f64(1.5, -0.5), f64(0.5, 0.5), "^p: expected non-negative probabilities, got .*-0.5"),
        (f64(0.5, 0.5), f64(1.5, -0.5), "^q: expected non-negative probabilities, got .*-0.5"),
        (f64(0.5, 0.6), f64(0.5, 0.5), "^p: expected probabilities that sum to 1 .*, got a sum of 1.1$"),
        (f64(0.5, 0.5), f64(0.5, 0.4), "^q: expected probabilities that sum to 1 .*, got a sum of 0.9$"),
        (f64(math.nan, 0.5), f64(0.5, 0.5), "^p: expected finite numbers, got 1 NaN"),
        (f64(0.5, 0.5), f64(0.5, math.inf), "^q: expected finite numbers, got 1 NaN or infinite of 2"),
        (torch.tensor([1, 0]), f64(0.5, 0.5), "^p: expected a floating-point tensor, got torch.int64"),
        ([0.5, 0.5], f64(0.5, 0.5), "^p: expected a torch.Tensor, got list"),
        (f64(0.5, 0.5), np.array([0.5, 0.5]), "^q: expected a torch.Tensor, got ndarray"),
        (f64(), f64(), r"^p: expected a tensor with at least one element, got shape \(0,\)"),
        (f64(1.0)[0], f64(1.0)[0], "^p: expected probabilities of shape .*, got a scalar"),
    ],
)
@every
def test_between_names_what_is_wrong(divergence, p, q, message):
    with pytest.raises(ValueError, match=message):
        divergence.between(p, q)


# --- between densities --------------------------------------------------------------------------------------------


def normal(mean, std):
    law = Normal(f64(mean), f64(std))
    return lambda x: law.log_prob(x).exp()


def uniform(lower, upper):
    return lambda x: ((x >= lower) & (x <= upper)).double() / (upper - lower)


def gaussians(shift, s, r):
    """Closed forms for N(0, s^2) and N(shift, r^2)."""
    p, q = Normal(f64(0.0), f64(s)), Normal(f64(shift), f64(r))
    kl, reverse = kl_divergence(p, q).item(), kl_divergence(q, p).item()
    affinity = math.sqrt(2 * s * r / (s**2 + r**2)) * math.exp(-(shift**2) / (4 * (s**2 + r**2)))
    return {"KL": kl, "reverse KL": reverse, "Jeffreys": kl + reverse, "squared Hellinger": 2 - 2 * affinity}


@pytest.mark.parametrize(("shift", "s", "r"), [(0.0, 1.0, 1.0), (1.5, 1.0, 1.0), (-0.7, 0.8, 1.3), (2.0, 1.5, 1.0)])
def test_quadrature_agrees_with_gaussian_closed_forms(shift, s, r):
    for name, expected in gaussians(shift, s, r).items():
        value = divergence_between_densities(DIVERGENCES[name], normal(0.0, s), normal(shift, r), -20, 20)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-11), name


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.0])
def test_quadrature_of_shifted_gaussians(shift):
    p, q = normal(0.0, 1.0), normal(shift, 1.0)
    chi_squared = math.expm1(shift**2)
    assert divergence_between_densities(PEARSON, p, q, -14, 14) == pytest.approx(chi_squared, rel=1e-9)
    assert divergence_between_densities(NEYMAN, p, q, -14, 14) == pytest.approx(chi_squared, rel=1e-9)
    tv = math.erf(shift / math.sqrt(8))
    assert divergence_between_densities(TOTAL_VARIATION, p, q, -14, 14) == pytest.approx(tv, rel=1e-8)


def test_quadrature_of_jensen_shannon_is_a_difference_of_entropies():
    def entropy(density):
        return integrate.quad(lambda x: -density(x) * math.log(density(x)), -14, 15, epsabs=1e-12, points=[0, 1])[0]

    p, q = stats.norm(0, 1), stats.norm(1, 1.2)
    js = entropy(lambda x: (p.pdf(x) + q.pdf(x)) / 2) - (p.entropy() + q.entropy()) / 2
    value = divergence_between_densities(JENSEN_SHANNON, normal(0.0, 1.0), normal(1.0, 1.2), -14, 15)
    assert value == pytest.approx(js, abs=1e-9)
    gan = divergence_between_densities(GAN, normal(0.0, 1.0), normal(1.0, 1.2), -14, 15)
    assert gan == pytest.approx(2 * js - math.log(4), abs=1e-9)


@every
def test_quadrature_does_not_depend_on_the_limits(divergence):
    near = divergence_between_densities(divergence, normal(0.0, 1.0), normal(0.5, 1.1), -9, 9)
    far = divergence_between_densities(divergence, normal(0.0, 1.0), normal(0.5, 1.1), -13, 17)
    assert near == pytest.approx(far, rel=1e-7)


@every
def test_quadrature_of_overlapping_uniform_laws(divergence):
    """U[0, 1] and U[1/2, 3/2] share half their mass, as the histograms above do; disjoint ones share none."""
    disjoint, half = SINGULAR[divergence.name][:2]
    value = divergence_between_densities(divergence, uniform(0, 1), uniform(0.5, 1.5), 0, 2)
    assert value == pytest.approx(half, rel=1e-7)
    value = divergence_between_densities(divergence, uniform(0, 1), uniform(3, 4), 0, 4)
    assert value == pytest.approx(disjoint, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "q", "lower", "upper", "message"),
    [
        (normal(0.0, 1.0), normal(0.0, 1.0), 5, -5, r"^lower and upper: expected finite .*, got \(5, -5\)"),
        (normal(0.0, 1.0), normal(0.0, 1.0), 1, 1, r"^lower and upper: expected finite .*, got \(1, 1\)"),
        (normal(0.0, 1.0), normal(0.0, 1.0), -math.inf, 5, r"^lower and upper: expected finite .*, got \(-inf, 5\)"),
        (normal(0.0, 1.0), normal(0.0, 1.0), math.nan, 5, r"^lower and upper: expected finite .*, got \(nan, 5\)"),
        (
            normal(0.0, 1.0),
            normal(0.0, 1.0),
            0,
            9,
            r"^p: expected a density that integrates to 1 over \[0, 9\], got 0.5$",
        ),
        (normal(0.0, 1.0), normal(9.0, 1.0), -9, 9, r"^q: expected a density that integrates to 1 .*, got 0.5$"),
        (lambda x: 2 * normal(0.0, 1.0)(x), normal(0.0, 1.0), -9, 9, "^p: expected a density .*, got 2$"),
        (lambda x: -normal(0.0, 1.0)(x), normal(0.0, 1.0), -9, 9, r"^p\(x\): expected non-negative densities"),
        (normal(0.0, 1.0), lambda x: x * math.nan, -9, 9, r"^q\(x\): expected finite numbers"),
        (normal(0.0, 1.0), lambda x: x[:, None], -9, 9, r"^q\(x\): expected the shape .* of the points, got"),
        (lambda x: 1.0, normal(0.0, 1.0), -9, 9, r"^p\(x\): expected a torch.Tensor, got float"),
    ],
)
def test_quadrature_names_what_is_wrong(p, q, lower, upper, message):
    with pytest.raises(ValueError, match=message):
        divergence_between_densities(KL, p, q, lower, upper)


# --- the variational bound ----------------------------------------------------------------------------------------


def expectation_bound(divergence, scores, counts_p, counts_q):
    """The bound for a critic with one score a bin, whose samples have exactly the histograms' frequencies."""
    return variational_bound(divergence, scores.repeat_interleave(counts_p), scores.repeat_interleave(counts_q)).item()


@every
def test_the_bound_is_tight_at_the_derivative_of_the_ratio(divergence):
    counts_p, counts_q = torch.tensor([1, 4, 5]), torch.tensor([12, 6, 2])  # batches of 10 and of 20
    p, q = counts_p.double() / 10, counts_q.double() / 20
    optimal = divergence.derivative(p / q)

    def score(target):
        return optimize.brentq(lambda v: divergence.witness(f64(v)).item() - target, -50, 50, xtol=1e-14)

    scores = f64(*[score(target) for target in optimal.tolist()])
    exact = divergence.between(p, q).item()
    assert expectation_bound(divergence, scores, counts_p, counts_q) == pytest.approx(exact, rel=1e-9)


@every
@examples
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(-6, 6)), min_size=2, max_size=5),
)
def test_no_critic_exceeds_the_divergence(divergence, rows):
    counts_p, counts_q = (torch.tensor([row[k] for row in rows]) for k in range(2))
    p, q = laws([row[:2] for row in rows])
    exact = divergence.between(p, q).item()
    bound = expectation_bound(divergence, f64(*[row[2] for row in rows]), counts_p, counts_q)
    assert bound <= exact + 1e-10 * (1 + abs(bound))


def test_the_bound_by_hand():
    """KL: E_P[v] - E_Q[e^(v - 1)], batches of different sizes."""
    value = variational_bound(KL, f64(1.0, 2.0), f64(1.0, 1.0, 3.0))
    torch.testing.assert_close(value.item(), 1.5 - (2 + math.e**2) / 3)


@every
def test_the_bounds_gradient_is_finite_and_pushes_real_up_and_fake_down(divergence):
    real, fake = torch.zeros(4, 1, requires_grad=True), torch.zeros(6, 1, requires_grad=True)
    on_real, on_fake = torch.autograd.grad(variational_bound(divergence, real, fake), (real, fake))
    assert (on_real > 0).all() and (on_fake < 0).all()


def test_bound_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"^fake_scores: expected shape \(N, 1\) like real_scores, got shape \(5,\)"):
        variational_bound(KL, torch.zeros(4, 1), torch.zeros(5))
    with pytest.raises(ValueError, match=r"^real_scores: expected finite numbers, got 1 NaN"):
        variational_bound(KL, torch.tensor([math.nan]), torch.zeros(5))


def test_a_large_ratio_in_single_precision_is_no_zero():
    p, logits = torch.tensor([0.5, 0.5]), torch.tensor([0.0, -89.0], requires_grad=True)
    value = KL.between(p, logits.softmax(0))
    value.backward()
    assert value.dtype == torch.float32 and value.item() == pytest.approx(44.5 - math.log(2), rel=1e-5)
    assert logits.grad == pytest.approx(torch.tensor([0.5, -0.5]), abs=1e-6)  # q - p


def test_a_density_ratio_without_a_value_is_not_read_as_zero():
    broken = dataclasses.replace(KL, f=lambda u: torch.where(u > 0.5, KL.f(u), math.nan))
    p, q = Normal(0.0, 1.0), Normal(1.0, 1.0)
    with pytest.raises(ValueError, match="divergence: expected"):
        divergence_between_densities(broken, lambda x: p.log_prob(x).exp(), lambda x: q.log_prob(x).exp(), -9.0, 10.0)
