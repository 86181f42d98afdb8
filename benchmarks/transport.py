"""Exact optimal transport: gankit's two solvers beside POT, SciPy's assignment and SciPy's linear program.

Two clouds of n points of N(0, I) in the plane, equal weights, squared distances: POT's own benchmark. All solvers must
agree on the cost to 1e-9 of it, or the script stops. Then the Kantorovich-Rubinstein dual on the line, for n up to
100,000 points.

    python benchmarks/transport.py           # a few minutes on one core
    python benchmarks/transport.py --quick   # n up to 512

Times are the best of three runs (of one, beyond ten seconds). gankit's two methods return a plan and both potentials,
checked for feasibility and for a gap of 1e-9; POT's emd returns a plan; assignment needs equal weights. "naive" is the
whole constraint matrix, sparse, handed to linprog. The last column is the exponent of n that fits the times from the
middle size on.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import ot
from scipy.optimize import linear_sum_assignment, linprog

from gankit.linear_programs import margin_matrix
from gankit.potentials import kantorovich_potential
from gankit.transport import solve_transport

SIZES = (32, 64, 128, 256, 512, 1000, 2000, 4000)
LONGEST = {"naive linprog": 512, "gankit lp": 1000}  # beyond these sizes a solver is left out
Solver = Callable[[np.ndarray, np.ndarray], float]


def naive(weights: np.ndarray, cost: np.ndarray) -> float:
    """The cost by linprog on all n^2 columns."""
    n = len(weights)
    result = linprog(cost.ravel(), A_eq=margin_matrix(n, n), b_eq=np.r_[weights, weights], method="highs")
    return float(result.fun)


def assignment(weights: np.ndarray, cost: np.ndarray) -> float:
    """The cost of the best matching."""
    return float(cost[linear_sum_assignment(cost)].sum() * weights[0])


def emd(weights: np.ndarray, cost: np.ndarray) -> float:
    """The cost of POT's plan."""
    return float((ot.emd(weights, weights, cost, numItermax=10**9) * cost).sum())


SOLVERS: dict[str, Solver] = {
    "naive linprog": naive,
    "gankit lp": lambda weights, cost: solve_transport(weights, weights, cost).cost,
    "gankit simplex": lambda weights, cost: solve_transport(weights, weights, cost, method="simplex").cost,
    "POT emd": emd,
    "SciPy assignment": assignment,
}


def seconds(call: Callable[[], float]) -> tuple[float, float]:
    """The best time of three calls, or of one that takes ten seconds, and the value."""
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        value = call()
        best = min(best, time.perf_counter() - begin)
        if best > 10:
            break
    return best, value


def planes(sizes: tuple[int, ...]) -> dict[str, dict[int, float]]:
    """Seconds of each solver for each size."""
    times: dict[str, dict[int, float]] = {name: {} for name in SOLVERS}
    for n in sizes:
        rng = np.random.default_rng(n)
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
        cost, weights = ((x[:, None] - y) ** 2).sum(2), np.full(n, 1 / n)
        values = {}
        for name, solve in SOLVERS.items():
            if n <= LONGEST.get(name, max(SIZES)):
                print(f"\rn = {n}: {name:20}", end="", flush=True)
                times[name][n], values[name] = seconds(lambda solve=solve, w=weights, c=cost: solve(w, c))
        worst = np.ptp(list(values.values())) / max(values.values())
        if not worst < 1e-9:
            raise ArithmeticError(f"the solvers disagree at n = {n}: {values}")
    print("\r" + " " * 40 + "\r", end="")
    return times


def lines(sizes: tuple[int, ...]) -> dict[int, float]:
    """Seconds of the Kantorovich-Rubinstein dual between neighbors on the line."""
    times = {}
    for n in sizes:
        rng = np.random.default_rng(n)
        points, a, b = rng.normal(size=n), rng.random(n), rng.random(n)
        a, b = a / a.sum(), b / b.sum()
        times[n], _ = seconds(lambda points=points, a=a, b=b: kantorovich_potential(points, a, b).cost)
    return times


def exponent(times: dict[int, float]) -> float:
    """The slope of log time over log n, from the middle size on."""
    sizes = sorted(times)[len(times) // 2 :]
    return float(np.polyfit(np.log(sizes), np.log([times[n] for n in sizes]), 1)[0]) if len(sizes) > 1 else float("nan")


def draw(times: dict[str, dict[int, float]], path: Path) -> None:
    """The log-log plot."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, found in times.items():
        axes.loglog(list(found), list(found.values()), "o-", label=f"{name}, $n^{{{exponent(found):.1f}}}$")
    axes.set(xlabel="n", ylabel="seconds")
    axes.legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="n up to 512")
    parser.add_argument("--plot", type=Path, help="write the log-log plot there")
    options = parser.parse_args()
    sizes = tuple(n for n in SIZES if not options.quick or n <= 512)
    times = planes(sizes)
    print(f"{'seconds':17}" + "".join(f"{f'n = {n}':>10}" for n in sizes) + "  exponent")
    for name, found in times.items():
        row = "".join(f"{found[n]:10.4f}" if n in found else " " * 10 for n in sizes)
        print(f"{name:17}{row}  {exponent(found):8.2f}")
    ratio = times["naive linprog"][256] / times["gankit lp"][256]
    print(f"naive linprog over gankit lp at n = 256: {ratio:.1f}")
    largest = max(sizes)
    print(f"gankit simplex over POT emd at n = {largest}: "
          f"{times['gankit simplex'][largest] / times['POT emd'][largest]:.3f}")  # fmt: skip
    found = lines((1000, 10_000, 100_000))
    print("the dual on the line: " + ", ".join(f"n = {n}: {t:.3f} s" for n, t in found.items()))
    if options.plot:
        draw(times, options.plot)


if __name__ == "__main__":
    main()
