"""Plans and potentials against POT, SciPy, closed forms and each other: gauge, signs, points without mass."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import entropy, ortho_group, wasserstein_distance

from gankit import transport
from gankit.linear_programs import cheapest, farkas_certificate, generated_flow, margin_matrix, northwest_corner
from gankit.transport import Transport, c_transform, gaussian_w2, sinkhorn, solve_transport, wasserstein, wasserstein_1d

METHODS = ("lp", "simplex")
PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@st.composite
def masses(draw, size):
    """Laws with points without mass, with equal masses (ties), and with masses down to 1e-9 of the largest."""
    weight = st.one_of(st.integers(0, 3).map(float), st.floats(1e-9, 1.0))
    weights = np.array(draw(st.lists(weight, min_size=size, max_size=size).filter(any)))
    return weights / weights.sum()


@st.composite
def problems(draw, largest=7):
    """(a, b, cost): costs of either sign, often with ties."""
    n, m = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    entry = draw(st.sampled_from([st.integers(-3, 3).map(float), st.floats(-10, 10)]))
    cost = np.array(draw(st.lists(entry, min_size=n * m, max_size=n * m))).reshape(n, m)
    return draw(masses(n)), draw(masses(m)), cost


def cloud(n, seed=0, metric="sqeuclidean"):
    """Two clouds in the plane with random masses, some of them zero, and their cost."""
    r = np.random.default_rng(seed)
    a, b = r.dirichlet(np.ones(n)), r.dirichlet(np.ones(n))
    a[: n // 8] = b[-(n // 8) :] = 0
    return a / a.sum(), b / b.sum(), ot.dist(r.normal(size=(n, 2)), r.normal(size=(n, 2)) + 1, metric=metric)


def naive(a, b, cost):
    """The textbook program, all columns at once."""
    return linprog(cost.ravel(), A_eq=margin_matrix(*cost.shape), b_eq=np.r_[a, b], options=PRECISE).fun


def check_optimal(a, b, cost, answer, tolerance=1e-10):
    """Everything that optimality means: margins, feasibility, no gap, slackness, the gauge."""
    size = max(np.abs(cost).max(), 1.0) * a.sum()
    assert answer.plan.shape == cost.shape and (answer.plan >= 0).all()
    assert np.abs(answer.plan.sum(1) - a).max() <= tolerance * a.sum()
    assert np.abs(answer.plan.sum(0) - b).max() <= tolerance * a.sum()
    slack = cost - answer.phi[:, None] - answer.psi
    assert slack.min() >= -1e-13 * np.abs(cost).max()  # all pairs, those without mass too
    assert answer.cost == pytest.approx((cost * answer.plan).sum(), abs=1e-14 * size)
    assert answer.cost == pytest.approx(a @ answer.phi + b @ answer.psi, abs=tolerance * size)
    assert np.abs(slack * answer.plan).max() <= tolerance * size
    assert a @ answer.phi == pytest.approx(b @ answer.psi, abs=1e-13 * size)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60)
@given(problem=problems())
def test_plan_and_potentials_are_optimal(method, problem):
    a, b, cost = problem
    answer = solve_transport(a, b, cost, method=method)
    check_optimal(a, b, cost, answer)
    assert answer.cost == pytest.approx(naive(a, b, cost), abs=1e-8)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("n", [8, 150])
def test_both_methods_agree_with_pot(n, metric):
    a, b, cost = cloud(n, metric=metric)
    exact = ot.emd2(a, b, cost)
    for method in METHODS:
        answer = solve_transport(a, b, cost, method=method)
        check_optimal(a, b, cost, answer)
        assert answer.cost == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_equal_weights_are_an_assignment(method):
    cost = np.random.default_rng(1).random((40, 40))
    rows, columns = linear_sum_assignment(cost)
    answer = solve_transport(np.ones(40), np.ones(40), cost, method=method)
    assert answer.cost == pytest.approx(cost[rows, columns].sum(), abs=1e-10)
    assert answer.plan[rows, columns] == pytest.approx(1)


def test_two_points_by_hand():
    """Half of the mass moves by 3, at prices that differ by 3."""
    answer = solve_transport([1.0, 0.0], [0.5, 0.5], [[0.0, 3.0], [3.0, 0.0]])
    assert answer.cost == 1.5 and answer.plan.tolist() == [[0.5, 0.5], [0, 0]]
    assert answer.phi == pytest.approx([0.75, -2.25]) and answer.psi == pytest.approx([-0.75, 2.25])


@pytest.mark.parametrize("method", METHODS)
@given(problem=problems())
def test_points_without_mass_get_the_highest_price_that_is_feasible_and_change_nothing(method, problem):
    a, b, cost = problem
    answer, inside = solve_transport(a, b, cost, method=method), np.ix_(a > 0, b > 0)
    assert answer.phi == pytest.approx((cost - answer.psi).min(1), abs=1e-13)
    bound = (cost - answer.phi[:, None])[a > 0].min(0)
    assert answer.psi[b == 0] == pytest.approx(bound[b == 0], abs=1e-13)
    kept = solve_transport(a[a > 0], b[b > 0], cost[inside], method=method)
    assert answer.plan[inside] == pytest.approx(kept.plan, abs=1e-9)
    assert answer.cost == pytest.approx(kept.cost, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(problem=problems(5), scale=st.floats(1e-3, 1e3), mass=st.floats(1e-3, 1e3), data=st.data())
def test_symmetry_translation_and_scaling(method, problem, scale, mass, data):
    a, b, cost = problem
    answer = solve_transport(a, b, cost, method=method)
    assert solve_transport(b, a, cost.T, method=method).cost == pytest.approx(answer.cost, abs=1e-9)
    u = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(a), max_size=len(a))))
    shifted = solve_transport(a, b, cost + u[:, None] + 2, method=method)
    assert shifted.cost == pytest.approx(answer.cost + a @ u + 2, abs=1e-8)
    scaled = solve_transport(mass * a, mass * b, scale * cost, method=method)
    check_optimal(mass * a, mass * b, scale * cost, scaled)
    assert scaled.cost == pytest.approx(mass * scale * answer.cost, abs=1e-8 * mass * scale)


@pytest.mark.parametrize("method", METHODS)
def test_a_translation_costs_its_squared_length(method):
    r = np.random.default_rng(0)
    x, step, a = r.normal(size=(30, 3)), np.array([1.0, -2.0, 0.5]), r.dirichlet(np.ones(30))
    answer = solve_transport(a, a, ot.dist(x, x + step), method=method)
    assert answer.cost == pytest.approx(step @ step, abs=1e-10)
    assert np.diag(answer.plan) == pytest.approx(a, abs=1e-10)


def test_lists_tensors_and_readonly_arrays_are_taken_and_left_alone():
    a, b, cost = cloud(8)
    exact = solve_transport(a, b, cost).cost
    for array in (a, b, cost):
        array.setflags(write=False)
    assert solve_transport(a.tolist(), b.tolist(), cost.tolist()).cost == exact
    learned = torch.tensor(cost, dtype=torch.float32, requires_grad=True)
    single = [torch.tensor(weights, dtype=torch.float32) for weights in (a, b)]  # sums differ by float32's rounding
    assert solve_transport(*single, learned).cost == pytest.approx(exact, rel=1e-5)
    assert solve_transport(a, b, np.asfortranarray(cost), method="simplex").cost == pytest.approx(exact)


def test_columns_enter_by_their_prices_until_the_whole_program_is_solved():
    a, b, cost = (np.asarray(part) for part in cloud(40, seed=3))
    a, b, cost = a[a > 0], b[b > 0], cost[np.ix_(a > 0, b > 0)]
    columns = np.zeros(cost.shape, dtype=bool)
    columns[northwest_corner(a, b)[:2]] = True
    plan, prices = generated_flow(np.r_[a, -b], cost, len(a), columns, np.zeros(len(a) + len(b)))
    assert (plan[columns] * cost[columns]).sum() < (plan * cost).sum()  # the answer uses columns that entered
    assert (plan * cost).sum() == pytest.approx(ot.emd2(a, b, cost), abs=1e-10)
    assert a @ prices[: len(a)] - b @ prices[len(a) :] == pytest.approx(ot.emd2(a, b, cost), abs=1e-10)
    assert columns.sum() <= len(a) + len(b) - 1  # the caller's mask stays as it was


def test_cheapest_marks_the_least_of_every_row_and_column():
    cost = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, 9.0]])
    assert cheapest(cost, 1).tolist() == [[True, False, True], [False, True, False]]
    assert cheapest(cost, 5).all()


@given(a=masses(6), b=masses(4))
def test_the_northwest_corner_is_a_plan(a, b):
    rows, columns, moved = northwest_corner(a, b)
    plan = np.zeros((6, 4))
    np.add.at(plan, (rows, columns), moved)
    assert len(rows) <= 9 and (moved >= 0).all()
    assert plan.sum(1) == pytest.approx(a, abs=1e-14) and plan.sum(0) == pytest.approx(b, abs=1e-14)


def test_a_simplex_that_is_cut_short_is_an_error_and_no_warning(monkeypatch, recwarn):
    a, b, cost = cloud(60)
    monkeypatch.setattr(transport, "SIMPLEX_ITERATIONS", 5)
    with pytest.raises(ArithmeticError, match="numItermax"):
        solve_transport(a, b, cost, method="simplex")
    assert not recwarn.list


def test_an_answer_that_is_not_optimal_is_never_returned(monkeypatch):
    a, b, cost = cloud(8)
    monkeypatch.setattr(transport, "generated_flow", lambda supply, cost, n, *_: (np.ones_like(cost), np.zeros(99)))
    with pytest.raises(ArithmeticError, match="primal and dual differ"):
        solve_transport(a, b, cost)


@given(problem=problems())
def test_c_transform_is_the_largest_feasible_partner(problem):
    _, _, cost = problem
    phi = cost[:, 0] / 2
    psi = c_transform(phi, cost)
    assert psi.tolist() == [min(cost[i, j] - phi[i] for i in range(len(phi))) for j in range(cost.shape[1])]
    again = c_transform(psi, cost.T)
    assert (again >= phi - 1e-12).all()
    assert c_transform(again, cost) == pytest.approx(psi, abs=1e-12)


# One dimension and Gaussians


@st.composite
def weighted_points(draw):
    size = draw(st.integers(1, 8))
    places = st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100))
    return np.array(draw(st.lists(places, min_size=size, max_size=size))), draw(masses(size))


@given(first=weighted_points(), second=weighted_points(), p=st.sampled_from([1, 2, 3.5]))
def test_wasserstein_1d_agrees_with_scipy_pot_and_the_program(first, second, p):
    (x, a), (y, b) = first, second
    found = wasserstein_1d(x, y, p, x_weights=a, y_weights=b)
    assert found**p == pytest.approx(ot.wasserstein_1d(x, y, a, b, p=p), rel=1e-10, abs=1e-10)
    assert found**p == pytest.approx(solve_transport(a, b, np.abs(x[:, None] - y) ** p).cost, rel=1e-7, abs=1e-7)
    assert found**p == pytest.approx(wasserstein_1d(y, x, p, x_weights=b, y_weights=a) ** p, rel=1e-10, abs=1e-10)
    if p == 1:
        assert found == pytest.approx(wasserstein_distance(x, y, a, b), abs=1e-10)


@given(st.integers(1, 8), st.integers(1, 3), st.sampled_from([1.0, 1.5, 2.0]), st.integers(0, 99))
@settings(deadline=None)
def test_the_distance_of_clouds_of_one_size_is_the_best_matching(n, d, p, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    cost = np.linalg.norm(x[:, None] - y, axis=2) ** p
    best = cost[linear_sum_assignment(cost)].mean() ** (1 / p)
    assert wasserstein(x, y, p) == pytest.approx(best, rel=1e-9)
    assert wasserstein(torch.tensor(1e9 * x), torch.tensor(1e9 * y), p) == pytest.approx(1e9 * best, rel=1e-9)


def test_the_distance_of_clouds_of_two_sizes_agrees_with_the_line():
    x, y = np.random.default_rng(3).normal(size=7), np.random.default_rng(4).normal(size=5)
    for p in (1, 2, 3):
        assert wasserstein(x[:, None], y[:, None], p) == pytest.approx(wasserstein_1d(x, y, p), rel=1e-9)
    assert wasserstein(x[:, None], x[:, None]) == 0
    assert wasserstein([[0.0, 0.0]], [[3e150, 4e150]], 3) == pytest.approx(5e150)


@pytest.mark.parametrize(
    ("x", "y", "p", "named"),
    [(np.ones(3), np.ones((3, 1)), 1, "x"), (np.ones((3, 2)), np.ones((3, 1)), 1, "y"),
     (np.ones((3, 2)), np.full((3, 2), np.nan), 1, "y"), (np.ones((3, 2)), np.ones((3, 2)), 0.5, "p")],
)  # fmt: skip
def test_the_distance_of_clouds_names_what_is_wrong(x, y, p, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        wasserstein(x, y, p)


@pytest.mark.parametrize("shape", [(1, 1), (63, 3), (64, 5), (65, 2), (200, 7)])
def test_prices_do_not_depend_on_the_blocks_of_rows(shape):
    rng = np.random.default_rng(0)
    cost, phi = rng.normal(size=shape), rng.normal(size=shape[0])
    assert np.array_equal(c_transform(phi, cost), (cost - phi[:, None]).min(0))


@given(first=weighted_points(), shift=st.floats(-50, 50), scale=st.floats(-5, 5), p=st.sampled_from([1, 2, 7]))
def test_wasserstein_1d_moves_and_scales_with_the_points(first, shift, scale, p):
    x, a = first
    assert wasserstein_1d(x, x + shift, p, x_weights=a, y_weights=a) == pytest.approx(abs(shift), abs=1e-9)
    plain = wasserstein_1d(x, np.zeros(1), p, x_weights=a)
    # A negative scale adds the masses up from the other end: 1e-16 of a mass of 1e-9, and then the root.
    scaled = wasserstein_1d(scale * x, np.zeros(1), p, x_weights=a)
    assert scaled == pytest.approx(abs(scale) * plain, rel=1e-6, abs=1e-9)


def test_wasserstein_1d_of_equal_weights_pairs_sorted_points():
    x, y = torch.randn(50), torch.randn(50)
    assert wasserstein_1d(x, y, 2) == pytest.approx((x.sort()[0] - y.sort()[0]).double().square().mean().sqrt().item())
    assert wasserstein_1d([0.0], [0.0, 1e5], p=100) == pytest.approx(1e5 * 0.5**0.01)  # 1e500 on the way overflows


def random_gaussian(d, seed, rank=None):
    r = np.random.default_rng(seed)
    factor = r.normal(size=(d, rank or 2 * d))
    return r.normal(size=d), factor @ factor.T / d


@pytest.mark.parametrize("d", [1, 2, 5, 30])
def test_gaussian_w2_agrees_with_pot(d):
    (m, a), (n, b) = random_gaussian(d, 0), random_gaussian(d, 1)
    assert gaussian_w2(m, a, n, b) == pytest.approx(ot.gaussian.bures_wasserstein_distance(m, n, a, b), abs=1e-10)
    assert gaussian_w2(m, a, n, b) == pytest.approx(gaussian_w2(n, b, m, a), abs=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6, None])
def test_equal_gaussians_are_at_zero_whatever_their_rank(rank):
    m, a = random_gaussian(6, 0, rank)
    assert gaussian_w2(m, a, m, a) <= 1e-12
    assert gaussian_w2(m, a, m + 3, a) == pytest.approx(3 * math.sqrt(6), abs=1e-12)


@given(
    p=st.lists(st.sampled_from([0.0, 1e-6, 0.3, 1.0, 4.0]), min_size=4, max_size=4),
    q=st.lists(st.sampled_from([0.0, 1e-6, 0.3, 1.0, 4.0]), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_gaussians_on_common_axes_differ_by_their_standard_deviations(p, q, seed):
    """Covariances that commute, singular ones too, turned away from the coordinate axes."""
    turn = ortho_group.rvs(4, random_state=seed)
    found = gaussian_w2(np.zeros(4), turn * p @ turn.T, np.zeros(4), turn * q @ turn.T)
    assert found == pytest.approx(np.linalg.norm(np.sqrt(p) - np.sqrt(q)), abs=1e-7)


def test_gaussians_on_skew_lines():
    """N(0, u u^T) and N(0, v v^T), rank one and not commuting: W_2^2 = |u|^2 + |v|^2 - 2 |u.v|."""
    u, v = np.array([1.0, 2.0, -1.0]), np.array([0.5, 1.0, 3.0])
    exact = math.sqrt(u @ u + v @ v - 2 * abs(u @ v))
    assert gaussian_w2(np.zeros(3), np.outer(u, u), np.zeros(3), np.outer(v, v)) == pytest.approx(exact, abs=1e-7)


def test_gaussian_w2_takes_float32_estimates():
    samples = torch.randn(5, 8)  # fewer than dimensions: rank 4, with eigenvalues of -1e-8
    mean, covariance = samples.mean(0), torch.cov(samples.T)
    assert gaussian_w2(mean, covariance, mean, covariance) <= 1e-5


# Entropic transport


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.02])
def test_sinkhorn_brackets_the_optimum(epsilon):
    a, b, cost = cloud(16)
    exact, found = solve_transport(a, b, cost).cost, sinkhorn(a, b, cost, epsilon)
    assert found.plan.sum(1) == pytest.approx(a, abs=1e-14) and found.plan.sum(0) == pytest.approx(b, abs=1e-14)
    assert (found.phi[:, None] + found.psi <= cost + 1e-12).all()
    assert a @ found.phi == pytest.approx(b @ found.psi)
    lower = a @ found.phi + b @ found.psi
    assert lower < exact < found.cost < exact + epsilon * min(entropy(a), entropy(b))
    assert found.cost - lower < 3 * epsilon


def test_sinkhorns_plan_is_pots_and_falls_to_the_optimum():
    a, b, cost = cloud(10)
    inside = np.ix_(a > 0, b > 0)
    plan = ot.sinkhorn(a[a > 0], b[b > 0], cost[inside], 0.5, stopThr=1e-13, numItermax=100_000)
    assert sinkhorn(a, b, cost, 0.5).plan[inside] == pytest.approx(plan, abs=1e-9)
    assert sinkhorn(5 * a, 5 * b, cost, 0.5).plan[inside] == pytest.approx(5 * plan, abs=1e-8)
    costs = [sinkhorn(a, b, cost, epsilon).cost for epsilon in (4.0, 1.0, 0.25, 0.06)]
    assert costs == sorted(costs, reverse=True)


def test_sinkhorn_at_a_high_temperature_is_the_product():
    a, b, cost = cloud(10)
    assert sinkhorn(a, b, cost, 1e9).plan == pytest.approx(np.outer(a, b), abs=1e-7)


def test_sinkhorn_that_does_not_converge_is_an_error():
    with pytest.raises(ArithmeticError, match="did not converge in 3 iterations"):
        sinkhorn(*cloud(10), 0.01, iterations=3)


# Farkas' lemma


def test_the_margin_matrix_takes_the_margins_of_a_plan():
    plan = np.random.default_rng(0).random((3, 5))
    assert margin_matrix(3, 5) @ plan.ravel() == pytest.approx(np.r_[plan.sum(1), plan.sum(0)])


def proves(matrix, b, certificate):
    return (matrix.T @ certificate >= -1e-9).all() and b @ certificate < 0 and np.abs(certificate).max() <= 1


@given(
    entries=st.lists(st.integers(-2, 2), min_size=12, max_size=12),
    b=st.lists(st.integers(-3, 3), min_size=3, max_size=3),
)
def test_exactly_one_of_farkas_alternatives_holds(entries, b):
    matrix, b = np.array(entries, dtype=float).reshape(3, 4), np.array(b, dtype=float)
    solvable = linprog(np.zeros(4), A_eq=matrix, b_eq=b).status == 0
    certificate = farkas_certificate(matrix, b)
    assert solvable == (certificate is None)
    assert certificate is None or proves(matrix, b, certificate)


@given(a=st.lists(st.integers(0, 4), min_size=3, max_size=3), b=st.lists(st.integers(0, 4), min_size=2, max_size=2))
def test_margins_have_a_plan_if_and_only_if_their_totals_agree(a, b):
    certificate = farkas_certificate(margin_matrix(3, 2), np.array([*a, *b], dtype=float))
    assert (certificate is None) == (sum(a) == sum(b))
    assert certificate is None or proves(margin_matrix(3, 2), np.array([*a, *b]), certificate)


def test_forbidden_routes_are_refuted_by_a_set_that_cannot_be_served():
    """Two islands: the certificate names one of them, whose supply exceeds its demand."""
    allowed = block_diag(np.ones((2, 2)), np.ones((1, 3))).astype(bool)
    matrix, b = margin_matrix(3, 5)[:, allowed.ravel()], np.array([0.4, 0.4, 0.2, 0.3, 0.3, 0.1, 0.1, 0.2])
    certificate = farkas_certificate(matrix, b)
    assert proves(matrix, b, certificate) and set(np.abs(certificate)) <= {0.0, 1.0}
    b[:3] = 0.3, 0.3, 0.4
    assert farkas_certificate(matrix, b) is None


# Bad input

HALF, SQUARE = [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("solve", [solve_transport, lambda a, b, cost: sinkhorn(a, b, cost, 0.1)])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], HALF, SQUARE), r"^b: expected the total mass 1\.1 of a, got 1$"),
        ((HALF, [0.5, 0.5 + 1e-9], SQUARE), r"^b: expected the total mass 1 of a, got 1"),
        (([1.5, -0.5], HALF, SQUARE), r"^a: expected non-negative masses, got a smallest entry of -0\.5"),
        ((HALF, [1.5, -0.5], SQUARE), r"^b: expected non-negative masses"),
        (([0.0, 0.0], [0.0, 0.0], SQUARE), r"^a: expected a positive total mass, got only zeros"),
        (([0.5, math.nan], HALF, SQUARE), r"^a: expected finite numbers, got 1 NaN or infinite of 2"),
        ((HALF, HALF, [[0.0, math.inf], [1.0, 0.0]]), r"^cost: expected finite numbers, got 1 NaN or infinite of 4"),
        (([0.2, 0.3, 0.5], HALF, SQUARE), r"^a: expected shape \(2,\), a mass for each point, got shape \(3,\)"),
        ((HALF, [1.0], SQUARE), r"^b: expected shape \(2,\), a mass for each point, got shape \(1,\)"),
        (([HALF], HALF, SQUARE), r"^a: expected a non-empty array with 1 axes, got shape \(1, 2\)"),
        ((HALF, HALF, HALF), r"^cost: expected a non-empty array with 2 axes"),
        ((HALF, HALF, np.zeros((2, 0))), r"^cost: expected a non-empty array with 2 axes"),
        ((["x", "y"], HALF, SQUARE), r"^a: expected real numbers"),
        ((HALF, HALF, np.array(SQUARE) * 1j), r"^cost: expected real numbers"),
        ((HALF, HALF, [[0.0], [1.0, 0.0]]), r"^cost: expected real numbers, got list"),
    ],
)
def test_problems_that_make_no_sense_are_refused(solve, arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve_transport(HALF, HALF, SQUARE, method="auction"), r"^method: expected 'lp' or 'simplex'"),
        (lambda: c_transform([0.0, 1.0, 2.0], SQUARE), r"^potential: expected shape \(2,\)"),
        (lambda: sinkhorn(HALF, HALF, SQUARE, 0.0), r"^epsilon: expected a finite number above 0"),
        (lambda: sinkhorn(HALF, HALF, SQUARE, 1.0, iterations=0), r"^iterations: expected a whole number"),
        (lambda: wasserstein_1d([0.0], [1.0], p=0.5), r"^p: expected a finite number of at least 1, got 0\.5"),
        (lambda: wasserstein_1d([0.0], [1.0], p=math.inf), r"^p: expected a finite number"),
        (lambda: wasserstein_1d([[0.0]], [1.0]), r"^x: expected a non-empty array with 1 axes"),
        (lambda: wasserstein_1d([0.0, 1.0], [1.0], x_weights=[1.0]), r"^x_weights: expected shape \(2,\)"),
        (lambda: wasserstein_1d([0.0], [1.0], y_weights=[2.0]), r"^y_weights: expected the total mass 1 of x_weights"),
        (lambda: gaussian_w2([0.0], [[1.0]], [0.0, 1.0], np.eye(2)), r"^mean_q: expected the shape \(1,\) of mean_p"),
        (lambda: gaussian_w2([0.0], np.eye(2), [0.0], [[1.0]]), r"^cov_p: expected shape \(1, 1\)"),
        (lambda: gaussian_w2([0.0], [[1.0]], [0.0], [[-1.0]]), r"^cov_q: expected a positive semidefinite matrix"),
        (lambda: gaussian_w2([0, 0], [[1, 1], [0, 1]], [0, 0], np.eye(2)), r"^cov_p: expected a symmetric matrix"),
        (lambda: farkas_certificate(np.eye(2), np.ones(3)), r"^b: expected shape \(2,\)"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_answer_is_frozen():
    with pytest.raises(AttributeError):
        solve_transport(HALF, HALF, SQUARE).cost = 0.0
    assert Transport.__dataclass_params__.frozen


def test_a_small_mass_far_away_is_shipped():
    x, a = np.r_[np.zeros(100), 1e7], np.r_[np.full(100, 0.01), 6e-14]
    answers = [solve_transport(a, [a.sum()], x[:, None] ** 2, method=method) for method in ("lp", "simplex")]
    for answer in answers:
        assert answer.cost == pytest.approx(6.0, rel=1e-9)
        assert answer.plan.sum(1) == pytest.approx(a, rel=1e-9)


def test_a_small_mass_far_away_is_shipped_on_the_line():
    x, a = np.r_[np.zeros(1000), 1e6], np.r_[np.full(1000, 0.001), 8e-13]
    assert wasserstein_1d(x, [0.0], 2, x_weights=a, y_weights=[a.sum()]) == pytest.approx(math.sqrt(0.8), rel=0.02)


@pytest.mark.parametrize(
    ("matrix", "b", "x"),
    [([[1, 1], [1, 1 + 1e-8]], [1, 1 + 5e-9], [0.5, 0.5]), ([[1, -1], [1, -1 + 1e-8]], [0, 1], [1e8, 1e8])],
)
def test_farkas_refutes_no_system_with_a_solution(matrix, b, x):
    assert np.array(matrix) @ x == pytest.approx(b, abs=1e-6)
    assert farkas_certificate(np.array(matrix), np.array(b, dtype=float)) is None
