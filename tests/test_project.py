"""The files around the code agree with each other: versions, dependencies, licenses, commands, sizes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import notebooks
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAX_KIB = 400


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def constraints() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_conda_users_get_the_same_libraries():
    environment = yaml.safe_load(read("environment.yml"))
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert sorted(pip) == sorted([*PROJECT["dependencies"], "-e .[book,test]"])
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_constraints_pin_everything_that_is_asked_for_within_its_bounds():
    pinned = constraints()
    for requirement in requirements("book", "test"):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


def test_bounds_are_loose_at_run_time():
    """Colab brings its own torch and numpy; a pin or an upper bound would replace them."""
    for requirement in requirements():
        assert all(part.operator == ">=" for part in requirement.specifier), requirement


def test_what_is_installed_needs_nothing_beyond_the_constraints():
    """The packages that gankit and its extras pull in, followed to the end, are all pinned."""
    installed = {canonicalize_name(found.metadata["Name"]): found for found in distributions()}
    pinned, seen = constraints(), set()
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in requirements("book", "test")]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen or name not in installed:
            continue
        seen.add((name, extras))
        assert name in pinned, f"constraints.txt has no {name}"
        for line in installed[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {*extras, ""}):
                todo.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    assert len(seen) > 50


def test_one_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert re.search(rf"^## \[?{re.escape(PROJECT['version'])}\b", read("CHANGELOG.md"), re.M)
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


def test_licenses():
    assert PROJECT["license"] == "MIT" and read("LICENSE").startswith("MIT License")
    assert "CC-BY-4.0" in read("LICENSE-TEXT")
    for name in ("LICENSE", "LICENSE-TEXT", "CITATION.cff"):
        assert PROJECT["authors"][0]["name"] in read(name)


def test_every_notebook_installs_gankit_from_the_repository_in_the_configuration():
    install = notebooks.install_cell()
    assert PROJECT["urls"]["Repository"] in install
    for path in notebooks.every_notebook():
        code = notebooks.code_cells(nbformat.read(path, as_version=4))
        assert code[0][1].source == install, path


def test_the_lock_file_names_no_download_address():
    assert '"resolved"' not in read("package-lock.json") and "://" not in re.sub(
        r'"funding": (\[[^]]*\]|"[^"]*"|\{[^}]*\})', "", read("package-lock.json")
    )


def test_git_holds_no_large_file_and_no_picture_of_a_notebook():
    large = {path.name: path.stat().st_size // 1024 for path in tracked() if path.stat().st_size > MAX_KIB * 1024}
    assert large == {}
    pictures = [path for path in tracked() if path.suffix == ".ipynb" and '"image/' in path.read_text("utf-8")]
    assert pictures == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_the_commands_that_the_pages_name_exist(page):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    named = set(re.findall(r"(?:`|^ *|\s)make ([a-z]+)(?=[`\s]|$)", "\n".join(code_of(read(page))), re.M))
    assert named and named <= targets


def code_of(text: str) -> list[str]:
    """The fenced and the inline code of a Markdown page; a script is code throughout."""
    if text.startswith("#!"):
        return [text]
    return re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) + [
        f"`{code}`" for code in re.findall(r"`([^`\n]+)`", text)
    ]


def test_the_example_in_the_readme_runs():
    examples = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.M | re.S)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})


def test_workflows_ask_for_little_and_pin_their_actions():
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        text = path.read_text("utf-8")
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}, path.name
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{path.name}: {action} is not pinned to a commit"


@pytest.mark.parametrize(("options", "failed"), [([], 0), (["--no-skips"], 2)])
def test_no_skips_fails_every_skip_but_those_for_want_of_data(tmp_path, options, failed):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_skips.py").write_text(
        "import pytest\n"
        "@pytest.mark.skip(reason='no browser')\ndef test_marked(): ...\n"
        "def test_inside(): pytest.skip('no browser either')\n"
        "def test_data(mnist_root): ...\n"
        "@pytest.mark.xfail\ndef test_known(): raise ValueError\n"
        "def test_passes(): ...\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in {"GANKIT_DATA", "PYTEST_ADDOPTS"}}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped|xfailed)", run.stdout)
    }
    # A skip in a test's setup, by a mark or a fixture, is reported as an error there; both are failures to pytest.
    assert counts.get("failed", 0) + counts.get("error", 0) == failed, run.stdout
    assert counts.get("skipped", 0) == 3 - failed and counts["xfailed"] == counts["passed"] == 1, run.stdout
    assert (run.returncode == 0) == (failed == 0) and ("no browser" in run.stdout) == (failed == 2)
