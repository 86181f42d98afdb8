"""The Fréchet distance of two Gaussians by four routes: time, and error where covariances have no full rank.

    python benchmarks/frechet.py              # d = 64 ... 1024, a minute or two on one core
    python benchmarks/frechet.py --largest 2048

The first table is the time for two covariances of full rank, the second the error for a covariance of rank d / 8 and
four times the same, whose distance is its trace. Routes: gankit's singular values of a product of roots; SciPy's root
of the product, as the reference implementation has it; eigenvalues of the product, as torch-fidelity has them;
eigenvalues of the symmetric A^(1/2) B A^(1/2).
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg import sqrtm

from gankit.metrics import Gaussian, frechet_distance

Route = Callable[[np.ndarray, np.ndarray], float]


def by_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr A + tr B - 2 tr sqrtm(AB)."""
    return float(np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real)


def by_eigenvalues(a: np.ndarray, b: np.ndarray) -> float:
    """The roots of the eigenvalues of AB."""
    return float(np.trace(a) + np.trace(b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum())


def by_symmetric(a: np.ndarray, b: np.ndarray) -> float:
    """The roots of the eigenvalues of A^(1/2) B A^(1/2)."""
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    return float(np.trace(a) + np.trace(b) - 2 * np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum())


def ours(a: np.ndarray, b: np.ndarray) -> float:
    """gankit's."""
    p, q = (Gaussian(torch.zeros(len(a), dtype=torch.float64), torch.from_numpy(c)) for c in (a, b))
    return frechet_distance(p, q).item()


ROUTES: dict[str, Route] = {
    "gankit": ours, "sqrtm": by_root, "eigenvalues": by_eigenvalues, "symmetric": by_symmetric
}  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1024)
    sizes = [d for d in (64, 128, 256, 512, 1024, 2048) if d <= parser.parse_args().largest]
    warnings.simplefilter(
        "ignore"
    )  # SciPy says that the root of a singular matrix may be inaccurate; that is the point
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ROUTES}
    errors: dict[str, list[float]] = {name: [] for name in ROUTES}
    for d in sizes:
        full = [np.cov(rng.normal(size=(2 * d, d)), rowvar=False) for _ in range(2)]
        factor = rng.normal(size=(d, d // 8))
        thin = factor @ factor.T
        for name, route in ROUTES.items():
            begin = time.perf_counter()
            route(full[0], full[1])
            seconds[name].append(time.perf_counter() - begin)
            errors[name].append(abs(route(thin, 4 * thin) / np.trace(thin) - 1))
            print(f"\rd = {d}: {name}    ", end="", flush=True)
    for title, table, form in (("seconds", seconds, "10.4f"), ("relative error, rank d / 8", errors, "10.1e")):
        print(f"\r{title:28}" + "".join(f"{f'd = {d}':>10}" for d in sizes))
        for name, row in table.items():
            print(f"{name:28}" + "".join(f"{value:{form}}" for value in row))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
