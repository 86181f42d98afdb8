"""The tools of the book: every house rule fires, the executor names what failed, the seeds are counted."""

import asyncio
import json
import threading
from functools import partial
from pathlib import Path

import execute
import gankit_prose
import nbformat
import notebooks
import pytest
import seeds
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

INSTALL = 'import importlib.util\n\nif importlib.util.find_spec("gankit") is None:\n    %pip install -q "gankit @ git+https://example.org/a/b"'
THEOREM = "<!-- theorem: sum-rule -->\n**Theorem (Sums).** For all $x$\n\n$$\nx + x = 2x.\n$$\n<!-- end theorem -->"
PROSE = "Numbers add up. See [Euler, 1748](https://doi.org/10.1000/1). " + "word " * 900


def exercise(label: str) -> list[nbformat.NotebookNode]:
    return [
        new_markdown_cell(f"<!-- exercise: {label} -->\n**Exercise (A).** Add.\n<!-- end exercise -->"),
        new_code_cell(f'answer = ...\ncheck("{label}", answer, lambda a: a == 2, hint="count")'),
        new_markdown_cell(
            f"<!-- solution: {label} -->\n<details><summary>Solution</summary>\n\nTwo.\n\n</details>\n"
            "<!-- end solution -->"
        ),
        new_code_cell("answer = 2", metadata={"tags": ["hide-cell", "solution"]}),
    ]


def chapter() -> nbformat.NotebookNode:
    """A chapter that keeps every rule: 0 title, 1 install, 2 start, 3 theorem, 4 claim, 5 figure, 6 ... exercises."""
    cells = [
        new_markdown_cell("# Sums\n\n**You will be able to** add.\n\n" + PROSE),
        new_code_cell(INSTALL, metadata={"tags": ["remove-cell"]}),
        new_code_cell("from gankit.notebook import check, claim, show, start\n\nstart()"),
        new_markdown_cell(THEOREM),
        new_code_cell('claim("sum-rule", 0.0, at_most=1e-12)'),
        new_code_cell('show(figure, alt="a line")'),
        new_markdown_cell("## Exercises"),
        *exercise("first-one"),
        *exercise("second-one"),
        *exercise("third-one"),
        new_markdown_cell("## Summary\n\nSums."),
        new_markdown_cell("## Further reading\n\n- [Gauss](https://arxiv.org/abs/1406.2661)"),
    ]
    return notebooks.cleaned(new_notebook(cells=cells), INSTALL)


def edited(index: int, old: str, new: str) -> nbformat.NotebookNode:
    """The good chapter with one replacement in one cell."""
    notebook = chapter()
    assert old in notebook.cells[index].source
    notebook.cells[index].source = notebook.cells[index].source.replace(old, new)
    return notebook


def with_cell(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    notebook = chapter()
    notebook.cells.insert(6, cell)
    return notebook


def tagged(tag: str, text: str = "") -> nbformat.NotebookNode:
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    return with_cell(new_code_cell("x", metadata={"tags": [tag]}, outputs=outputs, execution_count=1))


def markdown(text: str) -> nbformat.NotebookNode:
    return with_cell(new_markdown_cell(text))


def code(text: str) -> nbformat.NotebookNode:
    return with_cell(new_code_cell(text))


def test_a_good_chapter_has_no_problem():
    assert notebooks.problems(chapter()) == []


BAD = {
    "no title": (partial(edited, 0, "# Sums", "Sums"), "must begin with the chapter's title"),
    "two titles": (partial(markdown, "# Again"), "has 2 titles"),
    "no goals": (partial(edited, 0, "You will be able to", "Learn to"), "has no 'you will be able to'"),
    "no summary": (partial(edited, -2, "## Summary", "## End"), "has no 'summary'"),
    "wrong order": (partial(edited, 3, THEOREM, "## Further reading\n\n" + THEOREM), "must keep the order"),
    "no install cell": (partial(edited, 1, "find_spec", "find"), "must be the install cell"),
    "no start": (partial(edited, 2, "start()", "pass"), "must call gankit.notebook.start()"),
    "unseeded generator": (partial(code, "rng = np.random.default_rng()"), "without a seed"),
    "numpy's global state": (partial(code, "x = np.random.randn(3)"), "NumPy's global state"),
    "random module": (partial(code, "import random"), "random module"),
    "long cell": (partial(code, "x = 1\n" * 26), "has 26 lines; the budget is 25"),
    "long chapter": (
        lambda: notebooks.cleaned(
            new_notebook(cells=[*chapter().cells, *[new_code_cell("x = 1\n" * 25) for _ in range(8)]]), INSTALL
        ),
        "lines of code; the budget is 200",
    ),
    "few words": (partial(edited, 0, "word " * 500, ""), "words; the budget is 900 to 2800"),
    "many words": (partial(markdown, "word " * 2000), "words; the budget is 900 to 2800"),
    "directive": (partial(markdown, "```{note}\nHello\n```"), "MyST markup '```{note}'"),
    "colon fence": (partial(markdown, ":::{prf:theorem} A\nHello\n:::"), "MyST markup"),
    "role": (partial(markdown, "See {cite}`euler`."), "MyST markup '{cite}`euler`'"),
    "target": (partial(markdown, "(here)=\n## There"), "MyST markup '(here)='"),
    "align": (partial(markdown, "\n$$\n\\begin{align} x \\end{align}\n$$"), "write aligned inside $$"),
    "formula on a line": (partial(markdown, "so $$x$$ holds"), "has $$ beside other text"),
    "no blank line": (partial(markdown, "so\n$$\nx\n$$"), "needs a blank line before the formula after 'so'"),
    "open formula": (partial(markdown, "so\n\n$$\nx"), "has a $$ without its partner"),
    "unpaired end": (partial(markdown, "<!-- end theorem -->"), "where nothing is open"),
    "crossed markers": (partial(edited, 3, "end theorem", "end lemma"), "where theorem is open"),
    "unclosed marker": (partial(markdown, "<!-- proof -->\nObvious."), "has no <!-- end proof -->"),
    "nested markers": (partial(edited, 3, "**Theorem", "<!-- proof -->\n**Theorem"), "opens proof inside theorem"),
    "unknown comment": (partial(markdown, "<!-- theroem: x -->"), "unknown comment <!-- theroem: x -->"),
    "no label": (partial(markdown, "<!-- lemma -->\nA.\n<!-- end lemma -->"), "has a lemma without a label"),
    "bad label": (partial(edited, 3, "sum-rule", "Sum_Rule"), "labels are in kebab-case"),
    "no claim": (partial(edited, 4, "sum-rule", "other-rule"), "has the theorem sum-rule and no claim"),
    "no heading": (
        partial(markdown, "| | KL |\n| --- | --- |\n| GAN | 1 |"),
        "has a table with a column without a heading",
    ),
    "no box": (partial(edited, 3, THEOREM, "All is said."), "has no definition, theorem or other box"),
    "a number in the title": (
        partial(edited, 3, "**Theorem (", "**Theorem 1 ("),
        "does not begin with **Theorem (Title).**",
    ),
    "claim twice": (partial(code, 'claim("sum-rule", True)'), "claims sum-rule a second time"),
    "bad claim": (partial(code, 'claim("Sum rule", True)'), "labels are in kebab-case"),
    "two exercises": (
        partial(edited, 7, "<!-- exercise: first-one -->", "<!-- remark: first-one -->"),
        "has 2 exercises",
    ),
    "no solution": (
        partial(edited, 9, "solution: first-one", "solution: other"),
        "has no <!-- solution: first-one -->",
    ),
    "stray solution": (partial(edited, 9, "solution: first-one", "solution: other"), "which is no exercise"),
    "no check": (partial(edited, 8, "first-one", "other"), 'has no check("first-one", ...)'),
    "open solution": (partial(edited, 9, "<details>", ""), "shows the solution of first-one"),
    "no source": (
        lambda: notebooks.nbformat.reads(
            nbformat.writes(chapter())
            .replace("https://doi.org", "https://x.org")
            .replace("https://arxiv.org", "https://x.org"),
            4,
        ),
        "links no source",
    ),
    "insecure link": (partial(markdown, "[A](http://a.org)"), "links http://a.org"),
    "pdf link": (partial(markdown, "[A](https://arxiv.org/pdf/1406.2661)"), "arXiv's page of the abstract"),
    "show without words": (partial(code, "show(figure)"), "calls show() without alt="),
    "animate without words": (partial(code, "notebook.animate(frames, labels)"), "calls animate() without alt="),
    "picture without words": (partial(markdown, "![](x.png)"), "without a text alternative"),
    "unknown tag": (partial(tagged, "nbval-check"), "has the unknown tag nbval-check"),
    "nothing to compare": (partial(tagged, "nbval-check-output"), "has no text to compare"),
    "too many decimals": (partial(tagged, "nbval-check-output", "0.123456789"), "compares 0.123456789"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_rule_fires(name):
    make, words = BAD[name]
    found = notebooks.problems(make())
    assert any(words in problem for problem in found), found


def test_every_rule_is_seen_to_fire():
    bad = [make() for make, _ in BAD.values()]
    fired = {rule for notebook in bad for rule in notebooks.RULES if any(rule(notebook))}
    assert fired == set(notebooks.RULES)


def test_rules_pass_over_fenced_code_and_part_labels():
    assert notebooks.problems(markdown("```\nprice $$ <!-- nothing -->\n```")) == []
    assert notebooks.problems(edited(4, '"sum-rule"', 'f"sum-rule-{k}"')) == []
    assert notebooks.problems(markdown("\n$$\nx\n$$\n<!-- label: eq-x -->")) == []


def test_the_kinds_of_boxes_are_those_that_the_site_makes():
    assert set(gankit_prose.KINDS) == notebooks.KINDS


def test_labels_are_unique_across_the_book():
    folded = markdown("<!-- proof: folded -->\n*Proof.* Count.\n<!-- end proof -->")
    assert list(notebooks.shared_labels([("one", folded), ("two", new_notebook(cells=folded.cells[6:7]))])) == []
    found = list(notebooks.shared_labels([("one", chapter()), ("two", chapter())]))
    assert len(found) == 4 and "two cell-03 gives the label sum-rule again; it stands in one cell-03" in found


def test_cleaning_keeps_only_compared_text():
    picture = new_output("display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"})
    picture_only = new_output("display_data", data={"image/png": "iVBOR"})
    printed, warned = (new_output("stream", name=name, text="1.5\n") for name in ("stdout", "stderr"))
    value = new_output("execute_result", data={"text/plain": "2", "text/html": "<b>2</b>"}, execution_count=77)
    compared = new_code_cell("a  \nb", outputs=[picture, picture_only, printed, warned, value], execution_count=77)
    compared.metadata = {"tags": ["nbval-check-output"], "collapsed": True}
    other = new_code_cell("c", outputs=[printed], execution_count=78)
    notebook = new_notebook(
        cells=[new_code_cell(INSTALL), compared, other],
        metadata={"colab": {}, "kernelspec": {"name": "x", "display_name": "X"}},
    )
    new = notebooks.cleaned(notebook, INSTALL.replace("example.org", "example.com"))
    assert [cell.id for cell in new.cells] == ["cell-00", "cell-01", "cell-02"]
    assert "example.com" in new.cells[0].source and new.cells[0].metadata == {"tags": ["remove-cell"]}
    assert new.cells[1].source == "a\nb" and new.cells[1].metadata == {"tags": ["nbval-check-output"]}
    assert [dict(out.get("data", {"text": out.get("text")})) for out in new.cells[1].outputs] == [
        {"text/plain": "<Figure>"},
        {"text": "1.5\n"},
        {"text/plain": "2"},
    ]
    assert new.cells[1].execution_count == new.cells[1].outputs[-1].execution_count == 2
    assert new.cells[2].outputs == [] and new.cells[2].execution_count is None
    assert set(new.metadata) == {"kernelspec", "language_info"}
    nbformat.validate(new)


def test_fix_makes_check_pass_and_changes_nothing_twice(tmp_path, capsys, monkeypatch):
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/a/b/\n")
    install = notebooks.install_cell(tmp_path / "_config.yml")
    assert install.splitlines()[-1] == '    %pip install -q "gankit @ git+https://example.org/a/b"'
    path, notebook = tmp_path / "sums.ipynb", chapter()
    notebook.cells[4].outputs = [new_output("stream", name="stdout", text="noise")]
    path.write_text(nbformat.writes(notebook))
    assert any("would be rewritten by --fix" in line for line in notebooks.check([path], install))
    monkeypatch.setattr(notebooks, "install_cell", lambda: install)
    assert notebooks.main(["--check", str(path)]) == 1
    assert notebooks.main(["--fix", str(path)]) == 0
    assert notebooks.main(["--check", str(path)]) == 0
    assert "1 checked, 0 problems" in capsys.readouterr().out
    assert notebooks.fix([path], install) == []


# ---- execution


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of two chapters: one that runs, one that fails in its third cell."""
    good = [
        "import os\nfrom gankit.notebook import claim, start\nstart()",
        "print(os.getcwd(), os.environ['OMP_NUM_THREADS'])",
    ]
    good += [
        "import torch\nclaim('unit-draw', torch.rand(()), at_most=0.7, random=True)",
        "claim('fixed', True)",
        "print('end')",
    ]
    bad = ["def f(x):\n    return 1 / x", "y = 0\nf(y)", "print('not reached')"]
    for name, sources in {"part/good": good, "part/bad": bad}.items():
        cells = [new_markdown_cell("# Title"), *map(new_code_cell, sources)]
        for index, cell in enumerate(cells):
            cell.id = f"cell-{index:02d}"
        (tmp_path / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells), tmp_path / "book" / f"{name}.ipynb")
    parts = [{"caption": "P", "chapters": [{"file": "book/part/good", "sections": [{"file": "book/part/bad"}]}]}]
    toc = {"format": "jb-book", "root": "book/index", "parts": parts}
    (tmp_path / "_toc.yml").write_text(json.dumps(toc))
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "BOOK", tmp_path / "book")
    monkeypatch.setattr(execute, "entries", partial(execute.entries, tmp_path / "_toc.yml"))
    monkeypatch.setattr("gankit_cache.cache_path", lambda: tmp_path / "_build" / ".jupyter_cache" / "key")
    monkeypatch.setattr(seeds, "TABLE", tmp_path / "book" / "seeds.json")
    return tmp_path


def test_chapters_come_from_the_table_of_contents(book):
    assert execute.entries() == ["book/index", "book/part/good", "book/part/bad"]
    assert execute.chapters() == ["part/good", "part/bad"]
    with pytest.raises(SystemExit, match=r"no such chapter: part/other\. There are: part/good, part/bad"):
        execute.choose(["part/other"])


def test_a_failing_chapter_is_named_and_the_finished_one_is_kept(book, capsys):
    assert execute.main(["--jobs", "2"]) == 1
    text = capsys.readouterr()
    assert "0 of 2 chapters are in the cache, 2 to execute" in text.out
    assert "book/part/bad.ipynb, cell-02, line 2: f(y)" in text.out
    assert "ZeroDivisionError: division by zero" in text.out and "\x1b" not in text.out
    assert "1 failed: book/part/bad.ipynb" in text.err
    assert execute.main(["part/good"]) == 0
    assert "1 of 1 chapters are in the cache, 0 to execute" in capsys.readouterr().out
    cache = execute.Cache()
    assert cache.has("part/good") and not cache.has("part/bad") and cache.seconds["part/good"] > 0


def test_a_chapter_runs_in_its_folder_on_one_thread_and_is_watched(book):
    told = []
    run = execute.execute("part/good", watch=lambda done, total: told.append((done, total)))
    assert run.problem == "" and told == [(done, 5) for done in range(6)]
    assert run.notebook.cells[2].outputs[0].text == f"{book / 'book' / 'part'} 1\n"


def test_a_cell_that_takes_too_long_is_named(book):
    path = execute.path_of("part/bad")
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = "import time\ntime.sleep(60)"
    nbformat.write(notebook, path)
    run = execute.execute("part/bad", timeout=1)
    assert run.problem.startswith("cell-01") and "timed out" in run.problem and run.seconds < 30


def test_stop_ends_a_running_kernel(book):
    path = execute.path_of("part/bad")
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = "import time\ntime.sleep(60)"
    nbformat.write(notebook, path)
    kernels, ready, raised = execute.Kernels(), threading.Event(), []

    def work():
        try:
            execute.execute("part/bad", watch=lambda done, total: ready.set(), kernels=kernels)
        except asyncio.CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    while thread.is_alive() and not raised:
        kernels.stop()
        thread.join(0.5)
    assert raised and not thread.is_alive()


def test_seeds_count_false_claims_and_finish(book, monkeypatch, capsys):
    monkeypatch.setattr(seeds, "SEEDS", range(2))
    assert seeds.main(["part/good", "--jobs", "2"]) == 1  # torch.rand is 0.496 for seed 0 and 0.758 for seed 1
    row = json.loads(seeds.TABLE.read_text())["part/good"]["unit-draw"]
    assert row["at_most"] == 0.7 and row["at_least"] is None
    assert row["values"] == pytest.approx([0.4963, 0.7576], abs=1e-4)
    assert "part/good: unit-draw does not hold for every seed" in capsys.readouterr().out


def test_seeds_report_other_errors_and_repeated_labels(book):
    run = execute.execute("part/bad", allow_errors=True)
    assert seeds.faults(run) == ["cell-02: ZeroDivisionError: division by zero"]
    record = {"label": "x", "value": 1.0, "at_most": 2.0, "at_least": None, "random": True}
    outputs = [new_output("display_data", data={seeds.CLAIM_MIME: record}) for _ in range(2)]
    twice = execute.Run("c", new_notebook(cells=[new_code_cell("", outputs=outputs)]))
    assert seeds.faults(twice) == ["claims x more than once"]


@pytest.mark.parametrize(
    ("values", "at_least", "at_most", "true"),
    [
        ([1.0, 2.0], 1.0, 2.0, True),
        ([1.0, 2.5], None, 2.0, False),
        ([0.5, 1.5], 1.0, None, False),
        ([1.0, None], 0.0, None, False),
        ([True, True], None, None, True),
        ([True, False], None, None, False),
    ],
)
def test_a_claim_holds_only_for_every_seed(values, at_least, at_most, true):
    assert seeds.holds({"values": values, "at_least": at_least, "at_most": at_most}) is true


def test_the_board_speaks_now_and_then_where_there_is_no_terminal(capsys):
    board = execute.Board(live=False, every=0.0)
    board.note("part/a", 3, 9)
    board.refresh()
    assert "cells done: part/a 3/9" in capsys.readouterr().out
    board.leave("part/a")
    board.refresh()
    assert capsys.readouterr().out == ""


def test_the_tools_know_their_places():
    assert Path(execute.__file__).parent == execute.ROOT / "book" / "_tools"
    assert execute.ROOT == notebooks.ROOT
