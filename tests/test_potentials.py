"""1-Lipschitz potentials: the program over neighbors against all pairs, against transport, and their extension."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from gankit import potentials
from gankit.lipschitz import gradient_norms
from gankit.transport import graph_potential, kantorovich_potential, solve_transport


def all_pairs(distances, a, b):
    """max (a - b).f with f_i - f_j <= d_ij for every ordered pair, written out."""
    size, unit = len(a), distances.max() or 1.0  # HiGHS's tolerances are absolute
    rows = np.array([np.eye(size)[i] - np.eye(size)[j] for i in range(size) for j in range(size)])
    bounds = [(0, 0)] + [(None, None)] * (size - 1)
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return -unit * linprog(b - a, A_ub=rows, b_ub=distances.ravel() / unit, bounds=bounds, options=precise).fun


def check_potential(distances, a, b, values, cost):
    size = max(distances.max(), 1e-9)
    assert (values[:, None] - values <= distances + 1e-10 * size).all()
    assert (a - b) @ values == pytest.approx(cost, abs=1e-9 * size)
    assert (a + b) @ values == pytest.approx(0, abs=1e-12 * size)


@st.composite
def laws(draw, size):
    weights = np.array(draw(st.lists(st.integers(0, 5), min_size=size, max_size=size).filter(any)), dtype=float)
    return weights / weights.sum()


@st.composite
def laws_on_points(draw, dimension):
    size = draw(st.integers(1, 7))
    place = st.one_of(st.integers(-3, 3).map(float), st.floats(-10, 10))
    points = np.array(draw(st.lists(place, min_size=size * dimension, max_size=size * dimension)))
    return points.reshape(size, dimension), draw(laws(size)), draw(laws(size))


@given(problem=laws_on_points(1))
def test_on_the_line_neighbors_imply_all_pairs(problem):
    points, a, b = problem
    distances = np.abs(points - points.T)
    found = kantorovich_potential(points[:, 0], a, b)
    check_potential(distances, a, b, found.values, all_pairs(distances, a, b))
    assert found.cost == pytest.approx(wasserstein_distance(points[:, 0], points[:, 0], a, b), abs=1e-10)
    assert kantorovich_potential(points, a, b).cost == found.cost


@given(problem=laws_on_points(2))
def test_in_the_plane_the_potential_prices_transport(problem):
    points, a, b = problem
    distances = cdist(points, points)
    found = kantorovich_potential(points, a, b)
    check_potential(distances, a, b, found.values, all_pairs(distances, a, b))
    assert found.cost == pytest.approx(solve_transport(a, b, distances).cost, abs=1e-9)


def test_duality_holds_for_a_hundred_points_and_matched_pairs_are_as_steep_as_allowed():
    r = np.random.default_rng(0)
    points = np.r_[r.normal(size=(50, 3)), r.normal(size=(50, 3)) + 2]
    a, b = np.repeat([1 / 50, 0], 50), np.repeat([0, 1 / 50], 50)
    distances = cdist(points, points)
    plan, found = solve_transport(a, b, distances), kantorovich_potential(points, a, b)
    assert found.cost == pytest.approx(plan.cost, abs=1e-10) == ot.emd2(a, b, distances)
    assert (found.values[:, None] - found.values - distances).max() <= 1e-14
    i, j = np.nonzero(plan.plan > 1e-9)
    assert found.values[i] - found.values[j] == pytest.approx(distances[i, j], abs=1e-9)


def test_the_program_on_the_line_has_two_arcs_a_neighbor(monkeypatch):
    seen, solve = [], potentials.least_cost_flow
    monkeypatch.setattr(potentials, "least_cost_flow", lambda *a: seen.append(len(a[1])) or solve(*a))
    r = np.random.default_rng(0)
    x, a, b = r.normal(size=2000), r.dirichlet(np.ones(2000)), r.dirichlet(np.ones(2000))
    assert kantorovich_potential(x, a, b).cost == pytest.approx(wasserstein_distance(x, x, a, b), abs=1e-10)
    assert seen == [2 * 1999]


def test_the_critic_is_high_where_the_data_are():
    found = kantorovich_potential([0.0, 3.0], [0.0, 1.0], [1.0, 0.0])
    assert found.cost == 3 and found.values.tolist() == [-1.5, 1.5]
    assert kantorovich_potential([[7.0, 1.0]], [1.0], [1.0]).cost == 0
    assert kantorovich_potential([7.0], [1.0], [1.0]).values.tolist() == [0.0]


@given(problem=laws_on_points(2), seed=st.integers(0, 99))
def test_mcshanes_extension_keeps_the_values_and_the_constant(problem, seed):
    points, a, b = problem
    found = kantorovich_potential(points, a, b)
    assert found(torch.from_numpy(points)).numpy() == pytest.approx(found.values, abs=1e-12)
    x = torch.from_numpy(np.random.default_rng(seed).normal(scale=5, size=(2, 20, 2)))
    assert ((found(x[0]) - found(x[1])).abs() <= (x[0] - x[1]).norm(dim=1) + 1e-12).all()


def test_the_extension_is_a_critic_of_slope_one():
    r = np.random.default_rng(0)
    points = r.normal(size=(30, 2))
    found = kantorovich_potential(points, r.dirichlet(np.ones(30)), r.dirichlet(np.ones(30)))
    assert gradient_norms(found, torch.randn(100, 2, dtype=torch.float64)).tolist() == pytest.approx([1] * 100)
    line = kantorovich_potential([0.0, 1.0], [1.0, 0.0], [0.0, 1.0])
    assert line(torch.tensor([-1.0, 0.25, 2.0])).tolist() == [1.5, 0.25, 0.5]


# Graphs


@st.composite
def graphs(draw):
    """A random tree with some edges more, in any direction, some of length 0."""
    size = draw(st.integers(2, 7))
    edges = [(draw(st.integers(0, node - 1)), node) for node in range(1, size)]
    node = st.integers(0, size - 1)
    edges += draw(st.lists(st.tuples(node, node), max_size=6))
    lengths = draw(st.lists(st.floats(0, 10), min_size=len(edges), max_size=len(edges)))
    return np.array(edges), np.array(lengths), draw(laws(size)), draw(laws(size))


@given(graph=graphs())
def test_on_a_graph_edges_imply_all_pairs_of_its_metric(graph):
    edges, lengths, a, b = graph
    matrix = np.full((len(a), len(a)), np.inf)
    for (u, v), length in zip(edges, lengths, strict=True):
        matrix[u, v] = matrix[v, u] = min(matrix[u, v], length)
    metric = floyd_warshall(matrix)
    values = graph_potential(edges, lengths, a, b)
    check_potential(metric, a, b, values, all_pairs(metric, a, b))
    assert (a - b) @ values == pytest.approx(ot.emd2(a, b, metric), abs=1e-9)


def floyd_warshall(matrix):
    """Written out, as SciPy takes an edge of length 0 for none."""
    metric = matrix.copy()
    np.fill_diagonal(metric, 0)
    for k in range(len(metric)):
        metric = np.minimum(metric, metric[:, k, None] + metric[k])
    return metric


def test_a_grid_of_streets_has_the_taxicab_metric():
    side = 6
    nodes = np.arange(side**2).reshape(side, side)
    edges = np.r_[np.c_[nodes[:, :-1].ravel(), nodes[:, 1:].ravel()], np.c_[nodes[:-1].ravel(), nodes[1:].ravel()]]
    places = np.argwhere(nodes >= 0).astype(float)
    taxicab = np.abs(places[:, None] - places).sum(2)
    a, b = np.random.default_rng(0).dirichlet(np.ones(side**2), size=2)
    values = graph_potential(edges, np.ones(len(edges)), a, b)
    check_potential(taxicab, a, b, values, ot.emd2(a, b, taxicab))
    lengths = np.zeros((side**2, side**2))
    lengths[tuple(edges.T)] = 1
    assert shortest_path(lengths, directed=False) == pytest.approx(taxicab)


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kantorovich_potential([0.0, 1.0], [1.0], HALF), r"^a: expected shape \(2,\), a mass for each point"),
        (lambda: kantorovich_potential([0.0, 1.0], HALF, [0.5, 0.4]), r"^b: expected the total mass 1 of a, got 0\.9"),
        (lambda: kantorovich_potential([0.0, math.nan], HALF, HALF), r"^points: expected finite numbers"),
        (lambda: kantorovich_potential(np.zeros((2, 2, 2)), HALF, HALF), r"^points: expected a non-empty array with 2"),
        (lambda: kantorovich_potential([0.0, 1.0], HALF, HALF)(torch.zeros(3, 2)), r"^x: expected shape \(M, 1\)"),
        (lambda: kantorovich_potential(np.eye(2), HALF, HALF)(torch.zeros(3)), r"^x: expected shape \(M, 2\)"),
        (lambda: graph_potential([[0, 1]], [1.0, 2.0], HALF, HALF), r"^edges: expected shape \(2, 2\)"),
        (lambda: graph_potential([[0, 2]], [1.0], HALF, HALF), r"^edges: expected nodes from 0 to 1, got 0 to 2"),
        (lambda: graph_potential([[0, -1]], [1.0], HALF, HALF), r"^edges: expected nodes from 0 to 1, got -1 to 0"),
        (lambda: graph_potential([[0, 1]], [-1.0], HALF, HALF), r"^lengths: expected non-negative lengths"),
        (
            lambda: graph_potential([[0, 1]], [1.0], np.ones(3), np.ones(3)),
            r"^edges: expected a connected graph, got 2",
        ),
        (lambda: graph_potential([[0, 1]], [1.0], HALF, np.ones(3)), r"^b: expected shape \(2,\)"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_slopes_on_the_line_keep_the_bound_between_points_of_uneven_gaps():
    r = np.random.default_rng(0)
    x = np.cumsum(10.0 ** r.uniform(-9, 3, 200))
    a, b = r.dirichlet(np.ones(200)), r.dirichlet(np.ones(200))
    found = kantorovich_potential(x, a, b)
    assert (np.abs(np.diff(found.values)) <= np.diff(x) + 1e-12 * x[-1]).all()
    assert found.cost == pytest.approx(wasserstein_distance(x, x, a, b), rel=1e-9)
