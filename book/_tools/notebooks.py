r"""The house rules of notebooks, so that a chapter reads right in Colab, JupyterLab, GitHub and on the site.

python book/_tools/notebooks.py --check [FILE ...]    exit status 1, and a line for each problem
python book/_tools/notebooks.py --fix [FILE ...]      rewrite what can be: outputs, metadata, ids, install cell

A rule is a generator of (cell index, or None for the whole chapter, and what is wrong).
"""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
Notebook = Any
Problem = tuple[int | None, str]
Rule = Callable[[Notebook], Iterator[Problem]]

COMPARED = "nbval-check-output"  # the tag of cells whose text nbval compares
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
TAGS = {
    COMPARED,
    "remove-cell",
    "hide-cell",
    "hide-input",
    "hide-output",
    "solution",
    "raises-exception",
    "landing-picture",
}
# The words of a figure are prose, and the formatter gives each of them and each closing bracket a line of its own.
NO_CODE = re.compile(r"\s*(?:[])}]+[,:]?|(?:alt|caption)=.*)?")
MAX_LINES, MAX_CELL_LINES, WORDS, MIN_EXERCISES = 200, 25, (900, 2800), 3

CLAIMED = {"theorem", "proposition", "lemma", "corollary"}
LABELED = CLAIMED | {"definition", "remark", "example", "algorithm", "assumption", "exercise", "solution"}
SINGLE = {"label", "lab"}  # markers without an end
KINDS = LABELED | {"proof"}  # gankit_prose makes the boxes of these; a proof has no label, but may be "folded"
COMMENT = re.compile(r"<!--\s*(?P<text>.*?)\s*-->", re.S)
OPENS = re.compile(r"(?P<kind>[a-z]+)(?:: (?P<label>\S+))?$")
LEAD = re.compile(r"\s*(?:<details>\s*<summary>.*?</summary>\s*)?\*{1,2}(\w+)(?: \([^\n]*?\))?\.\*")
KEBAB = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*$")
MYST = re.compile(r"^ {0,3}(?:`{3,}|~{3,}|:{3,})\s*\{[^}\n]+\}|\{[a-z][\w:+.-]*\}`[^`]+`|^\([\w-]+\)=\s*$", re.M)
MATH_ENVIRONMENT = re.compile(r"\\begin\{(align|equation|gather|eqnarray|multline)\*?\}")
TABLE_HEADING = re.compile(r"^(\|.*\|) *\n\|[ :|-]*-[ :|-]*\|", re.M)
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.S)  # counts as one word
SECTIONS = ("you will be able to", "exercises", "summary", "further reading")


def install_cell(config: Path = ROOT / "_config.yml") -> str:
    """The first code cell of every chapter, for the repository that the site's configuration names."""
    url = str(yaml.safe_load(config.read_text("utf-8"))["repository"]["url"]).rstrip("/")
    return (
        "# Installs gankit where it is missing, as in Colab; does nothing elsewhere.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("gankit") is None:\n'
        f'    %pip install -q "gankit @ git+{url}"'
    )


def code_cells(notebook: Notebook) -> list[tuple[int, Any]]:
    return [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def text_cells(notebook: Notebook) -> list[tuple[int, Any]]:
    return [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]


def tags_of(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def without_fences(text: str) -> str:
    """Markdown with the lines of fenced code emptied, so that rules on prose pass over them."""
    return re.sub(r"^(```|~~~)[^\n{]*\n.*?^\1\s*$", lambda fence: "\n" * fence[0].count("\n"), text, flags=re.M | re.S)


def tree_of(cell: Any) -> ast.Module:
    """The cell's Python, without IPython's magic and shell lines; empty if it is no Python at all."""
    lines = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in cell.source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module([], [])


def calls(cell: Any, *names: str) -> Iterator[ast.Call]:
    """The calls in a cell of functions, or methods, with one of the names."""
    for node in ast.walk(tree_of(cell)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name in names:
                yield node


def first_text(call: ast.Call) -> str:
    """The first argument of a call if it is a string; of an f-string, the part before the first brace."""
    head = call.args[0] if call.args else None
    if isinstance(head, ast.JoinedStr) and head.values:
        head = head.values[0]
    return head.value if isinstance(head, ast.Constant) and isinstance(head.value, str) else ""


def blocks(notebook: Notebook) -> list[tuple[int, str, str]]:
    """Every opening marker with a label: (cell index, kind, label)."""
    found = []
    for index, cell in text_cells(notebook):
        for comment in COMMENT.finditer(without_fences(cell.source)):
            if (opened := OPENS.match(comment["text"])) and opened["kind"] in LABELED | {"label"} and opened["label"]:
                found.append((index, opened["kind"], opened["label"]))
    return found


# ---- what --fix rewrites


def cleaned(notebook: Notebook, install: str) -> Notebook:
    """A copy that holds only what is written by hand and what nbval compares.

    A compared cell keeps its text and an execution count: nbval fails a cell with outputs and no count, and passes a
    compared cell that has neither.
    """
    new = nbformat.from_dict(notebook)
    new.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    new.nbformat, new.nbformat_minor = 4, 5
    count = 0
    for index, cell in enumerate(new.cells):
        tags = tags_of(cell)
        cell.id = f"cell-{index:02d}"
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").splitlines())
        cell.pop("attachments", None)
        if cell.cell_type != "code":
            continue
        count += 1
        outputs = [kept for output in cell.outputs if (kept := text_only(output, count))] if COMPARED in tags else []
        cell.outputs, cell.execution_count = outputs, count if outputs else None
    code = code_cells(new)
    if code and "find_spec" in code[0][1].source:
        code[0][1].source, code[0][1].metadata = install, nbformat.from_dict({"tags": ["remove-cell"]})
    return new


def text_only(output: Any, count: int) -> Any | None:
    """An output without pictures and HTML, which nbval cannot compare; None if no text is left."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type not in {"display_data", "execute_result"} or "text/plain" not in output.data:
        return None
    kept = nbformat.from_dict({**output, "data": {"text/plain": output.data["text/plain"]}, "metadata": {}})
    if output.output_type == "execute_result":
        kept.execution_count = count
    return kept


# ---- the rules


def compared_cells_have_output(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in code_cells(notebook):
        if COMPARED in tags_of(cell):
            text = "".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)
            if not text.strip():
                yield index, f"is tagged {COMPARED} and has no text to compare: run it, save, and --fix"
            if found := re.search(r"\d\.\d{7,}", text):
                yield index, f"compares {found[0]}: round to at most six decimals, processors differ in the rest"


def known_tags(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in enumerate(notebook.cells):
        for tag in sorted(set(tags_of(cell)) - TAGS):
            yield index, f"has the unknown tag {tag}: use one of {', '.join(sorted(TAGS))}"


def begins_with_install_and_start(notebook: Notebook) -> Iterator[Problem]:
    code = code_cells(notebook)
    if not code or "find_spec" not in code[0][1].source or tags_of(code[0][1]) != ["remove-cell"]:
        yield code[0][0] if code else None, "the first code cell must be the install cell, tagged remove-cell"
    if len(code) < 2 or not any(True for _ in calls(code[1][1], "start")):
        index = code[1][0] if len(code) > 1 else None
        yield index, "the second code cell must call gankit.notebook.start(), which seeds every random number"


def seeded(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in code_cells(notebook):
        for call in calls(cell, "default_rng", "RandomState"):
            if not call.args and not call.keywords:
                yield index, "makes a random generator without a seed"
        if re.search(r"\b(?:np|numpy)\.random\.(?!default_rng|Generator|SeedSequence)\w+\s*\(", cell.source):
            yield index, "draws from NumPy's global state, which start() does not seed: use torch or default_rng(seed)"
        if re.search(r"^\s*(?:import random|from random import)\b", cell.source, re.M):
            yield index, "uses Python's random module, which start() does not seed: use torch"


def within_budget(notebook: Notebook) -> Iterator[Problem]:
    total = 0
    for index, cell in code_cells(notebook):
        lines = len(cell.source.splitlines())
        if not {"remove-cell", "solution"} & set(tags_of(cell)):  # what a reader does not see does not tire them
            total += sum(not NO_CODE.fullmatch(line) for line in cell.source.splitlines())
        if lines > MAX_CELL_LINES:
            yield index, f"has {lines} lines; the budget is {MAX_CELL_LINES}"
    if total > MAX_LINES:
        yield None, f"has {total} lines of code; the budget is {MAX_LINES}"
    words = sum(len(FORMULA.sub("x", COMMENT.sub(" ", cell.source)).split()) for _, cell in text_cells(notebook))
    if not WORDS[0] <= words <= WORDS[1]:
        yield None, f"has {words} words; the budget is {WORDS[0]} to {WORDS[1]}"


def plain_markdown(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in text_cells(notebook):
        if found := MYST.search(cell.source):
            yield index, f"has the MyST markup {found[0].strip()!r}, which Colab and GitHub show raw"
        if found := MATH_ENVIRONMENT.search(cell.source):
            yield index, f"has {found[0]}: write aligned inside $$, which every reader's page shows"


def display_formulas(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in text_cells(notebook):
        inside, previous = False, ""
        for line in without_fences(cell.source).splitlines():
            if "$$" in line:
                if line.strip() != "$$":
                    yield index, f"has $$ beside other text: {line.strip()!r}"
                elif not inside and previous.strip():
                    yield index, f"needs a blank line before the formula after {previous.strip()[:40]!r}"
                inside ^= line.count("$$") % 2 == 1
            previous = line
        if inside:
            yield index, "has a $$ without its partner"


def paired_markers(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in text_cells(notebook):
        opened: str | None = None
        for comment in COMMENT.finditer(without_fences(cell.source)):
            text = comment["text"]
            if text.startswith("end "):
                if text[4:] != opened:
                    yield index, f"has <!-- {text} --> where {opened or 'nothing'} is open"
                opened = None
            elif not (marker := OPENS.match(text)) or marker["kind"] not in KINDS | SINGLE:
                yield index, f"has the unknown comment <!-- {text[:40]} -->"
            else:
                for words in label_problems(marker["kind"], marker["label"]):
                    yield index, words
                if marker["kind"] not in SINGLE:
                    if opened:
                        yield index, f"opens {marker['kind']} inside {opened}"
                    opened = marker["kind"]
        if opened:
            yield index, f"has no <!-- end {opened} -->"


def label_problems(kind: str, label: str | None) -> Iterator[str]:
    if kind in LABELED | SINGLE and not label:
        yield f"has a {kind} without a label"
    if label and not KEBAB.match(label):
        yield f"has the label {label!r}; labels are in kebab-case"


def boxes_say_their_kind(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in text_cells(notebook):
        text = without_fences(cell.source)
        for comment in COMMENT.finditer(text):
            opened = OPENS.match(comment["text"])
            if opened and opened["kind"] in KINDS - {"solution"}:
                lead = LEAD.match(text, comment.end())
                if lead is None or lead[1].lower() != opened["kind"]:
                    kind = opened["kind"].capitalize()
                    yield index, f"has a box that does not begin with **{kind} (Title).**, or *Proof.*"


def theorems_are_claimed(notebook: Notebook) -> Iterator[Problem]:
    claims = {first_text(call) for _, cell in code_cells(notebook) for call in calls(cell, "claim", "unchecked")}
    for index, kind, label in blocks(notebook):
        if kind in CLAIMED and not any(name == label or name.startswith(f"{label}-") for name in claims):
            yield index, f'has the {kind} {label} and no claim("{label}", ...) or unchecked("{label}", ...) anywhere'


def says_it_in_a_box(notebook: Notebook) -> Iterator[Problem]:
    if not any(kind in LABELED - {"exercise", "solution"} for _, kind, _ in blocks(notebook)):
        yield None, "has no definition, theorem or other box that readers can link to"


def claims_are_unique(notebook: Notebook) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, cell in code_cells(notebook):
        for call in calls(cell, "claim", "unchecked"):
            label = first_text(call)
            if call.args and isinstance(call.args[0], ast.Constant):
                if label in seen:
                    yield index, f"claims {label} a second time"
                if not KEBAB.match(label):
                    yield index, f"claims {label!r}; labels are in kebab-case"
                seen.add(label)


def exercises_have_solutions(notebook: Notebook) -> Iterator[Problem]:
    labels = {
        kind: [label for _, found, label in blocks(notebook) if found == kind] for kind in ("exercise", "solution")
    }
    checks = {first_text(call) for _, cell in code_cells(notebook) for call in calls(cell, "check")}
    if len(labels["exercise"]) < MIN_EXERCISES:
        yield None, f"has {len(labels['exercise'])} exercises; a chapter has at least {MIN_EXERCISES}"
    for label in labels["exercise"]:
        if label not in labels["solution"]:
            yield None, f"has no <!-- solution: {label} -->"
        if label not in checks:
            yield None, f'has no check("{label}", ...) with which a reader can test an answer'
    for label in labels["solution"]:
        if label not in labels["exercise"]:
            yield None, f"has a solution of {label}, which is no exercise"
    for index, kind, label in blocks(notebook):
        if kind == "solution" and "<details>" not in notebook.cells[index].source:
            yield index, f"shows the solution of {label}: fold it into <details><summary>Solution</summary>"


def order_of_sections(notebook: Notebook) -> Iterator[Problem]:
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not re.match(r"# \S", first.source):
        yield 0 if first is not None else None, "must begin with the chapter's title, # Title"
    prose = "\n".join(without_fences(cell.source) for _, cell in text_cells(notebook))
    if (titles := len(re.findall(r"^# ", prose, re.M))) > 1:
        yield None, f"has {titles} titles; sections are ## and ###"
    places = [prose.lower().find(SECTIONS[0])]
    places += [
        match.start() if (match := re.search(rf"^## {name}", prose, re.I | re.M)) else -1 for name in SECTIONS[1:]
    ]
    for name, place in zip(SECTIONS, places, strict=True):
        if place < 0:
            yield None, f"has no {name!r}"
    if -1 not in places and places != sorted(places):
        yield None, f"must keep the order {', '.join(SECTIONS)}"


def citations_are_links(notebook: Notebook) -> Iterator[Problem]:
    text = "\n".join(cell.source for _, cell in text_cells(notebook))
    if not re.search(r"\]\(https://(?:arxiv\.org/abs/|doi\.org/)", text):
        yield (
            None,
            "links no source: cite papers as [Author et al., year](https://arxiv.org/abs/... or https://doi.org/...)",
        )
    for found in re.findall(r"\]\((http://[^)]*|https://arxiv\.org/pdf[^)]*)\)", text):
        yield None, f"links {found}: use https, and arXiv's page of the abstract"


def figures_have_words(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in code_cells(notebook):
        for call in calls(cell, "show", "animate"):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if not any(keyword.arg == "alt" for keyword in call.keywords):
                yield index, f"calls {name}() without alt=, the words for those who cannot see it"
    for index, cell in text_cells(notebook):
        if re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", cell.source):
            yield index, "has a picture without a text alternative"


def columns_have_headings(notebook: Notebook) -> Iterator[Problem]:
    for index, cell in text_cells(notebook):
        for heading in TABLE_HEADING.findall(without_fences(cell.source)):
            if not all(column.strip() for column in heading.strip()[1:-1].split("|")):
                yield index, f"has a table with a column without a heading: {heading.strip()!r}"


RULES: tuple[Rule, ...] = (
    order_of_sections,
    begins_with_install_and_start,
    seeded,
    within_budget,
    plain_markdown,
    display_formulas,
    paired_markers,
    boxes_say_their_kind,
    says_it_in_a_box,
    theorems_are_claimed,
    claims_are_unique,
    exercises_have_solutions,
    citations_are_links,
    figures_have_words,
    columns_have_headings,
    known_tags,
    compared_cells_have_output,
)


def problems(notebook: Notebook) -> list[str]:
    """Everything that the rules find in one chapter, each with its cell."""
    found = [problem for rule in RULES for problem in rule(notebook)]
    return [f"{f'cell-{index:02d} ' if index is not None else ''}{words}" for index, words in found]


def shared_labels(notebooks: Iterable[tuple[str, Notebook]]) -> Iterator[str]:
    """Labels are addresses within the whole book: each may be given once. A solution has its exercise's label."""
    where: dict[str, str] = {}
    for name, notebook in notebooks:
        for index, kind, label in blocks(notebook):
            if kind != "solution":
                place = f"{name} cell-{index:02d}"
                if label in where:
                    yield f"{place} gives the label {label} again; it stands in {where[label]}"
                where[label] = place


def every_notebook(root: Path = ROOT / "book") -> list[Path]:
    hidden = (".", "_")
    return sorted(p for p in root.rglob("*.ipynb") if not any(d.startswith(hidden) for d in p.relative_to(root).parts))


def named(path: Path) -> Path:
    """The path as a person in the repository's folder would write it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def check(paths: Sequence[Path], install: str) -> list[str]:
    found, read = [], []
    for path in paths:
        text = path.read_text("utf-8")
        notebook = nbformat.reads(text, as_version=4)
        read.append((path.stem, notebook))
        if nbformat.writes(cleaned(notebook, install)) + "\n" != text:
            found.append(
                f"{named(path)}: would be rewritten by --fix (outputs, metadata, ids, spaces or the install cell)"
            )
        found += [f"{named(path)}: {words}" for words in problems(notebook)]
    return found + list(shared_labels(read))


def fix(paths: Sequence[Path], install: str) -> list[Path]:
    changed = []
    for path in paths:
        text = path.read_text("utf-8")
        new = nbformat.writes(cleaned(nbformat.reads(text, as_version=4), install)) + "\n"
        if new != text:
            path.write_text(new, "utf-8")
            changed.append(path)
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check or rewrite the book's notebooks.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="name every problem; exit status 1 if there is one")
    what.add_argument("--fix", action="store_true", help="rewrite outputs, metadata, ids and the install cell")
    parser.add_argument("files", nargs="*", type=Path, help="default: every chapter of the book")
    options = parser.parse_args(argv)
    paths, install = options.files or every_notebook(), install_cell()
    if options.fix:
        for path in fix(paths, install):
            print(f"rewrote {named(path)}")
        return 0
    found = check(paths, install)
    print("\n".join([*found, f"notebooks: {len(paths)} checked, {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
