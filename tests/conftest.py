"""What every test shares: a fixed seed, one thread, skips that count in CI, and the way to MNIST."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# Inherited by the kernels that nbval starts, two of which share the machine.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

NO_DATA = "GANKIT_DATA is not set"

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="report a skipped test as failed, unless it lacks data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NO_DATA in reason:  # nobody can be asked to have MNIST; every tool, on the other hand, can be installed
            return report
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped, and --no-skips is set: {reason}"
    return report


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST in torchvision's layout; the test is skipped where GANKIT_DATA names none."""
    folder = os.environ.get("GANKIT_DATA")
    if not folder:
        pytest.skip(f"{NO_DATA}: point it to a folder that holds MNIST/raw")
    if not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip(f"GANKIT_DATA={folder} holds no MNIST/raw")
    return Path(folder)
