"""The Kantorovich-Rubinstein dual: 1-Lipschitz potentials, the critics that a Wasserstein GAN looks for.

W_1(P, Q) = max (a - b).f over functions with |f(x) - f(y)| <= |x - y|, for laws with masses a and b on common points: f
is high where P has more mass than Q. Of the f + t the one with (a + b).f = 0 is given.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from . import _checks
from ._checks import Numbers
from .linear_programs import cheapest, generated_flow, least_cost_flow


@dataclass(frozen=True)
class Potential:
    """An optimal f by its ``values`` (N,) at the ``points`` (N, d), and ``cost`` = (a - b).f = W_1(P, Q)."""

    cost: float
    points: np.ndarray
    values: np.ndarray

    def __call__(self, x: Tensor) -> Tensor:
        """McShane's extension min_k f(z_k) + |x - z_k|: the scores (M,) of points (M, d), or (M,) on the line.

        It is 1-Lipschitz in all of space, keeps ``values``, and autograd differentiates it. Raises ``ValueError`` for
        points of another dimension and for numbers that are not finite (McShane, 1934,
        doi:10.1090/S0002-9904-1934-05978-0).
        """
        places = _checks.tensor("x", x)[:, None] if x.ndim == 1 else _checks.tensor("x", x)
        if places.ndim != 2 or places.shape[1] != self.points.shape[1]:
            _checks.fail("x", f"shape (M, {self.points.shape[1]})", f"shape {tuple(x.shape)}")
        centers, values = (torch.from_numpy(array).to(places) for array in (self.points, self.values))
        return (values + _distances(places, centers)).min(1).values


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # products lose digits of small distances


def kantorovich_potential(points: Numbers, a: Numbers, b: Numbers) -> Potential:
    """max (a - b).f over the f that are 1-Lipschitz on the ``points`` (N,) or (N, d) with masses ``a``, ``b`` (N,).

    The distance is Euclidean. On the line bounds between neighbors are all, as distances add up: the work is linear in
    N once the points are sorted. In space the bounds that matter are found by their prices. Raises ``ValueError`` for
    masses that are negative or do not match, points that are not finite, and shapes that do not fit
    (Kantorovich and Rubinstein, 1958; Villani, 2009, doi:10.1007/978-3-540-71050-9, chapter 5).
    """
    places = _checks.array("points", points, 1 if np.ndim(points) == 1 else 2)
    places = places.reshape(len(places), -1)
    a, b = _checks.masses("a", a, len(places), "b", b, len(places))
    if len(places) == 1:
        values = np.zeros(1)
    elif places.shape[1] == 1:
        order = np.argsort(places[:, 0])
        gaps = np.diff(places[order, 0])
        values = _edge_potential(order[:-1], order[1:], gaps, a - b)
        values[order] = np.r_[0.0, np.cumsum(np.diff(values[order]).clip(-gaps, gaps))]  # feasible to rounding
    else:
        values = _space_potential(places, a - b)
    values = _centered(values, a, b)
    return Potential(float((a - b) @ values), places, values)


def graph_potential(edges: Numbers, lengths: Numbers, a: Numbers, b: Numbers) -> np.ndarray:
    """max (a - b).f over f (N,) with |f_u - f_v| <= length along the ``edges`` (E, 2) of a connected graph.

    Summed along shortest paths, these E bounds imply all N^2 of the graph's metric: the maximum is W_1 for it. Masses
    are (N,), nodes count from 0. Raises ``ValueError`` for ``lengths`` (E,) that are negative, edges to nodes that do
    not exist, a graph in pieces, and masses as ``kantorovich_potential`` does (Peyre and Cuturi, 2019,
    arXiv:1803.00567, chapter 6).
    """
    ends, lengths = _checks.array("edges", edges, 2), _checks.array("lengths", lengths, 1)
    count = _checks.array("a", a, 1).size
    a, b = _checks.masses("a", a, count, "b", b, count)
    if ends.shape != (len(lengths), 2):
        _checks.fail("edges", f"shape ({len(lengths)}, 2), a pair for each length", f"shape {ends.shape}")
    if not np.isin(ends, np.arange(count)).all():
        _checks.fail("edges", f"nodes from 0 to {count - 1}", f"{ends.min():g} to {ends.max():g}")
    if lengths.min() < 0:
        _checks.fail("lengths", "non-negative lengths", f"a smallest one of {lengths.min():.3g}")
    tails, heads = ends.astype(np.int64).T
    pieces, _ = connected_components(coo_array((np.ones(len(tails)), (tails, heads)), shape=(count, count)))
    if pieces > 1:
        _checks.fail("edges", "a connected graph", f"{pieces} pieces")
    values = _edge_potential(tails, heads, lengths, a - b)
    for _ in range(count):  # Bellman and Ford's shortest paths: feasible to rounding, not to the solver's tolerance
        before = values.copy()
        np.minimum.at(values, heads, values[tails] + lengths)
        np.minimum.at(values, tails, values[heads] + lengths)
        if (values == before).all():
            break
    return _centered(values, a, b)


def _edge_potential(u: np.ndarray, v: np.ndarray, lengths: np.ndarray, supply: np.ndarray) -> np.ndarray:
    _, values = least_cost_flow(supply, np.r_[u, v], np.r_[v, u], np.r_[lengths, lengths])
    return values


def _space_potential(points: np.ndarray, supply: np.ndarray) -> np.ndarray:
    places, order = torch.from_numpy(points), np.arange(len(points))
    distances = _distances(places, places).numpy()
    columns = cheapest(distances, 8)
    columns[order[:-1], order[1:]] = columns[order[1:], order[:-1]] = True  # a path, so that some flow exists
    _, values = generated_flow(supply, distances, 0, columns, np.zeros(len(points)))
    extended: np.ndarray = (values + distances).min(1)  # 1-Lipschitz to rounding, not to the solver's tolerance
    return extended


def _centered(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    centered: np.ndarray = values - (a + b) @ values / (a + b).sum()
    return centered
