"""The cache of executed chapters, in a folder named after what their outputs depend on.

jupyter-cache keys a notebook on its code cells alone. Here the folder's name is a digest of the package's sources and
of the versions of the libraries: a change in either runs every chapter again, and a change back finds the old runs.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("matplotlib", "numpy", "pot", "scikit-learn", "scipy", "torch", "torchvision")


def digest() -> str:
    """A name for the state of gankit's sources and of the libraries that it calls."""
    state = hashlib.sha256()
    for source in sorted((ROOT / "gankit").rglob("*.py")):
        state.update(str(source.relative_to(ROOT)).encode() + b"\0" + source.read_bytes() + b"\0")
    for library in LIBRARIES:
        state.update(f"{library}=={version(library)}\n".encode())
    return state.hexdigest()[:16]


def cache_path() -> Path:
    """The folder in which the build and book/_tools/execute.py keep executed chapters."""
    return ROOT / "_build" / ".jupyter_cache" / digest()


def _use(app: Sphinx, config: Config) -> None:
    config.nb_execution_cache_path = str(cache_path())


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("config-inited", _use, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
