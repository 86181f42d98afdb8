"""The shape of the package: who may import whom, how long things may be, and that all of it is documented and typed."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = {path.stem: path for path in sorted((ROOT / "gankit").glob("*.py"))}

# Each module and the ones that it may import, besides _checks. plotting and notebook may import anything.
ARROWS: dict[str, set[str]] = {
    "__init__": set(),
    "_checks": set(),
    "divergences": set(),
    "losses": {"divergences"},
    "lipschitz": set(),
    "linear_programs": set(),
    "potentials": {"linear_programs"},
    "transport": {"linear_programs", "potentials"},
    "networks": set(),
    "training": {"losses"},
    "games": set(),
    "inversion": {"losses", "training"},
    "translation": {"losses", "training"},
    "adaptation": {"training"},
    "metrics": set(),
    "inception": set(),
    "flows": {"networks"},
    "vae": set(),
    "discrete": set(),
    "diffusion": set(),
    "data": set(),
}
FREE = {"plotting", "notebook"}
MAX_FILE, MAX_FUNCTION = 250, 40


def imported(path: Path) -> set[str]:
    """The modules of gankit that a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 1 or module.split(".")[0] == "gankit":
                parts = module.removeprefix("gankit").strip(".")
                found |= {parts.split(".")[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("gankit.")}
    return found & set(FILES)


def length(function: ast.AST) -> int:
    """Lines of a function without its docstring, which may be as long as the mathematics needs."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    first = function.body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if text else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_the_arrows_form_no_cycle():
    left = dict(ARROWS)
    while ready := [name for name, needs in left.items() if not needs & set(left)]:
        for name in ready:
            del left[name]
    assert not left


@pytest.mark.parametrize("name", FILES)
def test_imports_follow_the_arrows(name):
    if name in FREE:
        return
    assert name in ARROWS, f"gankit/{name}.py is new: say in ARROWS what it may import"
    extra = imported(FILES[name]) - ARROWS[name] - {"_checks", name}
    assert not extra, f"gankit/{name}.py imports {sorted(extra)}"


def test_the_import_reader_sees_every_form(tmp_path):
    source = "from . import losses, data\nfrom .training import x\nimport gankit.networks\n"
    source += "def f():\n    from gankit.divergences import y\n    from gankit import plotting\n"
    (tmp_path / "m.py").write_text(source)
    assert imported(tmp_path / "m.py") == {"losses", "data", "training", "networks", "divergences", "plotting"}


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name):
    text = FILES[name].read_text("utf-8")
    assert len(text.splitlines()) <= MAX_FILE, f"gankit/{name}.py is longer than {MAX_FILE} lines"
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: length(f) for f in functions if length(f) > MAX_FUNCTION}
    assert not long, f"gankit/{name}.py has functions of more than {MAX_FUNCTION} lines: {long}"


def public(name: str) -> list[tuple[str, object]]:
    """The public functions and classes that a module defines, and the public methods that the classes write out."""
    module = import_module("gankit" if name == "__init__" else f"gankit.{name}")
    found: list[tuple[str, object]] = []
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(value):
            found.append((key, value))
        elif inspect.isclass(value):
            found.append((key, value))
            is_protocol = getattr(value, "_is_protocol", False)  # its methods are signatures, the class says what for
            for method, body in () if is_protocol else vars(value).items():
                if inspect.isfunction(body) and not method.startswith("_"):
                    found.append((f"{key}.{method}", body))
    return found


@pytest.mark.parametrize("name", FILES)
def test_everything_public_is_documented_and_typed(name):
    assert inspect.getdoc(import_module("gankit" if name == "__init__" else f"gankit.{name}")), f"{name}: no docstring"
    for key, value in public(name):
        # A dataclass writes its own docstring, Name(field: type, ...), where the author wrote none.
        written = (inspect.getdoc(value) or "").strip()
        assert written and not written.startswith(f"{key}("), f"gankit.{name}.{key} has no docstring"
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
            assert not bare, f"gankit.{name}.{key}: no type for {bare}"
            assert signature.return_annotation is not signature.empty, f"gankit.{name}.{key}: no return type"
