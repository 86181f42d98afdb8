"""A chapter opened alone in Colab: torch and its friends are there, gankit is not, and the first cell brings it.

Colab is imitated by an environment layered on this one: links to all that is installed here but gankit and POT.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import execute
import nbformat
import notebooks
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = execute.chapters()
WHOLE = "foundations/f-divergences"  # the one that runs to its end; the others run their setup
ABSENT = re.compile(r"(gankit|ot)$|(gankit|pot)[-.]|__editable__", re.I)
WHERE = "import gankit, ot, torch\nprint(gankit.__file__, ot.__file__, torch.__file__, sep='\\n')"


@dataclass(frozen=True)
class Colab:
    python: Path
    packages: Path
    kernels: Path
    repository: Path  # a commit of this checkout as it is, changes that are not committed included
    linked: frozenset[str]

    def run(self, folder: Path, cells: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
        """Execute the cells in the folder, with the install line pointed at the repository."""
        url = notebooks.install_cell().split("git+")[1].rstrip('"')
        copies = [nbformat.from_dict(cell) for cell in cells]
        for index, cell in enumerate(copies):  # before there is a notebook, which wants no id twice
            cell.id = f"cell-{index:02d}"
            cell.source = cell.source.replace(f"git+{url}", f"git+file://{self.repository}")
        notebook = nbformat.v4.new_notebook(cells=copies)
        # Constraints keep pip from replacing what is linked, that is, from writing into this environment.
        environment = {"JUPYTER_PATH": str(self.kernels), "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            NotebookClient(
                notebook, kernel_name="colab", timeout=300, resources={"metadata": {"path": str(folder)}}
            ).execute(env={**os.environ, **execute.ONE_THREAD, **execute.QUIET})
        return notebook


def commit_of_checkout(target: Path) -> Path:
    """A new repository with one commit: the package as it lies in the working tree."""
    package = ["gankit", "pyproject.toml", "README.md", "LICENSE"]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *package]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git = ["git", "-C", str(target), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The checkout as it is"]):
        subprocess.run([*git, *arguments], check=True)
    return target


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    base = tmp_path_factory.mktemp("colab")
    venv.create(base / "venv", with_pip=False, symlinks=True)
    python = base / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (
        Path(subprocess.run([program, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
        for program in (sys.executable, str(python))
    )
    for entry in here.iterdir():
        if not ABSENT.match(entry.name):
            (there / entry.name).symlink_to(entry)
    kernel = base / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}", *execute.QUIET_ARGUMENTS]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    linked = frozenset(entry.name for entry in there.iterdir() if entry.is_symlink())
    return Colab(python, there, base / "jupyter", commit_of_checkout(base / "repository"), linked)


def cells_of(chapter: str) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(execute.path_of(chapter), as_version=4).cells)


def alone(folder: Path, chapter: str) -> Path:
    """An empty folder that holds a copy of the chapter and nothing else."""
    folder.mkdir()
    shutil.copy(execute.path_of(chapter), folder)
    return folder


@pytest.fixture(scope="module")
def first_run(colab, tmp_path_factory):
    """The whole chapter in the bare environment, and three lines that say where the packages came from."""
    missing = "from importlib.util import find_spec as f; assert f('torch') and not f('gankit') and not f('ot')"
    subprocess.run([str(colab.python), "-c", missing], check=True, cwd=tmp_path_factory.mktemp("bare"))
    folder = alone(tmp_path_factory.mktemp("whole") / "content", WHOLE)
    return colab.run(folder, [*cells_of(WHOLE), new_code_cell(WHERE)])


def test_a_chapter_alone_installs_what_it_needs_and_runs_to_its_end(colab, first_run):
    gankit, ot, torch = first_run.cells[-1].outputs[0].text.split()
    assert Path(gankit) == colab.packages / "gankit" / "__init__.py"
    assert Path(ot) == colab.packages / "ot" / "__init__.py"
    assert Path(torch) == colab.packages / "torch" / "__init__.py"
    assert not any(output.output_type == "error" for cell in first_run.cells for output in cell.get("outputs", []))


@pytest.mark.usefixtures("first_run")
def test_installing_leaves_what_was_there_alone(colab):
    assert all((colab.packages / name).is_symlink() for name in colab.linked)
    new = {entry.name for entry in colab.packages.iterdir()} - colab.linked - {"__pycache__"}
    assert {"gankit", "ot"} <= new and all(map(ABSENT.match, new)), new


@pytest.mark.usefixtures("first_run")
@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name != WHOLE])
def test_the_setup_of_every_other_chapter_runs_and_installs_nothing_again(colab, tmp_path, chapter):
    install, start = (cell for _, cell in notebooks.code_cells(nbformat.v4.new_notebook(cells=cells_of(chapter)))[:2])
    done = colab.run(alone(tmp_path / "content", chapter), [install, start, install, new_code_cell(WHERE)])
    assert done.cells[0].outputs == done.cells[2].outputs == []
    assert str(colab.packages / "gankit") in done.cells[-1].outputs[0].text
